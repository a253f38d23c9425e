"""CSI feedback: the user compresses its channel to a few numbers, the base station makes the channel of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..data.patches import Channel, rms
from .features import backbone_of
from .positioning import require_encoder
from .read_out import Tuning, prepared, read_out, token_rows
from .request import Request, clean_batch, inputs_of
from .score_table import Metric, Scores, ScoreTable

__all__ = ["RATIOS", "Bottleneck", "evaluate"]

METRICS = (Metric("NMSE", "dB", "lower"), Metric("cosine", "", "higher", 3))
RATIOS = (4, 8, 16, 32)
ROUNDING = 1e-14
"""Smallest NMSE that single precision can show."""
Values = NDArray[np.float32]


def evaluate(request: Request, tuning: Tuning | None = None) -> ScoreTable:
    """NMSE and cosine similarity of one instant's channel after feedback of 1/4 to 1/32 of its real values.

    The user knows its channel without noise; the code is real numbers, not quantised. Fitted to `labels` channels of
    the split that is tested:

    model       f(H) = W features + c gives the channel back (read_out.py); the code is the f of `Bottleneck`, so the
                decoder is linear and the encoder is the network
    pca         principal components of the labelled channels, complex (Karhunen-Loeve)
    dft         the angle-delay bins DFT_a IDFT_f H that carry most power over the labelled channels
    cosine = mean over antennas of |h^H h'| / (|h| |h'|), h over frequency (CsiNet, arXiv 1712.08650).
    """
    config, scores, places, most = request.config, Scores(), request.splits(), max(request.labels)
    for network in request.models.values():
        require_encoder(network, "csi-feedback")
    done, total = 0, len(places) * request.seeds * len(request.labels)
    for place in places:
        for seed in range(request.seed, request.seed + request.seeds):
            tested, known = place.draw(request.links, most, seed)
            users, rng = np.concatenate((known, tested)), np.random.default_rng((seed, 1))
            clean = clean_batch(config, place.paths, users, rng).clean
            now = clean[:, :1] / rms(clean[:, :1])
            still = np.broadcast_to(now, clean.shape)
            ready = {
                name: prepared(network, _channel_rows, inputs_of(network, still), request.adaptation)
                for name, network in request.models.items()
            }
            for labels in request.labels:
                some, truth = now[:labels], now[most:]
                for ratio in RATIOS:
                    numbers = max(1, 2 * now[0].size // ratio)
                    for method, guess in (("pca", _pca(some, truth, numbers)), ("dft", _dft(some, truth, numbers))):
                        scores.add(method, "baseline", _quality(guess, truth), labels, _setting(place.name, ratio))
                for name, (network, rows, inputs) in ready.items():
                    fitted = read_out(
                        network, rows, inputs[:labels], _real(some), request.adaptation, seed=seed, tuning=tuning
                    )
                    inner, outer = fitted(inputs[:labels]), fitted(inputs[most:])
                    for ratio in RATIOS:
                        code = Bottleneck(inner, max(1, 2 * now[0].size // ratio))
                        found = _quality(_complex(code.decode(code.encode(outer)), truth.shape), truth)
                        label = f"{name} {request.adaptation}"
                        scores.add(label, request.role(name), found, labels, _setting(place.name, ratio))
                request.progress(done := done + 1, total)
    return ScoreTable(
        "csi-feedback", request.model, request.adaptation, request.source, 1, request.links, None,
        request.seed, request.seeds, METRICS, scores.rows(),
        notes=("One instant, known to the user without noise; the code is not quantised.",),
    )  # fmt: skip


class Bottleneck:
    """A code of `numbers` real values: the principal components of what a read-out gives for labelled channels."""

    def __init__(self, outputs: Values, numbers: int):
        self.mean = outputs.mean(0)
        _, _, axes = np.linalg.svd((outputs - self.mean).astype(np.float64), full_matrices=False)
        self.axes = axes[:numbers]

    def encode(self, outputs: Values) -> NDArray[np.float64]:
        """Outputs `[sample, value]` to codes `[sample, number]`: what the user sends."""
        return np.asarray((outputs - self.mean) @ self.axes.T)

    def decode(self, code: NDArray[np.float64]) -> NDArray[np.float64]:
        """Codes to outputs: what the base station does."""
        return np.asarray(code @ self.axes + self.mean)


def _channel_rows(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    encoder: Any = backbone_of(model)
    if not hasattr(encoder, "encode"):
        return encoder.cls_features(inputs)  # type: ignore[no-any-return]
    return token_rows(model, inputs).flatten(1)


def _setting(place: str, ratio: int) -> str:
    return f"{place} 1/{ratio}"


def _pca(known: Channel, truth: Channel, numbers: int) -> Channel:
    flat = known.reshape(len(known), -1).astype(np.complex128)
    _, _, axes = np.linalg.svd(flat, full_matrices=False)
    axes = axes[: max(1, numbers // 2)]
    code = truth.reshape(len(truth), -1) @ axes.conj().T
    return np.asarray(code @ axes, np.complex64).reshape(truth.shape)


def _dft(known: Channel, truth: Channel, numbers: int) -> Channel:
    def bins(channel: Channel) -> NDArray[np.complex128]:
        return np.asarray(np.fft.ifft(np.fft.fft(channel, axis=2, norm="ortho"), axis=3, norm="ortho"))

    power = np.mean(np.abs(bins(known)) ** 2, 0)
    kept = power >= np.sort(power, axis=None)[-max(1, numbers // 2)]
    back = np.fft.ifft(np.fft.fft(bins(truth) * kept, axis=3, norm="ortho"), axis=2, norm="ortho")
    return np.asarray(back, np.complex64)


def _real(channel: Channel) -> Values:
    flat = channel.reshape(len(channel), -1)
    return np.concatenate((flat.real, flat.imag), 1).astype(np.float32)


def _complex(values: NDArray[np.float64], shape: tuple[int, ...]) -> Channel:
    real, imaginary = np.split(values, 2, 1)
    return (real + 1j * imaginary).astype(np.complex64).reshape(shape)


def _quality(guess: Channel, truth: Channel) -> dict[str, float]:
    error = np.sum(np.abs(guess - truth) ** 2, axis=(1, 2, 3), dtype=np.float64)
    nmse = error / np.sum(np.abs(truth) ** 2, axis=(1, 2, 3), dtype=np.float64)
    inner = np.abs(np.sum(guess.conj() * truth, axis=3))
    norms = np.linalg.norm(guess, axis=3) * np.linalg.norm(truth, axis=3)
    cosine = inner / np.maximum(norms, 1e-30)
    return {"NMSE": float(10 * np.log10(max(nmse.mean(), ROUNDING))), "cosine": float(cosine.mean())}
