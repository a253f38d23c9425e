"""`spikeport evaluate`: how well a model predicts channels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .output import DEFAULTS, Common, progress, say, show


def evaluate(
    model: str,
    *,
    out: Path | None = None,
    task: str = "channel-prediction",
    snr: Annotated[str, Parameter(allow_leading_hyphen=True)] = "-10:30:5",
    compare: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    data: Path | None = None,
    links: int = 500,
    seed: int = 0,
    common: Common = DEFAULTS,
) -> None:
    """NMSE over SNR against clean truth, in seen and unseen cities and both slot spacings, beside the baselines.

    Parameters
    ----------
    model
        Preset, checkpoint folder, or file.py:factory.
    out
        Folder for evaluation.json.
    task
        channel-prediction.
    snr
        low:high:step in dB, or one number.
    compare
        Another model on the same samples (repeatable).
    data
        Folder of path sets; default: the embedded cities.
    links
        Test links per point.
    seed
        Seed of links, motion and noise.
    """
    from spikeport import api
    from spikeport_toolkit.models.load import is_trained

    with progress(common) as advance:
        result = api.evaluate(
            model, out=out, task=task, snr=snr, compare=compare, data=data, links=links, seed=seed, progress=advance
        )
    show(result, common)
    if not is_trained(model):
        print(f"note: {model} ships no trained weights: these figures are those of random weights", file=sys.stderr)
    if out is not None:
        say(f"\nwrote {out / 'evaluation.json'}; next: spikeport report {out}", common)
