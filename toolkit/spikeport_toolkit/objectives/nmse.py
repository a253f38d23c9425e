"""Normalised mean squared error, per sample."""

from __future__ import annotations

import torch
from torch import Tensor


def nmse(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """NMSE of each sample, `[batch]`: sum |p - t|^2 / sum |t|^2 over `[batch, token, value]`.

    `weight` `[batch, token]` (0 or 1) restricts both sums to some tokens.
    """
    error, power = (prediction - target).square().sum(-1), target.square().sum(-1)
    if weight is not None:
        error, power = error * weight, power * weight
    return error.sum(-1) / power.sum(-1).clamp_min(torch.finfo(power.dtype).tiny)
