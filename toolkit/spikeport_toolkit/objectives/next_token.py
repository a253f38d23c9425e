"""Next-token prediction: each patch from those before it, as a code of a learned codebook or as values."""

from __future__ import annotations

from collections.abc import Mapping
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
from .encoder import encoder_of, noisy_tokens, tokens_of, values_of
from .masks import TokenGrid
from .nmse import nmse
from .objective import Objective
from .sharing import share
from .tokenizer import Tokenizer
from .vector_quantiser import PatchTokenizer

TARGETS, TOKENIZERS = ("codes", "values"), ("frozen", "joint")


@dataclass(frozen=True)
class NextToken(Objective):
    """Causal modelling of the tokens in `order` (the first letter runs slowest; t time, f frequency, a antenna):

        codes    L = -mean_i log p(k(P_{i+1}) | P_1 ... P_i),   p = softmax(W x_i)
        values   L = NMSE(W x_i, P_{i+1})

    x_i is the encoder's feature of token i under a causal attention mask; [CLS], the first, is seen by all and sees
    nobody. k(P) are the codes of a VQ-VAE `tokenizer` of clean patches: `frozen`, as a stage with the objective
    tokenizer of the same `codebook` and `code_dim`, whatever its `update`, just before has left it (van den Oord et
    al., arXiv 1711.00937, 3.3); or `joint`, when it learns along and its loss is added (objectives/tokenizer.py has
    that, and `beta`, `update` and `decay`). The encoder reads patches, not codes, so that its own embedding is trained.
    With `noise_snr` its input is noisy and what it predicts clean.
    """

    name: ClassVar[str] = "next-token"

    target: str = "codes"
    tokenizer: str = "joint"
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
        self._one_of("tokenizer", TOKENIZERS)
        _ = self._tokenizer
        if sorted(self.order) != ["a", "f", "t"]:
            raise self._wrong("order", "the letters t, f and a in some order")
        self._snr("noise_snr")

    @property
    def whole(self) -> bool:
        """A codebook that learns along follows all samples."""
        return self.target == "codes" and self.tokenizer == "joint"

    @property
    def _frozen(self) -> bool:
        return self.target == "codes" and self.tokenizer == "frozen"

    @property
    def _tokenizer(self) -> Tokenizer:
        update = "ema" if self._frozen else self.update  # a frozen codebook needs nothing to learn with
        return Tokenizer(self.codebook, self.code_dim, self.beta, update, self.decay)

    def follow(self, before: Objective | None) -> None:
        """A frozen tokenizer comes from the stage before."""
        if not self._frozen:
            return
        same = isinstance(before, Tokenizer) and (before.codebook, before.code_dim) == (self.codebook, self.code_dim)
        if not same:
            raise InputError(
                f"objective {self.name}: a frozen tokenizer is trained by the stage before: put one there with "
                f"objective tokenizer, codebook {self.codebook} and code_dim {self.code_dim}, or take tokenizer = joint"
            )

    def take_over(self, parts: nn.Module, before: Mapping[str, Tensor]) -> None:
        """The tokenizer of the stage before, unless an own one learns along."""
        if self._frozen:
            state = dict(before)
            learned = state.pop("tokenizer.quantise.learned", None)
            if learned is not None:
                state["tokenizer.quantise.codebook"] = state["tokenizer.quantise.codebook"] + learned
            parts.load_state_dict(state, strict=False)

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
        parts = self._tokenizer.parts(model).requires_grad_(not self._frozen)
        assert isinstance(parts, nn.ModuleDict)
        parts["predict"] = nn.Linear(d, self.codebook)
        return parts

    def loss(self, model: nn.Module, parts: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Mean over all tokens but the first of the batch, or of this process's share of it."""
        encoder = encoder_of(model)
        assert isinstance(parts, nn.ModuleDict)
        samples = len(batch.clean)
        own = share(samples) if self.whole else slice(None)
        seen, clean = (tokens[own] for tokens in noisy_tokens(model, batch.clean, self.noise_snr, rng))
        order = torch.from_numpy(self.sequence(encoder.token_grid)).to(seen.device).expand(len(seen), -1)
        before = order[:, :-1]
        with causal(cast(nn.Module, encoder)):
            features = encoder.encode(encoder.embed(taken(seen, before)), before)
        predicted = parts["predict"](features)
        if self.target == "values":
            return nmse(predicted, taken(clean, order[:, 1:])).mean()
        patches = taken(tokens_of(model, batch.clean[own]), order)
        if self._frozen:
            return _surprise(predicted, cast(PatchTokenizer, parts["tokenizer"]).codes(patches))
        codes, tokenizer_loss = parts["tokenizer"](patches, rng, samples)
        return _surprise(predicted, codes) + cast(Tensor, tokenizer_loss)


def _surprise(predicted: Tensor, codes: Tensor) -> Tensor:
    """Cross-entropy of all codes `[batch, token]` but the first under logits `[batch, token - 1, code]`."""
    return F.cross_entropy(predicted.flatten(0, 1), codes[:, 1:].flatten())


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
            "take a model with softmax attention (spikewfm, lwm, encoder), or the objective masked"
        )
