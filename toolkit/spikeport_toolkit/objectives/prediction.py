"""Channel prediction: noisy observed slots in, the clean next slot as target."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.sampler import Batch
from ..models.spikewfm import ChannelPredictor
from .nmse import nmse


def prediction_loss(model: ChannelPredictor, batch: Batch) -> Tensor:
    """Mean NMSE of the predicted slot against the clean channel."""
    prediction = model(torch.from_numpy(batch.patches()))
    return nmse(prediction, torch.from_numpy(batch.target_patches())).mean()
