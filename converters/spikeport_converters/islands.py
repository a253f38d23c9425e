"""Islands: the parts of a hybrid model that a neuromorphic target can run, one per spiking feed-forward block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.layers import FeedForward
from spikeport_toolkit.models.neuron import SpikingNeuron

from .nir_profiles import Profile
from .spiking_graph import GraphNode, SpikingGraph, nir_from_graph


@dataclass(frozen=True)
class Island:
    """One island of a folded model: `name` as in the bundle's files, `path` of its FeedForward.

    `takes` is features (Affine -> LIF -> Affine) or currents (LIF -> Affine, where a LayerNorm stands before the
    neuron and stays in the dense part).
    """

    name: str
    path: str
    ffn: FeedForward
    takes: str

    @property
    def neuron(self) -> NeuronConfig:
        """Configuration of its neurons."""
        config: NeuronConfig = self.ffn.neuron.config  # type: ignore[assignment]
        return config

    @property
    def hidden(self) -> int:
        """Its neurons."""
        return self.ffn.fc1.out_features


@dataclass(frozen=True)
class Golden:
    """What SpikingJelly computes on an island's recorded input, all tokens in one batch.

    input float32 [batch, in], spikes uint8 [time, batch, hidden] (counts 0..D), output float32 [batch, out], the mean
    over time.
    """

    input: NDArray[np.float32]
    spikes: NDArray[np.uint8]
    output: NDArray[np.float32]


def find_islands(folded: nn.Module) -> tuple[Island, ...]:
    """Every FeedForward with a spiking neuron, in the order of the modules; BatchNorm must be folded already."""
    found = [(p, m) for p, m in folded.named_modules() if isinstance(m, FeedForward) and _spiking(m)]
    return tuple(
        Island(f"island-{i:02d}", path, ffn, "features" if isinstance(ffn.norm, nn.Identity) else "currents")
        for i, (path, ffn) in enumerate(found)
    )


def record(folded: nn.Module, islands: tuple[Island, ...], patches: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Input `[batch * token, in]` of every island by name, and the model's output, in one run on `patches`."""
    seen: dict[str, Tensor] = {}
    hooks = [
        island.ffn.register_forward_pre_hook(
            lambda _m, args, island=island: seen.update({island.name: _entering(island, args[0].flatten(0, -2))})
        )
        for island in islands
    ]
    try:
        with torch.no_grad():
            output: Tensor = folded(patches)
    finally:
        for hook in hooks:
            hook.remove()
    return seen, output


def golden(island: Island, entering: Tensor, profile: Profile) -> Golden:
    """Golden input, spikes and output of `island` from SpikingJelly itself, on `entering` as one batch.

    Where an island takes currents, the stored input carries the profile's gain, as the dense part delivers it.
    """
    ffn = island.ffn
    neuron: Any = ffn.neuron
    with torch.no_grad():
        entering = entering.contiguous()
        current = ffn.fc1(entering) if island.takes == "features" else entering
        spikes = neuron.spikes(current)
        output = ffn.fc2(spikes.sum(0) / (island.neuron.steps * island.neuron.levels))
        given = entering if island.takes == "features" else entering * profile.gain(island.neuron)
    return Golden(given.numpy(), spikes.to(torch.uint8).numpy(), output.numpy())


def nir_from_island(island: Island, profile: Profile) -> nir.NIRGraph:
    """The island as one linear NIR chain in `profile`; see `nir_from_graph`."""
    return nir_from_graph(island_graph(island), profile, gain_outside=island.takes == "currents")


def island_graph(island: Island) -> SpikingGraph:
    """The island as a graph: fc1 (where it takes features), lif, fc2 with its weights divided by the levels D."""
    ffn, neuron = island.ffn, island.neuron
    nodes = []
    if island.takes == "features":
        nodes.append(GraphNode("fc1", "affine", ("input",), (island.hidden,), ffn.fc1.weight, ffn.fc1.bias))
    entering = nodes[-1].name if nodes else "input"
    node: Any = ffn.neuron
    nodes.append(GraphNode("lif", "neuron", (entering,), (island.hidden,), neuron=neuron, node=node.node))
    weight = ffn.fc2.weight.detach().double() / neuron.levels
    nodes.append(GraphNode("fc2", "affine", ("lif",), (ffn.fc2.out_features,), weight, ffn.fc2.bias))
    width = ffn.fc1.in_features if island.takes == "features" else island.hidden
    return SpikingGraph(tuple(nodes), "fc2", (width,), neuron.steps)


def _spiking(ffn: FeedForward) -> bool:
    return isinstance(ffn.neuron, SpikingNeuron)


def _entering(island: Island, features: Tensor) -> Tensor:
    return features if island.takes == "features" else island.ffn.current(features)
