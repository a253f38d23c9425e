"""Denoising by a threshold in the delay domain, then a Wiener filter over time: no delay prior at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .separable import checked
from .wiener import prior_times, speed_covariance

__all__ = ["wiener_threshold"]


def wiener_threshold(
    observed: NDArray[np.complex64],
    times_observed: NDArray[np.float64],
    times_predicted: NDArray[np.float64],
    snr_db: ArrayLike,
    *,
    carrier_hz: float = 3.5e9,
    speeds: tuple[float, float] = (0.1, 5.0),
    factor: float = 2.0,
) -> NDArray[np.complex64]:
    """Taps h = IDFT of H over frequency; a tap whose power, averaged over time and antennas, is not above noise goes.

        keep tap l  iff  mean |h_l|^2 > s (1 + `factor` sqrt(2 / n)),   n = observed symbols x antennas, s = noise power

    The mean of n noise powers has standard deviation s / sqrt(n). The noise power follows from the SNR and the
    sample's mean power. Each kept tap is predicted by the Wiener filter over time at its own SNR. Arguments, result
    and errors as `wiener`.
    """
    times = prior_times(observed, times_observed, times_predicted)
    ratio = 10 ** (-checked(observed, snr_db) / 10)
    n = len(times_observed)
    taps = np.fft.ifft(observed, axis=3, norm="ortho")
    mean = np.mean(np.abs(taps) ** 2, axis=(1, 2))
    noise = (mean.mean(1) * ratio / (1 + ratio))[:, None]
    count = n * observed.shape[2]
    signal = np.where(mean > noise * (1 + factor * np.sqrt(2 / count)), mean - noise, 0)
    r_t = speed_covariance(times, carrier_hz, speeds)
    values, u = np.linalg.eigh(r_t[:n, :n])
    gain = signal[:, None] / (values.clip(0)[:, None] * signal[:, None] + noise[:, None])
    modes = (u.T @ taps.reshape(len(taps), n, -1)).reshape(taps.shape) * gain[:, :, None]
    predicted = (r_t[n:, :n] @ u) @ modes.reshape(len(taps), n, -1)
    shape = (len(taps), len(times_predicted), *observed.shape[2:])
    return np.fft.fft(predicted.reshape(shape), axis=3, norm="ortho").astype(np.complex64)
