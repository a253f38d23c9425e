"""Channel synthesis from path parameters, in NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .schema import PATH_FIELDS, PathSet

SPEED_OF_LIGHT = 299_792_458.0


def channels(
    paths: PathSet,
    users: NDArray[np.intp],
    times_s: NDArray[np.float64],
    frequencies_hz: NDArray[np.float64],
    velocity: NDArray[np.float64],
    *,
    rx: int = 2,
    tx: int = 2,
    spacing: float = 0.5,
    align_delays: bool = False,
) -> NDArray[np.complex64]:
    """Channels `H[batch, time, antenna, frequency]` of the links `users` of `paths`, antenna index rx * Nt + tx.

        H[t, m, n, k] = sum_p a_p exp(-j 2 pi fc tau_p) exp(+j 2 pi fd_p t) exp(-j 2 pi f_k tau_p)
                        exp(+j 2 pi d (m - (Nr-1)/2) sin th_r sin ph_r) exp(+j 2 pi d (n - (Nt-1)/2) sin th_t sin ph_t)
        fd_p = v . k(th_r, ph_r) fc / c

    Uniform linear arrays along +y, centred, `spacing` in wavelengths. `velocity` is `[batch, 3]` in m/s,
    `frequencies_hz` are baseband `[frequency]`, `times_s` `[time]`. With `align_delays` the first arrival's delay
    is taken off f_k tau_p, as a receiver's timing advance does; the carrier phase keeps the true delay.
    """
    factors = path_factors(
        paths, users, times_s, frequencies_hz, velocity, rx=rx, tx=tx, spacing=spacing, align_delays=align_delays
    )
    in_space = (factors.space * factors.gain[:, None, :]).transpose(0, 2, 1)[..., None] * factors.frequency[:, :, None]
    flat = factors.time @ in_space.reshape(*in_space.shape[:2], -1).astype(np.complex64)
    result: NDArray[np.complex64] = flat.reshape(len(users), len(times_s), rx * tx, len(frequencies_hz))
    return result


@dataclass(frozen=True, eq=False)
class PathFactors:
    """A channel as the sum over paths p of gain_p time_p(t) space_p(a) frequency_p(f); a path not there has gain 0."""

    gain: NDArray[np.complex64]
    """[batch, path], with the carrier phase."""
    time: NDArray[np.complex64]
    """[batch, time, path], Doppler."""
    space: NDArray[np.complex64]
    """[batch, antenna, path], both arrays."""
    frequency: NDArray[np.complex64]
    """[batch, path, frequency], delay."""


def path_factors(
    paths: PathSet,
    users: NDArray[np.intp],
    times_s: NDArray[np.float64],
    frequencies_hz: NDArray[np.float64],
    velocity: NDArray[np.float64],
    *,
    rx: int = 2,
    tx: int = 2,
    spacing: float = 0.5,
    align_delays: bool = False,
) -> PathFactors:
    """The factors of the sum in `channels`, for the same arguments."""
    fc = paths.carrier_hz
    tau, th_t, ph_t, th_r, ph_r = (getattr(paths, name)[users].astype(np.float64) for name in PATH_FIELDS[1:])
    valid = np.arange(tau.shape[1]) < paths.n_paths[users][:, None]
    gain = np.where(valid, paths.a[users] * _phasor(-fc * tau), 0)
    if align_delays:
        tau = np.where(valid, tau - np.where(valid, tau, np.inf).min(axis=1, keepdims=True), 0)
    direction = np.stack((np.sin(th_r) * np.cos(ph_r), np.sin(th_r) * np.sin(ph_r), np.cos(th_r)), -1)
    doppler = np.einsum("bpc,bc->bp", direction, velocity) * (fc / SPEED_OF_LIGHT)
    in_time = _phasor(doppler[:, None, :] * times_s[None, :, None])
    in_frequency = _phasor(-tau[:, :, None] * frequencies_hz)
    at_rx = _phasor(spacing * (np.sin(th_r) * np.sin(ph_r))[:, None, :] * (np.arange(rx) - (rx - 1) / 2)[:, None])
    at_tx = _phasor(spacing * (np.sin(th_t) * np.sin(ph_t))[:, None, :] * (np.arange(tx) - (tx - 1) / 2)[:, None])
    links = (at_rx[:, :, None, :] * at_tx[:, None, :, :]).reshape(len(users), rx * tx, -1)
    return PathFactors(gain, in_time, links, in_frequency)


def _phasor(cycles: NDArray[np.float64]) -> NDArray[np.complex64]:
    """exp(j 2 pi cycles), reduced to one turn in double precision before rounding."""
    turn = (2 * np.pi * np.mod(cycles, 1.0)).astype(np.float32)
    phasor = np.empty(turn.shape, np.complex64)
    phasor.real, phasor.imag = np.cos(turn), np.sin(turn)
    return phasor
