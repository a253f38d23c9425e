"""Masked channel modelling: hide a share of the tokens, reconstruct them from the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from spikeport_errors import InputError

from ..data.sampler import Batch
from ..models.lwm_config import LWMConfig
from ..models.lwm_masking import mask
from .corruption import CORRUPTIONS, encode_hidden, filler, mixes_tokens
from .encoder import encoder_of, noisy_tokens
from .masks import MASKS, Hidden, hidden_tokens
from .objective import Objective
from .scores import SCORES, decibel, score

LWM = "lwm"


@dataclass(frozen=True)
class Masked(Objective):
    """Reconstruct hidden tokens P_i, i in M, from the others:

        L = error(D(E(corrupt(P, M)))_M, P_M)

    `kind` and `ratio` make M (objectives/masks.py), `corruption` what the encoder sees of it
    (objectives/corruption.py), `error` is nmse, mse or mse/var (objectives/scores.py) over `targets`: the masked
    tokens or all. `multi`, pairs of kind and ratio in the place of both, gives the mean of their losses; WiFo's
    (arXiv 2412.08908) are random .85, time .5 and frequency .5.
    Kind `lwm`, for an LWM, is the rule, ratio, [MASK] and random fill of its version (models/lwm_masking.py), in the
    place of `ratio` and `corruption` too. With `noise_snr` [low, high] in dB the input is noisy and the target clean.
    Under `drop` a decoder that maps each token by itself is preceded by `decoder_layers` transformer layers, which
    leave with the stage.
    """

    name: ClassVar[str] = "masked"

    kind: str = "random"
    ratio: float = 0.5
    corruption: str = "token"
    targets: str = "masked"
    error: str = "nmse"
    multi: tuple[tuple[str, float], ...] = ()
    noise_snr: tuple[float, float] | None = None
    decoder_layers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("kind", (*MASKS, LWM))
        self._within("ratio", 0.01, 0.99)
        self._one_of("corruption", CORRUPTIONS)
        self._one_of("targets", ("masked", "all"))
        self._one_of("error", SCORES)
        self._snr("noise_snr")
        self._within("decoder_layers", 1, 32)
        try:
            good = all(kind in MASKS and 0.01 <= ratio <= 0.99 for kind, ratio in self.multi)
        except (TypeError, ValueError):
            good = False
        if not good or not isinstance(self.multi, tuple):
            raise self._wrong("multi", f"pairs [kind, ratio] with a kind of {', '.join(MASKS)} and 0.01 to 0.99")

    def parts(self, model: nn.Module) -> nn.Module:
        """The layers before a linear decoder, under `drop`."""
        encoder = encoder_of(model)
        own = self.corruption != "drop" or mixes_tokens(encoder)
        return nn.ModuleDict() if own else nn.ModuleDict({"fill": filler(encoder, self.decoder_layers)})

    def decibels(self, loss: float) -> float | None:
        """The loss in dB."""
        return decibel(loss)

    def loss(self, model: nn.Module, parts: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Error of the reconstruction, clean channels of the batch as target."""
        tokens, target = noisy_tokens(model, batch.clean, self.noise_snr, rng)
        if self.kind == LWM and not self.multi:
            return self._lwm(model, tokens, target, rng)
        losses = []
        for kind, ratio in self.multi or ((self.kind, self.ratio),):
            hidden = hidden_tokens(kind, ratio, encoder_of(model).token_grid, len(tokens), rng)
            losses.append(self.reconstruction(model, parts, tokens, target, hidden, rng))
        return torch.stack(losses).mean()

    def _lwm(self, model: nn.Module, tokens: Tensor, target: Tensor, rng: np.random.Generator) -> Tensor:
        """The loss under the masks of the model's own version."""
        encoder, config = encoder_of(model), getattr(model, "config", None)
        if not isinstance(config, LWMConfig):
            raise InputError(
                f"objective {self.name}: {type(model).__name__} is no LWM: take a kind of {', '.join(MASKS)}"
            )
        seen = mask(tokens.cpu(), config, rng)
        hidden = torch.zeros(tokens.shape[:2], dtype=torch.bool).scatter(1, seen.positions, value=True)
        features = encoder.encode(encoder.embed(seen.tokens.to(tokens)))
        return score(self.error, encoder.decoder(features), target, (hidden | (self.targets == "all")).to(target))

    def reconstruction(
        self,
        model: nn.Module,
        parts: nn.Module,
        tokens: Tensor,
        target: Tensor,
        hidden: Hidden,
        rng: np.random.Generator,
    ) -> Tensor:
        """The loss for one given mask `hidden` `[batch, token]`."""
        encoder = encoder_of(model)
        fill = getattr(parts, "fill", None) or nn.Identity()
        features = encode_hidden(encoder, fill, tokens, hidden, self.corruption, rng)
        weight = torch.from_numpy(hidden | (self.targets == "all")).to(target)
        return score(self.error, encoder.decoder(features), target, weight)
