"""`spikeport data`: make and inspect path sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from .output import DEFAULTS, Common, say

app = App(name="data", help="Make or inspect ray-traced path sets.", help_format="plaintext")


@app.command
def make(
    recipe: str,
    *,
    out: Path,
    city: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    users: int = 400,
    common: Common = DEFAULTS,
) -> None:
    """Ray-trace path sets with sionna-rt (extra [rt], LLVM 17 or newer); a finished city is kept on a rerun.

    Parameters
    ----------
    recipe
        `embedded`: the generator of the embedded data set.
    out
        Folder for the path sets.
    city
        Only these cities (repeatable); default: all ten.
    users
        Users per base station.
    """
    from spikeport_errors import unknown_name
    from spikeport_toolkit.data.raytrace import generate
    from spikeport_toolkit.data.store import EMBEDDED_CITIES

    if recipe != "embedded":
        raise unknown_name("data recipe", recipe, ["embedded"], "other recipes are not there yet")
    file = generate(city or EMBEDDED_CITIES, out, users=users)
    if common.json:
        print(json.dumps({"file": str(file)}))
    say(f"wrote {file}; look at it with: spikeport data info {out}", common)


@app.command
def info(folder: Path, *, common: Common = DEFAULTS) -> None:
    """Say what a folder of path sets holds.

    Parameters
    ----------
    folder
        A folder with path sets (*.npz), or `embedded`.
    """
    from spikeport_toolkit.data.sampler import folder_sets
    from spikeport_toolkit.data.store import load_embedded

    sets = load_embedded() if str(folder) == "embedded" else folder_sets(folder)
    if common.json:
        print(json.dumps([item.to_dict() for item in sets], indent=2))
        return
    for item in sets:
        say(item.summary(), common)
