"""A spiking part of a model as a directed acyclic graph: SpikingJelly's own run of it, and its NIR in a profile."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import nir
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor

from .fold import node_staircase
from .nir_profiles import Neuron, Profile, lif_node, slot_node

WEIGHTED = ("affine", "conv1d", "conv2d")
_CONV = {"conv1d": F.conv1d, "conv2d": F.conv2d}


@dataclass(frozen=True)
class NodeNeuron:
    """A SpikingJelly neuron in plain numbers; tau in steps, v_reset None for soft reset."""

    kind: str
    steps: int
    levels: int
    tau: float
    decay_input: bool
    v_threshold: float
    v_reset: float | None


@dataclass(frozen=True)
class GraphNode:
    """One node: `sources` by name (their sum enters it), `shape` of what it gives for one sample.

    `kind` is affine, conv1d, conv2d, avgpool2d, sumpool2d, flatten or neuron; `window` holds stride, padding, dilation,
    groups or kernel_size; `path` is the module it comes from.
    """

    name: str
    kind: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]
    weight: Tensor | None = None
    bias: Tensor | None = None
    window: Mapping[str, Any] = field(default_factory=dict)
    neuron: Neuron | None = None
    node: BaseNode | None = None
    path: str = ""

    def compute(self, x: Tensor) -> Tensor:
        """Its output for one step, `[batch, *in]` to `[batch, *shape]`; a neuron keeps its state."""
        if self.kind == "neuron":
            assert self.node is not None
            return self.node(x)  # type: ignore[no-any-return]
        if self.kind == "affine":
            assert self.weight is not None
            return F.linear(x, self.weight, self.bias)
        if self.kind in _CONV:
            assert self.weight is not None
            return _CONV[self.kind](x, self.weight, self.bias, **self.window)
        if self.kind == "flatten":
            return x.flatten(1)
        return F.avg_pool2d(x, **self.window, divisor_override=1 if self.kind == "sumpool2d" else None)


@dataclass(frozen=True)
class Run:
    """A graph's run: spikes `[steps, batch, neurons]`, mean output `[batch, *out]`, currents by neuron's name."""

    spikes: Tensor
    output: Tensor
    currents: Mapping[str, Tensor]


@dataclass(frozen=True)
class SpikingGraph:
    """Nodes in topological order from the source `input`; `output` names the one node whose mean over time is read."""

    nodes: tuple[GraphNode, ...]
    output: str
    input_shape: tuple[int, ...]
    steps: int

    @property
    def neurons(self) -> tuple[GraphNode, ...]:
        """The spiking nodes."""
        return tuple(node for node in self.nodes if node.kind == "neuron")

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the output of one sample."""
        return next(node.shape for node in self.nodes if node.name == self.output)

    def users(self, name: str) -> tuple[GraphNode, ...]:
        """The nodes that `name` feeds."""
        return tuple(node for node in self.nodes if name in node.sources)

    def run(self, entering: Tensor, order: Iterable[str] | None = None) -> Run:
        """SpikingJelly, step by step from rest.

        `entering` is `[batch, *in]`, the same at every step, or `[steps, batch, *in]`. Spikes stand in `order` of the
        neurons' names (default: that of the nodes), each layer flattened; an integer neuron gives counts 0..D.
        """
        per_step = entering.ndim == len(self.input_shape) + 2
        nodes = tuple(replace(node, node=_single_step(node.node)) for node in self.nodes)
        names = tuple(order) if order is not None else tuple(node.name for node in self.neurons)
        spikes, outputs = [], []
        currents: dict[str, list[Tensor]] = {name: [] for name in names}
        with torch.no_grad():
            for step in range(self.steps):
                signals = {"input": entering[step] if per_step else entering}
                for node in nodes:
                    first, *others = (signals[source] for source in node.sources)
                    current = sum(others, first)
                    signals[node.name] = node.compute(current)
                    if node.kind == "neuron":
                        currents[node.name].append(current.flatten(1))
                spikes.append(torch.cat([signals[name].flatten(1) for name in names], 1))
                outputs.append(signals[self.output])
            stacked = {name: torch.stack(seen) for name, seen in currents.items()}
            return Run(torch.stack(spikes), torch.stack(outputs).mean(0), stacked)


def nir_from_graph(graph: SpikingGraph, profile: Profile, *, gain_outside: bool = False) -> nir.NIRGraph:
    """`graph` in NIR, written as `profile` wants it; exactly one edge enters the output.

    The gain of a neuron goes into the weights before it, or into an identity before it where something else reads
    these too; with `gain_outside`, what enters from outside already carries it. An integer neuron (T = 1) becomes D
    binary slots: an Affine of ones copies each current to its slots, exactly, and the next weights are repeated.
    """
    nodes: dict[str, Any] = {"input": nir.Input(np.array(graph.input_shape))}
    edges: list[tuple[str, str]] = []
    gains = _gains(graph, profile)
    shapes = {"input": graph.input_shape, **{node.name: node.shape for node in graph.nodes}}
    slots: dict[str, int] = {}
    for node in graph.nodes:
        sources = node.sources
        if node.kind == "neuron":
            assert node.neuron is not None
            gain = 1.0 if node.neuron.kind == "ilif" else profile.gain(node.neuron)
            outside = gain_outside and sources == ("input",)
            if gain != 1.0 and not outside and not all(source in gains for source in sources):
                nodes[f"{node.name}_gain"] = identity(node.shape, gain)
                edges += [(source, f"{node.name}_gain") for source in sources]
                sources = (f"{node.name}_gain",)
            if node.neuron.kind == "ilif":
                lif = slot_node(profile, node.neuron, node_staircase(node.node, 1, node.neuron.levels), node.shape[0])
                slots[node.name] = len(lif.tau) // node.shape[0]
                copies = np.tile(np.eye(node.shape[0], dtype=np.float32), (slots[node.name], 1))
                nodes[f"{node.name}_slots"] = nir.Affine(copies, np.zeros(len(copies), np.float32))
                edges += [(source, f"{node.name}_slots") for source in sources]
                sources = (f"{node.name}_slots",)
            else:
                lif = lif_node(profile, node.neuron, node.shape)
            nodes[node.name] = lif
        else:
            repeats = max((slots.get(source, 1) for source in sources), default=1)
            convolved = node.kind == "avgpool2d" and not profile.pools
            plain = _as_convolution(node, shapes[sources[0]]) if convolved else node
            nodes[node.name] = _dense_node(plain, shapes[sources[0]], gains.get(node.name, 1.0), repeats)
        edges += [(source, node.name) for source in sources]
    nodes["output"] = nir.Output(np.array(graph.out_shape))
    return nir.NIRGraph(nodes=nodes, edges=[*edges, (graph.output, "output")])


def identity(shape: tuple[int, ...], gain: float = 1.0) -> Any:
    """A NIR node that multiplies a signal of `shape` by `gain`: an Affine, or a 1 x 1 convolution."""
    eye = _float32(np.eye(shape[0]) * gain)
    zeros = np.zeros(shape[0], np.float32)
    if len(shape) == 1:
        return nir.Affine(eye, zeros)
    if len(shape) == 2:
        return nir.Conv1d(shape[1], eye[..., None], 1, 0, 1, 1, zeros)
    return nir.Conv2d(shape[1:], eye[..., None, None], 1, 0, 1, 1, zeros)


def _gains(graph: SpikingGraph, profile: Profile) -> dict[str, float]:
    """Gain by the name of a weighted node that feeds one neuron and nothing else."""
    found: dict[str, float] = {}
    by_name = {node.name: node for node in graph.nodes}
    for neuron in graph.neurons:
        assert neuron.neuron is not None
        feeding = [by_name.get(source) for source in neuron.sources]
        alone = all(
            node is not None
            and node.kind in WEIGHTED
            and len(graph.users(node.name)) == 1
            and node.name != graph.output
            for node in feeding
        )
        if alone and neuron.neuron.kind != "ilif":
            found |= {node.name: profile.gain(neuron.neuron) for node in feeding if node is not None}
    return found


def _dense_node(node: GraphNode, shape: tuple[int, ...], gain: float, slots: int) -> Any:
    """The NIR node of a non-spiking `node` that takes signals of `shape`."""
    if node.kind == "flatten":
        return nir.Flatten(np.array(shape), start_dim=0, end_dim=-1)
    if node.kind in ("avgpool2d", "sumpool2d"):
        pool = nir.AvgPool2d if node.kind == "avgpool2d" else nir.SumPool2d
        return pool(**{key: np.array(value) for key, value in node.window.items()})
    assert node.weight is not None
    weight = node.weight.detach().double().numpy() * gain
    bias = np.zeros(len(weight)) if node.bias is None else node.bias.detach().double().numpy() * gain
    if node.kind == "affine":
        return nir.Affine(_float32(np.tile(weight, (1, slots))), _float32(bias))
    w = node.window
    if node.kind == "conv1d":
        numbers = (int(w[key][0]) for key in ("stride", "padding", "dilation"))
        return nir.Conv1d(shape[1], _float32(weight), *numbers, int(w["groups"]), _float32(bias))
    pairs = (tuple(w[key]) for key in ("stride", "padding", "dilation"))
    return nir.Conv2d(tuple(shape[1:]), _float32(weight), *pairs, int(w["groups"]), _float32(bias))


def _as_convolution(node: GraphNode, shape: tuple[int, ...]) -> GraphNode:
    """Average pooling as a convolution whose weights are 1 / area on the diagonal of the channels."""
    kernel = tuple(node.window["kernel_size"])
    weight = torch.eye(shape[0])[..., None, None].expand(-1, -1, *kernel) / float(np.prod(kernel))
    window = {"stride": node.window["stride"], "padding": node.window["padding"], "dilation": (1, 1), "groups": 1}
    return replace(node, kind="conv2d", weight=weight, window=window)


def _single_step(node: BaseNode | None) -> BaseNode | None:
    if node is None:
        return None
    node = copy.deepcopy(node)
    node.step_mode = "s"
    node.reset()
    return node


def _float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)
