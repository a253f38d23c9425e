"""Islands: the parts of a hybrid model that a neuromorphic target can run, one per spiking feed-forward block."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import nir
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.layers import FeedForward
from spikeport_toolkit.models.neuron import SpikingNeuron

from .fold import staircase
from .nir_profiles import Profile, lif_node, slot_node


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
    """The island as one linear NIR chain in `profile`; the input gain is in the first Affine.

    An integer neuron (T = 1) becomes D binary slots: an Affine of ones copies each current to its slots, exactly,
    and the last Affine's weights are divided by D.
    """
    neuron, size = island.neuron, island.hidden
    weight, bias = _arrays(island.ffn.fc2)
    nodes: dict[str, Any] = {}
    if neuron.kind != "ilif":
        gain, lif = profile.gain(neuron), lif_node(profile, neuron, size)
    else:
        gain, lif = 1.0, slot_node(profile, neuron, staircase(island.ffn.neuron), size)  # type: ignore[arg-type]
    slots = len(lif.tau) // size
    if island.takes == "features":
        first, shift = _arrays(island.ffn.fc1)
        nodes["fc1"] = nir.Affine(_float32(first * gain), _float32(shift * gain))
    if neuron.kind == "ilif":
        ones = np.tile(np.eye(size, dtype=np.float32), (slots, 1))
        nodes["slots"] = nir.Affine(ones, np.zeros(slots * size, np.float32))
    nodes["lif"] = lif
    nodes["fc2"] = nir.Affine(_float32(np.tile(weight / neuron.levels, (1, slots))), _float32(bias))
    return _linear_chain(nodes)


def _linear_chain(nodes: dict[str, Any]) -> nir.NIRGraph:
    first, last = next(iter(nodes.values())), list(nodes.values())[-1]
    chain = {"input": nir.Input(first.input_type), **nodes, "output": nir.Output(last.output_type)}
    names = list(chain)
    return nir.NIRGraph(nodes=chain, edges=list(pairwise(names)))


def _spiking(ffn: FeedForward) -> bool:
    return isinstance(ffn.neuron, SpikingNeuron)


def _entering(island: Island, features: Tensor) -> Tensor:
    return features if island.takes == "features" else island.ffn.current(features)


def _arrays(linear: nn.Linear) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weight = linear.weight.detach().double().numpy()
    bias = np.zeros(len(weight)) if linear.bias is None else linear.bias.detach().double().numpy()
    return weight, bias


def _float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)
