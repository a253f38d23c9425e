"""What `evaluate` runs side by side: float models, and bundles as they would run on their targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spikeport_errors import InputError, UnsupportedError, UsageError
from spikeport_toolkit.models.checkpoint import CONFIG
from spikeport_toolkit.models.config import GridConfig, ModelConfig
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.models.presets import presets

from .deployed import Deployed
from .fold import fold_batchnorm, fold_time
from .manifest import MANIFEST, blaming_manifest, read_manifest

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Contender:
    """One predictor on a token grid: `role` is model (what was asked for), twin (another model) or deployed."""

    name: str
    role: str
    grid: GridConfig
    predict: Predict


def contenders(model: str, compare: Sequence[str] = (), islands: str | None = None) -> tuple[Contender, ...]:
    """MODEL and the models of `compare`, any of which may be the folder of a bundle.

    A bundle as MODEL comes with the float model it was made from, where that is a preset or a checkpoint folder that
    is still there. `islands` is the runtime that takes the islands of NIR bundles, their own simulators by default.
    Raises UsageError where token grids differ, UnsupportedError where there is none.
    """
    found: list[Contender] = []
    if islands is not None and not any(map(_is_bundle, (model, *compare))):
        raise UsageError(
            f"--islands {islands} names the simulator of a bundle's islands, and no model here is a bundle"
        )
    for name in dict.fromkeys((model, *compare)):
        role = "model" if name == model else "twin"
        if not _is_bundle(name):
            found.append(_float_model(name, role))
            continue
        bundle = Deployed(name, islands)
        source = str(bundle.manifest["model"]["name"])
        if role == "model" and _may_be_loaded(source):
            found.append(_float_model(source, role))
        taken = {other.name for other in found}
        label = bundle.name if bundle.name not in taken else f"{bundle.name} ({name})"
        found.append(Contender(label, "deployed", _grid_of(bundle), bundle))
    first, *others = found
    other = next((o for o in others if o.grid != first.grid), None)
    if other:
        raise UsageError(f"{other.name} has another token grid than {first.name}: compare models of one size")
    return tuple({contender.name: contender for contender in reversed(found)}.values())[::-1]


def model_name_of(model: str) -> str:
    """MODEL, or what a bundle says it was made from."""
    if not _is_bundle(model):
        return model
    with blaming_manifest(Path(model)):
        return str(read_manifest(Path(model))["model"]["name"])


def model_config(name: str, network: nn.Module) -> ModelConfig:
    """The configuration of `network`; UnsupportedError where it has none, and so no token grid."""
    config = getattr(network, "config", None)
    if not isinstance(config, ModelConfig):
        raise UnsupportedError(
            f"{name} has no token grid (a ModelConfig as `.config`), so real channels cannot be cut to its patches: "
            "take a SpikeWFM, or return a spikeport_toolkit ChannelPredictor from the factory"
        )
    return config


def float_predictor(network: nn.Module) -> Predict:
    """The float model in torch, its time steps folded into exact compares."""
    folded = fold_time(fold_batchnorm(network))

    def predict(patches: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(folded(torch.from_numpy(patches)).numpy())

    return predict


def _float_model(name: str, role: str) -> Contender:
    network = load_model(name)
    return Contender(name, role, model_config(name, network).grid, float_predictor(network))


def _is_bundle(name: str) -> bool:
    return (Path(name) / MANIFEST).is_file()


def _may_be_loaded(source: str) -> bool:
    """Presets and checkpoint folders hold weights only; a Python file that a manifest names is never run."""
    return source in presets() or (Path(source) / CONFIG).is_file()


def _grid_of(bundle: Deployed) -> GridConfig:
    config: Any = bundle.manifest["model"].get("config")
    if not config:
        raise UnsupportedError(f"{bundle.folder} was made from a model without a token grid: it cannot be evaluated")
    try:
        return ModelConfig.from_dict(config).grid
    except InputError as error:
        raise InputError(f"{bundle.folder}: its manifest's model.config is broken ({error}): export again") from None
