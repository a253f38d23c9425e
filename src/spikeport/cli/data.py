"""`spikeport data`: make and inspect stores of channel data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from .output import DEFAULTS, Common, Whole, progress, say, show

app = App(name="data", help="Make or inspect stores of channel data.", help_format="plaintext")


@app.command
def make(
    recipe: str,
    *,
    out: Path,
    city: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    users: Whole | None = None,
    source: Path | None = None,
    workers: Whole | None = None,
    common: Common = DEFAULTS,
) -> None:
    """Make a store: ray-traced cities (extra [rt], LLVM 17 or newer), DeepMIMO, 3GPP statistics, captures.

    A finished city is kept: run the same command again to go on after a kill or a full disk.

    Parameters
    ----------
    recipe
        A shipped data recipe (`spikeport data recipes`) or a TOML file.
    out
        Folder for the store.
    city
        Only these cities (repeatable); default: all of the recipe.
    users
        Users per base station, instead of the recipe's.
    source
        Folder that file names in the recipe count from, instead of the recipe's own.
    workers
        Cities made at once; default: half the cores.
    """
    from spikeport_targets.environments import python_of
    from spikeport_toolkit.data.make import make as make_store
    from spikeport_toolkit.data.recipe import load_data_recipe

    chosen = load_data_recipe(recipe, source).narrowed(city, users)
    interpreters = {"deepmimo": python_of("deepmimo")}
    with progress(common) as advance:
        folder = make_store(chosen, out, workers=workers, interpreters=interpreters, report=advance)
    if common.json:
        print(json.dumps({"store": str(folder), "shards": [part.name for part in chosen.parts]}))
    say(f"wrote {folder}; look at it with: spikeport data info {folder}", common)


@app.command
def info(folder: Path, *, verify: Annotated[bool, Parameter(negative="")] = False, common: Common = DEFAULTS) -> None:
    """Say what a store holds: cities, stations, carriers, links, line of sight, gains, licences.

    Parameters
    ----------
    folder
        A store, a folder of path sets (*.npz), or `embedded`.
    verify
        Compare the sha256 of every file; a difference is an error.
    """
    from spikeport_toolkit.data.store_info import store_info

    show(store_info(folder, verify=verify), common)


@app.command
def recipes(*, common: Common = DEFAULTS) -> None:
    """List the shipped data recipes."""
    from spikeport_toolkit.data.recipe import data_recipe_names, load_data_recipe

    rows = [load_data_recipe(name) for name in data_recipe_names()]
    if common.json:
        print(json.dumps([{"name": r.name, "summary": r.summary, "source": r.source} for r in rows], indent=2))
        return
    for row in rows:
        say(f"{row.name}: {row.summary}", common)
