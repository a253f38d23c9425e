"""`spikeport models`: the presets."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from .output import DEFAULTS, Common, Whole, progress, say
from .output import show as show_result

app = App(
    name="models",
    help="List the model presets, show one, import published weights, or make an ANN spike.",
    help_format="plaintext",
)


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
    from spikeport_toolkit.models.load import model_info
    from spikeport_toolkit.models.presets import preset

    chosen, info = preset(name), model_info(name)
    if common.json:
        told = {"keeps": chosen.keeps, "leaves": chosen.leaves, "config": chosen.config.to_dict()}
        print(json.dumps(asdict(info) | told, indent=2))
        return
    say(f"{name}: {info.summary}", common)
    say(f"parameters {info.parameters:,}, head {info.head_parameters:,}", common)
    for word, text in (("keeps", chosen.keeps), ("leaves", chosen.leaves)):
        if text:
            say(f"{word} {text}", common)
    for key, value in chosen.config.to_dict().items():
        say(f"  {key}: {value}", common)


@app.command(name="import")
def import_weights(
    file: Path, *, preset: Annotated[str, Parameter(name="--as")], out: Path, common: Common = DEFAULTS
) -> None:
    """Make a checkpoint folder of published weights.

    The file is opened with torch's weights-only unpickler and must hold exactly the preset's tensors.

    Parameters
    ----------
    file
        The published weights, as lwm-v1.0.pth.
    preset
        The version they are of: lwm-1.0-code or lwm-1.1-code.
    out
        Folder for config.json and model.safetensors.
    """
    from spikeport import api

    show_result(api.import_weights(file, preset=preset, out=out), common)
    say(f"next: spikeport evaluate {out} --task los", common)


@app.command(name="ann-to-snn")
def ann_to_snn(
    model: str, *, out: Path, neuron: str = "lif", steps: Whole | None = None, levels: Whole | None = None,
    data: Path | None = None, samples: Whole = 64, seed: Whole = 0, common: Common = DEFAULTS,
) -> None:  # fmt: skip
    """Make a trained ANN spike without training: every ReLU of a feed-forward part becomes a fitted neuron.

    Parameters
    ----------
    model
        A trained model with ReLU, GELU or quantised ReLU: a preset or a checkpoint folder.
    out
        New folder for config.json and model.safetensors.
    neuron
        lif (hard reset), lif_soft (soft reset), lif_paper (its input decays too) or ilif (up to D spikes a step).
    steps
        T; default: the neuron's (4, and 1 for ilif).
    levels
        D, the most spikes a step of an ilif; default 4.
    data
        Store to calibrate on (`spikeport data make`); default: the embedded cities.
    samples
        Channels to calibrate on, in four batches; more than a multiple of 4 is left.
    seed
        Of their choice.
    """
    from spikeport import api

    with progress(common) as advance:
        result = api.ann_to_snn(
            model, out=out, neuron=neuron, steps=steps, levels=levels, data=data, samples=samples, seed=seed,
            progress=advance,
        )  # fmt: skip
    show_result(result, common)
    beside = f"{model} --compare {out}" if result.family == "spikewfm" else f"{out} --task los"
    say(f"next: spikeport evaluate {beside}", common)
