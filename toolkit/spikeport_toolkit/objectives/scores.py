"""How far a reconstruction is from its target, over some of the tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .nmse import nmse

SCORES = ("nmse", "mse", "mse/var")


def score(kind: str, prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The scalar error over the tokens where `weight` `[batch, token]` is 1, of `[batch, token, value]`.

    nmse      mean over samples of sum |p - t|^2 / sum |t|^2
    mse       mean over all scored values of the batch of (p - t)^2
    mse/var   mse over the variance of the batch's scored target values (LWM 1.0's code)
    """
    if kind == "nmse":
        return nmse(prediction, target, weight).mean()
    values = weight.sum() * target.shape[-1]
    mse = ((prediction - target).square().sum(-1) * weight).sum() / values
    if kind == "mse":
        return mse
    mean = (target.sum(-1) * weight).sum() / values
    variance = ((target - mean).square().sum(-1) * weight).sum() / values
    return mse / variance.clamp_min(torch.finfo(variance.dtype).tiny)


def decibel(value: float) -> float:
    """10 log10, to four places; what is not above 0 counts as 1e-12."""
    return round(10 * math.log10(max(value, 1e-12)), 4)
