"""State of an unfinished run on disk: tensors and facts in one safetensors file, written atomically."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from spikeport_errors import InputError

from ..files import atomic_file


def save_state(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write the state; `facts` are plain values, `recipe` among them identifies the run it belongs to."""
    with atomic_file(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata={"facts": json.dumps(dict(facts))})
        except SafetensorError as error:
            raise InputError(f"{path} cannot be written ({error}): check the free space") from None


def load_state(path: Path, recipe: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts; call it, and put them to use, inside `reading`."""
    with safe_open(path, framework="pt") as file:
        facts: dict[str, Any] = json.loads(file.metadata()["facts"])
        tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if facts["recipe"] != recipe:
        raise ValueError("it belongs to another recipe, or to another version or --max-steps of it")
    for key, value in tensors.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{key} is not finite")
    return tensors, facts


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """A state that is damaged, of another run, or does not fit is an InputError that names the file."""
    try:
        yield
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path} is not a state of this run ({reason}): remove it and start again, or give the recipe and the "
            "options that it was made with"
        ) from None


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors below `prefix`/, by the rest of their names."""
    return {key.removeprefix(f"{prefix}/"): value for key, value in tensors.items() if key.startswith(f"{prefix}/")}
