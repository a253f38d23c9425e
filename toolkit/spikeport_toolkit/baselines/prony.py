"""Vector Prony in the angle-delay domain (PAD, Yin et al. 2020): every cell is a sum of few turning phasors."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .separable import checked
from .steps import even_steps, stable

__all__ = ["linear_prediction", "prony"]

ORDER = 4


def prony(
    observed: NDArray[np.complex64],
    times_observed: NDArray[np.float64],
    times_predicted: NDArray[np.float64],
    snr_db: ArrayLike,
    *,
    order: int = ORDER,
    factor: float = 2.0,
) -> NDArray[np.complex64]:
    """Predict each cell of the angle-delay domain by its own linear recursion.

        g = DFT over antennas, IDFT over tones, of H;   g[t] = sum_k c_k g[t - k];   H_hat = the same, turned back

    A cell whose mean power is below the noise (s (1 + `factor` sqrt(2/n)), n steps) is set to zero, the rest get
    coefficients by `linear_prediction`, at most half as many as there are steps. Exact for one path without noise.
    Steps as in `ar`. Arguments, result and errors as `wiener`.
    """
    snr = checked(observed, snr_db)
    steps = even_steps(observed, times_observed, times_predicted)
    cells = np.fft.ifft(np.fft.fft(steps.values, axis=2, norm="ortho"), axis=3, norm="ortho")
    count = cells.shape[1]
    order = max(1, min(order, count // 2))
    power = np.mean(np.abs(cells) ** 2, axis=1)
    mean = np.mean(np.abs(observed) ** 2, axis=(1, 2, 3))
    noise = (mean / (1 + 10 ** (snr / 10)) / steps.averaged)[:, None, None]
    kept = power > noise * (1 + factor * np.sqrt(2 / count))
    series = cells.transpose(0, 2, 3, 1)[kept]
    weights = linear_prediction(series, order, np.broadcast_to(noise, kept.shape)[kept])
    past = [series[:, t] for t in range(count - order, count)]
    for _ in range(steps.ahead):
        past.append(np.einsum("nk,nk->n", weights, np.stack(past[: -order - 1 : -1], 1)))
    predicted = np.zeros((*kept.shape, steps.ahead), np.complex128)
    predicted[kept] = np.stack(past[order:], 1)
    turned = np.fft.ifft(np.fft.fft(predicted.transpose(0, 3, 1, 2), axis=3, norm="ortho"), axis=2, norm="ortho")
    return steps.spread(turned.astype(np.complex64))


def linear_prediction(series: NDArray[np.complex128], order: int, noise: ArrayLike = 0.0) -> NDArray[np.complex128]:
    """Least-squares coefficients `[n, order]` of x[t] = sum_k c_k x[t - k] for each of n series `[n, step]`.

    (X^H X + rows `noise` I) c = X^H x: the noise of the samples regularises. Roots are held within the unit circle.
    """
    rows = series.shape[1] - order
    past = np.stack([series[:, order - k : order - k + rows] for k in range(1, order + 1)], 2)
    wanted = series[:, order:, None]
    adjoint = past.conj().transpose(0, 2, 1)
    load = rows * np.broadcast_to(np.asarray(noise, np.float64), len(series)) + 1e-12
    scale = np.mean(np.abs(series) ** 2, axis=1)
    normal = adjoint @ past + (load + 1e-9 * rows * scale)[:, None, None] * np.eye(order)
    weights = np.linalg.solve(normal, adjoint @ wanted)[..., 0]
    return stable(np.asarray(weights, np.complex128))
