"""Tiny models of every family and their batches, for the objectives' tests."""

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import nn

from spikeport_toolkit.data.canonical import canonical_batch
from spikeport_toolkit.data.sampler import Batch, draw, embedded_split
from spikeport_toolkit.models.encoder_config import EncoderConfig
from spikeport_toolkit.models.families import build
from spikeport_toolkit.models.presets import preset
from spikeport_toolkit.objectives.objective import Objective

NEURON = {"kind": "relu"}
SAMPLING = {"time": 8, "antenna": 4, "frequency": 16, "time_step_s": 1e-3, "frequency_step_hz": 180e3}
ENCODER = {
    "name": "tiny-encoder", "d": 16, "layers": 1, "heads": 2, "d_ff": 32, "cls": True, "sampling": SAMPLING,
    "tokens": {"kind": "patches", "time": 2, "antenna": 2, "frequency": 4}, "neuron": NEURON,
    "decoder": {"d": 8, "layers": 1, "heads": 2, "d_ff": 16},
}  # fmt: skip
"""A grid of 4 x 2 x 4 tokens of 32 values, a decoder that mixes tokens."""


@cache
def config(name: str) -> object:
    """The configuration of a tiny model."""
    if name == "spikewfm":
        nano = preset("spikewfm-nano-ilif").config
        head = replace(nano.head, d=16, heads=2, d_ff=32, layers=1)
        return replace(nano, d=16, layers=1, heads=2, d_ff=32, head=head)
    return EncoderConfig.from_dict(ENCODER)


def tiny(name: str, seed: int = 0) -> nn.Module:
    """A fresh tiny model: `spikewfm`, 4 x 4 x 4 tokens of 336 values, or `encoder`."""
    torch.manual_seed(seed)
    return build(config(name))  # type: ignore[arg-type]


def batch(name: str, samples: int = 8, seed: int = 0) -> Batch:
    """Channels of the embedded training cities as the tiny model samples them."""
    rng, links = np.random.default_rng(seed), embedded_split("train")
    users = rng.integers(0, links.links, samples)
    if name == "spikewfm":
        return draw(links, users, config(name).grid, "R1", (0.0, 20.0), rng)  # type: ignore[attr-defined]
    return canonical_batch(links, users, config(name).sampling, (0.0, 20.0), rng)  # type: ignore[attr-defined]


def losses(objective: Objective, model: nn.Module, parts: nn.Module, data: Batch, steps: int, lr: float) -> list[float]:
    """Losses of `steps` steps of Adam on one batch, the same draws at each."""
    trained = [p for p in [*model.parameters(), *parts.parameters()] if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr)
    values = []
    for _ in range(steps):
        loss = objective.loss(model, parts, data, np.random.default_rng(5))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        objective.stepped(model, parts)
        values.append(float(loss.detach()))
    return values
