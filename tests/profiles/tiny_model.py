"""A predictor of two blocks on the antennas of the embedded cities: exported in a second or two."""

from __future__ import annotations

import torch

from spikeport_toolkit.models.config import GridConfig, HeadConfig, ModelConfig, NeuronConfig
from spikeport_toolkit.models.spikewfm import ChannelPredictor


def tiny(kind: str, **neuron: int) -> ChannelPredictor:
    """Random weights from a fixed seed."""
    torch.manual_seed(0)
    grid, head = GridConfig(slots=2, antennas=4, blocks=2), HeadConfig(d=16, heads=2, d_ff=32, layers=1)
    return ChannelPredictor(ModelConfig("tiny", 16, 1, 2, 32, "ln", NeuronConfig(kind, **neuron), grid, head)).eval()
