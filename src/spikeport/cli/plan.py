"""`spikeport plan`: what each part becomes on a target."""

from __future__ import annotations

from .output import DEFAULTS, Common, show


def plan(model: str, *, target: str, common: Common = DEFAULTS) -> int:
    """Say what each part of a model becomes on a target (kept, rewritten, refused), without converting.

    Parameters
    ----------
    model
        Preset, checkpoint folder, or file.py:factory.
    target
        A target's id.
    """
    from spikeport import api

    result = api.plan(model, target=target)
    show(result, common)
    return 2 if result.refused else 0
