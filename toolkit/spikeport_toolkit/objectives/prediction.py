"""Channel prediction: noisy past in, the clean future as target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..data.sampler import Batch
from ..models.spikewfm import ChannelPredictor
from .encoder import device_of
from .masked import Masked
from .nmse import nmse
from .objective import Objective
from .scores import decibel


@dataclass(frozen=True)
class Prediction(Objective):
    """Mean NMSE of the predicted part against the clean channel:

        L = mean_b |H'_future - H_future|^2 / |H_future|^2            score nmse
        L = mean_b log(|H'_future - H_future|^2 / |H_future|^2)       score log-nmse: every SNR counts alike

    A SpikeWFM with its prediction head reads the batch's noisy observed slots and gives the rest. An encoder
    of tokens has the last `share` of its times hidden (by the mask token, or dropped as in WiFo: `corruption`), reads
    the others with noise at `noise_snr` [low, high] dB, or clean without it, and reconstructs them.
    """

    name: ClassVar[str] = "prediction"

    share: float = 0.25
    corruption: str = "token"
    noise_snr: tuple[float, float] | None = None
    score: str = "nmse"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._within("share", 0.01, 0.99)
        self._one_of("score", ("nmse", "log-nmse"))
        _ = self._masked

    @property
    def _masked(self) -> Masked:
        return Masked("time", self.share, self.corruption, noise_snr=self.noise_snr)

    def parts(self, model: nn.Module) -> nn.Module:
        """A head is the model's own; an encoder has what masked modelling of the future needs."""
        return nn.ModuleDict() if isinstance(model, ChannelPredictor) else self._masked.parts(model)

    def decibels(self, loss: float) -> float | None:
        """The loss in dB."""
        return round(10 / math.log(10) * loss, 4) if self.score == "log-nmse" else decibel(loss)

    def loss(self, model: nn.Module, parts: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Mean score over the batch."""
        if not isinstance(model, ChannelPredictor):
            return self._masked.loss(model, parts, batch, rng)
        device = device_of(model)
        prediction = model(torch.from_numpy(batch.patches()).to(device))
        each = nmse(prediction, torch.from_numpy(batch.target_patches()).to(device))
        return (each.log() if self.score == "log-nmse" else each).mean()
