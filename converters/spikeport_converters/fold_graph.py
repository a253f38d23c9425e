"""Folding time on any traced module: what is constant in T is hoisted, what is linear collapsed, the rest stepped.

I_t = I                              =>  mean_t S_t = staircase(I) / T        (fold time)
Y = mean_t L(S_t), L affine          =>  Y = L(mean_t S_t)                    (collapse)
S_t = neuron(I_t, v_{t-1}), else     =>  T steps in the graph, T <= 16        (unroll)
                                         one loop over T in the graph, T > 16 (loop)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from spikeport_errors import UnsupportedError

from .fold import Staircase, StaircaseNeuron, node_staircase
from .graph_tools import NEURON, cast_shape, drop_unread, emit, equal, in_order, make_anew, outside, share_equal
from .loop_form import LoopedNeuron
from .marked_program import MarkedProgram
from .operators import is_op, op_name
from .time_loops import steps_of
from .timewise import AFFINE, time_free_arguments

MOST_UNROLLED = 16
"""Steps that are unrolled at most: the graph grows with them. More become a loop."""
_REPEATS = ("expand", "repeat", "stack", "tile")


@dataclass(frozen=True)
class Folding:
    """What became of the neuron at `path`: `rule` is fold time, unroll, loop, or empty where `reason` says why not."""

    path: str
    what: str
    rule: str
    reason: str
    steps: int
    stairs: Staircase | None = None


@dataclass(frozen=True)
class TimeFree:
    """A module with time folded: `program` holds a StaircaseNeuron, UnrolledNeuron or LoopedNeuron for every neuron."""

    program: fx.GraphModule
    foldings: tuple[Folding, ...]


class UnrolledNeuron(nn.Module):
    """T steps of a SpikingJelly node from rest: currents `[T, ...]` to spikes of the same shape."""

    def __init__(self, node: Any):
        super().__init__()
        self.node = node

    def forward(self, current: Tensor) -> Tensor:
        """Spikes of every step."""
        self.node.reset()
        if self.node.step_mode == "m":
            spikes: Tensor = self.node(current)
        else:
            spikes = torch.stack([self.node(step) for step in current.unbind(0)])
        self.node.reset()
        return spikes


def fold_graph(marked: MarkedProgram) -> TimeFree:
    """Fold every neuron of a marked program that can be folded, and let the others step, in a loop where T > 16.

    A neuron is folded where its current is proved constant over T and everything that is made of its spikes is proved
    affine in them up to a mean or sum over T. Both proofs go operator by operator; an operator that is not known to
    treat every step alike ends them. A neuron that cannot stand in a loop either has an empty rule and a reason.
    """
    unfoldable: dict[int, str] = {}
    while True:
        work = _Fold(_copied(marked.program), marked, unfoldable)
        needed = work.run()
        if not needed:
            return work.finish()
        unfoldable |= needed


class _Timed:
    """A value with a time axis: `constant` says that all steps are equal; `mean` makes its mean over T without one.

    With `merged` the axis is part of the first, [T * batch, ...], else it is the first, [T, ...]. Spikes of a folded
    neuron have a `rate`, which makes counts / slots, with slots = T D. `fresh` is a bare repetition.
    """

    def __init__(self, steps: int, merged: bool, constant: bool, mean: Callable[[], fx.Node], fresh: bool = False):
        self.steps, self.merged, self.constant, self.fresh = steps, merged, constant, fresh
        self.rate: Callable[[], fx.Node] | None = None
        self.slots = 0
        self._make = mean
        self._made: fx.Node | None = None

    @property
    def mean(self) -> fx.Node:
        if self._made is None:
            self._made = self._make()
        return self._made


class _Fold:
    def __init__(self, program: fx.GraphModule, marked: MarkedProgram, unfoldable: Mapping[int, str]):
        self.program, self.graph, self.marked = program, program.graph, marked
        self.unfoldable = dict(unfoldable)
        self.timed: dict[fx.Node, _Timed] = {}
        self.found: dict[int, tuple[fx.Node, Folding]] = {}
        self.axes = {steps_of(n) for n in self.graph.nodes if is_op(n, NEURON)}

    def run(self) -> dict[int, str]:
        """Rewrite; neurons, with the reason, that have to step after all (then run again without them)."""
        share_equal(self.graph)
        for node in list(self.graph.nodes):
            if node.op in ("placeholder", "call_function"):
                self._look(node)
        in_order(self.graph)
        drop_unread(self.graph)
        return self._still_stepped()

    def _still_stepped(self) -> dict[int, str]:
        alive = set(self.graph.nodes)
        return {
            index: self._reader(node)
            for index, (node, folding) in self.found.items()
            if folding.rule == "fold time" and node in alive
        }

    def _reader(self, node: fx.Node) -> str:
        """Why the single steps of `node` are needed."""
        seen, pending = set[fx.Node](), list(node.users)
        while pending:
            user = pending.pop(0)
            if user.op == "output":
                return "every step of it is returned"
            if user in seen:
                continue
            seen.add(user)
            if is_op(user, NEURON):
                return f"its single steps drive {self.marked.paths[int(user.args[1])]}"  # type: ignore[arg-type]
            if op_name(user) not in AFFINE or user not in self.timed:
                return f"its read-out is not linear over time: `{op_name(user)}` takes its single steps"
            pending += list(user.users)
        return "its single steps are read"

    def _look(self, node: fx.Node) -> None:
        if is_op(node, NEURON):
            self._neuron(node)
            return
        repeated = self._repeated(node)
        if repeated is not None:
            steps, merged, source = repeated
            self.timed[node] = _Timed(steps, merged, True, lambda: source, fresh=True)
            return
        before = [self.timed[a] for a in node.all_input_nodes if a in self.timed]
        if not before:
            return
        if self._reduced(node) or self._size(node, before[0]):
            return
        self._timewise(node)

    def _repeated(self, node: fx.Node) -> tuple[int, bool, fx.Node] | None:
        """T, whether merged, and the value that `node` repeats T times; None if it does something else."""
        if op_name(node) not in _REPEATS:
            return None
        sources = [a for a in node.all_input_nodes if isinstance(a.meta.get("val"), Tensor)]
        if len(sources) != 1 or sources[0] in self.timed:
            return None
        (source,) = sources
        shape = node.meta["val"].shape
        if is_op(source, "unsqueeze") and source.args[1] == 0 and is_op(node, "expand", "repeat", "tile"):
            source = source.args[0]  # type: ignore[assignment]
        elif is_op(node, "expand") and source.meta["val"].ndim == len(shape):
            return None
        inner = source.meta["val"].shape
        if is_op(node, "stack") and (node.args[1:2] not in ((), (0,)) or node.kwargs.get("dim", 0) != 0):
            return None
        for steps in self.axes:
            if equal(shape, (steps, *inner)):
                return steps, False, source
            if steps > 1 and is_op(node, "repeat", "tile") and equal(shape, (steps * inner[0], *inner[1:])):
                return steps, True, source
        return None

    def _neuron(self, node: fx.Node) -> None:
        current, index = node.args
        assert isinstance(current, fx.Node)
        assert isinstance(index, int)
        path, own = self.marked.paths[index], self.marked.nodes[index]
        steps, kind = steps_of(node), type(own).__name__
        drive = self.timed.get(current)
        why = self.unfoldable.get(index, "")
        if not why and not (drive is not None and drive.constant and not drive.merged and drive.steps == steps):
            why = "its current is not proved constant over time"
        if not why:
            try:
                stairs = node_staircase(own, steps, max_spikes(own))
            except UnsupportedError as error:
                why = str(error).split(":")[0]
        if why:
            self.found[index] = (node, _stepped(path, own, steps, why))
            if drive is not None and drive.constant and not drive.fresh:
                node.args = (self._stepped(drive, node), index)
            mean = torch.ops.aten.mean.dim
            self.timed[node] = _Timed(steps, False, False, lambda: outside(emit(node, mean, (node, [0]))))
            return
        assert drive is not None
        compares = len(stairs.thresholds)
        reason = f"{steps} steps on one current, read as a mean, become {compares} exact compares"
        self.found[index] = (node, Folding(path, kind, "fold time", reason, steps, stairs))
        read = path.removesuffix(".node") if path.removesuffix(".node") in self.marked.holders else path

        def read_as(levels: int) -> fx.Node:
            return self._module(read, StaircaseNeuron(replace(stairs, levels=levels)), drive.mean, node)

        spikes = _Timed(steps, False, False, lambda: read_as(1))
        spikes.rate, spikes.slots = (lambda: read_as(stairs.levels)), steps * stairs.levels
        self.timed[node] = spikes

    def _stepped(self, drive: _Timed, before: fx.Node) -> fx.Node:
        """A hoisted current given to every step again."""
        one = emit(before, torch.ops.aten.unsqueeze.default, (drive.mean, 0))
        return emit(before, torch.ops.aten.expand.default, (one, [drive.steps, *[-1] * (one.meta["val"].ndim - 1)]))

    def _module(self, path: str, module: nn.Module, given: fx.Node, like: fx.Node) -> fx.Node:
        name, count = path or "neuron", 1
        while name in self._modules():
            name, count = f"{path}_{count}", count + 1
        self.program.add_submodule(name, module.eval())
        with self.graph.inserting_after(given):
            made = self.graph.call_module(name, (given,))
        stack = {k: v for k, v in (like.meta.get("nn_module_stack") or {}).items() if path != v[0] != f"{path}.node"}
        stack[path] = (path, f"{type(module).__module__}.{type(module).__name__}")  # names the operators it becomes
        made.meta = {**like.meta, "val": given.meta["val"], "nn_module_stack": stack}
        return made

    def _modules(self) -> set[str]:
        return {str(n.target) for n in self.graph.nodes if n.op == "call_module"}

    def _reduced(self, node: fx.Node) -> bool:
        """Replace a mean or sum over time."""
        if not is_op(node, "mean", "sum"):
            return False
        given = self.timed.get(node.args[0])  # type: ignore[arg-type]
        if given is None or given.merged:
            return False
        rank = node.args[0].meta["val"].ndim  # type: ignore[union-attr]
        dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        if not isinstance(dims, list | tuple) or [int(d) % rank for d in dims] != [0]:
            return False
        keep = (node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False)) is True
        if is_op(node, "sum") and not keep:
            for user in [u for u in node.users if is_op(u, "div") and u.args[0] is node]:
                if user.args[1] == given.slots and given.rate is not None:
                    user.replace_all_uses_with(given.rate())
                elif user.args[1] == given.steps:
                    user.replace_all_uses_with(given.mean)
        if not node.users:
            return True
        made = given.mean
        if is_op(node, "sum"):
            made = emit(node, torch.ops.aten.mul.Tensor, (made, float(given.steps)))
        if keep:
            made = emit(node, torch.ops.aten.unsqueeze.default, (made, 0))
        node.replace_all_uses_with(made)
        return True

    def _size(self, node: fx.Node, given: _Timed) -> bool:
        """A size of a value with a time axis is that of the value without, so that the former need not be made."""
        if not is_op(node, "sym_size"):
            return False
        if given.constant and not (given.merged and node.args[1] == 0):
            at = int(node.args[1]) - (0 if given.merged else 1)  # type: ignore[arg-type]
            if at >= 0:
                node.replace_all_uses_with(emit(node, torch.ops.aten.sym_size.int, (given.mean, at)))
        return True

    def _timewise(self, node: fx.Node) -> None:
        plan = time_free_arguments(node, self.timed)
        if plan is None:
            return
        steps, constant, arguments = plan
        value, merged = cast_shape(node, arguments(lambda timed: timed.mean)), False
        if isinstance(value, Tensor):
            layout = _layout(node.meta["val"].shape, value.shape, steps)
            if layout is None:
                return
            merged = layout
        elif isinstance(value, list | tuple):
            merged = next(self.timed[a].merged for a in node.all_input_nodes if a in self.timed)
        else:
            return

        def mean() -> fx.Node:
            made: fx.Node = make_anew(node, arguments(lambda timed: timed.mean))
            return made

        self.timed[node] = _Timed(steps, merged, constant, mean)

    def finish(self) -> TimeFree:
        """Put the neurons that are left as modules of their steps, and check the graph."""
        foldings = []
        for index in range(len(self.marked.paths)):
            node, folding = self.found[index]
            foldings.append(folding)
            if folding.rule == "fold time":
                continue
            steps = LoopedNeuron if folding.rule == "loop" else UnrolledNeuron
            made = self._module(folding.path, steps(self.marked.nodes[index]), node.args[0], node)  # type: ignore[arg-type]
            node.replace_all_uses_with(made)
            self.graph.erase_node(node)
        in_order(self.graph)
        drop_unread(self.graph)
        self.graph.lint()
        self.program.recompile()
        self.program.delete_all_unused_submodules()
        return TimeFree(self.program, tuple(foldings))


def _layout(timed: Any, free: Any, steps: int) -> bool | None:
    """Whether `timed` is [T * batch, ...] (else [T, batch, ...]) for what is `free` without time; None if neither."""
    if equal(timed, (steps, *free)):
        return False
    return True if free and equal(timed, (steps * free[0], *free[1:])) else None


def max_spikes(node: Any) -> int:
    """D, the most spikes that a SpikingJelly node gives in one step."""
    return int(getattr(getattr(node, "surrogate_function", None), "max_spike_count", 1))


def _stepped(path: str, node: Any, steps: int, why: str) -> Folding:
    kind = type(node).__name__
    if steps <= MOST_UNROLLED:
        return Folding(path, kind, "unroll", f"{why}: its {steps} steps stay in the graph", steps)
    try:
        LoopedNeuron(node)
    except UnsupportedError as error:
        reason = f"{why}; {steps} steps are more than the {MOST_UNROLLED} that are unrolled, and {error}"
        return Folding(path, kind, "", reason, steps)
    return Folding(path, kind, "loop", f"{why}: its {steps} steps are one loop in the graph", steps)


def _copied(program: fx.GraphModule) -> fx.GraphModule:
    """The same modules and weights behind a graph of its own."""
    graph = fx.Graph()
    known: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(program.graph, known))
    for old, new in known.items():
        new.meta = dict(old.meta)
    return fx.GraphModule(program, graph)
