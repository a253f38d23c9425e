"""What stands at hidden tokens, and features of the whole grid in spite of them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from ..models.config import NeuronConfig
from ..models.layers import Block
from .encoder import Encoder
from .masks import Hidden

CORRUPTIONS = ("token", "bert", "drop")
MASKED, RANDOM = 0.8, 0.1


class Filler(nn.Module):
    """A small transformer that fills in hidden tokens from the features of the others: LN(blocks(x + E)).

    The half of a masked autoencoder's decoder that a linear read-out lacks (MAE, arXiv 2111.06377, section 3): at
    hidden tokens x is the mask token, so only the learned positions E tell one from the other.
    """

    def __init__(self, tokens: int, d: int, layers: int):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(tokens, d))
        self.blocks = nn.ModuleList(Block(d, math.gcd(d, 8), 2 * d, "ln", NeuronConfig("relu")) for _ in range(layers))
        self.norm = nn.LayerNorm(d)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, token, d]` to the same shape."""
        x = x + self.positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)  # type: ignore[no-any-return]


def filler(encoder: Encoder, layers: int) -> nn.Module:
    """A Filler for the encoder's grid."""
    return Filler(math.prod(encoder.token_grid), encoder.mask_token.shape[-1], layers)


def mixes_tokens(encoder: Encoder) -> bool:
    """Whether the encoder's own decoder is more than a map of each token by itself."""
    decoder, mask_token = encoder.decoder, encoder.mask_token
    was_training = decoder.training
    decoder.eval()
    ramp = torch.linspace(-1, 1, mask_token.shape[-1], device=mask_token.device)
    features = ramp.repeat(1, math.prod(encoder.token_grid), 1)
    changed = features.clone()
    changed[:, 0] = -changed[:, 0]
    with torch.no_grad():
        mixes = not torch.allclose(decoder(features)[:, 1:], decoder(changed)[:, 1:])
    decoder.train(was_training)
    return mixes


def encode_hidden(
    encoder: Encoder, fill: nn.Module, tokens: Tensor, hidden: Hidden, corruption: str, rng: np.random.Generator
) -> Tensor:
    """Features `[batch, token, d]` of `tokens` `[batch, token, value]` without the content of the `hidden` ones.

    token   the mask token stands for a hidden token's embedding
    bert    of the hidden tokens 80 % are the mask token, 10 % Gaussian content at the sample's RMS and 10 % are left
            as they are, by chance (BERT, arXiv 1810.04805, 3.1; the random content as in LWM's paper)
    drop    only the others are encoded; `fill` makes the rest of the grid from their features and the mask token
    """
    where = torch.from_numpy(hidden).to(tokens.device)
    mask_token = encoder.mask_token
    if corruption != "drop":
        if corruption == "bert":
            fate = rng.random(hidden.shape)
            noise = torch.from_numpy(rng.standard_normal(tokens.shape, np.float32)).to(tokens)
            noise = noise * tokens.square().mean((1, 2), keepdim=True).sqrt()
            random = torch.from_numpy(hidden & (fate >= MASKED) & (fate < MASKED + RANDOM)).to(tokens.device)
            tokens = torch.where(random.unsqueeze(-1), noise, tokens)
            where = torch.from_numpy(hidden & (fate < MASKED)).to(tokens.device)
        return encoder.encode(torch.where(where.unsqueeze(-1), mask_token, encoder.embed(tokens)))
    kept = int((~hidden[0]).sum())
    keep = torch.from_numpy(hidden.argsort(1, kind="stable")[:, :kept]).to(tokens.device)
    features = encoder.encode(encoder.embed(taken(tokens, keep)), keep)
    rows = torch.arange(len(keep), device=keep.device).unsqueeze(1)
    full = mask_token.to(features).expand(*hidden.shape, -1).index_put((rows, keep), features)
    return fill(full)  # type: ignore[no-any-return]


def taken(x: Tensor, keep: Tensor) -> Tensor:
    """The tokens `keep` `[batch, k]` of `[batch, token, value]`, in that order."""
    return x.gather(1, keep.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
