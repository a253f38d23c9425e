"""Beam prediction across bands: the best beam of a codebook at 28 GHz, from the channel below 6 GHz."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError, UsageError

from ..data.patches import Channel
from ..data.schema import PathSet
from .array_channels import ANTENNAS, array_channels
from .probe import Labels

__all__ = ["MOST_BEAMS", "beam_powers", "codebook", "labels", "paired"]

LEAST_BEAMS, MOST_BEAMS = 16, 256
HIGH_BAND_HZ = 20e9


def codebook(beams: int, antennas: int = ANTENNAS) -> NDArray[np.complex64]:
    """Steering vectors `[beam, antenna]` of a half-wavelength line, angles evenly from -90 to 90 degrees.

    f_b[n] = exp(j pi n sin phi_b) / sqrt(N). UsageError for fewer than 16 or more than 256 beams.
    """
    if not LEAST_BEAMS <= beams <= MOST_BEAMS:
        raise UsageError(f"a codebook of {beams} beams: {LEAST_BEAMS} to {MOST_BEAMS} are possible")
    phase = np.pi * np.sin(np.deg2rad(np.linspace(-90, 90, beams)))[:, None] * np.arange(antennas)
    return np.asarray(np.exp(1j * phase) / np.sqrt(antennas), np.complex64)


def beam_powers(channel: Channel, beams: int, *, coherent: bool = False) -> NDArray[np.float64]:
    """Power `[link, beam]` that each beam of the codebook receives of `[link, 1, antenna, frequency]`.

    Wide-band: P_b = mean_k |f_b^H h_k|^2. `coherent`: |mean_k f_b^H h_k|^2, as LWM's code has it; it loses what arrives
    with another delay, so it prefers beams whose paths happen to add up.
    """
    received = np.einsum("ba,ltaf->lbtf", codebook(beams, channel.shape[2]).conj(), channel, optimize=True)
    if coherent:
        return np.asarray(np.abs(received.mean(axis=(2, 3))) ** 2, np.float64)
    return np.asarray((np.abs(received) ** 2).mean(axis=(2, 3)), np.float64)


def labels(high: PathSet, beams: int = 64, *, coherent: bool = False) -> Labels:
    """Index of the strongest beam of every link of `high` (each with a path), a 32-element array turned as LWM's."""
    parts = [
        beam_powers(array_channels(high, np.arange(start, min(start + 256, high.links))), beams, coherent=coherent)
        for start in range(0, high.links, 256)
    ]
    return np.asarray(np.concatenate(parts).argmax(1), np.intp)


def paired(sets: Sequence[PathSet]) -> list[tuple[PathSet, PathSet]]:
    """The same links below 6 GHz and at 28 GHz: sets of one station, the users that both reach, in the same order.

    InputError where no set above 20 GHz shares a user with one below.
    """
    pairs = []
    for low in (item for item in sets if item.carrier_hz < HIGH_BAND_HZ):
        for high in (item for item in sets if item.carrier_hz >= HIGH_BAND_HZ and np.allclose(item.bs, low.bs)):
            known = {key: row for row, key in enumerate(_places(high)) if high.n_paths[row]}
            rows = [(row, known[key]) for row, key in enumerate(_places(low)) if low.n_paths[row] and key in known]
            if rows:
                ours, theirs = np.array(rows, np.intp).T
                pairs.append((low.select(ours), high.select(theirs)))
                break
    if not pairs:
        carriers = ", ".join(f"{value / 1e9:g} GHz" for value in sorted({item.carrier_hz for item in sets}))
        raise InputError(
            f"beam prediction needs the same users below 6 GHz and at 28 GHz; the data hold {carriers or 'nothing'}: "
            "give a folder with both"
        )
    return pairs


def _places(paths: PathSet) -> list[bytes]:
    """Positions of the users to the centimetre, as keys."""
    return [row.tobytes() for row in np.round(paths.ue.astype(np.float64), 2) + 0.0]
