"""Where a token stands: learned tables and fixed sinusoids over the token grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .spikewfm import sinusoidal

KINDS = ("tables", "time", "learned", "sincos", "sin")


class Positioned(nn.Module):
    """A network whose tokens stand in a grid (time, antenna, frequency); learned positions start at deviation 1.

    tables:  [E_t[t] || E_f[f] || E_a[a]], d/4, d/2 and d/4 wide     time:     E_t[t], d wide
    learned: E[token]                                                 sin:      sinusoids over the token's number
    sincos:  sinusoids over each axis that has more than one token, which share the width
    Under `sin` [CLS] is number 0; elsewhere it has no position, being a learned vector itself.
    """

    position_cls: Tensor
    position_fixed: Tensor

    def __init__(self, kind: str, grid: tuple[int, int, int], d: int, *, cls: bool = False):
        super().__init__()
        self.position_kind, self.grid = kind, grid
        t, a, f = grid
        numbers = sinusoidal(t * a * f + cls, d) if kind == "sin" else torch.zeros(1, d)
        self.register_buffer("position_cls", numbers[0] * cls, persistent=False)
        if kind == "tables":
            self.position_time = nn.Parameter(torch.randn(t, d // 4))
            self.position_frequency = nn.Parameter(torch.randn(f, d - 2 * (d // 4)))
            self.position_antenna = nn.Parameter(torch.randn(a, d // 4))
        elif kind == "time":
            self.position_time = nn.Parameter(torch.randn(t, d))
        elif kind == "learned":
            self.position_token = nn.Parameter(torch.randn(t * a * f, d))
        else:
            fixed = numbers[int(cls) :] if kind == "sin" else _sincos(grid, d)
            self.register_buffer("position_fixed", fixed, persistent=False)

    def positions(self) -> Tensor:
        """Position embeddings `[token, d]`, in order (time, antenna, frequency)."""
        t, a, f = self.grid
        if self.position_kind == "tables":
            parts = (
                self.position_time[:, None, None].expand(t, a, f, -1),
                self.position_frequency[None, None].expand(t, a, f, -1),
                self.position_antenna[None, :, None].expand(t, a, f, -1),
            )
            return torch.cat(parts, -1).flatten(0, 2)
        if self.position_kind == "time":
            return self.position_time[:, None].expand(t, a * f, -1).flatten(0, 1)
        return self.position_token if self.position_kind == "learned" else self.position_fixed


def _sincos(grid: tuple[int, int, int], d: int) -> Tensor:
    axes = [i for i, count in enumerate(grid) if count > 1] or [0]
    share = d // len(axes) // 2 * 2
    widths = [share] * (len(axes) - 1) + [d - share * (len(axes) - 1)]
    parts = []
    for axis, width in zip(axes, widths, strict=True):
        shape = [1, 1, 1, width]
        shape[axis] = grid[axis]
        parts.append(sinusoidal(grid[axis], width).view(shape).expand(*grid, width))
    return torch.cat(parts, -1).reshape(math.prod(grid), d)
