"""The linear minimum-mean-square-error estimate under a separable prior: what every Wiener filter here computes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikeport_errors import InputError

__all__ = ["Axis", "checked", "separable_lmmse"]

Axis = tuple[NDArray[Any], NDArray[Any]]
"""Covariances of one axis: between observed points `[n, n]`, and of wanted with observed points `[m, n]`."""
DOUBLE_FROM_DB = 40.0
"""Above this SNR the filter is nearly singular, and single precision would show in the result."""


def separable_lmmse(
    observed: NDArray[np.complex64], snr_db: ArrayLike, time: Axis, antenna: Axis, frequency: Axis
) -> NDArray[np.complex64]:
    """H_hat = C_wo (C_oo + I / SNR)^-1 y, with C = C_t (x) C_a (x) C_f and unit mean power.

    With C_oo = U L U^H per axis, y is turned into the modes of all three axes, each is scaled by
    1 / (l_t l_a l_f + 1/SNR), and turned back by C_wo U per axis: exact for the Kronecker prior, at the cost of six
    small matrix products. `observed` `[batch, time, antenna, frequency]`, `snr_db` a number or `[batch]`; returns
    `[batch, wanted time, wanted antenna, wanted frequency]`. InputError for other shapes or NaN.
    """
    snr = checked(observed, snr_db)
    kind = np.complex64 if snr.max() <= DOUBLE_FROM_DB else np.complex128
    values, inward, outward = zip(*(_modes(*axis, kind) for axis in (time, antenna, frequency)), strict=True)
    modes = _turn(observed.astype(kind, copy=False), inward)
    power = np.multiply.outer(np.multiply.outer(values[0], values[1]), values[2])
    modes = modes / (power + 10 ** (-snr / 10)[:, None, None, None]).astype(modes.real.dtype)
    return np.ascontiguousarray(_turn(modes, outward), np.complex64)


def checked(observed: NDArray[np.complex64], snr_db: ArrayLike) -> NDArray[np.float64]:
    """The SNR of each sample, dB; InputError for a channel or an SNR of a wrong shape, or not finite."""
    if observed.ndim != 4 or 0 in observed.shape:
        raise InputError(f"observed has shape {observed.shape}, wanted [batch, time, antenna, frequency], none empty")
    snr = np.asarray(snr_db, dtype=np.float64)
    if snr.shape not in {(), observed.shape[:1]}:
        raise InputError(f"snr_db has shape {snr.shape}, wanted one number or one for each of {len(observed)} samples")
    if not np.isfinite(observed).all() or not np.isfinite(snr).all():
        raise InputError("observed or snr_db holds NaN or infinity: drop those samples")
    return np.broadcast_to(snr, observed.shape[:1])


def _modes(
    within: NDArray[Any], across: NDArray[Any], kind: type
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[Any]]:
    values, vectors = np.linalg.eigh(within)
    return values.clip(0), vectors.conj().T.astype(kind), (across @ vectors).astype(kind)


def _turn(values: NDArray[Any], matrices: tuple[NDArray[Any], ...]) -> NDArray[Any]:
    """Multiply axes 1, 2 and 3 of `values` by one matrix each."""
    batch = len(values)
    time, antenna, frequency = matrices
    values = values @ frequency.T
    values = antenna @ values
    flat = time @ values.reshape(batch, values.shape[1], -1)
    return np.asarray(flat).reshape(batch, len(time), len(antenna), len(frequency))
