"""Partition: which operators of a traced module become spiking islands, which stay dense, and what neither can be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from spikeport_errors import InputError

from .island_graph import NotExpressibleError, island_graph
from .module_graph import ModuleGraph, plain_neuron
from .operators import activations, arguments, is_op, is_value, module_path, op_name, pooling, shape
from .spiking_graph import SpikingGraph

NEUTRAL = ("dropout", "feature_dropout", "alpha_dropout", "alias", "detach", "detach_", "clone", "contiguous")
VIEWS = ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze")
OUTSIDE = "move it before the first neuron or behind the mean over time, where it becomes a dense segment"
_REASONS = {
    "max_pool2d": ("NIR has no maximum", "use AvgPool2d, which island and simulator share"),
    "layer_norm": ("NIR has no statistics over features", "use BatchNorm behind a Linear or Conv: it is folded"),
    "batch_norm": ("only a BatchNorm right behind a Linear or Conv can be folded", "put it there"),
    "matmul": ("NIR has no product of two signals", OUTSIDE),
    "bmm": ("NIR has no product of two signals", OUTSIDE),
    "mul": ("NIR has no product of two signals", OUTSIDE),
    "scaled_dot_product_attention": ("NIR has no product of two signals and no softmax", OUTSIDE),
    "softmax": ("NIR has no softmax", OUTSIDE),
    "spikes": ("this neuron has no exact NIR form", "use LIFNode, ParametricLIFNode, IFNode, or ILIFNode with T = 1"),
}


@dataclass(frozen=True)
class Part:
    """One island: its graph, the operator whose result it reads and the one whose result it gives.

    `per_step` says that the input has a time axis; `lead` are the dimensions before a sample's features, without time;
    `averages` that forward returns every step of what it gives, and a bundle their mean.
    """

    name: str
    path: str
    graph: SpikingGraph
    reads: fx.Node
    writes: fx.Node
    per_step: bool
    lead: tuple[int, ...]
    folded: tuple[str, ...] = ()
    averages: bool = False


@dataclass(frozen=True)
class Refusal:
    """An operator that neither an island nor a dense segment can hold."""

    path: str
    what: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class Partition:
    """Islands in running order, the operators inside them, and what is refused (then there are no islands)."""

    traced: ModuleGraph
    parts: tuple[Part, ...]
    inside: frozenset[fx.Node]
    refused: tuple[Refusal, ...] = ()

    @property
    def dense(self) -> tuple[fx.Node, ...]:
        """The operators of the dense segments, in order."""
        nodes = self.traced.program.graph.nodes
        return tuple(n for n in nodes if n.op == "call_function" and n not in self.inside and activations(n))


def partition(traced: ModuleGraph) -> Partition:
    """Islands are the largest parts that NIR can express around the neurons; everything else must be free of time.

    A dense operator between a neuron and the mean over time is refused: it would need every single step. Raises
    InputError for an example of one sample.
    """
    _sums_to_means(traced)
    walk = Walk(traced)
    if walk.batch < 2:
        raise InputError("example_input holds one sample: give at least two, so that batch and time can be told apart")
    refused = tuple(walk.refusals())
    if refused:
        return Partition(traced, (), frozenset(), refused)
    for careful in (False, True):
        inside = walk.region(careful)
        parts, refused = _parts(walk, inside)
        if not refused:
            break
    return Partition(traced, () if refused else parts, frozenset(() if refused else inside), refused)


class Walk:
    """What is known of every operator: its shape, whether it has a time axis, and its kind in NIR."""

    def __init__(self, traced: ModuleGraph):
        self.traced = traced
        self.nodes = [n for n in traced.program.graph.nodes if n.op in ("placeholder", "call_function")]
        self.steps = traced.steps
        self.repeats = {n: s for n in self.nodes if (s := _repeated(n, self.steps)) is not None}
        self.timed_input = traced.multi_step and not self.repeats
        self.batch = traced.example.shape[1 if self.timed_input else 0]
        self.timed: set[fx.Node] = set()
        self.live: set[fx.Node] = set()
        self.averaged: set[fx.Node] = set()
        for node in self.nodes:
            self._look(node)

    def _look(self, node: fx.Node) -> None:
        before = activations(node)
        starts = (node.op == "placeholder" and self.timed_input) or node in self.repeats
        if starts or (self.timed & set(before) and not self.reduces(node)):
            self.timed.add(node)
        if is_op(node, "spikes") or (self.live & set(before) and not self.reduces(node)):
            self.live.add(node)
        alone = len(before) == 1 and len(before[0].users) == 1
        linear = self.kind(node) in ("affine", "alias") and alone and bool({*before} & self.averaged)
        if (self.reduces(node) and before[0] in self.live) or linear:
            self.averaged.add(node)

    def reduces(self, node: fx.Node) -> bool:
        """Whether `node` is the mean over time."""
        if not is_op(node, "mean") or not self.traced.multi_step:
            return False
        given = arguments(node)
        return given.get("dim") == [0] and not given.get("keepdim") and activations(node)[0] in self.timed

    def rest(self, node: fx.Node) -> tuple[int, ...] | None:
        """Shape of one sample's value at one step, None where batch and time are no leading dimensions."""
        size = shape(node)
        if node in self.timed and size[:2] == (self.steps, self.batch):
            return size[2:]
        lead = self.steps * self.batch if node in self.timed else self.batch
        return size[1:] if size[:1] == (lead,) else None

    def kind(self, node: fx.Node) -> str:
        """What `node` is in an island (`alias` changes nothing there), empty where NIR has no form of it."""
        name, before = op_name(node), activations(node)
        if node in self.repeats or name in NEUTRAL:
            return "alias"
        if name == "spikes":
            plain = plain_neuron(self.neuron(node), self.steps)
            return "neuron" if plain is not None else ""
        given = arguments(node)
        if name in ("linear", "conv1d", "conv2d"):
            known = all(v is None or is_value(v) for v in (given["weight"], given["bias"]))
            return {"linear": "affine"}.get(name, name) if known else ""
        if name == "batch_norm":
            return "bn" if given["training"] is False and self._foldable(node) else ""
        if name in ("avg_pool2d", "adaptive_avg_pool2d"):
            return pooling(node)[0]
        if name in VIEWS:
            return self._view(node)
        if name in ("add", "add_") and given.get("alpha", 1) == 1:
            terms = node.args[:2]
            signals = all(isinstance(term, fx.Node) and term.op != "get_attr" for term in terms)
            return "add" if signals and len({shape(n) for n in before}) == 1 else ""
        return ""

    def neuron(self, node: fx.Node) -> Any:
        """The SpikingJelly neuron that `node` stands for."""
        return self.traced.module.get_submodule(self.traced.paths[int(node.args[1])])  # type: ignore[arg-type]

    def _foldable(self, node: fx.Node) -> bool:
        feeding = activations(node)[0]
        while self.kind(feeding) == "alias" and len(feeding.users) == 1:
            feeding = activations(feeding)[0]
        kind = self.kind(feeding) if feeding.op == "call_function" else ""
        channels_last = kind != "affine" or len(shape(node)) == 2
        return kind in ("affine", "conv1d", "conv2d") and len(feeding.users) == 1 and channels_last

    def _view(self, node: fx.Node) -> str:
        before = activations(node)[0]
        was, now = self.rest(before), self.rest(node)
        if shape(node)[-1:] == shape(before)[-1:] or (was is not None and was == now):
            return "alias"
        return "flatten" if was is not None and now == (math.prod(was),) else ""

    def refusals(self) -> Iterator[Refusal]:
        """Every operator between a neuron and the mean over time that an island cannot hold."""
        for node in self.nodes:
            if node not in self.live or self.kind(node):
                continue
            name = op_name(node)
            if name == "spikes":
                path, what = self.traced.paths[int(node.args[1])], type(self.neuron(node)).__name__
            else:
                path, what = module_path(node) or "forward", name
            reason, remedy = _REASONS.get(
                name, (f"NIR has no `{name}`, and a dense segment runs once, not at every step", OUTSIDE)
            )
            if name in ("mul", "div") and len(node.all_input_nodes) == 1:
                reason, remedy = "a constant factor is no node here", "put it into the weights of the next layer"
            yield Refusal(path, what, reason, remedy)

    def region(self, careful: bool) -> set[fx.Node]:
        """Operators inside islands: between neurons and mean, and back from them through what NIR can express.

        With `careful`, no sum and nothing that is used twice is taken back from a neuron.
        """
        inside = {node for node in self.nodes if node in self.live or node in self.averaged}
        for node in reversed(self.nodes):
            users = set(node.users)
            if node.op != "call_function" or node in inside or not users or not users <= inside:
                continue
            if self.kind(node) and not (careful and (self.kind(node) == "add" or len(users) > 1)):
                inside.add(node)
        return inside


def _parts(walk: Walk, inside: set[fx.Node]) -> tuple[tuple[Part, ...], tuple[Refusal, ...]]:
    parts: list[Part] = []
    refused: list[Refusal] = []
    for members in _components(walk, inside):
        neurons = [n for n in members if is_op(n, "spikes")]
        path = walk.traced.paths[int(neurons[0].args[1])]  # type: ignore[arg-type]
        enters = list(dict.fromkeys(a for n in members for a in activations(n) if a not in inside))
        leaves = [n for n in members if any(user not in inside for user in n.users)]
        if len(enters) != 1 or len(leaves) != 1:
            reason = f"its island would have {len(enters)} inputs and {len(leaves)} outputs; one of each is possible"
            remedy = "let one tensor enter it, and one mean over time leave it"
            refused.append(Refusal(path, "spiking part", reason, remedy))
            continue
        if leaves[0] in walk.live and any(user.op != "output" for user in leaves[0].users):
            reason = "its value is needed at every step outside the island"
            refused.append(Refusal(path, op_name(leaves[0]), reason, "take the mean over time, `mean(0)`, first"))
            continue
        try:
            graph, lead = island_graph(walk, members, enters[0], leaves[0])
        except NotExpressibleError as error:
            refused.append(Refusal(error.path or path, error.what, error.reason, error.remedy))
            continue
        name, per_step = f"island-{len(parts):02d}", enters[0] in walk.timed
        folded = tuple(module_path(n) or "batch_norm" for n in members if is_op(n, "batch_norm"))
        averages = leaves[0] in walk.live
        parts.append(Part(name, path, graph, enters[0], leaves[0], per_step, lead, folded, averages))
    return tuple(parts), tuple(refused)


def _components(walk: Walk, inside: set[fx.Node]) -> list[list[fx.Node]]:
    """Connected operators of `inside`, each in order, by where they end; those without a neuron are dropped."""
    group: dict[fx.Node, list[fx.Node]] = {}
    for node in (n for n in walk.nodes if n in inside):
        merged = [node]
        for other in {id(group[a]): group[a] for a in activations(node) if a in inside}.values():
            merged += other
        for member in merged:
            group[member] = merged
    position = {node: index for index, node in enumerate(walk.nodes)}
    unique = {id(members): sorted(members, key=position.__getitem__) for members in group.values()}
    spiking = [members for members in unique.values() if any(is_op(n, "spikes") for n in members)]
    for members in unique.values():
        if members not in spiking:
            inside.difference_update(members)
    return sorted(spiking, key=lambda members: position[members[-1]])


def _repeated(node: fx.Node, steps: int) -> fx.Node | None:
    """What `node` repeats over a new leading time axis of `steps`, None if it does something else."""
    before = activations(node)
    if is_op(node, "stack") and len(before) == 1 and arguments(node)["dim"] == 0:
        return before[0] if shape(node) == (steps, *shape(before[0])) else None
    if not is_op(node, "expand", "repeat") or len(before) != 1:
        return None
    source = before[0]
    if is_op(source, "unsqueeze") and arguments(source)["dim"] == 0:
        source = activations(source)[0]
    if shape(node) == (steps, *shape(source)):
        return source
    tiled = is_op(node, "repeat") and source is before[0]
    return source if tiled and shape(node) == (steps * shape(source)[0], *shape(source)[1:]) else None


def _sums_to_means(traced: ModuleGraph) -> None:
    """Rewrite a sum over the time axis as T times the mean, and that divided by T as the mean."""
    graph, steps = traced.program.graph, traced.steps
    if not traced.multi_step:
        return
    for node in list(graph.nodes):
        given = arguments(node) if is_op(node, "sum") else {}
        if given.get("dim") != [0] or given.get("keepdim") or shape(activations(node)[0])[0] != steps:
            continue
        with graph.inserting_before(node):
            mean = graph.call_function(torch.ops.aten.mean.dim, (node.args[0], [0]))
            mean.meta = dict(node.meta)
            scaled = graph.call_function(torch.ops.aten.mul.Tensor, (mean, float(steps)))
            scaled.meta = dict(node.meta)
        for user in list(node.users):
            if is_op(user, "div") and user.args == (node, steps):
                user.replace_all_uses_with(mean)
        node.replace_all_uses_with(scaled)
    graph.eliminate_dead_code()
