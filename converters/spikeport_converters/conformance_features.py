"""What a simulator is tried on: small networks of SpikingJelly's own nodes, one per feature, drawn with fixed seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import neuron as sj
from spikingjelly.activation_based import surrogate
from torch import Tensor

from .nir_profiles import NO_LEAK
from .spiking_graph import GraphNode, NodeNeuron, SpikingGraph

INPUTS, HIDDEN, OUTPUTS = 24, 64, 16
HARD = NodeNeuron("lif", 1, 1, 2.0, False, 1.0, 0.0)
RATE = 0.2
"""About the rate at which the neurons spike; it scales the weights behind them."""


@dataclass(frozen=True)
class Feature:
    """One row of the page: a neuron, the network around it, and the T to run.

    With `ties` weights and inputs are multiples of 1/8, so that sums are exact in any order and membranes meet their
    threshold exactly: the case in which `>` and `>=` differ. With `per_step` the input changes from step to step.
    """

    name: str
    neuron: NodeNeuron = HARD
    network: str = "chain"
    ties: bool = False
    per_step: bool = False
    steps: tuple[int, ...] = (4, 16)

    def build(self, steps: int, tokens: int) -> tuple[SpikingGraph, Tensor]:
        """The network over `steps` steps and its input for `tokens` tokens, the same in every call."""
        draw = _Draw(np.random.default_rng([steps, *self.name.encode()]), self)
        graph = NETWORKS[self.network](draw, replace(self.neuron, steps=steps))
        lead = (steps, tokens) if self.per_step else (tokens,)
        return graph, draw.values(*lead, *graph.input_shape)


@dataclass(frozen=True)
class _Draw:
    """Weights at the scale that makes the neurons spike at about RATE."""

    rng: np.random.Generator
    feature: Feature

    def values(self, *shape: int) -> Tensor:
        if self.feature.ties:
            return torch.from_numpy(self.rng.integers(-4, 5, shape).astype(np.float32) / 8)
        return torch.from_numpy(self.rng.standard_normal(shape, dtype=np.float32))

    def weight(self, shape: tuple[int, ...], spikes_in: bool = False, last: bool = False) -> Tensor:
        if self.feature.ties:
            return 2 * self.values(*shape)
        neuron = self.feature.neuron
        leak = 0.25 if neuron.tau == NO_LEAK else 0.7
        scale = 1.0 if last else leak * neuron.v_threshold * (neuron.tau if neuron.decay_input else 1.0)
        power = float(np.prod(shape[1:])) * (RATE if spikes_in else 1.0)
        return self.values(*shape) * float(scale / power**0.5)

    def affine(self, name: str, source: str | tuple[str, ...], sizes: tuple[int, int], **how: bool) -> GraphNode:
        sources = (source,) if isinstance(source, str) else source
        weight = self.weight((sizes[1], sizes[0]), **how)
        return GraphNode(name, "affine", sources, (sizes[1],), weight, self.bias(sizes[1]))

    def conv(self, name: str, source: str, channels: tuple[int, int], size: int, axes: int, **how: bool) -> GraphNode:
        weight = self.weight((channels[1], channels[0], *[3] * axes), **how)
        window = {"stride": (1,) * axes, "padding": (1,) * axes, "dilation": (1,) * axes, "groups": 1}
        shape = (channels[1], *[size] * axes)
        return GraphNode(name, f"conv{axes}d", (source,), shape, weight, self.bias(channels[1]), window)

    def bias(self, size: int) -> Tensor:
        return self.values(size) * (1.0 if self.feature.ties else 0.1 * self.feature.neuron.v_threshold)


def node_of(neuron: NodeNeuron) -> Any:
    """SpikingJelly's node of `neuron`."""
    plain: dict[str, Any] = {"v_threshold": neuron.v_threshold, "v_reset": neuron.v_reset}
    if neuron.kind == "ilif":
        count = surrogate.MultiLevelSpikeCount(neuron.levels)
        return sj.ILIFNode(tau=neuron.tau, v_threshold=neuron.v_threshold, surrogate_function=count)
    if neuron.kind == "if":
        return sj.IFNode(**plain)
    return sj.LIFNode(tau=neuron.tau, decay_input=neuron.decay_input, **plain)


def _spiking(name: str, neuron: NodeNeuron, source: str | tuple[str, ...], *shape: int) -> GraphNode:
    sources = (source,) if isinstance(source, str) else source
    return GraphNode(name, "neuron", sources, shape, neuron=neuron, node=node_of(neuron), path=name)


def _graph(neuron: NodeNeuron, shape: tuple[int, ...], *nodes: GraphNode) -> SpikingGraph:
    return SpikingGraph(nodes, nodes[-1].name, shape, neuron.steps)


def _chain(draw: _Draw, neuron: NodeNeuron) -> SpikingGraph:
    return _graph(
        neuron,
        (INPUTS,),
        draw.affine("fc1", "input", (INPUTS, HIDDEN)),
        _spiking("lif", neuron, "fc1", HIDDEN),
        draw.affine("fc2", "lif", (HIDDEN, OUTPUTS), last=True),
    )


def _layers(draw: _Draw, neuron: NodeNeuron) -> SpikingGraph:
    return _graph(
        neuron,
        (INPUTS,),
        draw.affine("fc1", "input", (INPUTS, HIDDEN)),
        _spiking("lif1", neuron, "fc1", HIDDEN),
        draw.affine("fc2", "lif1", (HIDDEN, HIDDEN), spikes_in=True),
        _spiking("lif2", neuron, "fc2", HIDDEN),
        draw.affine("fc3", "lif2", (HIDDEN, HIDDEN), spikes_in=True),
        _spiking("lif3", neuron, "fc3", HIDDEN),
        draw.affine("fc4", "lif3", (HIDDEN, OUTPUTS), last=True),
    )


def _residual(draw: _Draw, neuron: NodeNeuron) -> SpikingGraph:
    """The spikes of two layers into the last Affine (SEW), and two currents into the third layer."""
    return _graph(
        neuron,
        (INPUTS,),
        draw.affine("fc1", "input", (INPUTS, HIDDEN)),
        _spiking("lif1", neuron, "fc1", HIDDEN),
        draw.affine("fc2", "lif1", (HIDDEN, HIDDEN), spikes_in=True),
        _spiking("lif2", neuron, "fc2", HIDDEN),
        draw.affine("fc3", "lif2", (HIDDEN, HIDDEN), spikes_in=True),
        draw.affine("skip", "lif1", (HIDDEN, HIDDEN), spikes_in=True),
        _spiking("lif3", neuron, ("fc3", "skip"), HIDDEN),
        draw.affine("fc4", ("lif2", "lif3"), (HIDDEN, OUTPUTS), last=True),
    )


def _from_input(draw: _Draw, neuron: NodeNeuron) -> SpikingGraph:
    """The input goes two ways: through a layer, and past it."""
    return _graph(
        neuron,
        (INPUTS,),
        draw.affine("fc1", "input", (INPUTS, HIDDEN)),
        _spiking("lif1", neuron, "fc1", HIDDEN),
        draw.affine("fc2", "lif1", (HIDDEN, HIDDEN), spikes_in=True),
        draw.affine("skip", "input", (INPUTS, HIDDEN)),
        _spiking("lif2", neuron, ("fc2", "skip"), HIDDEN),
        draw.affine("fc3", "lif2", (HIDDEN, OUTPUTS), last=True),
    )


def _conv2d(draw: _Draw, neuron: NodeNeuron) -> SpikingGraph:
    return _graph(
        neuron,
        (2, 6, 6),
        draw.conv("conv1", "input", (2, 4), 6, 2),
        _spiking("lif1", neuron, "conv1", 4, 6, 6),
        draw.conv("conv2", "lif1", (4, 4), 6, 2, spikes_in=True),
        _spiking("lif2", neuron, "conv2", 4, 6, 6),
        GraphNode("flat", "flatten", ("lif2",), (144,)),
        draw.affine("fc", "flat", (144, OUTPUTS), last=True),
    )


def _conv1d(draw: _Draw, neuron: NodeNeuron) -> SpikingGraph:
    return _graph(
        neuron,
        (3, 16),
        draw.conv("conv1", "input", (3, 8), 16, 1),
        _spiking("lif1", neuron, "conv1", 8, 16),
        GraphNode("flat", "flatten", ("lif1",), (128,)),
        draw.affine("fc", "flat", (128, OUTPUTS), last=True),
    )


def _pooled(kind: str) -> Callable[[_Draw, NodeNeuron], SpikingGraph]:
    def network(draw: _Draw, neuron: NodeNeuron) -> SpikingGraph:
        window = {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0)}
        return _graph(
            neuron,
            (2, 6, 6),
            draw.conv("conv1", "input", (2, 4), 6, 2),
            _spiking("lif1", neuron, "conv1", 4, 6, 6),
            GraphNode("pool", kind, ("lif1",), (4, 3, 3), window=window),
            draw.conv("conv2", "pool", (4, 8), 3, 2, spikes_in=True),
            _spiking("lif2", neuron, "conv2", 8, 3, 3),
            GraphNode("flat", "flatten", ("lif2",), (72,)),
            draw.affine("fc", "flat", (72, OUTPUTS), last=True),
        )

    return network


NETWORKS: Mapping[str, Callable[[_Draw, NodeNeuron], SpikingGraph]] = {
    "chain": _chain,
    "layers": _layers,
    "residual": _residual,
    "from input": _from_input,
    "conv2d": _conv2d,
    "conv1d": _conv1d,
    "avgpool2d": _pooled("avgpool2d"),
    "sumpool2d": _pooled("sumpool2d"),
}

_DECAY = replace(HARD, decay_input=True)
_SOFT = replace(HARD, v_reset=None)
_INTEGER = NodeNeuron("ilif", 1, 4, 4 / 3, False, 0.5, None)

FEATURES: tuple[Feature, ...] = (
    Feature("hard reset", steps=(1, 2, 4, 8, 16)),
    Feature("input decay", _DECAY),
    Feature("tau 10/3", replace(HARD, tau=10 / 3)),
    Feature("tau 10/3, input decay", replace(_DECAY, tau=10 / 3)),
    Feature("tau 1.5", replace(HARD, tau=1.5)),
    Feature("tau 1.5, input decay", replace(_DECAY, tau=1.5)),
    Feature("threshold 1/3", replace(HARD, v_threshold=1 / 3)),
    Feature("v_reset -0.2", replace(HARD, v_threshold=0.5, v_reset=-0.2)),
    Feature("soft reset", _SOFT),
    Feature("soft reset, input decay", replace(_SOFT, decay_input=True)),
    Feature("threshold ties", ties=True, steps=(1, 4, 16)),
    Feature("threshold ties, soft reset", _SOFT, ties=True),
    Feature("IF", replace(HARD, kind="if", tau=NO_LEAK)),
    Feature("IF, soft reset", replace(_SOFT, kind="if", tau=NO_LEAK)),
    Feature("integer, T = 1", _INTEGER, steps=(1,)),
    Feature("integer, T > 1", _INTEGER, steps=(4,)),
    Feature("several layers", network="layers"),
    Feature("per-step input", per_step=True),
    Feature("convolution", network="conv2d"),
    Feature("convolution, 1-D", network="conv1d"),
    Feature("pooling", network="avgpool2d"),
    Feature("sum pooling", network="sumpool2d"),
    Feature("residual", network="residual"),
    Feature("residual from the input", network="from input"),
)
