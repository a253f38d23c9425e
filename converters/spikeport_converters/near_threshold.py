"""Whether two runs of a spiking graph differ by rounding only: each first difference must lie at its threshold."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .spiking_graph import GraphNode, Run, SpikingGraph

MARGIN = 1e-5
"""A membrane this close to its threshold, relative to it, may fire in one order of summation and not in another."""


@dataclass(frozen=True)
class Differences:
    """Spikes that differ, of how many, and in how many samples the first of them is no matter of rounding."""

    differ: int
    spikes: int
    unexplained: int

    def summary(self) -> str:
        """One line."""
        if not self.differ:
            return f"0 of {self.spikes:,} spikes differ"
        why = f"{self.unexplained} samples not" if self.unexplained else "each sample's first one"
        return f"{self.differ:,} of {self.spikes:,} spikes differ; {why} within {MARGIN:g} of a threshold"


def differences(graph: SpikingGraph, run: Run, other: Tensor, order: tuple[str, ...]) -> Differences:
    """Compare `other`, spikes `[steps, batch, neurons]` in `order`, with `run` of the same `graph` and input.

    Up to the first difference of a sample (in time, then in the order of the layers) both had the same spikes, so that
    one may differ only where the membrane lies within MARGIN of the threshold. What follows it is its consequence.
    """
    wrong = run.spikes != other
    sizes = {node.name: run.currents[node.name].shape[-1] for node in graph.neurons}
    layers, start = {}, 0
    for name in order:
        layers[name] = slice(start, start + sizes[name])
        start += sizes[name]
    unexplained = torch.zeros(wrong.shape[1], dtype=torch.bool)
    if wrong.any():
        open_ = wrong.any(-1).any(0)
        margins = {n.name: _margin(n, run.currents[n.name], run.spikes[..., layers[n.name]]) for n in graph.neurons}
        for step in range(graph.steps):
            for node in graph.neurons:
                here = wrong[step][:, layers[node.name]]
                first = open_ & here.any(-1)
                far = (here & (margins[node.name][step] > MARGIN)).any(-1)
                unexplained |= first & far
                open_ &= ~first
    return Differences(int(wrong.sum()), wrong.numel(), int(unexplained.sum()))


def _margin(node: GraphNode, current: Tensor, spikes: Tensor) -> Tensor:
    """|h - threshold| / threshold at every step `[steps, batch, size]`, of the membrane that led to `spikes`."""
    neuron = node.neuron
    assert neuron is not None
    rest, threshold = neuron.v_reset or 0.0, neuron.v_threshold
    v, margins = torch.full_like(current[0], rest, dtype=torch.float64), []
    for x, fired in zip(current.double(), spikes.double(), strict=True):
        h = v + (x - (v - rest)) / neuron.tau if neuron.decay_input else v - (v - rest) / neuron.tau + x
        level = h / threshold
        nearest = level.round().clamp(1, neuron.levels) if neuron.levels > 1 else torch.ones_like(level)
        margins.append((level - nearest).abs())
        v = h - fired * threshold if neuron.v_reset is None else torch.where(fired > 0, rest, h)
    return torch.stack(margins)
