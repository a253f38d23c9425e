"""Half precision without changing what a staircase decides."""

from __future__ import annotations

import copy

import numpy as np
from torch import nn

from .fold import Staircase, StaircaseNeuron


def half_model(model: nn.Module) -> nn.Module:
    """A half-precision copy. Thresholds go up to the next half, so that every half current decides as in float32."""
    half = copy.deepcopy(model).half()
    for module in half.modules():
        if isinstance(module, StaircaseNeuron):
            stairs = module.stairs
            raised = tuple(_half_not_below(t) for t in stairs.thresholds)
            module.stairs = Staircase(raised, stairs.increments, stairs.steps, stairs.levels)
    return half


def _half_not_below(value: float) -> float:
    half = np.float16(value)
    return float(half if float(half) >= value else np.nextafter(half, np.float16(np.inf)))
