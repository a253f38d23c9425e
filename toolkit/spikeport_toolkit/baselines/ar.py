"""Autoregression: the link's own past predicts it, coefficients from its autocorrelation (Yule-Walker)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .separable import checked
from .steps import even_steps, stable

__all__ = ["ar", "yule_walker"]

ORDER = 8


def ar(
    observed: NDArray[np.complex64],
    times_observed: NDArray[np.float64],
    times_predicted: NDArray[np.float64],
    snr_db: ArrayLike,
    *,
    order: int = ORDER,
) -> NDArray[np.complex64]:
    """x[t] = sum_k c_k x[t - k], k = 1 ... `order`, one set of coefficients a link, shared by antennas and tones.

    Steps are symbols in contiguous slots and slot means otherwise (steps.py); the order is at most half the number
    of steps. Coefficients by `yule_walker`, made `stable`, then one step after another. The SNR is not used.
    Arguments, result and errors as `wiener`.
    """
    checked(observed, snr_db)
    steps = even_steps(observed, times_observed, times_predicted)
    series = steps.values.reshape(len(observed), steps.values.shape[1], -1)
    order = max(1, min(order, series.shape[1] // 2))
    weights = stable(yule_walker(series, order))[:, ::-1].astype(np.complex64)
    return steps.extend(lambda past: np.einsum("bk,bkaf->baf", weights, past), order)


def yule_walker(series: NDArray[np.complex64], order: int) -> NDArray[np.complex128]:
    """Coefficients c `[batch, order]` of x[t] = sum_k c_k x[t - k] + e[t], from `[batch, step, series]`.

    Solves R c = r with R[i, j] = r[i - j] and r[k] = mean of x[t] conj(x[t - k]) over t and series (unbiased). White
    noise of the samples stands on the diagonal of R and regularises.
    """
    count = series.shape[1]
    lags = np.stack(
        [
            np.mean(series[:, k:].astype(np.complex128) * series[:, : count - k].conj(), axis=(1, 2))
            for k in range(order + 1)
        ],
        1,
    )
    index = np.subtract.outer(np.arange(order), np.arange(order))
    toeplitz = np.where(index >= 0, lags[:, abs(index)], lags[:, abs(index)].conj())
    ridge = 1e-9 * lags[:, :1].real
    toeplitz = toeplitz + ridge[..., None] * np.eye(order)
    return np.asarray(np.linalg.solve(toeplitz, lags[:, 1:, None])[..., 0])
