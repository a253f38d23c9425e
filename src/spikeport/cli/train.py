"""`spikeport train`: run a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from .output import DEFAULTS, Common, progress, say

if TYPE_CHECKING:
    from spikeport_toolkit.training.loop import Progress


def train(
    recipe: str,
    *,
    out: Path | None = None,
    data: Path | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    max_steps: int | None = None,
    common: Common = DEFAULTS,
) -> None:
    """Run a recipe: pre-training and adaptation on the embedded cities, or on a store of your own.

    Parameters
    ----------
    recipe
        A shipped recipe (`spikeport recipes`) or a TOML file.
    out
        Checkpoint folder to write; default: the recipe's name.
    data
        Store to train on (`spikeport data make`); default: the embedded cities.
    resume
        Go on with a killed run, to the same weights.
    max_steps
        Shorten every stage to this many steps.
    """
    from spikeport import api

    with progress(common) as show:

        def tell(state: Progress) -> None:
            show("train", state.step, state.steps)

        folder = api.train(recipe, out=out, data=data, resume=resume, max_steps=max_steps, progress=tell)
    if common.json:
        print(json.dumps({"checkpoint": str(folder)}))
    say(f"wrote {folder}; next: spikeport evaluate {folder} --out {folder}-run", common)
