"""Views of a channel that keep what it is: the augmentations of contrastive training, in NumPy."""

from __future__ import annotations

import numpy as np

from ..data.impairments import awgn
from ..data.patches import Channel


def noisy(channel: Channel, snr_db: tuple[float, float], rng: np.random.Generator) -> Channel:
    """White noise at U(`snr_db`) dB under each sample's mean power (ContraWiMAE, arXiv 2505.09160)."""
    power = np.mean(np.abs(channel) ** 2, axis=(1, 2, 3), dtype=np.float64)
    return awgn(channel, power, rng.uniform(*snr_db, len(channel)), rng)


def phase(channel: Channel, rng: np.random.Generator) -> Channel:
    """One random phase a sample: H exp(j phi), phi ~ U(0, 2 pi), as an oscillator's phase is arbitrary."""
    turn = np.exp(2j * np.pi * rng.random((len(channel), 1, 1, 1)))
    return np.asarray(channel * turn, np.complex64)


def frequency_roll(channel: Channel, rng: np.random.Generator) -> Channel:
    """Each sample's subcarriers turned around the band by a random number of them; every |CIR tap| stays."""
    count = channel.shape[3]
    index = (np.arange(count) + rng.integers(0, count, (len(channel), 1))) % count
    return np.take_along_axis(channel, index[:, None, None, :], 3)


def antenna_flip(channel: Channel, rng: np.random.Generator) -> Channel:
    """The antennas in reverse order, for half of the samples at random: the scene seen in a mirror."""
    flip = rng.random(len(channel)) < 0.5
    return np.where(flip[:, None, None, None], channel[:, :, ::-1], channel)


def subband_drop(channel: Channel, share: float, rng: np.random.Generator) -> Channel:
    """Zero in a window of round(`share` F) subcarriers (at least one is left), anywhere for each sample."""
    count = channel.shape[3]
    width = min(round(share * count), count - 1)
    first = rng.integers(0, count - width + 1, (len(channel), 1))
    index = np.arange(count)
    gone = (index >= first) & (index < first + width)
    return np.where(gone[:, None, None, :], np.complex64(0), channel)


def impulse_response(channel: Channel) -> Channel:
    """The CIR: h[tap] = (1 / sqrt(F)) sum_k H[k] exp(+j 2 pi k tap / F), unitary, along the last axis."""
    return np.fft.ifft(channel, axis=3, norm="ortho").astype(np.complex64)


def angle_delay(channel: Channel) -> Channel:
    """CIR taps over beams: impulse_response, then a unitary DFT over the antennas."""
    return np.fft.fft(impulse_response(channel), axis=2, norm="ortho").astype(np.complex64)
