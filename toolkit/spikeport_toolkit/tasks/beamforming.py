"""Robust beamforming: which share of the best gain a beam reaches that is made from noisy or incomplete channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.impairments import awgn
from ..data.patches import Channel
from ..models.lwm import LWM
from ..models.lwm_masking import mask
from ..models.lwm_tokens import channel_from_tokens, scale_of
from .features import BATCH, features_of
from .probe import ridge

__all__ = ["Beamforming", "beam_gain", "beamforming", "completed", "mrt"]


@dataclass(frozen=True)
class Beamforming:
    """Mean over links of the beam's gain over the perfect beam's, dB (0 is perfect), by what the beam is made from."""

    links: int
    gain_db: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def summary(self) -> str:
        """A line a beam."""
        width = max(map(len, self.gain_db))
        return "\n".join(f"{name:{width}} {value:8.2f} dB" for name, value in self.gain_db.items())


def mrt(channel: Channel) -> Channel:
    """Maximum-ratio beams `[link, antenna]` of `[link, 1, antenna, frequency]`: w = conj(h) / |h|, h = mean_k h_k."""
    mean = channel.mean(axis=(1, 3)).conj()
    return np.asarray(mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-30), np.complex64)


def beam_gain(beams: Channel, channel: Channel) -> NDArray[np.float64]:
    """Received power `[link]` over that of the perfect MRT beam: mean_k |w^T h_k|^2 / mean_k |w*^T h_k|^2."""

    def power(weights: Channel) -> NDArray[np.float64]:
        received = np.einsum("la,ltaf->ltf", weights, channel, optimize=True)
        return np.asarray((np.abs(received) ** 2).mean(axis=(1, 2), dtype=np.float64))

    return power(beams) / power(mrt(channel))


def completed(model: LWM, channel: Channel, rng: np.random.Generator) -> tuple[Channel, Channel]:
    """`channel` with patches masked by the version's rule: what is left (zeros in the gaps), and with the gaps filled.

    The model sees [MASK], random values or the truth in the gaps, as in pre-training, and its head fills all of them.
    """
    tokens = model.inputs(channel)
    masked = mask(tokens, model.config, rng)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(tokens), BATCH):
            parts.append(model.reconstruct(masked.tokens[start : start + BATCH]))
    index = masked.positions.unsqueeze(-1).expand(-1, -1, tokens.shape[2])
    filled = tokens.scatter(1, index, torch.cat(parts).gather(1, index))
    left = tokens.scatter(1, index, torch.zeros_like(masked.targets))
    scale = scale_of(channel, model.config)
    return tuple(channel_from_tokens(item.numpy(), model.config) / scale for item in (left, filled))  # type: ignore[return-value]


def beamforming(model: LWM, channel: Channel, *, snr_db: float, train: int, rng: np.random.Generator) -> Beamforming:
    """Gains on the links after the first `train` of clean channels `[link, 1, antenna, frequency]`.

    `masked`: MRT from what the version's mask leaves; `reconstructed`: from the model's completion; `noisy`: MRT from
    the channel at `snr_db`; `ridge on ...`: a ridge regression from features of the noisy channel to the perfect beam,
    fitted on the first `train` links.
    """
    left, filled = completed(model, channel[train:], rng)
    power = np.mean(np.abs(channel) ** 2, axis=(1, 2, 3), dtype=np.float64)
    noisy = awgn(channel, power, snr_db, rng)
    beams = {"masked": mrt(left), "reconstructed": mrt(filled), f"noisy, {snr_db:g} dB": mrt(noisy[train:])}
    wanted = mrt(channel)
    wanted = wanted * np.exp(-1j * np.angle(wanted[:, :1]))  # a common phase changes no gain, and nothing can learn it
    target = np.concatenate((wanted.real, wanted.imag), 1)
    for kind in ("raw", "cls", "channel"):
        features = features_of(model, noisy, kind)
        learned = ridge(features[:train], target[:train], features[train:], penalty=100.0)
        weights = learned[:, : wanted.shape[1]] + 1j * learned[:, wanted.shape[1] :]
        norm = np.linalg.norm(weights, axis=1, keepdims=True)
        beams[f"ridge on {kind}, {snr_db:g} dB"] = np.asarray(weights / norm, np.complex64)
    truth = channel[train:]
    gains = {name: float(10 * np.log10(beam_gain(item, truth).mean())) for name, item in beams.items()}
    return Beamforming(len(truth), gains)
