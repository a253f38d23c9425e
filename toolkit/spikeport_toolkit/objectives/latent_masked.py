"""Masked modelling in the latent space: predict a slow teacher's features of hidden tokens, not the tokens."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..data.sampler import Batch
from .corruption import encode_hidden, filler
from .encoder import encoder_of, noisy_tokens, tokens_of
from .masks import MASKS, hidden_tokens
from .objective import Objective


@dataclass(frozen=True)
class LatentMasked(Objective):
    """Predict the features f = LN(E'(P)) that an EMA teacher E' has of the whole sample, at hidden tokens M:

        L = mean over M of smooth-L1_beta(g(E(corrupt(P, M)))_M - f_M),   theta' <- m theta' + (1 - m) theta

    With corruption `token` the student sees mask tokens and g is a linear map (data2vec, arXiv 2202.03555); with
    `drop` it sees the other tokens only and g is `predictor_layers` transformer layers over features and mask tokens
    (I-JEPA, arXiv 2301.08243). LN without weights keeps the teacher from shrinking. The teacher moves by m =
    `momentum` after every step; it lives in the parts and takes no gradient. With `noise_snr` the
    student's input is noisy and the teacher's clean.
    """

    name: ClassVar[str] = "latent-masked"

    kind: str = "block"
    ratio: float = 0.5
    corruption: str = "drop"
    momentum: float = 0.996
    beta: float = 1.0
    predictor_layers: int = 1
    noise_snr: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("kind", MASKS)
        self._within("ratio", 0.01, 0.99)
        self._one_of("corruption", ("token", "drop"))
        self._within("momentum", 0.0, 1.0)
        self._within("beta", 1e-6, 1e6)
        self._within("predictor_layers", 1, 32)
        self._snr("noise_snr")

    def parts(self, model: nn.Module) -> nn.Module:
        """The teacher, a copy of the backbone as it is now, and the predictor g."""
        encoder = encoder_of(model)
        d = encoder.mask_token.shape[-1]
        fill = filler(encoder, self.predictor_layers) if self.corruption == "drop" else nn.Identity()
        teacher = deepcopy(cast(nn.Module, encoder)).requires_grad_(False)
        return nn.ModuleDict({"teacher": teacher, "fill": fill, "predict": nn.Linear(d, d)})

    def loss(self, model: nn.Module, parts: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Mean over hidden tokens and features."""
        encoder = encoder_of(model)
        assert isinstance(parts, nn.ModuleDict)
        teacher = encoder_of(parts["teacher"].eval())
        seen, _ = noisy_tokens(model, batch.clean, self.noise_snr, rng)
        hidden = hidden_tokens(self.kind, self.ratio, encoder.token_grid, len(seen), rng)
        with torch.no_grad():
            features = teacher.encode(teacher.embed(tokens_of(model, batch.clean)))
            target = F.layer_norm(features, features.shape[-1:])
        predicted = parts["predict"](encode_hidden(encoder, parts["fill"], seen, hidden, self.corruption, rng))
        where = torch.from_numpy(hidden).to(predicted.device)
        return F.smooth_l1_loss(predicted[where], target[where].to(predicted), beta=self.beta)

    @torch.no_grad()
    def stepped(self, model: nn.Module, parts: nn.Module) -> None:
        """The teacher moves towards the student."""
        assert isinstance(parts, nn.ModuleDict)
        teacher, student = parts["teacher"], cast(nn.Module, encoder_of(model))
        for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
            old.lerp_(new.full_tensor() if isinstance(new, DTensor) else new, 1 - self.momentum)
        for kept, now in zip(teacher.buffers(), student.buffers(), strict=True):
            kept.copy_(now)
