"""Channels of an array at the base station as DeepMIMO and LWM count them: one instant, one antenna at the user."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..data.canonical import ROTATION_DEG, turned
from ..data.patches import Channel
from ..data.schema import PathSet
from ..data.synthesis import channels

__all__ = ["ANTENNAS", "array_channels"]

ANTENNAS, SUBCARRIERS, SPACING_HZ = 32, 32, 30e3


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
