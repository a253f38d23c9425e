"""LWM's masked channel modelling: which patches each version masks, with what, and the losses it takes on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .lwm_config import LWMConfig

SHARED_SEED = 42
"""v1.1's code reseeds its generator with it at every sample."""
RANDOM, MASKED = 0.1, 0.9
"""Of masked patches a tenth is filled at random, 80 % with [MASK], and the last tenth stays."""


@dataclass(frozen=True, eq=False)
class Masked:
    """Tokens `[batch, token, value]` as the model sees them, masked positions `[batch, masked]`, what stood there."""

    tokens: Tensor
    positions: Tensor
    targets: Tensor


def masked_positions(config: LWMConfig, tokens: int, batch: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Positions `[batch, masked]` among `tokens` (without [CLS]) that the version's rule masks.

    `pairs`: int(ratio tokens / 2) real patches of each sample and the imaginary patches of the same place.
    `shared`: int(ratio tokens) patches but never the last one; every sample of a length has the same.
    """
    if config.mask_rule == "shared":
        drawn = np.random.default_rng(SHARED_SEED).permutation(tokens - 1)[: int(config.mask_ratio * tokens)]
        return np.broadcast_to(drawn, (batch, len(drawn))).copy()
    half = tokens // 2
    real = np.stack([rng.choice(half, int(config.mask_ratio * half), replace=False) for _ in range(batch)])
    return np.concatenate((real, real + half), 1)


def mask(tokens: Tensor, config: LWMConfig, rng: np.random.Generator) -> Masked:
    """Mask `tokens` `[batch, token, value]` by the version's rule and fill (BERT's 80 / 10 / 10)."""
    batch, count, values = tokens.shape
    positions = masked_positions(config, count, batch, rng)
    shared = config.mask_rule == "shared"
    dice = np.random.default_rng(SHARED_SEED) if shared else rng
    shape = (1 if shared else batch, positions.shape[1])
    fate = np.broadcast_to(dice.random(shape), positions.shape)
    noise = dice.random((*shape, values)) if config.random_fill == "uniform" else dice.normal(size=(*shape, values))
    index = torch.from_numpy(positions).unsqueeze(-1).expand(-1, -1, values)
    targets = tokens.gather(1, index)
    chosen = torch.from_numpy(fate.copy()).unsqueeze(-1)
    fill = torch.where(chosen < RANDOM, torch.from_numpy(noise).to(tokens), torch.full_like(targets, config.mask_value))
    seen = tokens.scatter(1, index, torch.where(chosen < MASKED, fill, targets))
    return Masked(seen, torch.from_numpy(positions), targets)
