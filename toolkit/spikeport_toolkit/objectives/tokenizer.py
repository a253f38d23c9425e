"""The tokenizer by itself: a VQ-VAE over patches, which a next-token stage then takes as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from ..data.sampler import Batch
from .encoder import encoder_of, tokens_of, values_of
from .objective import Objective
from .sharing import share
from .vector_quantiser import PatchTokenizer

UPDATES = ("ema", "loss")


@dataclass(frozen=True)
class Tokenizer(Objective):
    """The VQ-VAE of single patches P, trained before the model that predicts its codes (arXiv 1711.00937, 3.3):

        L = mean_b |D(e_k(P)) - P|^2 / |P|^2 + L_quantiser,   k(P) = argmin_k |E(P) - e_k|

    E, D and L_quantiser: objectives/vector_quantiser.py. `update` ema moves the `codebook` of vectors in
    R^`code_dim` by averages with `decay`, loss by the VQ term. The model is left as it is; its patches are cut and
    scaled as it reads them. The stage after, next-token with `tokenizer` = frozen, gets the tokenizer.
    """

    name: ClassVar[str] = "tokenizer"

    codebook: int = 512
    code_dim: int = 32
    beta: float = 0.25
    update: str = "ema"
    decay: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        self._within("codebook", 2, 65_536)
        self._within("code_dim", 1, 4096)
        self._within("beta", 0, 100)
        self._one_of("update", UPDATES)
        self._within("decay", 0, 1 - 1e-6)

    @property
    def whole(self) -> bool:
        """The codebook follows all samples."""
        return True

    def parts(self, model: nn.Module) -> nn.Module:
        """The tokenizer."""
        decay = self.decay if self.update == "ema" else None
        values = values_of(encoder_of(model))
        return nn.ModuleDict({"tokenizer": PatchTokenizer(values, self.codebook, self.code_dim, self.beta, decay)})

    def loss(self, model: nn.Module, parts: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Mean over this process's share of the batch."""
        assert isinstance(parts, nn.ModuleDict)
        samples = len(batch.clean)
        _, loss = parts["tokenizer"](tokens_of(model, batch.clean[share(samples)]), rng, samples)
        return loss  # type: ignore[no-any-return]
