"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from .recipe import Stage


def make_optimiser(parameters: Iterable[nn.Parameter], stage: Stage) -> torch.optim.Optimizer:
    """AdamW (decoupled weight decay) or Adam (weight decay in the gradient); vectors are not decayed."""
    trained = list(parameters)
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": stage.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if stage.optimiser == "adamw" else torch.optim.Adam
    return kind([group for group in groups if group["params"]], lr=stage.lr)


def schedule(step: int, stage: Stage) -> float:
    """What the learning rate is multiplied by at `step` (from 0) of a stage of N steps with a warm-up of w.

    warm(s) = min(1, (s + 1) / max(1, w)),   cos(x) = (1 + cos(pi x)) / 2
    cosine: warm(s) cos(s / N)               warmup-cosine: warm(s), then cos((s - w) / (N - w))
    step: warm(s) decay^floor(s / decay_every)          constant: warm(s)
    """
    warm, length = min(1.0, (step + 1) / max(1, stage.warmup)), stage.length
    if stage.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * step / length))
    if stage.schedule == "warmup-cosine":
        past = max(0, step - stage.warmup) / max(1, length - stage.warmup)
        return warm * 0.5 * (1 + math.cos(math.pi * past))
    if stage.schedule == "step":
        return float(warm * stage.decay ** (step // stage.decay_every))
    return warm
