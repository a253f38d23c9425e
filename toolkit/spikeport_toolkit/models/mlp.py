"""A multi-layer perceptron on the autocorrelation of a channel, as CSI2Vec and channel charting use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import InputError

from ..data.canonical import Sampling
from ..data.patches import Channel
from .config import MOST_WEIGHTS, Config, NeuronConfig
from .neuron import activation

__all__ = ["MLP", "MLPConfig", "autocorrelation"]


@dataclass(frozen=True)
class MLPConfig(Config):
    """`layers` hidden layers of width `d_ff`, then one linear map to the `d` values of the embedding.

    `lags_antenna` and `lags_frequency` are how far the autocorrelation goes along each axis.
    """

    name: str
    sampling: Sampling
    d: int
    layers: int
    d_ff: int
    lags_antenna: int
    lags_frequency: int
    neuron: NeuronConfig
    norm: str = "none"

    family: ClassVar[str] = "mlp"
    nested: ClassVar[Mapping[str, type[Config]]] = {"sampling": Sampling, "neuron": NeuronConfig}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm not in ("bn", "ln", "none"):
            raise InputError(f"{self.name}: norm is {self.norm!r}; it is one of bn, ln, none")
        for axis, lags, count in (
            ("antenna", self.lags_antenna, self.sampling.antenna),
            ("frequency", self.lags_frequency, self.sampling.frequency),
        ):
            if not 1 <= lags <= count:
                raise InputError(f"{self.name}: lags_{axis} is {lags}, outside 1 to the {count} of the sampling")

        weights = self.d_ff * (self.features + self.layers * self.d_ff + self.d)
        if weights > MOST_WEIGHTS:
            raise InputError(
                f"{self.name} would hold {weights:,} weights; {MOST_WEIGHTS:,} is the limit: make it smaller"
            )

    @property
    def features(self) -> int:
        """Real values of the autocorrelation: re and im at each antenna lag >= 0 and frequency lag of either sign."""
        return 2 * self.lags_antenna * (2 * self.lags_frequency - 1)


def autocorrelation(channel: Channel, antennas: int, frequencies: int) -> NDArray[np.float32]:
    """Normalised autocorrelation of channels `[batch, time, antenna, frequency]`, `[batch, feature]`, re before im.

        R[p, q] = sum_{t,a,f} H[t, a + p, f + q] conj(H[t, a, f]) / sum |H|^2,  0 <= p < antennas, |q| < frequencies

    It knows neither the scale nor a common phase, so users need no calibration against each other. InputError for a
    channel that is zero or not finite.
    """
    size = 2 * channel.shape[2], 2 * channel.shape[3]
    power = np.mean(np.abs(np.fft.fft2(channel.astype(np.complex128), size)) ** 2, axis=1)
    R = np.fft.ifft2(power)
    if not np.isfinite(R).all() or not (R[:, 0, 0].real > 0).all():
        raise InputError("a channel is zero or not finite, so it has no autocorrelation: remove it")
    R = R / R[:, :1, :1].real
    kept = np.concatenate((R[:, :antennas, size[1] - frequencies + 1 :], R[:, :antennas, :frequencies]), 2)
    flat = kept.reshape(len(channel), -1)
    return np.concatenate((flat.real, flat.imag), 1).astype(np.float32)


class MLP(nn.Module):
    """h_0 = x,  h_i = neuron(norm(W_i h_{i-1} + b_i)),  y = W h + b: features `[batch, feature]` to `[batch, d]`."""

    def __init__(self, config: MLPConfig):
        super().__init__()
        self.config = config
        widths = [config.features] + [config.d_ff] * config.layers
        norms = {"bn": nn.BatchNorm1d, "ln": nn.LayerNorm}
        hidden: list[nn.Module] = []
        for before, after in pairwise(widths):
            hidden.append(nn.Linear(before, after))
            if config.norm in norms:
                hidden.append(norms[config.norm](after))
            hidden.append(activation(config.neuron))
        self.hidden = nn.Sequential(*hidden)
        self.out = nn.Linear(config.d_ff, config.d)

    def forward(self, features: Tensor) -> Tensor:
        """Autocorrelation `[batch, feature]` to the embedding `[batch, d]`."""
        return self.out(self.hidden(features))  # type: ignore[no-any-return]

    def cls_features(self, features: Tensor) -> Tensor:
        """The embedding, as the encoders call it."""
        return self(features)  # type: ignore[no-any-return]

    def inputs(self, channel: NDArray[np.complex64]) -> Tensor:
        """Autocorrelation `[batch, feature]` of canonical channels `[batch, time, antenna, frequency]`."""
        return torch.from_numpy(autocorrelation(channel, self.config.lags_antenna, self.config.lags_frequency))

    def parameter_counts(self) -> tuple[int, int]:
        """Trainable values, and 0: there is no head."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad), 0
