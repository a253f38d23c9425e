"""Loops over time that a module unrolls itself: the T calls of a neuron become one call with a time axis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from typing import Any

import torch
from torch import Tensor, fx

from spikeport_errors import UnsupportedError

from .graph_tools import NEURON, drop_unread, emit, in_order, outside, share_equal
from .operators import is_op, op_name
from .timewise import AFFINE, affine_here

_aten: Any = torch.ops.aten


class FeedbackError(UnsupportedError):
    """A neuron whose step t reads its own step before: `index` says which."""

    def __init__(self, index: int):
        super().__init__("its steps depend on one another: a loop with feedback")
        self.index = index


def gather_loops(graph: fx.Graph, single: Container[int]) -> None:
    """Make one call of every neuron of `single`, which is called T times; call t is step t.

        s_t = neuron(I_t), t = 1 .. T  =>  S = neuron([I_1 .. I_T]), s_t = S_t
        sum_t L(s_t), L affine         =>  T L(mean_t S_t)

    Raises FeedbackError where a step reads another of the same neuron.
    """
    share_equal(graph)
    calls: dict[int, list[fx.Node]] = {}
    for node in graph.nodes:
        if is_op(node, NEURON):
            calls.setdefault(int(node.args[1]), []).append(node)
    looped = {index: nodes for index, nodes in calls.items() if index in single}
    if not looped:
        return
    for index, nodes in looped.items():
        if any(_reads(node, set(nodes)) for node in nodes):
            raise FeedbackError(index)
    loops = _Loops(graph, looped)
    loops.join_sums()
    loops.join_calls()
    in_order(graph)
    drop_unread(graph)


class _Loops:
    """The steps of looped neurons: `lane[node]` is what it computes, the same for all steps, and of which step."""

    def __init__(self, graph: fx.Graph, looped: dict[int, list[fx.Node]]):
        self.graph, self.looped = graph, looped
        self.lane: dict[fx.Node, tuple[Any, int]] = {}
        self.mixed: set[fx.Node] = set()
        self.members: dict[Any, dict[int, fx.Node]] = {}
        self.joined = {index: self._joined(nodes) for index, nodes in looped.items()}
        self.means: dict[Any, fx.Node | None] = {}
        own = {node: (index, t) for index, nodes in looped.items() for t, node in enumerate(nodes)}
        for node in graph.nodes:
            if node in own:
                self._put(node, (NEURON, own[node][0]), own[node][1])
                continue
            before = [a for a in node.all_input_nodes if a in self.lane or a in self.mixed]
            steps = {self.lane[a][1] for a in before if a in self.lane}
            if not before:
                continue
            if len(steps) > 1 or any(a in self.mixed for a in before) or node.op != "call_function":
                self.mixed.add(node)
                continue
            self._put(node, self._key(node), steps.pop())

    def _joined(self, nodes: list[fx.Node]) -> fx.Node:
        currents = [node.args[0] for node in nodes]
        if len(set(currents)) == 1:
            one = emit(nodes[0], _aten.unsqueeze.default, (currents[0], 0))
            sizes = [len(nodes), *[-1] * (one.meta["val"].ndim - 1)]
            current = emit(nodes[0], _aten.expand.default, (one, sizes))
        else:
            current = emit(nodes[0], _aten.stack.default, (currents, 0))
        return emit(nodes[0], nodes[0].target, (current, nodes[0].args[1]))

    def _put(self, node: fx.Node, key: Any, step: int) -> None:
        self.lane[node] = key, step
        self.members.setdefault(key, {})[step] = node

    def _key(self, node: fx.Node) -> Any:
        def name(argument: fx.Node) -> Any:
            return _Named(str(self.lane[argument][0]) if argument in self.lane else argument.name)

        return str(node.target), repr(fx.node.map_arg(node.args, name)), repr(fx.node.map_arg(node.kwargs, name))

    def _complete(self, key: Any) -> int:
        """T, where every step has this value, else 0."""
        members = self.members[key]
        return len(members) if any(len(members) == len(nodes) for nodes in self.looped.values()) else 0

    def _mean(self, key: Any) -> fx.Node | None:
        """Mean over the steps of what `key` computes, None where it is not affine in the spikes."""
        if key not in self.means:
            self.means[key] = self._made(key)
        return self.means[key]

    def _made(self, key: Any) -> fx.Node | None:
        node = self.members[key][0]
        if key[0] == NEURON:
            return outside(emit(node, _aten.mean.dim, (self.joined[key[1]], [0])))
        changing = [a for a in node.all_input_nodes if a in self.lane]
        if op_name(node) not in AFFINE or not affine_here(node, changing):
            return None
        known = {a: self._mean(self.lane[a][0]) for a in changing}
        if any(made is None for made in known.values()):
            return None
        with self.graph.inserting_before(node):
            copied = self.graph.node_copy(node, lambda a: known.get(a) or a)
        copied.meta = dict(node.meta)
        return copied

    def join_sums(self) -> None:
        """Replace every sum, and every mean or sum of a stack, that takes each of the T steps once."""
        for node in list(self.graph.nodes):
            if node not in self.mixed:
                continue
            if is_op(node, "add", "add_"):
                self._join(node, self._terms(node))
            if is_op(node, "mean", "sum") and is_op(node.args[0], "stack"):
                stack: Any = node.args[0]
                over = list(node.args[1]) if len(node.args) == 2 else []
                if over == [0] and not node.kwargs and (*stack.args, 0)[1] == 0:
                    self._join(node, list(stack.args[0]), mean=is_op(node, "mean"))

    def _terms(self, node: Any) -> list[Any]:
        """The terms of a sum of sums."""
        inside = isinstance(node, fx.Node) and (node in self.mixed or node in self.lane)
        if inside and is_op(node, "add", "add_") and not node.kwargs:
            return [*self._terms(node.args[0]), *self._terms(node.args[1])]
        return [node]

    def _join(self, node: fx.Node, terms: list[Any], *, mean: bool = False) -> None:
        found: dict[Any, Counter[int]] = {}
        free = []
        for term in terms:
            if isinstance(term, fx.Node) and term in self.lane:
                key, step = self.lane[term]
                found.setdefault(key, Counter())[step] += 1
            elif isinstance(term, fx.Node) and term in self.mixed:
                return
            elif isinstance(term, fx.Node) or term != 0:
                free.append(term)
        steps = {self._complete(key) for key in found}
        if len(steps) != 1 or 0 in steps or (mean and len(found) != 1):
            return
        count = steps.pop()
        if any(seen != Counter(range(count)) for seen in found.values()):
            return
        means = [self._mean(key) for key in found]
        if any(made is None for made in means):
            return
        total = _added(node, means)
        for user in list(node.users):
            if not free and not mean and is_op(user, "div") and user.args == (node, count):
                user.replace_all_uses_with(total)
        if mean:
            node.replace_all_uses_with(total)
            return
        if len(found) == 1 and (key := next(iter(found)))[0] == NEURON:
            scaled = emit(node, _aten.sum.dim_IntList, (self.joined[key[1]], [0]))
        else:
            scaled = emit(node, _aten.mul.Tensor, (total, float(count)))
        node.replace_all_uses_with(_added(node, [scaled, *free]))

    def join_calls(self) -> None:
        """Replace what is left of the single calls by the steps of the joined one."""
        for index, nodes in self.looped.items():
            for step, node in enumerate(nodes):
                node.replace_all_uses_with(emit(node, _aten.select.int, (self.joined[index], 0, step)))


class _Named:
    """Shows a node of a step by what it computes."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name


def _added(like: fx.Node, terms: Iterable[Any]) -> fx.Node:
    first, *more = terms
    for term in more:
        first = emit(like, _aten.add.Tensor, (first, term))
    result: fx.Node = first
    return result


def _reads(node: fx.Node, others: set[fx.Node]) -> bool:
    """Whether what `node` computes depends on one of `others`."""
    seen, pending = set[fx.Node](), list(node.all_input_nodes)
    while pending:
        current = pending.pop()
        if current in others:
            return True
        if current not in seen:
            seen.add(current)
            pending += current.all_input_nodes
    return False


def steps_of(node: fx.Node) -> int:
    """T of a call with a time axis."""
    value = node.meta["val"]
    assert isinstance(value, Tensor)
    return int(value.shape[0])
