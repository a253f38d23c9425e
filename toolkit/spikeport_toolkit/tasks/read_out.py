"""A linear read-out of a model's features: fitted in closed form, or trained together with the model."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import InputError

from ..training.adaptation import Adaptation, adapt, merge, training_mode
from .features import backbone_of, pooled

__all__ = [
    "PENALTIES",
    "ReadOut",
    "Ridge",
    "Rows",
    "Tuning",
    "fit_ridge",
    "itself",
    "pooled_rows",
    "prepared",
    "read_out",
    "token_rows",
]

Values = NDArray[np.floating]
Rows = Callable[[nn.Module, Tensor], Tensor]
"""Features `[sample, ..., d]` that a model has of its inputs `[sample, ...]`; every row gets the same read-out."""
ReadOut = Callable[[Tensor], NDArray[np.float32]]
"""Inputs `[sample, ...]` to outputs `[sample, ..., output]`."""
PENALTIES = tuple(float(10.0**power) for power in range(-3, 6))
AT_ONCE = 64


@dataclass(frozen=True)
class Tuning:
    """Fine-tuning of a model with its read-out: AdamW with a cosine schedule."""

    steps: int = 150
    batch: int = 32
    lr: float = 3e-4


@dataclass(frozen=True, eq=False)
class Ridge:
    """y = (x - mean) / spread W + centre, for features `[row, d]`."""

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    weights: NDArray[np.float64]
    centre: NDArray[np.float64]
    penalty: float

    def __call__(self, x: Values) -> NDArray[np.float64]:
        """Features `[..., d]` to outputs `[..., output]`."""
        return np.asarray((x - self.mean) / self.spread @ self.weights + self.centre, np.float64)


def fit_ridge(x: Values, y: Values, penalties: tuple[float, ...] = PENALTIES) -> Ridge:
    """Ridge regression of targets `[row, output]` on features `[row, d]`, these standardised to X:

        W = (X^T X + p I)^-1 X^T (Y - mean Y)

    p is the one of `penalties` with the least generalised cross-validation error (Golub, Heath and Wahba, 1979),
    |Y - Y_p|^2 / (n - tr S_p)^2, where S_p is the matrix that gives the fitted Y_p. InputError for fewer than two
    rows.
    """
    rows = len(x)
    if rows < 2:
        raise InputError(f"{rows} labelled row is too few for a linear read-out: take 2 labels or more")
    mean, spread = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    spread = np.where(spread > 1e-6 * spread.max(initial=1e-30), spread, 1.0)
    flat, centre = (x - mean) / spread, y.mean(0, dtype=np.float64)
    target = y - centre
    tall = rows > flat.shape[1]
    values, vectors = np.linalg.eigh(flat.T @ flat if tall else flat @ flat.T)
    kept = values > 1e-10 * max(values[-1], 1e-30)
    values, vectors = values[kept], vectors[:, kept]
    right = vectors if tall else flat.T @ vectors / np.sqrt(values)
    modes = (right.T @ (flat.T @ target)) / np.sqrt(values)[:, None]
    power = np.sum(modes**2, 1)
    outside = max(float(np.sum(target**2)) - float(power.sum()), 0.0)  # what no penalty fits

    def error(penalty: float) -> float:
        lost = penalty / (values + penalty)
        return (outside + float(lost**2 @ power)) / float(rows - 1 - len(values) + lost.sum()) ** 2

    best = min(penalties, key=error)
    weights = right @ (modes * (np.sqrt(values) / (values + best))[:, None])
    return Ridge(mean, spread, weights, centre, best)


def pooled_rows(model: nn.Module, inputs: Tensor) -> Tensor:
    """One vector `[sample, d]`: the [CLS] feature, or the mean over tokens of a model without one."""
    return pooled(backbone_of(model), inputs)


def token_rows(model: nn.Module, inputs: Tensor) -> Tensor:
    """The feature `[sample, token, d]` of every token."""
    encoder: Any = backbone_of(model)
    return encoder.encode(encoder.embed(inputs))  # type: ignore[no-any-return]


def read_out(
    model: nn.Module,
    rows: Rows,
    inputs: Tensor,
    targets: Values,
    adaptation: str = "probe",
    *,
    seed: int = 0,
    tuning: Tuning | None = None,
) -> ReadOut:
    """Fit outputs `[sample, ..., output]` to the features `rows` of labelled `inputs`; `model` stays as it is.

    `probe` is ridge regression on frozen features. Every other adaptation starts there and goes on by gradient, the
    model (training/adaptation.py) with the read-out, on the squared error over the variance of the targets
    (Kumar et al., arXiv 2202.10054).
    """
    found = _features(model, rows, inputs)
    probe = fit_ridge(found.reshape(-1, found.shape[-1]), targets.reshape(-1, targets.shape[-1]))
    if adaptation == "probe":
        return lambda given: np.asarray(probe(_features(model, rows, given)), np.float32)
    tuned, head = _tuned(model, rows, inputs, targets, Adaptation(adaptation), probe, seed, tuning or Tuning())
    return lambda given: np.asarray(head(torch.from_numpy(_features(tuned, rows, given))).numpy(), np.float32)


def prepared(model: nn.Module, rows: Rows, inputs: Tensor, adaptation: str) -> tuple[nn.Module, Rows, Tensor]:
    """What to give `read_out`: for `probe` the frozen features themselves, so that they are computed once."""
    if adaptation != "probe":
        return model, rows, inputs
    return nn.Identity(), itself, torch.from_numpy(_features(model, rows, inputs))


def itself(_: nn.Module, inputs: Tensor) -> Tensor:
    """The inputs as features."""
    return inputs


class _Head(nn.Module):
    """A ridge regression as trainable module, its outputs over the deviation `unit` of the targets."""

    def __init__(self, probe: Ridge, unit: float):
        super().__init__()
        self.mean, self.spread = (torch.from_numpy(v.astype(np.float32)) for v in (probe.mean, probe.spread))
        self.centre, self.unit = torch.from_numpy(probe.centre.astype(np.float32)), unit
        self.weight = nn.Parameter(torch.from_numpy((probe.weights / unit).astype(np.float32)))
        self.bias = nn.Parameter(torch.zeros(len(probe.centre)))

    def forward(self, features: Tensor) -> Tensor:
        scaled = (features - self.mean) / self.spread
        return (scaled @ self.weight + self.bias) * self.unit + self.centre


def _tuned(
    model: nn.Module, rows: Rows, inputs: Tensor, targets: Values, adaptation: Adaptation, probe: Ridge, seed: int,
    tuning: Tuning,
) -> tuple[nn.Module, nn.Module]:  # fmt: skip
    tuned, wanted = deepcopy(model), torch.from_numpy(np.asarray(targets, np.float32))
    unit = float(np.sqrt(np.mean((targets - probe.centre) ** 2))) or 1.0
    head = _Head(probe, unit)
    trained = [*adapt(tuned, adaptation, seed), *head.parameters()]
    training_mode(tuned, adaptation, freeze_statistics=True)
    optimiser = torch.optim.AdamW(trained, tuning.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, tuning.steps)
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout
        for _ in range(tuning.steps):
            chosen = torch.from_numpy(rng.permutation(len(inputs))[: tuning.batch])
            loss = ((head(rows(tuned, inputs[chosen])) - wanted[chosen]) / unit).square().mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            schedule.step()
    merge(tuned)
    return tuned.eval(), head.requires_grad_(False)


def _features(model: nn.Module, rows: Rows, inputs: Tensor) -> NDArray[np.float32]:
    with torch.no_grad():
        parts = [rows(model, inputs[i : i + AT_ONCE]).float().numpy() for i in range(0, len(inputs), AT_ONCE)]
    found: NDArray[np.float32] = np.concatenate(parts)
    if not np.isfinite(found).all():
        raise InputError(f"{type(model).__name__} gives features that are not finite: check its weights")
    return found
