"""LWM's tokens: canonical channels to scaled patches and back, as each version cuts them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from ..data.patches import Channel, rms
from .lwm_config import LWMConfig

MICRO = 1e6


def scale_of(channel: Channel, config: LWMConfig) -> NDArray[np.float32]:
    """What a channel `[batch, 1, antenna, frequency]` is multiplied by, `[batch or 1, 1, 1, 1]`.

    DeepMIMO, whose amplitudes the published weights know, divides an OFDM channel of K subcarriers by sqrt(K); the
    canonical channel is not divided, so `micro` is 1e6 / sqrt(K) and `none` 1 / sqrt(K).
    """
    if config.scaling == "rms":
        return np.asarray(1 / rms(channel), np.float32)
    factor = (MICRO if config.scaling == "micro" else 1.0) / np.sqrt(channel.shape[3])
    return np.full((1, 1, 1, 1), factor, np.float32)


def tokens_from_channel(channel: Channel, config: LWMConfig) -> NDArray[np.float32]:
    """Scaled canonical channels `[batch, 1, antenna, frequency]` to tokens `[batch, token, value]`, without [CLS].

    `separate`: patches of the real part in order (antenna, frequency), then those of the imaginary part.
    `interleaved`: a patch runs over its antennas, then over its subcarriers, (re, im) of each together.
    """
    batch, time, antennas, subcarriers = channel.shape
    rows, columns = config.patch_antennas, config.patch_subcarriers
    if time != 1 or antennas % rows or subcarriers % columns or not batch:
        raise InputError(
            f"{config.name} takes channels [batch, 1, antenna, frequency] in patches of {rows} x {columns}, "
            f"got {[*channel.shape]}"
        )
    split = channel.reshape(batch, antennas // rows, rows, subcarriers // columns, columns).transpose(0, 1, 3, 2, 4)
    parts = np.stack((split.real, split.imag), 1 if config.parts == "separate" else -1)
    tokens = parts.reshape(batch, -1, config.values).astype(np.float32)
    if config.positions == "learned" and tokens.shape[1] >= config.max_tokens:
        raise InputError(
            f"{config.name}: channels {[*channel.shape]} make {tokens.shape[1]} tokens; it has positions for "
            f"{config.max_tokens - 1}: take fewer antennas or subcarriers"
        )
    return tokens


def channel_from_tokens(tokens: NDArray[np.float32], config: LWMConfig) -> Channel:
    """Inverse of tokens_from_channel for the configuration's own sampling, still scaled."""
    rows, columns = config.patch_antennas, config.patch_subcarriers
    _, antennas, blocks = config.grid
    if config.parts == "separate":
        parts = tokens.reshape(-1, 2, antennas, blocks, rows, columns)
        split = parts[:, 0] + 1j * parts[:, 1]
    else:
        pairs = tokens.reshape(-1, antennas, blocks, rows, columns, 2)
        split = pairs[..., 0] + 1j * pairs[..., 1]
    joined = split.transpose(0, 1, 3, 2, 4).reshape(len(tokens), 1, antennas * rows, blocks * columns)
    return np.asarray(joined, np.complex64)
