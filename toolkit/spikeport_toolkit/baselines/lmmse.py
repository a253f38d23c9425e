"""Separable LMMSE: the Wiener filter with the second-order statistics of the training cities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.sampler import embedded_split
from ..data.schema import SPEED_M_S, PathSet
from ..data.synthesis import path_factors
from .separable import separable_lmmse
from .wiener import prior_times, speed_covariance

__all__ = ["Covariance", "lmmse", "path_covariance", "training_covariance"]

_ELEVATIONS = 16


@dataclass(frozen=True, eq=False)
class Covariance:
    """Second-order statistics of a population of links, one matrix an axis, each with a mean diagonal of 1."""

    sines: NDArray[np.float64]
    """sin(theta_r) of the arriving power, in classes."""
    weights: NDArray[np.float64]
    """Share of the power in each class."""
    antenna: NDArray[np.complex128]
    """[antenna, antenna]"""
    lags: NDArray[np.complex128]
    """[frequency]: covariance of a subcarrier with the one that many below it."""

    def time(self, times_s: NDArray[np.float64], carrier_hz: float) -> NDArray[np.float64]:
        """R_t[i, j] = sum_s w_s E_v J0(2 pi v s fc/c (t_i - t_j)): speeds U(0.1, 5) m/s, all headings alike."""
        rows = [speed_covariance(times_s, carrier_hz * float(sine), SPEED_M_S) for sine in self.sines]
        return np.asarray(np.tensordot(self.weights, np.stack(rows), 1), np.float64)

    @property
    def frequency(self) -> NDArray[np.complex128]:
        """R_f[i, j] = E[H(f_i) H*(f_j)]."""
        offset = np.subtract.outer(np.arange(len(self.lags)), np.arange(len(self.lags)))
        full: NDArray[np.complex128] = np.where(offset >= 0, self.lags[abs(offset)], self.lags[abs(offset)].conj())
        return full


def lmmse(
    observed: NDArray[np.complex64],
    times_observed: NDArray[np.float64],
    times_predicted: NDArray[np.float64],
    snr_db: ArrayLike,
    *,
    carrier_hz: float = 3.5e9,
    subcarrier_spacing_hz: float = 30e3,
    covariance: Covariance | None = None,
) -> NDArray[np.complex64]:
    """Linear MMSE prediction under R_t (x) R_a (x) R_f of the training cities, the SNR known: see separable.py.

    `covariance` defaults to `training_covariance`. The practical bound for what knows second-order statistics of the
    whole population, but nothing of the link at hand. Arguments, result and errors as `wiener`.
    """
    times = prior_times(observed, times_observed, times_predicted)
    known = covariance or training_covariance(carrier_hz, observed.shape[3], subcarrier_spacing_hz)
    r_t, n = _time(known, times.tobytes(), carrier_hz), len(times_observed)
    r_a = known.antenna if len(known.antenna) == observed.shape[2] else np.eye(observed.shape[2])
    axes = (r_t[:n, :n], r_t[n:, :n]), (r_a, r_a), (known.frequency, known.frequency)
    return separable_lmmse(observed, snr_db, *axes)


def path_covariance(paths: PathSet, subcarriers: int, spacing_hz: float = 30e3) -> Covariance:
    """Covariance of the links of `paths`, each at unit mean power, over unknown path phases and all motions.

    With uniform phases the cross terms of the paths vanish, E[H H^H] = sum_p |a_p|^2 c_p c_p^H, so the sums run over
    path parameters and nothing has to be drawn. Delays count from the first arrival (timing advance).
    """
    offsets = np.arange(subcarriers, dtype=np.float64) * spacing_hz
    users = np.arange(paths.links)
    factors = path_factors(paths, users, np.zeros(1), offsets, np.zeros((len(users), 3)), align_delays=True)
    power = np.abs(factors.gain.astype(np.complex128)) ** 2
    weight = power / power.sum(1, keepdims=True) / len(users)
    classes = np.arange(_ELEVATIONS + 1) / _ELEVATIONS
    sine = np.abs(np.sin(paths.theta_r.astype(np.float64)))
    counts, _ = np.histogram(sine, classes, weights=weight)
    sums, _ = np.histogram(sine, classes, weights=weight * sine)
    there = counts > 0
    space = factors.space.transpose(1, 0, 2).reshape(factors.space.shape[1], -1)
    return Covariance(
        sums[there] / counts[there],
        counts[there],
        np.asarray((space * weight.ravel()) @ space.conj().T),
        np.asarray(weight.ravel() @ factors.frequency.reshape(-1, subcarriers)),
    )


@lru_cache(maxsize=8)
def training_covariance(carrier_hz: float, subcarriers: int, spacing_hz: float = 30e3) -> Covariance:
    """path_covariance of the training links of the embedded cities, at their carrier nearest to `carrier_hz`."""
    nearest = 3.5e9 if carrier_hz < 10e9 else 28e9
    return path_covariance(embedded_split("train", nearest), subcarriers, spacing_hz)


_TIMES: dict[tuple[int, bytes, float], NDArray[np.float64]] = {}


def _time(known: Covariance, times: bytes, carrier_hz: float) -> NDArray[np.float64]:
    key = (id(known), times, carrier_hz)
    if key not in _TIMES:
        _TIMES[key] = known.time(np.frombuffer(times), carrier_hz)
    return _TIMES[key]
