"""Even steps in time, which recursions need: symbols where slots follow each other, slot means where they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from ..models.config import SYMBOLS_PER_SLOT
from .wiener import prior_times

__all__ = ["Steps", "even_steps", "stable"]

_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Steps:
    """`values` `[batch, step, antenna, frequency]`, `step_s` apart; `ahead` more of them are wanted."""

    values: NDArray[np.complex64]
    step_s: float
    ahead: int
    averaged: int
    """Symbols in one step: noise is that much lower."""

    def spread(self, predicted: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Predicted steps `[batch, ahead, antenna, frequency]` as symbols, all symbols of a slot alike."""
        return np.repeat(predicted, self.averaged, axis=1).astype(np.complex64)

    def extend(
        self, step: Callable[[NDArray[np.complex64]], NDArray[np.complex64]], order: int
    ) -> NDArray[np.complex64]:
        """Predict by recursion: `step` maps the last `order` values `[batch, order, ...]`, newest last, to the next."""
        known = list(self.values[:, -order:].swapaxes(0, 1))
        for _ in range(self.ahead):
            known.append(step(np.stack(known[-order:], 1)))
        return self.spread(np.stack(known[order:], 1))


def even_steps(
    observed: NDArray[np.complex64], times_observed: NDArray[np.float64], times_predicted: NDArray[np.float64]
) -> Steps:
    """Symbols as they are if all times are evenly spaced, else means over slots of 14 symbols.

    InputError where the slots are not evenly spaced either.
    """
    times = prior_times(observed, times_observed, times_predicted)
    gaps = np.diff(times)
    if np.ptp(gaps) <= _TOLERANCE * gaps[0]:
        return Steps(observed, float(gaps[0]), len(times_predicted), 1)
    batch, symbols, antennas, tones = observed.shape
    starts = np.diff(times[::SYMBOLS_PER_SLOT])
    if symbols % SYMBOLS_PER_SLOT or len(times) % SYMBOLS_PER_SLOT or np.ptp(starts) > _TOLERANCE * starts[0]:
        raise InputError(
            f"{len(times)} symbols are neither evenly spaced nor slots of {SYMBOLS_PER_SLOT} at even distances: "
            "recursive predictors (ar, prony, kalman) cannot step over them; leave those out"
        )
    means = observed.reshape(batch, -1, SYMBOLS_PER_SLOT, antennas, tones).mean(2, dtype=np.complex64)
    return Steps(means, float(starts[0]), len(times_predicted) // SYMBOLS_PER_SLOT, SYMBOLS_PER_SLOT)


def stable(weights: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Recursions `[n, order]` with the roots of z^order - sum_k c_k z^(order - k) drawn into the unit circle.

    Paths turn and do not grow: a root outside would let the prediction explode.
    """
    count, order = weights.shape
    companion = np.zeros((count, order, order), np.complex128)
    companion[:, 0] = weights
    companion[:, np.arange(1, order), np.arange(order - 1)] = 1
    roots = np.linalg.eigvals(companion)
    roots = roots / np.maximum(np.abs(roots), 1)
    polynomial = np.ones((count, 1), np.complex128)
    for k in range(order):
        shifted = np.pad(polynomial, ((0, 0), (1, 0)))
        polynomial = np.pad(polynomial, ((0, 0), (0, 1))) - roots[:, k : k + 1] * shifted
    return np.asarray(-polynomial[:, 1:])
