"""MODEL, as every command takes it: a preset, a checkpoint folder, or `file.py:factory`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spikeport_errors import InputError, UsageError, unknown_name

from .checkpoint import CONFIG, load_checkpoint
from .presets import preset, presets
from .spikewfm import ChannelPredictor

SHIPPED = Path(__file__).parent.parent / "checkpoints"
UNTRAINED_SEED = 0


@dataclass(frozen=True)
class ModelInfo:
    """One line of `spikeport models`: trainable parameters of backbone and head, and whether weights ship."""

    name: str
    parameters: int
    head_parameters: int
    trained: bool
    summary: str


def list_models() -> list[ModelInfo]:
    """Every preset with its exact parameter counts; no weights are made for it."""
    rows = []
    for item in presets().values():
        with torch.device("meta"):
            backbone, head = ChannelPredictor(item.config).parameter_counts()
        rows.append(ModelInfo(item.name, backbone, head, is_trained(item.name), item.summary))
    return rows


def is_trained(model: str) -> bool:
    """True when MODEL comes with trained weights: a shipped preset or a checkpoint folder."""
    return (SHIPPED / model / CONFIG).is_file() if model in presets() else (Path(model) / CONFIG).is_file()


def load_model(model: str) -> nn.Module:
    """The torch module that MODEL names, in eval mode.

    A preset without shipped weights is initialised from a fixed seed. Raises UsageError for an unknown name,
    InputError for a file that cannot be used.
    """
    if model in presets():
        if is_trained(model):
            return load_checkpoint(SHIPPED / model)
        with _seeded(UNTRAINED_SEED):
            return ChannelPredictor(preset(model).config).eval()
    path, _, factory = model.rpartition(":")
    if path.endswith(".py"):
        return _from_factory(Path(path), factory)
    if Path(model).is_dir():
        return load_checkpoint(Path(model))
    if Path(model).exists() or "/" in model or "\\" in model or model.endswith((".pt", ".pth", ".safetensors", ".py")):
        what = "is a file" if Path(model).exists() else "does not exist"
        raise InputError(f"model {model!r} {what}; MODEL is a preset, a checkpoint folder, or file.py:factory")
    raise unknown_name("model", model, presets(), "or give a checkpoint folder, or file.py:factory")


def twin_of(model: str, kind: str) -> str | None:
    """Name of the preset that is `model` with another neuron kind, or None when MODEL is no preset."""
    if model not in presets():
        return None
    size = next(
        s
        for s in sorted(presets(), key=len, reverse=True)
        if model.startswith(s) and presets()[s].config.neuron.kind == "lif"
    )
    return f"{size}-{kind}" if f"{size}-{kind}" in presets() else None


def _from_factory(path: Path, factory: str) -> nn.Module:
    if not path.is_file():
        raise InputError(f"{path} does not exist; MODEL as file.py:factory names a Python file and a function in it")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own file: whatever it raises is shown as its error, not ours
        raise InputError(f"{path} could not be imported: {type(error).__name__}: {error}") from error
    make = getattr(module, factory, None)
    if not callable(make):
        raise UsageError(f"{path} has no function {factory!r}; MODEL is file.py:factory")
    built = make()
    if not isinstance(built, nn.Module):
        raise InputError(f"{path}:{factory} returned {type(built).__name__}, not a torch.nn.Module")
    return built.eval()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
