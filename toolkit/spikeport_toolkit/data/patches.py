"""Patching and scaling in NumPy: the canonical sample to scaled patches and back.

A patch is one slot (14 symbols) x one antenna link x one resource block (12 subcarriers), its 168 complex values
in order (symbol, subcarrier), as 168 real then 168 imaginary parts. Tokens are ordered (slot, antenna, block).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from ..models.config import PATCH_VALUES, SUBCARRIERS_PER_BLOCK, SYMBOLS_PER_SLOT

Channel = NDArray[np.complex64]
Patches = NDArray[np.float32]


def patches_from_channel(channel: Channel) -> Patches:
    """`H[batch, time, antenna, frequency]` to patches `[batch, token, 336]`, unscaled."""
    batch, time, antennas, subcarriers = channel.shape
    if time % SYMBOLS_PER_SLOT or subcarriers % SUBCARRIERS_PER_BLOCK:
        raise InputError(
            f"channel has {time} symbols and {subcarriers} subcarriers; "
            f"patches need multiples of {SYMBOLS_PER_SLOT} and {SUBCARRIERS_PER_BLOCK}"
        )
    slots, blocks = time // SYMBOLS_PER_SLOT, subcarriers // SUBCARRIERS_PER_BLOCK
    split = channel.reshape(batch, slots, SYMBOLS_PER_SLOT, antennas, blocks, SUBCARRIERS_PER_BLOCK)
    complex_patches = split.transpose(0, 1, 3, 4, 2, 5).reshape(batch, slots * antennas * blocks, PATCH_VALUES // 2)
    return np.concatenate((complex_patches.real, complex_patches.imag), -1).astype(np.float32)


def channel_from_patches(patches: Patches, antennas: int, blocks: int) -> Channel:
    """Inverse of patches_from_channel for whole slots: `[batch, token, 336]` to H[batch, time, antenna, frequency]."""
    batch, tokens, _ = patches.shape
    slots = tokens // (antennas * blocks)
    values = patches[..., : PATCH_VALUES // 2] + 1j * patches[..., PATCH_VALUES // 2 :]
    split = values.reshape(batch, slots, antennas, blocks, SYMBOLS_PER_SLOT, SUBCARRIERS_PER_BLOCK)
    channel = split.transpose(0, 1, 4, 2, 3, 5)
    return channel.reshape(batch, slots * SYMBOLS_PER_SLOT, antennas, blocks * SUBCARRIERS_PER_BLOCK).astype(
        np.complex64
    )


def rms(observed: Channel) -> NDArray[np.float32]:
    """RMS of each sample of `[batch, ...]` as `[batch, 1, 1, 1]`; InputError for one that is zero or not finite."""
    scale = np.sqrt(np.mean(np.abs(observed) ** 2, axis=(1, 2, 3), keepdims=True, dtype=np.float64)).astype(np.float32)
    bad = ~(np.isfinite(scale) & (scale > 0))
    if bad.any():
        index = int(np.flatnonzero(bad.ravel())[0])
        raise InputError(
            f"sample {index} of the observed channel is zero or not finite: remove it or repair the capture"
        )
    return scale
