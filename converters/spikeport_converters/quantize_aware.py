"""Quantisation-aware fine-tuning: a few steps under the very annotations that the export quantises by.

The graph that is trained is the one that is exported, with fake quantisation in it and a surrogate derivative on every
staircase; afterwards its weights go back into the model, whose ranges are then found again as for any export.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor, nn

from spikeport_errors import InputError, UnsupportedError, UsageError

from .fold import StaircaseNeuron, fold_time
from .precision import Assignment
from .quantize import exported, fake_quantised

ALPHA = 2.0
LEARNING_RATE, CLIP, MOST_STEPS = 3e-5, 1.0, 10_000
CALIBRATING = 4
"""Batches that give activations their ranges before the first step."""
_FLOOR = 1e-9


class TrainedStaircase(StaircaseNeuron):
    """A staircase whose every compare has the ATan surrogate: forward exact, d/dI of the count

    sum_c d_c (alpha / 2) / (1 + (pi alpha (I - theta_c) / 2)^2)
    """

    def forward(self, current: Tensor) -> Tensor:
        """Rate in [0, 1], of the shape of `current`."""
        soft = torch.zeros_like(current)
        for threshold, increment in zip(self.stairs.thresholds, self.stairs.increments, strict=True):
            soft = soft + increment / math.pi * torch.atan(math.pi / 2 * ALPHA * (current - threshold))
        counts = self.counts(current).detach() + (soft - soft.detach())
        return counts / (self.stairs.steps * self.stairs.levels)


def quantize_aware(
    reference: nn.Module,
    chosen: Assignment,
    batches: Iterator[NDArray[np.float32]],
    steps: int,
    learning_rate: float = LEARNING_RATE,
) -> nn.Module:
    """A copy of the BatchNorm-folded `reference`, fine-tuned for `chosen` on `steps` input `batches` [batch, ...].

    What is learnt is to compute in INT8 what the float model computes: the loss is mean log(|y_int8 - y|^2 / |y|^2),
    so that every sample counts alike and no truth is needed; AdamW, a cosine from `learning_rate` to 0. A few more
    batches come first and give activations their ranges, which then stay. Deterministic: the same batches give the same
    weights. Raises UsageError for a number of steps that makes no sense, UnsupportedError where `chosen` is not INT8,
    InputError where the loss is not finite.
    """
    if not 1 <= steps <= MOST_STEPS:
        raise UsageError(f"--qat is {steps} steps; 1 to {MOST_STEPS} are possible")
    if chosen.kind != "int8":
        raise UnsupportedError(f"quantisation-aware training is for INT8, not {chosen.name}: take --precision int8")
    tuned = copy.deepcopy(reference)
    first = [torch.from_numpy(next(batches)) for _ in range(CALIBRATING)]
    teacher = fold_time(reference)
    graph = fake_quantised(exported(_trainable(tuned), first[0]), first, chosen)
    weights = dict(graph.named_parameters())
    for parameter in weights.values():
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(weights.values(), lr=learning_rate, weight_decay=0.0)
    for step in range(steps):
        inputs = torch.from_numpy(next(batches))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        with torch.no_grad():
            wanted = teacher(inputs).flatten(1)
        errors = (graph(inputs).flatten(1) - wanted).square().sum(1) / wanted.square().sum(1)
        loss = (errors + _FLOOR).log().mean()
        if not torch.isfinite(loss):
            raise InputError(f"the loss of --qat is not finite at step {step + 1}: take fewer steps")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights.values(), CLIP)
        optimiser.step()
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])
    return tuned


def _trainable(reference: nn.Module) -> nn.Module:
    static = fold_time(reference)
    for module in list(static.modules()):
        for name, child in list(module.named_children()):
            if type(child) is StaircaseNeuron:
                setattr(module, name, TrainedStaircase(child.stairs))
    for path, module in static.named_modules():
        if isinstance(module, BaseNode):
            raise UnsupportedError(
                f"{path} ({type(module).__name__}) keeps its steps, and no gradient passes a traced neuron: quantise "
                "this model without --qat, or train it with time_axis direct"
            )
    return static
