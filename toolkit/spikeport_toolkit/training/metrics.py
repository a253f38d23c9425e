"""What a run tells of itself: a JSON line every few steps, TensorBoard where asked for, the rate of its neurons."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikeport_errors import MissingDependencyError

from ..models.neuron import SpikingNeuron, SteppedNeuron


class Metrics:
    """The log of a run: rows of plain values, in `file` (JSON lines) and, with `board`, as TensorBoard scalars.

    `keep` bytes of an older log stay, the rest is cut off; None starts anew. Without a file (a process that does not
    write) nothing is kept anywhere.
    """

    def __init__(self, file: Path | None, board: Path | None, keep: int | None, done: int = 0):
        self._start = time.monotonic()
        self._file = self._board = None
        if file is None:
            return
        if board is not None:
            self._board = _board(board, done)
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file.open("a", encoding="utf-8")
        self._file.truncate(keep or 0)

    def row(self, done: int, stage: str, step: int, **values: float | None) -> None:
        """One row: `step` of `stage`, which is step `done` of the run."""
        if self._file is None:
            return
        seconds = round(time.monotonic() - self._start, 1)
        self._file.write(json.dumps({"stage": stage, "step": step, **values, "seconds": seconds}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if self._board is not None and value is not None:
                self._board.add_scalar(f"{stage}/{name}", value, done)

    @property
    def size(self) -> int:
        """Bytes of the log so far."""
        return os.fstat(self._file.fileno()).st_size if self._file is not None else 0

    def close(self) -> None:
        """Close what is open."""
        for open_one in (self._file, self._board):
            if open_one is not None:
                open_one.close()


class SpikeRate:
    """Mean rate r over all spiking neurons, and over the forward passes since it was last taken."""

    def __init__(self, model: nn.Module):
        self._sums: list[Tensor] = []
        neurons = [m for m in model.modules() if isinstance(m, SpikingNeuron | SteppedNeuron)]
        self._hooks = [
            n.register_forward_hook(lambda _m, _i, out: self._sums.append(out.detach().mean())) for n in neurons
        ]

    def take(self) -> float | None:
        """The rate, None without spiking neurons."""
        rate = float(torch.stack(self._sums).mean()) if self._sums else None
        self._sums.clear()
        return rate

    def remove(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()


def _board(folder: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingDependencyError(
            "--tensorboard needs the tensorboard package: pip install 'spikeport[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder), purge_step=done + 1 if done else None)
