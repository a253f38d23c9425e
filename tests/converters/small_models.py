"""Models and inputs for the converter tests."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from spikeport_toolkit.models.config import GridConfig, HeadConfig, ModelConfig, NeuronConfig
from spikeport_toolkit.models.spikewfm import ChannelPredictor

LIF = NeuronConfig("lif", steps=4)


def small_model(neuron: NeuronConfig = LIF, norm: str = "bn") -> ChannelPredictor:
    """A SpikeWFM of 12 tokens with running statistics as after training, so that folding has something to fold."""
    torch.manual_seed(0)
    grid, head = GridConfig(slots=3, antennas=2, blocks=2), HeadConfig(d=16, heads=2, d_ff=32, layers=1)
    config = ModelConfig("small", d=16, layers=1, heads=2, d_ff=32, norm=norm, neuron=neuron, grid=grid, head=head)
    model = ChannelPredictor(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(module.running_mean, std=0.3)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.1, 0.5)  # type: ignore[arg-type]
    return model.eval()


def random_patches(model: torch.nn.Module, samples: int) -> NDArray[np.float32]:
    tokens = model.config.grid.tokens  # type: ignore[union-attr]
    return np.random.default_rng(1).standard_normal((samples, tokens, 336)).astype(np.float32)  # type: ignore[arg-type]
