"""MODEL, as every command takes it: a preset, a checkpoint folder, or `file.py:factory`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spikeport_errors import InputError, SpikeportError, UnsupportedError, UsageError, unknown_name

from .checkpoint import CONFIG, checkpoint_config, load_checkpoint
from .config import Config, ModelConfig
from .families import build, parameter_counts
from .presets import preset, presets

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
    """Every preset with its exact parameter counts."""
    return [model_info(name) for name in presets()]


def model_info(name: str) -> ModelInfo:
    """The line of the preset called `name`; no weights are made for it."""
    item = preset(name)
    with torch.device("meta"):
        backbone, head = parameter_counts(build(item.config))
    return ModelInfo(name, backbone, head, is_trained(name), item.summary)


def is_trained(model: str) -> bool:
    """False for a preset without shipped weights, the only MODEL that is known to be untrained."""
    return model not in presets() or (SHIPPED / model / CONFIG).is_file()


def load_model(model: str) -> nn.Module:
    """The torch module that MODEL names, in eval mode.

    A preset without shipped weights is initialised from a fixed seed. Raises UsageError for an unknown name,
    InputError for a file that cannot be used.
    """
    if model in presets():
        if is_trained(model):
            return load_checkpoint(SHIPPED / model)
        with _seeded(UNTRAINED_SEED):
            return build(preset(model).config).eval()
    path, _, factory = model.rpartition(":")
    if path.endswith(".py"):
        return _from_factory(Path(path), factory)
    return load_checkpoint(_folder(model, "a checkpoint folder, or file.py:factory"))


def config_of(model: str) -> Config:
    """The configuration of a preset or a checkpoint folder; UsageError for another name, InputError for its file."""
    if model in presets():
        return preset(model).config
    return checkpoint_config(_folder(model, "a checkpoint folder"))


def _folder(model: str, others: str) -> Path:
    """The checkpoint folder that MODEL names; the error tells what else than a preset MODEL may be."""
    path = Path(model)
    if model and path.is_dir():
        return path
    if (
        path.exists()
        or "/" in model
        or "\\" in model
        or model.endswith((".pt", ".pth", ".safetensors", ".py", ".toml"))
    ):
        what = "does not exist" if not path.exists() else "is a file" if model else "is empty"
        raise InputError(f"model {model!r} {what}; MODEL is a preset, {others}")
    raise unknown_name("model", model, presets(), f"or give {others}")


def twin_of(model: str, kind: str) -> str | None:
    """Name of the preset that is `model` with another neuron kind, or None when MODEL is no SpikeWFM preset."""
    if model not in presets() or not isinstance(presets()[model].config, ModelConfig):
        return None
    sizes = {name: item.config for name, item in presets().items() if isinstance(item.config, ModelConfig)}
    size = next(
        (
            s
            for s in sorted(sizes, key=len, reverse=True)
            if model.startswith(s) and sizes[s].neuron.kind == "lif" and sizes[s].time_axis == "direct"
        ),
        None,
    )
    return f"{size}-{kind}" if f"{size}-{kind}" in presets() else None


def _from_factory(path: Path, factory: str) -> nn.Module:
    if not path.is_file():
        raise InputError(f"{path} does not exist; MODEL as file.py:factory names a Python file and a function in it")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    with redirect_stdout(sys.stderr), _blaming(f"{path} could not be imported"):
        spec.loader.exec_module(module)
    make = getattr(module, factory, None)
    if not callable(make):
        raise UsageError(f"{path} has no function {factory!r}; MODEL is file.py:factory")
    with redirect_stdout(sys.stderr), _blaming(f"{path}:{factory} failed"):
        built = make()
        if isinstance(built, nn.Module):
            built.eval()
    if not isinstance(built, nn.Module):
        raise InputError(f"{path}:{factory} returned {type(built).__name__}, not a torch.nn.Module")
    with _blaming(f"{path}:{factory} gave a module whose weights cannot be read"):
        for name, value in (*built.named_parameters(), *built.named_buffers()):
            if value.is_floating_point() and value.dtype != torch.float32:
                raise InputError(
                    f"{path}:{factory}: {name} is {value.dtype}; return the model in single precision (.float())"
                )
            if not torch.isfinite(value).all():
                raise InputError(f"{path}:{factory}: {name} holds values that are not finite: repair the weights")
    return built


@contextmanager
def converting(model: str) -> Iterator[None]:
    """A user's own MODEL (file.py:factory) is converted here: it prints to stderr, and what it raises is one error.

    UnsupportedError for anything that is no error of ours: the module does what no conversion foresees.
    """
    if ":" not in model:
        yield
        return
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (SpikeportError, OSError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UnsupportedError(
            f"{model} cannot be converted ({type(error).__name__}: {reason}): docs/own-model.md says what may be in it"
        ) from error


@contextmanager
def _blaming(what: str) -> Iterator[None]:
    """Whatever the user's own file raises, exits included, is shown as its error, not ours."""
    try:
        yield
    except SpikeportError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{what}: {type(error).__name__}: {' '.join(str(error).split())}") from error


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
