"""`spikeport recipes`: the training recipes."""

from __future__ import annotations

import json

from .output import DEFAULTS, Common, say


def recipes(*, common: Common = DEFAULTS) -> None:
    """List the shipped training recipes."""
    from spikeport_toolkit.training.recipe import load_recipe, recipe_names

    rows = [load_recipe(name) for name in recipe_names()]
    if common.json:
        print(json.dumps([row.to_dict() for row in rows], indent=2))
        return
    for row in rows:
        stages = ", then ".join(f"{stage.objective} {stage.length:,} x {stage.batch}" for stage in row.stages)
        say(f"{row.name} ({row.model}: {stages}): {row.summary}", common)
