"""Any torch module as one flat graph of operators in which every SpikingJelly neuron is a single operator."""

from __future__ import annotations

import copy
import logging
import types
import warnings
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import Any

import torch
from spikingjelly.activation_based import functional, layer
from spikingjelly.activation_based.base import MemoryModule
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor, fx, nn

from spikeport_errors import UnsupportedError
from spikeport_toolkit.models.neuron import SpikingNeuron

from .graph_tools import NEURON, drop_unread, writes
from .onnx_graph import is_free
from .operators import is_op, module_path, op_name
from .time_loops import FeedbackError, gather_loops

_AUTO = torch.export.Dim.AUTO
_RANDOM = ("rand", "bernoulli", "normal", "multinomial", "poisson", "exponential")


@torch.library.custom_op("spikeport::neuron", mutates_args=())
def _neuron(current: Tensor, index: int) -> Tensor:
    """Stand-in of neuron `index` while a module is traced."""
    return torch.zeros_like(current)


@_neuron.register_fake
def _(current: Tensor, index: int) -> Tensor:
    return torch.empty_like(current)


fx.node.has_side_effect(torch.ops.spikeport.neuron.default)  # a step that nobody reads is a step all the same


@dataclass(frozen=True)
class MarkedProgram:
    """Operators of a module; node `spikeport::neuron(current [T, ...], k)` is the neuron `nodes[k]`, at `paths[k]`.

    `free` are the dimensions of the input whose size may change, `holders` the paths of the toolkit's SpikingNeurons.
    `feedback` names the neurons that step in a loop of the module's own which cannot be joined: their steps stay.
    """

    program: fx.GraphModule
    paths: tuple[str, ...]
    nodes: tuple[BaseNode, ...]
    free: tuple[int, ...]
    holders: frozenset[str]
    feedback: tuple[str, ...] = ()


def mark_neurons(model: nn.Module, example: Tensor, *, free_tokens: bool = False) -> MarkedProgram:
    """The flat graph of `model`, which is left as it is; weights are shared with it.

    The batch (and, if asked for, the tokens of a [batch, token, ...] input) may change in size where the module's own
    forward allows it. A module with an attribute `steps` whose neurons are single-step is called so many times on
    its input, and its outputs are averaged. Raises UnsupportedError for what cannot be traced.
    """
    functional.reset_net(model)
    wanted = (0, 1) if free_tokens and example.ndim == 3 else (0,)
    feedback: list[str] = []
    while True:
        host, markers = _marked_copy(model, tuple(feedback))
        program = _traced(host, example, wanted)
        called = [n for n in program.graph.nodes if is_op(n, NEURON)]
        many = [m for m in markers.marked if m.node.step_mode == "m"]
        if 0 in wanted and any(not isinstance(_steps(n), int) for n in called if markers.of(n).node.step_mode == "m"):
            wanted = (1,)  # the input has a time axis of its own, and the batch stands behind it
            continue
        _once_each(called, {i for i, m in enumerate(markers.marked) if m in many}, markers.paths)
        try:
            gather_loops(program.graph, {i for i, m in enumerate(markers.marked) if m not in many})
        except FeedbackError as error:
            feedback.append(markers.marked[error.index].path)
            continue
        break
    drop_unread(program.graph)
    _reindex(program.graph, markers)
    program.recompile()
    shape = next(n for n in program.graph.nodes if n.op == "placeholder").meta["val"].shape
    holders = frozenset(p for p, m in model.named_modules() if isinstance(m, SpikingNeuron))
    nodes = tuple(m.node for m in markers.marked)
    free = tuple(d for d in range(len(shape)) if is_free(shape[d]))
    return MarkedProgram(program, tuple(markers.paths), nodes, free, holders, tuple(feedback))


def keeps_state(module: nn.Module) -> bool:
    """Whether a SpikingJelly module has a state over time in eval mode, where a dropout is nothing at all."""
    return isinstance(module, MemoryModule) and not isinstance(module, layer.Dropout | layer.Dropout2d)


class _Markers:
    """Every neuron that was called since its last reset."""

    def __init__(self) -> None:
        self.marked: list[_Marker] = []
        self.paths: list[str] = []

    def enter(self, marker: _Marker) -> int:
        again = sum(m is marker for m in self.marked)
        self.marked.append(marker)
        self.paths.append(marker.path if not again else f"{marker.path}_{again + 1}")
        return len(self.marked) - 1

    def of(self, node: fx.Node) -> _Marker:
        return self.marked[int(node.args[1])]  # type: ignore[arg-type]


class _Marker(nn.Module):
    """Stands where a neuron stood; from one reset to the next its calls are steps of one run."""

    node: BaseNode

    def __init__(self, node: BaseNode, path: str, markers: _Markers):
        super().__init__()
        self.__dict__["node"] = node  # no submodule: it is not traced
        self.path, self.markers, self.index = path, markers, -1
        self.step_mode = node.step_mode

    def reset(self) -> None:
        self.index = -1

    def __getattr__(self, name: str) -> Any:
        """What a forward reads of the neuron itself: its settings, never its state."""
        node = self.__dict__.get("node")
        if node is None or not hasattr(node, name):
            return super().__getattr__(name)
        if name in node._memories or name == "v_seq":
            raise UnsupportedError(
                f"forward reads `{name}` of {self.path}, and a graph has a neuron's spikes only: compute from those"
            )
        return getattr(node, name)

    def forward(self, current: Tensor) -> Tensor:
        if self.index < 0:
            self.index = self.markers.enter(self)
        result: Tensor = torch.ops.spikeport.neuron(current, self.index)
        return result


def _marked_copy(model: nn.Module, unmarked: tuple[str, ...]) -> tuple[nn.Module, _Markers]:
    shared = {id(value): value for value in (*model.parameters(), *model.buffers())}
    host, markers = copy.deepcopy(model, shared).eval(), _Markers()
    single = False
    for path, module in list(host.named_modules()):
        if isinstance(module, BaseNode) and path not in unmarked:
            single = single or module.step_mode == "s"
            parent, _, name = path.rpartition(".")
            setattr(host.get_submodule(parent), name, _Marker(module, path, markers))
        elif keeps_state(module) and not isinstance(module, BaseNode):
            raise UnsupportedError(
                f"{path} ({type(module).__name__}) keeps state over time and is no neuron: use SpikingJelly's neurons, "
                "or spikeport's SpikingNeuron"
            )
    steps = getattr(model, "steps", None)
    if single and isinstance(steps, int) and 1 <= steps <= 4096:
        own = type(host).forward

        def stepped(self: nn.Module, x: Tensor) -> Tensor:
            return torch.stack([own(self, x) for _ in range(steps)]).mean(0)

        host.forward = types.MethodType(stepped, host)
    return host, markers


def _traced(host: nn.Module, example: Tensor, free: tuple[int, ...]) -> fx.GraphModule:
    dims = {d: _AUTO for d in free if d < example.ndim and example.shape[d] > 1}
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch.fx.experimental")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            with redirect_stderr(StringIO()):  # where it fails it prints the graph that it had
                exported = torch.export.export(host, (example,), dynamic_shapes=(dims,), strict=False)
            if any(_writes_a_part(node) for node in exported.graph.nodes):
                exported = exported.run_decompositions({})  # every write makes a new tensor
            program = exported.module(check_guards=False)
    except UnsupportedError:
        raise
    except Exception as error:  # whatever the user's own forward raises
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UnsupportedError(
            f"{type(host).__name__} cannot be traced on its example_input ({type(error).__name__}: {reason}): let "
            "forward take one tensor, and depend on shapes, not on values"
        ) from None
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    _one_output(program.graph, type(host).__name__)
    _nothing_random(program.graph, type(host).__name__)
    for node in reversed(program.graph.nodes):
        if op_name(node).startswith("_assert") and not node.users:
            program.graph.erase_node(node)
    return program


def _writes_a_part(node: fx.Node) -> bool:
    """Whether an operator writes into a part of a tensor, or what it writes is read under another name."""
    return writes(node) and (not node.users or is_op(node.args[0], "select", "slice", "narrow", "getitem"))  # type: ignore[arg-type]


def _one_output(graph: fx.Graph, name: str) -> None:
    result: Any = graph.output_node().args[0]
    if isinstance(result, dict) or (isinstance(result, tuple | list) and len(result) != 1):
        raise UnsupportedError(f"{name} returns no single tensor: return one")
    if not isinstance(result[0] if isinstance(result, tuple | list) else result, fx.Node):
        raise UnsupportedError(f"{name} returns no tensor that is computed from its input")


def _nothing_random(graph: fx.Graph, name: str) -> None:
    for node in graph.nodes:
        if op_name(node).startswith(_RANDOM):
            where = module_path(node) or name
            raise UnsupportedError(
                f"forward of {where} draws random numbers (`{op_name(node)}`): draw them outside, and give the graph "
                "what they make, as spikes [batch, T, ...]"
            )


def _once_each(called: list[fx.Node], many: set[int], paths: list[str]) -> None:
    indices = [int(node.args[1]) for node in called]  # type: ignore[arg-type]
    for index in many:
        if indices.count(index) > 1:
            raise UnsupportedError(
                f"{paths[index]} is multi-step and is called {indices.count(index)} times without a reset between: "
                "give every place a neuron of its own"
            )


def _reindex(graph: fx.Graph, markers: _Markers) -> None:
    """Leave out the neurons whose result is not used."""
    used = sorted({int(n.args[1]) for n in graph.nodes if is_op(n, NEURON)})
    for node in graph.nodes:
        if is_op(node, NEURON):
            node.args = (node.args[0], used.index(int(node.args[1])))
    markers.marked = [markers.marked[i] for i in used]
    markers.paths = [markers.paths[i] for i in used]


def _steps(node: fx.Node) -> Any:
    return node.meta["val"].shape[0]
