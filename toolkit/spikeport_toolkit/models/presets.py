"""Presets: SpikeWFM's sizes and neurons (`spikewfm-nano-relu`), then one TOML file a preset of the other families."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from spikeport_errors import UsageError, unknown_name

from .config import SPIKING_KINDS, Config, GridConfig, HeadConfig, ModelConfig, NeuronConfig
from .families import FAMILIES

DEFAULT_NEURON = "lif"


@dataclass(frozen=True)
class Preset:
    """A named model configuration and a sentence about it."""

    name: str
    summary: str
    config: Config
    keeps: str = ""
    """What of the original system it keeps."""
    leaves: str = ""
    """What of the original it cannot have."""


@cache
def presets() -> dict[str, Preset]:
    """Every preset by name: the sizes first, smallest to largest, each followed by its neuron variants."""
    found: dict[str, Preset] = {}
    neurons = _tables("neurons")
    sizes = sorted(_tables("sizes").items(), key=lambda item: int(item[1]["d"]) ** 2 * int(item[1]["layers"]))
    for size, table in sizes:
        for kind in sorted(neurons, key=lambda k: (k != DEFAULT_NEURON, k)):
            name = size if kind == DEFAULT_NEURON else f"{size}-{kind}"
            found[name] = _preset(name, dict(table), dict(neurons[kind]), kind)
    for name, table in sorted(_tables("systems").items()):
        texts = {key: table.pop(key, "") for key in ("summary", "keeps", "leaves")}
        if table.get("neuron", {}).pop("soft_reset", False):
            table["neuron"]["v_reset"] = None
        config = FAMILIES[table.pop("family")].config.from_dict({"name": name, **table})
        found[name] = Preset(name, config=config, **texts)
    return found


def preset(name: str) -> Preset:
    """The preset called `name`; UsageError with the nearest name otherwise."""
    if name not in presets():
        raise unknown_name("model", name, presets(), "`spikeport models` lists them")
    return presets()[name]


def neuron_preset(name: str, steps: int | None = None, levels: int | None = None) -> NeuronConfig:
    """A shipped spiking neuron (lif, lif_soft, lif_paper, ilif), with another T or D where given."""
    if name not in SPIKING_KINDS:
        raise unknown_name("spiking neuron", name, SPIKING_KINDS, "choose one with --neuron")
    if levels is not None and name != "ilif":
        raise UsageError(f"{name} emits at most one spike a step: leave --levels out, or take --neuron ilif")
    neuron: NeuronConfig = next(
        item.config.neuron
        for item in presets().values()
        if isinstance(item.config, ModelConfig) and item.config.neuron.kind == name
    )
    return replace(
        neuron,
        steps=neuron.steps if steps is None else steps,
        levels=neuron.levels if levels is None else levels,
    )


def _preset(name: str, size: dict[str, Any], neuron: dict[str, Any], kind: str) -> Preset:
    summary = f"{size.pop('summary')}; {neuron.pop('summary')}"
    size["norm"] = neuron.pop("norm", size["norm"])
    size["time_axis"] = neuron.pop("time_axis", "direct")
    kind = neuron.pop("kind", kind)
    if neuron.pop("soft_reset", False):
        neuron["v_reset"] = None
    return Preset(
        name,
        summary,
        ModelConfig(
            name=name,
            neuron=NeuronConfig(kind=kind, **neuron),
            grid=GridConfig(**size.pop("grid")),
            head=HeadConfig(**size.pop("head")),
            **size,
        ),
    )


def _tables(folder: str) -> dict[str, dict[str, Any]]:
    root = files("spikeport_toolkit.models") / "preset_files" / folder
    return {
        p.name.removesuffix(".toml"): tomllib.loads(p.read_text()) for p in root.iterdir() if p.name.endswith(".toml")
    }
