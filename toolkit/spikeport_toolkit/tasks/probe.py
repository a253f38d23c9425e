"""Classifiers on features: a ridge probe in closed form, networks trained by Adam, and an encoder fine-tuned."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..training.adaptation import Adaptation, adapt, training_mode
from .features import Features, backbone_of, pooled

__all__ = ["FineTuned", "Fit", "Labels", "network_probe", "ridge", "ridge_probe"]

Labels = NDArray[np.intp]
Fit = Callable[[Features, Labels, Features, int, int], Labels]
"""Training features and labels, test features, number of classes and seed, to predicted labels."""

PENALTY = 10.0


def ridge(x: Features, y: NDArray[np.floating], test: Features, penalty: float = PENALTY) -> NDArray[np.float64]:
    """Ridge regression on standardised features: `[train, values]`, `[train, targets]`, `[test, values]` to targets.

    W = X^T (X X^T + penalty I)^-1 (Y - mean Y),    Y' = X' W + mean Y
    """
    mean, spread = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64) + 1e-8
    train, unseen = (x - mean) / spread, (test - mean) / spread
    centre = y.mean(0)
    if train.shape[0] <= train.shape[1]:
        weights = train.T @ np.linalg.solve(train @ train.T + penalty * np.eye(len(train)), y - centre)
    else:
        weights = np.linalg.solve(train.T @ train + penalty * np.eye(train.shape[1]), train.T @ (y - centre))
    return np.asarray(unseen @ weights + centre, np.float64)


def ridge_probe(x: Features, y: Labels, test: Features, classes: int, seed: int) -> Labels:
    """The class of the largest of one ridge regression a class; `seed` changes nothing."""
    flat, unseen = x.reshape(len(x), -1), test.reshape(len(test), -1)
    return np.asarray(ridge(flat, np.eye(classes)[y], unseen).argmax(1), np.intp)


def network_probe(
    make: Callable[[tuple[int, ...], int], nn.Module],
    *,
    steps: int = 300,
    batch: int = 64,
    lr: float = 1e-3,
    standardise: bool = True,
) -> Fit:
    """A Fit that trains the network `make(shape of a sample, classes)` by cross-entropy.

    Adam with a cosine schedule over `steps` batches drawn with replacement. Features are standardised, unless they are
    the tokens that an encoder wants as they are.
    """

    def fit(x: Features, y: Labels, test: Features, classes: int, seed: int) -> Labels:
        mean, spread = (x.mean(0), x.std(0) + 1e-6) if standardise else (np.zeros(()), np.ones(()))
        train, unseen = (torch.from_numpy(((part - mean) / spread).astype(np.float32)) for part in (x, test))
        labels, rng = torch.from_numpy(y.astype(np.int64)), np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = make(x.shape[1:], classes).train()
            optimizer = torch.optim.Adam(network.parameters(), lr)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            for _ in range(steps):
                rows = torch.from_numpy(rng.integers(0, len(x), max(2, min(batch, len(x)))))
                optimizer.zero_grad()
                F.cross_entropy(network(train[rows]), labels[rows]).backward()
                optimizer.step()
                schedule.step()
        with torch.inference_mode():
            scores = [network.eval()(unseen[i : i + 256]) for i in range(0, len(unseen), 256)]
        return np.asarray(torch.cat(scores).argmax(1).numpy(), np.intp)

    return fit


class FineTuned(nn.Module):
    """A copy of a model's encoder, adapted with a linear head on its [CLS] feature (or on the mean over tokens).

    Raw tokens `[batch, token, value]` to class scores: for network_probe with `standardise` False.
    """

    def __init__(self, model: nn.Module, adaptation: Adaptation, classes: int):
        super().__init__()
        encoder: Any = deepcopy(backbone_of(model))
        adapt(encoder, adaptation)
        self.encoder, self.adaptation = encoder, adaptation
        self.head = nn.Linear(encoder.config.d, classes)

    def train(self, mode: bool = True) -> Self:
        """Training mode for what is trained; the frozen layers stay in eval mode."""
        super().train(mode)
        if mode:
            training_mode(self.encoder, self.adaptation)
        return self

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores before the softmax."""
        return self.head(pooled(self.encoder, tokens))  # type: ignore[no-any-return]
