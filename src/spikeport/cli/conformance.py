"""`spikeport conformance`: simulators against SpikingJelly, spike by spike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .output import DEFAULTS, Common, progress, say, show


def conformance(
    *,
    target: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    out: Path | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Run every feature of a spiking network on simulators; exit 1 if one differs where its card claims exactness.

    Parameters
    ----------
    target
        A target of route nir, or a card file (.toml); repeatable. Default: all of them.
    out
        Folder for conformance.json and conformance.md.
    """
    from spikeport import api

    with progress(common) as advance:
        result = api.conformance(target, out=out, progress=advance)
    show(result, common)
    if out is not None:
        say(f"wrote {out / 'conformance.md'}", common)
    return 0 if result else 1
