"""Checkpoints: a folder with `config.json` and `model.safetensors`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spikeport_errors import InputError

from ..data.store import TRAIN_CITIES
from ..files import atomic_folder, read_json, write_json
from .config import Config
from .families import build, config_from_json, config_to_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"
DATA, LINKS = "training_data.json", "training_links.txt"


def save_checkpoint(model: nn.Module, folder: Path, *, half: bool = False, extra: dict[str, str] | None = None) -> None:
    """Write `model` to `folder` atomically; `extra` maps further file names to their text.

    With `half`, weights are stored in half precision; round them with `round_to_half` first, so that
    storing changes nothing. Running statistics of BatchNorm and tensors beyond half's range stay in single precision.
    """
    state = {k: v.detach().clone().contiguous() for k, v in model.state_dict().items()}
    if half:
        state = {k: v.half() if _is_weight(k, v) and _fits_half(v) else v for k, v in state.items()}
    with atomic_folder(folder) as temporary:
        try:
            save_file(state, temporary / WEIGHTS)
        except SafetensorError as error:
            raise InputError(f"{folder} cannot be written ({error}): check the free space") from None
        (temporary / WEIGHTS).chmod(0o644)
        write_json(temporary / CONFIG, config_to_json(cast(Any, model).config))
        for name, text in (extra or {}).items():
            (temporary / name).write_text(text, encoding="utf-8")


def load_checkpoint(folder: Path) -> nn.Module:
    """The model of a checkpoint folder, in eval mode and single precision.

    Raises InputError, naming the file, for a missing, truncated or foreign file, a shape that does not fit
    config.json, or a weight that is not finite.
    """
    model = build(checkpoint_config(folder))
    path = folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"{path} does not exist; a checkpoint folder holds {CONFIG} and {WEIGHTS}")
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a readable safetensors file ({error}); it may be truncated: copy it again"
        ) from None
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    for key, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(
                f"{path}: {key} holds values that are not finite; train again or use an earlier checkpoint"
            )
        if key.endswith("running_var") and (value < 0).any():
            raise InputError(f"{path}: {key} holds a negative variance; train again or use an earlier checkpoint")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{path} does not fit {folder / CONFIG}: {reason}") from None
    return model.eval()


def checkpoint_config(folder: Path) -> Config:
    """The configuration of a checkpoint folder; InputError, naming the file, for a missing or foreign one."""
    values = read_json(folder / CONFIG)
    try:
        return config_from_json(values)
    except InputError as error:
        raise InputError(f"{folder / CONFIG}: {error}") from None


def trained_cities(models: Sequence[str]) -> tuple[str, ...] | None:
    """Cities that any of `models` was trained on; None if all are shipped ones, trained on the embedded cities."""
    files = [Path(model) / DATA for model in models]
    if not any(file.is_file() for file in files):
        return None
    found: list[str] = []
    for file in files:
        cities = read_json(file).get("cities") if file.is_file() else list(TRAIN_CITIES)
        if not isinstance(cities, list) or not all(isinstance(city, str) for city in cities):
            raise InputError(f"{file} names no training cities, so nothing can be called unseen: train again")
        found += cities
    return tuple(dict.fromkeys(found))


def trained_links(models: Sequence[str]) -> frozenset[bytes]:
    """`link_keys` of the links that `models` were trained on, as their checkpoints keep them."""
    found: set[bytes] = set()
    for file in (Path(model) / LINKS for model in models):
        if file.is_file():
            try:
                found |= {bytes.fromhex(line) for line in file.read_text(encoding="ascii").split()}
            except ValueError:
                raise InputError(
                    f"{file} is no list of link keys, so nothing can be called unseen: train again"
                ) from None
    return frozenset(found)


def round_to_half(model: nn.Module) -> None:
    """Round every weight to the nearest half-precision value, in place; tensors beyond its range are left."""
    with torch.no_grad():
        for parameter in model.parameters():
            if _fits_half(parameter):
                parameter.copy_(parameter.half().float())


def _is_weight(name: str, value: Tensor) -> bool:
    return value.is_floating_point() and "running_" not in name


def _fits_half(value: Tensor) -> bool:
    return bool(value.half().isfinite().all())
