"""Channels of an array at the base station as DeepMIMO and LWM count them: one instant, one antenna at the user."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..data.patches import Channel
from ..data.schema import PathSet
from ..data.synthesis import channels

__all__ = ["ANTENNAS", "ROTATION_DEG", "array_channels", "turned"]

ANTENNAS, SUBCARRIERS, SPACING_HZ = 32, 32, 30e3
ROTATION_DEG = -135.0
"""How LWM's base stations are turned about the vertical."""


def turned(paths: PathSet, rotation_deg: float = ROTATION_DEG, antennas: int = ANTENNAS) -> PathSet:
    """`paths` as an array turned by `rotation_deg` about the vertical departs them, its first element the traced point.

    Departure azimuths become phi - rotation. data/synthesis centres an array of N elements on the traced point; gains
    times exp(j pi (N - 1) / 2 sin theta sin phi) put the first element there, as DeepMIMO has it.
    """
    phi = paths.phi_t.astype(np.float64) - np.deg2rad(rotation_deg)
    along = np.sin(paths.theta_t.astype(np.float64)) * np.sin(phi)
    shift = np.exp(1j * np.pi * (antennas - 1) / 2 * along)
    return replace(paths, phi_t=phi.astype(np.float32), a=(paths.a * shift).astype(np.complex64))


def array_channels(
    paths: PathSet,
    users: NDArray[np.intp],
    *,
    antennas: int = ANTENNAS,
    subcarriers: int = SUBCARRIERS,
    spacing_hz: float = SPACING_HZ,
    rotation_deg: float = ROTATION_DEG,
) -> Channel:
    """Static channels `[user, 1, antenna, frequency]` of the links `users`: DeepMIMO's but for its 1 / sqrt(K).

    A half-wavelength line of `antennas`, subcarriers from the carrier upwards, true delays.
    """
    frequencies = np.asarray(np.arange(subcarriers) * spacing_hz, np.float64)
    still = np.zeros((len(users), 3))
    array = turned(paths.select(users), rotation_deg, antennas)
    return channels(array, np.arange(len(users)), np.zeros(1), frequencies, still, rx=1, tx=antennas)
