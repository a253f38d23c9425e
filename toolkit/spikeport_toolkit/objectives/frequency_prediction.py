"""Frequency-domain prediction: sub-bands that were not sounded, from those that were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from spikeport_errors import InputError

from ..data.sampler import Batch
from .encoder import encoder_of, noisy_tokens
from .masked import Masked
from .masks import Hidden, TokenGrid, along
from .objective import Objective
from .scores import decibel

BANDS = ("upper", "lower", "random")


@dataclass(frozen=True)
class FrequencyPrediction(Objective):
    """Mean NMSE over an unseen sub-band of `share` of the token frequencies, from the rest:

        L = mean_b |D(E(H_seen))_unseen - H_unseen|^2 / |H_unseen|^2

    The `band` is the upper or the lower end (FDD's other band, as in WiFo, arXiv 2412.08908), or a window at `random`
    for each sample. `noise_snr` and `corruption` as in Masked.
    """

    name: ClassVar[str] = "frequency-prediction"

    share: float = 0.5
    band: str = "upper"
    corruption: str = "token"
    noise_snr: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._within("share", 0.01, 0.99)
        self._one_of("band", BANDS)
        _ = self._masked

    @property
    def _masked(self) -> Masked:
        return Masked(corruption=self.corruption, noise_snr=self.noise_snr)

    def parts(self, model: nn.Module) -> nn.Module:
        """What masked modelling needs."""
        return self._masked.parts(model)

    def hidden(self, grid: TokenGrid, batch: int, rng: np.random.Generator) -> Hidden:
        """Tokens `[batch, token]` of the unseen sub-band."""
        rows = grid[2]
        count = round(self.share * rows)
        if not 0 < count < rows:
            raise InputError(
                f"objective {self.name}: a share of {self.share:g} of {rows} token frequencies is {count}; "
                "some must be seen and some not: change the share, or take a model with a finer grid"
            )
        ends = {"upper": rows - count, "lower": 0}
        first = rng.integers(0, rows - count + 1, batch) if self.band == "random" else np.full(batch, ends[self.band])
        row = np.arange(rows)
        return along("frequency", (row >= first[:, None]) & (row < first[:, None] + count), grid)

    def decibels(self, loss: float) -> float | None:
        """The loss in dB."""
        return decibel(loss)

    def loss(self, model: nn.Module, parts: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Mean NMSE over the batch."""
        tokens, target = noisy_tokens(model, batch.clean, self.noise_snr, rng)
        hidden = self.hidden(encoder_of(model).token_grid, len(tokens), rng)
        return self._masked.reconstruction(model, parts, tokens, target, hidden, rng)
