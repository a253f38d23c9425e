"""State of an unfinished run: weights, AdamW moments, stage and step, in one safetensors file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from spikeport_errors import InputError

from ..files import atomic_file


def save_state(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, *, recipe: str, stage: int, step: int
) -> None:
    """Write the state atomically; `recipe` identifies the run it belongs to."""
    tensors = {f"model/{k}": v.detach().clone().contiguous() for k, v in model.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{k}": torch.as_tensor(v).clone() for k, v in moments.items()}
    with atomic_file(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"recipe": recipe, "stage": str(stage), "step": str(step)})
        except SafetensorError as error:
            raise InputError(f"{path} cannot be written ({error}): check the free space") from None


def load_state(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer | None, *, recipe: str
) -> tuple[int, int]:
    """Load weights into `model` and moments into `optimiser`; returns stage and step.

    InputError for a file that is damaged, of another recipe, or not finite.
    """
    try:
        return _load(path, model, optimiser, recipe)
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is not a state of this run ({reason}): remove it and start again") from None


def _load(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer | None, recipe: str) -> tuple[int, int]:
    with safe_open(path, framework="pt") as file:
        metadata: dict[str, str] = file.metadata()
        tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if metadata["recipe"] != recipe:
        raise ValueError("it belongs to another recipe, or to another version or --max-steps of it")
    for key, value in tensors.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{key} is not finite")
    model.load_state_dict({k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")})
    if optimiser is not None:
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimiser/"):
                _, index, name = key.split("/")
                moments.setdefault(int(index), {})[name] = value
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
        wanted = [p for group in optimiser.param_groups for p in group["params"]]
        for number, values in moments.items():
            if values["exp_avg"].shape != wanted[number].shape:
                raise ValueError(f"the moments of parameter {number} have another shape")
    return int(metadata["stage"]), int(metadata["step"])
