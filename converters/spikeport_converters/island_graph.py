"""The operators of one island as a SpikingGraph: BatchNorm folded, sums as several edges, views left out."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx

from .module_graph import frozen_neuron, plain_neuron
from .operators import activations, arguments, module_path, op_name, pooling, shape, value_of
from .spiking_graph import GraphNode, SpikingGraph

if TYPE_CHECKING:
    from .partition import Walk

SPATIAL = ("conv1d", "conv2d", "avgpool2d", "sumpool2d", "flatten")
MOST_IDENTITY = 4096


class NotExpressibleError(Exception):
    """An island that NIR cannot hold: what, why and the remedy."""

    def __init__(self, path: str, what: str, reason: str, remedy: str):
        super().__init__(reason)
        self.path, self.what, self.reason, self.remedy = path, what, reason, remedy


def island_graph(
    walk: Walk, members: list[fx.Node], enters: fx.Node, leaves: fx.Node
) -> tuple[SpikingGraph, tuple[int, ...]]:
    """The graph of `members`, and the dimensions before a sample's features (batch, and tokens where it has them).

    An island of Linear and neurons runs per token: its features are the last dimension. One with convolutions, pooling
    or Flatten takes a sample as a whole. Raises NotExpressibleError.
    """
    whole = any(walk.kind(node) in SPATIAL for node in members)

    def features(node: fx.Node) -> tuple[int, ...]:
        rest = walk.rest(node)
        if not whole:
            return shape(node)[-1:]
        if rest is None:
            path, name = module_path(node) or "forward", op_name(node)
            reason = "it mixes time or batch with features"
            raise NotExpressibleError(path, name, reason, "keep [T, batch, ...] or [T * batch, ...] in front")
        return rest

    return _Builder(walk, features).build(members, enters, leaves, whole)


class _Builder:
    def __init__(self, walk: Walk, features: Any):
        self.walk, self.features = walk, features
        self.nodes: dict[str, GraphNode] = {}
        self.sources: dict[fx.Node, tuple[str, ...]] = {}
        self.taken: Counter[str] = Counter({"input": 1, "output": 1})

    def build(
        self, members: list[fx.Node], enters: fx.Node, leaves: fx.Node, whole: bool
    ) -> tuple[SpikingGraph, tuple[int, ...]]:
        self.sources[enters] = ("input",)
        for node in members:
            before = [self.sources[a] for a in activations(node)]
            kind = "alias" if self.walk.reduces(node) else self.walk.kind(node)
            if kind == "alias":
                self.sources[node] = before[0]
            elif kind == "add":
                self.sources[node] = self._sum(node, before)
            elif kind == "bn":
                self._fold(node, before[0])
            else:
                self._add(node, kind, before[0])
        size = self.features(enters)
        last = self.sources[leaves]
        if len(last) > 1 or last == ("input",):
            last = (self._identity("sum", last, self.features(leaves)),)
        graph = SpikingGraph(tuple(self.nodes.values()), last[0], size, self.walk.steps)
        self._check_integers(graph)
        before_features = shape(enters)[: len(shape(enters)) - len(size)]
        lead = before_features
        if enters in self.walk.timed:
            flat = before_features[0] != self.walk.steps
            lead = (self.walk.batch, *before_features[1:]) if flat else before_features[1:]
        return graph, lead

    def _add(self, node: fx.Node, kind: str, sources: tuple[str, ...]) -> None:
        name, given = self._name(node, kind), arguments(node)
        size, path = self.features(node), module_path(node)
        if kind == "neuron":
            index = int(node.args[1])  # type: ignore[arg-type]
            path = self.walk.traced.paths[index]
            original = copy.deepcopy(self.walk.neuron(node))
            plain = plain_neuron(original, self.walk.steps)
            assert plain is not None
            made = GraphNode(name, kind, sources, size, neuron=plain, node=frozen_neuron(original, plain), path=path)
        elif kind in ("avgpool2d", "sumpool2d"):
            made = GraphNode(name, kind, sources, size, window=pooling(node)[1], path=path)
        elif kind == "flatten":
            made = GraphNode(name, kind, sources, size, path=path)
        else:
            weight, bias = (value_of(self.walk.traced.program, given[key]) for key in ("weight", "bias"))
            entering = self.features(activations(node)[0])
            if kind == "affine" and len(entering) != 1:
                reason = "a Linear over the last of several dimensions, in an island that takes samples as a whole"
                raise NotExpressibleError(path, "linear", reason, "put a Flatten before it")
            window: dict[str, Any] = {}
            if kind != "affine":
                assert weight is not None
                window, weight = _window(given, weight, kind), _ungrouped(weight, int(given["groups"]))
            made = GraphNode(name, kind, sources, size, weight, bias, window, path=path)
        self.nodes[name] = made
        self.sources[node] = (name,)

    def _fold(self, node: fx.Node, sources: tuple[str, ...]) -> None:
        """W' = diag(g / sqrt(var + eps)) W,  b' = (b - mean) g / sqrt(var + eps) + beta, in float64."""
        given = arguments(node)
        weight, bias, mean, var = (
            value_of(self.walk.traced.program, given[key]) for key in ("weight", "bias", "running_mean", "running_var")
        )
        (name,) = sources
        made = self.nodes[name]
        assert made.weight is not None
        if mean is None or var is None:
            raise NotExpressibleError(
                module_path(node), "BatchNorm", "it has no running statistics", "train with them tracked"
            )
        gain = (var.double() + float(given["eps"])).rsqrt() * (1.0 if weight is None else weight.double())
        shift = (0.0 if made.bias is None else made.bias.double()) - mean.double()
        folded = made.weight.double() * gain.view(-1, *[1] * (made.weight.ndim - 1))
        moved = shift * gain + (0.0 if bias is None else bias.double())
        self.nodes[name] = replace(made, weight=folded.float(), bias=moved.float())
        self.sources[node] = sources

    def _sum(self, node: fx.Node, before: list[tuple[str, ...]]) -> tuple[str, ...]:
        """The edges that a sum of signals becomes; NIR refuses one edge twice, so such a one gets an identity."""
        if len(before) == 1:
            before = before * 2
        edges = list(before[0])
        for source in before[1]:
            twice = source in edges
            edges.append(self._identity("same", (source,), self.features(node)) if twice else source)
        return tuple(edges)

    def _identity(self, name: str, sources: tuple[str, ...], shape: tuple[int, ...]) -> str:
        if shape[0] > MOST_IDENTITY:
            reason = f"a sum of {shape[0]} features leaves the island; NIR needs an identity of {shape[0]} x {shape[0]}"
            raise NotExpressibleError("forward", "add", reason, "let a Linear or Conv follow the sum")
        eye = torch.eye(shape[0])
        if len(shape) == 1:
            made = GraphNode(self._unique(name), "affine", sources, shape, eye)
        else:
            axes = len(shape) - 1
            window = {"stride": (1,) * axes, "padding": (0,) * axes, "dilation": (1,) * axes, "groups": 1}
            kernel = eye.view(*eye.shape, *[1] * axes)
            made = GraphNode(self._unique(name), f"conv{axes}d", sources, shape, kernel, window=window)
        self.nodes[made.name] = made
        return made.name

    def _name(self, node: fx.Node, kind: str) -> str:
        path = module_path(node) if kind != "neuron" else self.walk.traced.paths[int(node.args[1])]  # type: ignore[arg-type]
        return self._unique("".join(c if c.isalnum() else "_" for c in f"{kind}_{path}".rstrip("_")))

    def _unique(self, name: str) -> str:
        self.taken[name] += 1
        return name if self.taken[name] == 1 else f"{name}_{self.taken[name]}"

    def _check_integers(self, graph: SpikingGraph) -> None:
        for node in graph.neurons:
            assert node.neuron is not None
            users = [user.kind for user in graph.users(node.name)]
            mixed = any(len(user.sources) > 1 for user in graph.users(node.name))
            if node.neuron.kind == "ilif" and (
                len(node.shape) != 1 or mixed or set(users) != {"affine"} or graph.output == node.name
            ):
                reason = "an integer neuron becomes binary slots, which a Linear alone must read"
                raise NotExpressibleError(node.path, "ILIFNode", reason, "put a Linear behind it, or use LIFNode")


def _ungrouped(weight: Tensor, groups: int) -> Tensor:
    """The weights of a grouped convolution as those of a full one, zero between groups: few importers know groups."""
    return torch.stack(
        [
            torch.cat([part if g == k else torch.zeros_like(part) for k in range(groups)])
            for g, block in enumerate(weight.chunk(groups))
            for part in block
        ]
    )


def _window(given: Any, weight: Tensor, kind: str) -> dict[str, Any]:
    axes = int(kind[4])

    def spread(value: Any) -> tuple[int, ...]:
        return tuple(int(v) for v in np.broadcast_to(np.asarray(value), axes))

    stride, dilation, kernel = spread(given["stride"]), spread(given["dilation"]), weight.shape[2:]
    padding: tuple[int, ...]
    if isinstance(given["padding"], str):
        same = given["padding"] == "same"
        if same and any(k % 2 == 0 for k in kernel):
            raise NotExpressibleError("", kind, "padding `same` of an even kernel is lopsided", "use an odd kernel")
        padding = tuple(d * (k - 1) // 2 if same else 0 for k, d in zip(kernel, dilation, strict=True))
    else:
        padding = spread(given["padding"])
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": 1}
