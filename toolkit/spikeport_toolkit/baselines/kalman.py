"""Kalman filter: an autoregressive model of the fading, followed symbol by symbol, then run on without observations."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .separable import checked
from .steps import even_steps
from .wiener import delay_covariance, speed_covariance

__all__ = ["ar_model", "kalman"]

ORDER = 3


def kalman(
    observed: NDArray[np.complex64],
    times_observed: NDArray[np.float64],
    times_predicted: NDArray[np.float64],
    snr_db: ArrayLike,
    *,
    order: int = ORDER,
    carrier_hz: float = 3.5e9,
    speeds: tuple[float, float] = (0.1, 5.0),
    mean_delay_s: float = 0.3e-6,
    subcarrier_spacing_hz: float = 30e3,
    correlation: NDArray[np.float64] | None = None,
) -> NDArray[np.complex64]:
    """Track each mode of the delay prior by an AR(`order`) model of Jakes' fading, then predict.

    State s = (x[t], ..., x[t - order + 1]) of mode l, of power l_f:  s' = F s + w,  y = s_0 + n,  with F the companion
    matrix of `ar_model` and the stationary covariance as start. Per step  K = P_0 / (P_00 + v),  s += K (y - s_0),
    P -= K P_0^H,  then  s = F s,  P = F P F^T + Q. The priors are those of `wiener`: on a channel that is AR(`order`)
    in time both give the same. Steps are symbols in contiguous slots, slot means otherwise (steps.py). `correlation`
    `[order + 1]` replaces Jakes' at lags 0 ... order. Arguments, result and errors as `wiener`.
    """
    snr = checked(observed, snr_db)
    steps = even_steps(observed, times_observed, times_predicted)
    batch, count, antennas, tones = steps.values.shape
    if correlation is None:
        correlation = speed_covariance(np.arange(order + 1) * np.float64(steps.step_s), carrier_hz, speeds)[0]
    coefficients, driving = ar_model(correlation)
    order = len(coefficients)
    transition = np.eye(order, k=-1)
    transition[0] = coefficients
    power, v = np.linalg.eigh(delay_covariance(tones, subcarrier_spacing_hz, mean_delay_s))
    power = power.clip(1e-12)
    lags = np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
    noise = (10 ** (-snr / 10) / steps.averaged)[:, None] / power
    # In units of the mode's power, so that one covariance recursion serves all modes of equal noise ratio.
    covariance = np.broadcast_to(correlation[lags], (batch, tones, order, order)).copy()
    state: NDArray[np.complex128] = np.zeros((batch, antennas, tones, order), np.complex128)
    modes = steps.values @ v.conj()
    shock = np.zeros((order, order))
    shock[0, 0] = driving
    for step in range(count):
        gain = covariance[..., 0] / (covariance[..., 0, 0] + noise)[..., None]
        state = state + gain[:, None] * (modes[:, step] - state[..., 0])[..., None]
        covariance = covariance - gain[..., None] * covariance[..., None, 0, :]
        state = state @ transition.T
        covariance = transition @ covariance @ transition.T + shock
    predicted = []
    for _ in range(steps.ahead):
        predicted.append(state[..., 0] @ v.T)
        state = state @ transition.T
    return steps.spread(np.stack(predicted, 1))


def ar_model(correlation: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Coefficients `[order]` and driving power of the AR process with `correlation` r_0 ... r_order: R c = r."""
    order = len(correlation) - 1
    lags = np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
    coefficients = np.linalg.solve(correlation[lags] + 1e-12 * np.eye(order), correlation[1:])
    return coefficients, float(max(correlation[0] - coefficients @ correlation[1:], 0.0))
