"""Two towers: one reads a channel, one its impulse response, and contrastive learning brings them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import InputError

from ..data.canonical import Sampling
from .config import Config
from .encoder import ChannelEncoder
from .encoder_config import EncoderConfig

__all__ = ["TwoTowerConfig", "TwoTowers"]


@dataclass(frozen=True)
class TwoTowerConfig(Config):
    """Two encoders of one shape, with weights of their own."""

    name: str
    tower: EncoderConfig

    family: ClassVar[str] = "two-tower"
    nested: ClassVar[Mapping[str, type[Config]]] = {"tower": EncoderConfig}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tower.task:
            raise InputError(f"{self.name}: a tower ends in features; leave out its task")

    @property
    def sampling(self) -> Sampling:
        """The sampling of the channels that both towers read."""
        return self.tower.sampling


class TwoTowers(nn.Module):
    """`backbone` reads the channel; `cir_tower` reads its impulse response, given as a channel over taps.

    The objective `contrastive` with pairs `csi-cir` trains both, and brings the projections and the temperature.
    What is used afterwards, and what `forward` runs, is the tower of the channel.
    """

    def __init__(self, config: TwoTowerConfig):
        super().__init__()
        self.config = config
        self.backbone = ChannelEncoder(config.tower)
        self.cir_tower = ChannelEncoder(replace(config.tower, name=f"{config.tower.name}-cir"))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of a channel `[batch, token, value]` to its embedding `[batch, d]`."""
        return self.backbone.cls_features(tokens)

    def inputs(self, channel: NDArray[np.complex64]) -> Tensor:
        """Tokens `[batch, token, value]` of canonical channels `[batch, time, antenna, frequency]` of its sampling."""
        return self.backbone.inputs(channel)

    def parameter_counts(self) -> tuple[int, int]:
        """Trainable values of both towers, and 0: there is no head."""
        return self.backbone.parameter_counts()[0] + self.cir_tower.parameter_counts()[0], 0
