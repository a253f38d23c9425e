"""Several processes that train one model, started by torchrun: one batch, cut by rank; gradients averaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from spikeport_errors import InputError, UsageError

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class World:
    """The processes of a run: this one's number, how many there are, and the device it computes on."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def wrap(self, module: nn.Module, model: nn.Module, sharding: str) -> nn.Module:
        """`module`, with its gradients averaged over the processes: whole in each, or sharded (`full`, FSDP).

        Sharding goes by the layers of `model`, a part of `module`: what its outermost `nn.ModuleList`s hold is gathered
        when it is computed, the rest for all of a step. The parameters of `module` become DTensors then, but for the
        fixed ones beside `model` (a teacher, a frozen tokenizer), which every process holds whole.
        """
        if self.size == 1:
            return module
        if sharding == "off":
            return nn.parallel.DistributedDataParallel(module, find_unused_parameters=True)
        for name, parameter in module.named_parameters():
            if parameter.ndim == 0:
                raise InputError(f'{name} is one number, which cannot be sharded: take sharding = "off"')
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        mesh = init_device_mesh(self.device.type, (self.size,))
        for layer in _layers(model):
            fully_shard(layer, mesh=mesh)
        fixed = {p for p in module.parameters() if not p.requires_grad} - set(model.parameters())
        fully_shard(module, mesh=mesh, ignored_params=fixed)
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.set_force_sum_reduction_for_comms(True)  # gloo takes a mean for a sum
        return module

    def mean(self, value: Tensor) -> float:
        """Mean of a scalar over the processes."""
        if self.size > 1:
            value = value.detach().double().clone()
            dist.all_reduce(value)
            value = value / self.size
        return float(value)

    def told(self, value: bool) -> bool:
        """What the first process has for `value`, in every process."""
        if self.size == 1:
            return value
        said = torch.tensor(int(value), device=self.device)
        dist.broadcast(said, 0)
        return bool(said)

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """The members of the outermost module lists."""
    for child in module.children():
        yield from child if isinstance(child, nn.ModuleList) else _layers(child)


@contextmanager
def world(device: str) -> Iterator[World]:
    """The world that torchrun's environment describes, alone without it; `device` is auto, cpu or cuda."""
    if device not in DEVICES:
        raise UsageError(f"--device is {device!r}; {', '.join(DEVICES)} are possible")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: this torch sees no CUDA device; take --device cpu")
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield World(device=torch.device(kind))
        return
    ours = not dist.is_initialized()
    if ours:
        try:
            dist.init_process_group("nccl" if kind == "cuda" else "gloo")
        except (ValueError, RuntimeError) as error:
            raise UsageError(
                f"WORLD_SIZE is set, but the processes do not meet ({error}): start them with torchrun"
            ) from None
    place = torch.device(kind, int(os.environ.get("LOCAL_RANK", "0"))) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(place)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), place)
    finally:
        if ours:
            dist.destroy_process_group()


def accumulating(module: nn.Module, more: bool) -> AbstractContextManager[None]:
    """Gradients stay in this process where `more` micro-batches follow."""
    if more and isinstance(module, nn.parallel.DistributedDataParallel):
        return module.no_sync()
    return nullcontext()


def whole(value: Tensor) -> Tensor:
    """A copy of a tensor on the CPU, gathered where it is sharded (then every process calls this)."""
    value = value.detach()
    return (value.full_tensor() if isinstance(value, DTensor) else value).cpu().clone().contiguous()


def fill(place: Tensor, value: Tensor) -> None:
    """Put `value`, a whole tensor, in `place`, sharded or not; ValueError where the shapes differ."""
    place.detach().copy_(sharded_like(value, place))


def sharded_like(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, sharded and placed as `like` is; ValueError where the shapes differ."""
    if value.shape != like.shape:
        raise ValueError(f"a tensor of shape {[*value.shape]} where {[*like.shape]} is wanted")
    value = value.to(like.device, like.dtype)
    return distribute_tensor(value, like.device_mesh, like.placements) if isinstance(like, DTensor) else value
