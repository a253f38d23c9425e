"""The textbook's cheap Wiener filter: over frequency first, then over time (2 x 1-D)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .separable import separable_lmmse
from .wiener import delay_covariance, prior_times, speed_covariance

__all__ = ["wiener_2x1d"]


def wiener_2x1d(
    observed: NDArray[np.complex64],
    times_observed: NDArray[np.float64],
    times_predicted: NDArray[np.float64],
    snr_db: ArrayLike,
    *,
    carrier_hz: float = 3.5e9,
    speeds: tuple[float, float] = (0.1, 5.0),
    mean_delay_s: float = 0.3e-6,
    subcarrier_spacing_hz: float = 30e3,
) -> NDArray[np.complex64]:
    """Two one-dimensional filters in a row, with the prior of `wiener`.

        Z = Y W_f^T, W_f = R_f (R_f + s I)^-1;   H_hat = R_t(pred, obs) (R_t + s' I)^-1 Z,   s = 1/SNR, s' = s g / q

    The first filter's error is taken as white noise of power s' against what is left of the channel: a share
    g = ||W_f||_F^2 / F of the noise and q = tr(W_f R_f W_f^H) / F of the signal come through. Arguments, result and
    errors as `wiener`, which does both axes at once.
    """
    times = prior_times(observed, times_observed, times_predicted)
    n, subcarriers = len(times_observed), observed.shape[3]
    r_f = delay_covariance(subcarriers, subcarrier_spacing_hz, mean_delay_s)
    r_t = speed_covariance(times, carrier_hz, speeds)
    still, white = np.eye(n), np.eye(observed.shape[2])
    smooth = separable_lmmse(observed, snr_db, (still, still), (white, white), (r_f, r_f))
    values = np.linalg.eigvalsh(r_f).clip(0)
    noise = 10 ** (-np.asarray(snr_db, np.float64) / 10)[..., None]
    response = values / (values + noise)
    left = noise[..., 0] * (response**2).mean(-1) / (response**2 * values).mean(-1)
    tones = np.eye(subcarriers)
    axes = (r_t[:n, :n], r_t[n:, :n]), (white, white), (tones, tones)
    return separable_lmmse(smooth, -10 * np.log10(left), *axes)
