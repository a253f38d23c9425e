"""`spikeport recipes`: the training recipes."""

from __future__ import annotations

import json

from .output import DEFAULTS, Common, say


def recipes(*, common: Common = DEFAULTS) -> None:
    """List the shipped training recipes."""
    from spikeport_toolkit.training.recipe import load_recipe, recipe_names

    rows = [load_recipe(name) for name in recipe_names()]
    if common.json:
        print(
            json.dumps(
                [{"name": r.name, "summary": r.summary, "model": r.model, "seed": r.seed} for r in rows], indent=2
            )
        )
        return
    for row in rows:
        say(f"{row.name}: {row.summary}", common)
