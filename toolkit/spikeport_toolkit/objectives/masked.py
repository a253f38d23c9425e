"""Masked channel modelling: hide a share of the tokens, reconstruct them, score the hidden ones only."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..data.patches import patches_from_channel, rms
from ..data.sampler import Batch
from ..models.spikewfm import SpikeWFM
from .nmse import nmse


def masked_loss(backbone: SpikeWFM, batch: Batch, ratio: float, rng: np.random.Generator) -> Tensor:
    """Mean NMSE over the hidden tokens of clean samples; exactly round(ratio * tokens) random tokens are hidden."""
    clean = torch.from_numpy(patches_from_channel(batch.clean / rms(batch.clean)))
    hidden = round(ratio * clean.shape[1])
    order = rng.random(clean.shape[:2]).argsort(1)
    masked = torch.from_numpy(order < hidden)
    return nmse(backbone(clean, masked), clean, masked.float()).mean()
