"""Next-token prediction: each patch from those before it, as a code of a learned codebook or as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import InputError

from ..data.sampler import Batch
from ..models.layers import causal
from .corruption import taken
from .encoder import encoder_of, noisy_tokens, values_of
from .masks import TokenGrid
from .nmse import nmse
from .objective import Objective
from .vector_quantiser import PatchTokenizer

TARGETS, UPDATES = ("codes", "values"), ("ema", "loss")


@dataclass(frozen=True)
class NextToken(Objective):
    """Causal modelling of the tokens in `order` (the first letter runs slowest; t time, f frequency, a antenna):

        codes    L = -mean_i log p(k(P_{i+1}) | P_1 ... P_i) + L_tokenizer,   p = softmax(W x_i)
        values   L = NMSE(W x_i, P_{i+1})

    x_i is the encoder's feature of token i under a causal attention mask. The VQ-VAE tokenizer
    (objectives/vector_quantiser.py) learns along; the encoder reads patches, not codes, so that its own embedding is
    trained. `update` ema moves the codebook by averages with `decay`, loss by the VQ term. With `noise_snr` the
    encoder's input is noisy and what it predicts clean.
    """

    name: ClassVar[str] = "next-token"

    target: str = "codes"
    codebook: int = 512
    code_dim: int = 32
    beta: float = 0.25
    update: str = "ema"
    decay: float = 0.99
    order: str = "tfa"
    noise_snr: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("target", TARGETS)
        self._within("codebook", 2, 65_536)
        self._within("code_dim", 1, 4096)
        self._within("beta", 0, 100)
        self._one_of("update", UPDATES)
        self._within("decay", 0, 1 - 1e-6)
        if sorted(self.order) != ["a", "f", "t"]:
            raise self._wrong("order", "the letters t, f and a in some order")
        self._snr("noise_snr")

    def sequence(self, grid: TokenGrid) -> NDArray[np.intp]:
        """Indices of the grid's tokens, which are numbered (time, antenna, frequency), in `order`."""
        axes = ["taf".index(letter) for letter in self.order]
        return np.arange(int(np.prod(grid))).reshape(grid).transpose(axes).ravel()

    def parts(self, model: nn.Module) -> nn.Module:
        """The read-out W, and the tokenizer for codes."""
        encoder = encoder_of(model)
        _refuse_leaks(encoder)
        d, values = encoder.mask_token.shape[-1], values_of(encoder)
        if self.target == "values":
            return nn.ModuleDict({"predict": nn.Linear(d, values)})
        decay = self.decay if self.update == "ema" else None
        tokenizer = PatchTokenizer(values, self.codebook, self.code_dim, self.beta, decay)
        return nn.ModuleDict({"predict": nn.Linear(d, self.codebook), "tokenizer": tokenizer})

    def loss(self, model: nn.Module, parts: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Mean over the batch and all tokens but the first."""
        encoder = encoder_of(model)
        assert isinstance(parts, nn.ModuleDict)
        seen, clean = noisy_tokens(model, batch.clean, self.noise_snr, rng)
        order = torch.from_numpy(self.sequence(encoder.token_grid)).to(seen.device).expand(len(seen), -1)
        before = order[:, :-1]
        with causal(cast(nn.Module, encoder)):
            features = encoder.encode(encoder.embed(taken(seen, before)), before)
        predicted = parts["predict"](features)
        if self.target == "values":
            return nmse(predicted, taken(clean, order[:, 1:])).mean()
        codes, tokenizer_loss = parts["tokenizer"](taken(clean, order), rng)
        return F.cross_entropy(predicted.flatten(0, 1), codes[:, 1:].flatten()) + cast(Tensor, tokenizer_loss)


def _refuse_leaks(encoder: Any) -> None:
    """InputError where an earlier feature changes with a later token, so that the next one could be copied."""
    network = cast(nn.Module, encoder)
    was_training, ramp = network.training, torch.linspace(-1, 1, encoder.mask_token.shape[-1])
    embedded = ramp.to(encoder.mask_token).repeat(1, int(np.prod(encoder.token_grid)), 1)
    changed = embedded.clone()
    changed[:, -1] = -changed[:, -1]
    network.eval()
    with torch.no_grad(), causal(network):
        leaks = not torch.allclose(encoder.encode(embedded)[:, :-1], encoder.encode(changed)[:, :-1], atol=1e-5)
    network.train(was_training)
    if leaks:
        raise InputError(
            f"objective {NextToken.name}: {type(encoder).__name__} lets a token see later ones and has no causal mode: "
            "take a model with softmax attention (spikewfm, encoder), or the objective masked"
        )
