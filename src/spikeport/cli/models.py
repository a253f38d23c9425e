"""`spikeport models`: the presets."""

from __future__ import annotations

import json
from dataclasses import asdict

from cyclopts import App

from .output import DEFAULTS, Common, say

app = App(name="models", help="List the model presets, or show one.", help_format="plaintext")


@app.default
def models(*, common: Common = DEFAULTS) -> None:
    """List presets with their exact trainable parameters (backbone, head)."""
    from spikeport_toolkit.models.load import list_models

    rows = list_models()
    if common.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    width = max(len(row.name) for row in rows)
    say(f"{'name':{width}}  {'parameters':>11}  {'head':>10}  weights", common)
    for row in rows:
        weights = "shipped" if row.trained else "untrained"
        say(f"{row.name:{width}}  {row.parameters:>11,}  {row.head_parameters:>10,}  {weights}", common)


@app.command
def show(name: str, *, common: Common = DEFAULTS) -> None:
    """Show one preset's configuration.

    Parameters
    ----------
    name
        A preset, as `spikeport models` lists it.
    """
    from spikeport_toolkit.models.load import list_models
    from spikeport_toolkit.models.presets import preset

    chosen = preset(name)
    info = next(row for row in list_models() if row.name == name)
    if common.json:
        print(json.dumps(asdict(info) | {"config": chosen.config.to_dict()}, indent=2))
        return
    say(f"{name}: {info.summary}", common)
    say(f"parameters {info.parameters:,}, head {info.head_parameters:,}", common)
    for key, value in chosen.config.to_dict().items():
        say(f"  {key}: {value}", common)
