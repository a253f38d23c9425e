"""State of an unfinished run: weights, AdamW moments, stage and step, in one safetensors file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from spikeport_errors import InputError

from ..files import atomic_file


def save_state(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, *, stage: int, step: int) -> None:
    """Write the state atomically."""
    tensors = {f"model/{k}": v.detach().clone().contiguous() for k, v in model.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{k}": torch.as_tensor(v).clone() for k, v in moments.items()}
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, metadata={"stage": str(stage), "step": str(step)})


def load_state(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer | None) -> dict[str, str]:
    """Load weights into `model` and moments into `optimiser`; returns stage and step."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata()
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable training state ({error}): remove it and start again") from None
    model.load_state_dict({k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")})
    if optimiser is not None:
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimiser/"):
                _, index, name = key.split("/")
                moments.setdefault(int(index), {})[name] = value
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    return metadata
