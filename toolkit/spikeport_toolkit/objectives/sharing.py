"""Objectives whose loss needs a whole batch, when several processes share its work (training/parallel.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..data.sampler import Batch

PER_SAMPLE = ("clean", "observed", "snr_db", "unimpaired", "noise_power")


def processes() -> tuple[int, int]:
    """This process's number and how many there are; (0, 1) alone."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def share(samples: int) -> slice:
    """The samples of a batch of `samples` that this process computes; all, where they cannot be cut alike."""
    rank, size = processes()
    each = samples // size
    return slice(rank * each, (rank + 1) * each) if size > 1 and samples % size == 0 else slice(None)


def gathered(own: Tensor, rows: int) -> Tensor:
    """All `rows` of which `own` `[row, ...]` are this process's, in the order of `share`, with gradients.

    The gradient sums over the processes what the loss of each says of a row. Averaged over the processes, as data
    parallelism does, the gradients of a loss that all of them compute are then those of one process.
    """
    return own if len(own) == rows else _Gather.apply(own)


def part_of(batch: Batch, part: slice) -> Batch:
    """The samples `part` of a batch."""
    values: dict[str, Any] = {name: getattr(batch, name) for name in PER_SAMPLE}
    values = {name: None if value is None else value[part] for name, value in values.items()}
    values["interferers"] = tuple(other[part] for other in batch.interferers)
    if (made := batch.geometry) is not None:
        values["geometry"] = replace(made, users=made.users[part], velocity=made.velocity[part])
    return replace(batch, **values)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(_context: Any, own: Tensor) -> Tensor:
        own = own.contiguous()
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own)
        return torch.cat(parts)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        rank, size = processes()
        return gradient.chunk(size)[rank]
