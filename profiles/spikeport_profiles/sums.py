"""Sums over spikes and weights, exact and fast."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def synops_of(events: Tensor, fan_out: Tensor, uniform: bool) -> Tensor:
    """SynOps of each row (token, or token and step) of `events` `[..., in]`; exact in float64."""
    rows = events.flatten(0, -2)
    if uniform:
        return rows.sum(-1, dtype=torch.float64) * fan_out[0]
    return rows.double() @ fan_out.double()


def alive(values: Tensor) -> int:
    """How many values are not zero; numpy counts booleans ten times as fast as torch counts floats."""
    return int(np.count_nonzero(values.detach().numpy(force=True) != 0))


def most(values: Tensor, steps: int) -> list[float]:
    """The largest value in each of `steps` equal leading parts; none for 0 steps."""
    return values.reshape(steps, -1).amax(1).tolist() if steps else []
