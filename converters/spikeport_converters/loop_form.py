"""Many time steps as one loop in the graph: a neuron's T steps become one ONNX Scan with its membrane as the state.

    v_t, S_t = step(I_t, v_{t-1}),   t = 1 .. T,   v_0 at rest

Scan and not Loop: both are in the parsers of TensorRT 10.3 to 11.4 (as ILoop), but a Scan has its currents as an input,
and its T is their first size and cannot be dynamic. The states stay in float32 in every precision: half precision's
rounding would add up over the steps.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnxscript import values
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from spikeport_errors import UnsupportedError

from .operators import op_name

_DOMAIN, _SCAN = "spikeport", "Scan"
_PROBES, _PROBE_STEPS = 256, 4
_SAME = ("unsqueeze", "squeeze", "unbind", "getitem", "select", "slice", "stack", "view", "reshape", "expand", "alias",
         "detach", "clone", "lift_fresh_copy")  # fmt: skip
"""In a traced step, what adds and drops a time axis of one step: the values stay."""
_ELEMENTWISE = {
    "add": "Add", "sub": "Sub", "rsub": "Sub", "mul": "Mul", "div": "Div", "neg": "Neg", "pow": "Pow", "abs": "Abs",
    "reciprocal": "Reciprocal", "maximum": "Max", "minimum": "Min", "clamp": "Clip", "relu": "Relu", "round": "Round",
    "floor": "Floor", "ceil": "Ceil", "sign": "Sign", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "sin": "Sin",
    "cos": "Cos", "tanh": "Tanh", "sigmoid": "Sigmoid", "where": "Where", "ge": "GreaterOrEqual", "gt": "Greater",
    "le": "LessOrEqual", "lt": "Less", "eq": "Equal", "logical_and": "And", "logical_or": "Or", "logical_not": "Not",
}  # fmt: skip
_nodes: list[Any] = []
_contents: list[bytes | None] = []


class LoopedNeuron(nn.Module):
    """T steps of a SpikingJelly node from rest: currents `[T, ...]` to spikes of the same shape, one loop in a graph.

    Raises UnsupportedError, with the reason, for a node whose step cannot stand in a loop.
    """

    def __init__(self, node: Any):
        super().__init__()
        self.key = _key(node)
        _body(self.key)

    def forward(self, current: Tensor) -> Tensor:
        """Spikes of every step."""
        spikes: Tensor = torch.ops.spikeport.steps(current, self.key)
        return spikes


@torch.library.custom_op("spikeport::steps", mutates_args=())
def _steps(current: Tensor, key: int) -> Tensor:
    """All steps of node `key` on `current`, its state in float32."""
    node = _nodes[key]
    node.reset()
    spikes: Tensor = node(current.float())
    node.reset()
    return spikes.to(current.dtype)


@_steps.register_fake
def _(current: Tensor, key: int) -> Tensor:
    return torch.empty_like(current)


_SCHEMA = onnx.defs.OpSchema(
    _SCAN, _DOMAIN, 1,
    inputs=[onnx.defs.OpSchema.FormalParameter("current", "T")],
    outputs=[onnx.defs.OpSchema.FormalParameter("spikes", "T")],
    type_constraints=[("T", ["tensor(float)", "tensor(float16)"], "")],
    attributes=[onnx.defs.OpSchema.Attribute("key", onnx.defs.OpSchema.AttrType.INT, required=True)],
)  # fmt: skip


def _translated(current: Any, key: int) -> Any:
    return values.Op(values.Opset(_DOMAIN, 1), _SCAN, _SCHEMA)(current, key=key)


TRANSLATIONS: dict[Any, Any] = {torch.ops.spikeport.steps.default: _translated}
"""`custom_translation_table` of torch.onnx.export: what `write_loops` then replaces."""


def write_loops(model: onnx.ModelProto) -> None:
    """Replace every operator that stands for all steps of a neuron by a Scan of its name over them, in place."""
    graph = model.graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        graph.node.extend(_scan(node, kinds[node.output[0]]) if node.domain == _DOMAIN else [node])
    kept = [opset for opset in model.opset_import if opset.domain != _DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _scan(node: onnx.NodeProto, kind: int) -> Iterator[onnx.NodeProto]:
    """The Scan in place of `node`, and the states it begins with: those of rest, in the shape of one step."""
    (current,), (spikes,) = node.input, node.output
    key = next(int(a.i) for a in node.attribute if a.name == "key")
    body, rests = _body(key)
    shape, starts = f"{node.name}Shape", [f"{node.name}Rest{i}" for i in range(len(rests))]
    yield helper.make_node("Shape", [current], [shape], shape, start=1)
    for start, rest in zip(starts, rests, strict=True):
        value = helper.make_tensor("rest", TensorProto.FLOAT, [1], [rest])
        yield helper.make_node("ConstantOfShape", [shape], [start], start, value=value)
    step = _named(body, f"{node.name}/")
    if kind != TensorProto.FLOAT:
        _cast(step, kind)
    outputs = [*(f"{node.name}/end{i}" for i in range(len(rests))), spikes]
    yield helper.make_node(_SCAN, [*starts, current], outputs, node.name, body=step, num_scan_inputs=1)


def _named(body: onnx.GraphProto, prefix: str) -> onnx.GraphProto:
    """A copy whose every name begins with `prefix`: a name of the graph around it would shadow its own."""
    step = onnx.GraphProto.FromString(body.SerializeToString())
    for part in (*step.node, *step.input, *step.output, *step.initializer):
        part.name = prefix + part.name
    for node in step.node:
        for names in (node.input, node.output):
            names[:] = [name and prefix + name for name in names]
    return step


def _cast(step: onnx.GraphProto, kind: int) -> None:
    """Let the step take currents and give spikes of another type than it computes in."""
    given, spikes = step.input[-1], step.output[-1]
    wide, narrow = given.name, spikes.name
    given.name, spikes.name = f"{wide}/Half", f"{narrow}/Half"
    given.type.tensor_type.elem_type = spikes.type.tensor_type.elem_type = kind
    step.node.insert(0, helper.make_node("Cast", [given.name], [wide], f"{wide}/Cast", to=TensorProto.FLOAT))
    step.node.append(helper.make_node("Cast", [narrow], [spikes.name], f"{narrow}/Cast", to=kind))


def _key(node: Any) -> int:
    """The number of `node` among those known: equal ones have the same, so that each is exported once."""
    node = copy.deepcopy(node).eval().requires_grad_(False)
    node.step_mode, node.store_v_seq = "m", False
    node.reset()
    try:
        content = pickle.dumps(node)
    except Exception:  # a function of the user's inside
        content = None
    if content is None or content not in _contents:
        _nodes.append(node)
        _contents.append(content)
        return len(_nodes) - 1
    return _contents.index(content)


@cache
def _body(key: int) -> tuple[onnx.GraphProto, tuple[float, ...]]:
    """One step of node `key` as the body of a Scan (states, current -> states, spikes), and the states at rest."""
    node = _nodes[key]
    what, rests = type(node).__name__, tuple(node._memories.values())
    if not rests or not all(isinstance(rest, float | int) for rest in rests):
        raise UnsupportedError(f"the state of {what} at rest is no number")
    example = [torch.randn(1) for _ in range(len(rests) + 1)]

    def step(current: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        outputs, after = node.single_step_functional_forward((current,), states)
        return (*outputs, *after)

    try:
        with torch.no_grad():
            traced = make_fx(step)(*example)
            graph = _Lowering(traced, what).graph
            _probe(graph, node, rests)
    except UnsupportedError:
        raise
    except Exception as error:  # whatever the node's own step raises
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UnsupportedError(f"a step of {what} cannot be traced ({type(error).__name__}: {reason})") from None
    return graph, tuple(float(rest) for rest in rests)


class _Lowering:
    """A traced step of one value as an ONNX graph for any shape: (states, current) -> (states, spikes), float32."""

    def __init__(self, traced: fx.GraphModule, what: str):
        self.what, self.traced = what, traced
        self.names: dict[fx.Node, str] = {}
        self.held: dict[fx.Node, Tensor] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[float, onnx.TensorProto] = {}
        self.bools: set[str] = set()
        given: list[str] = []
        for node in traced.graph.nodes:
            if node.op == "placeholder":
                self.names[node] = f"v{len(given) - 1}" if given else "current"
                given.append(self.names[node])
            elif node.op == "get_attr":
                self.held[node] = getattr(traced, str(node.target)).detach()
            elif node.op == "call_function":
                self._lower(node)
        results: Any = traced.graph.output_node().args[0]
        made = ["spikes", *(f"{name}_next" for name in given[1:])]
        for name, result in zip(made, results, strict=True):
            self._add("Identity", [self._float(result)], name)
        infos = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in (*given, *made)}
        inputs, outputs = ([infos[n] for n in (*names[1:], names[0])] for names in (given, made))
        self.graph = helper.make_graph(self.nodes, "step", inputs, outputs, list(self.constants.values()))

    def _lower(self, node: fx.Node) -> None:
        name, before = op_name(node), node.all_input_nodes
        if before and all(a in self.held for a in before):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: self.held[n])
            self.held[node] = node.target(*args, **kwargs)  # type: ignore[operator]
            return
        first = node.args[0][0] if name == "stack" else node.args[0]  # type: ignore[index]
        if name in _SAME and isinstance(first, fx.Node) and len(before) == 1:
            self.names[node] = self.names[first]
        elif name == "_to_copy":
            self.names[node] = self._float(first)
        elif (kind := _ELEMENTWISE.get(name)) and set(node.kwargs) <= {"alpha"} and node.kwargs.get("alpha", 1) == 1:
            args = node.args[::-1] if name == "rsub" else node.args
            neutral = {"Sub": 0, "Mul": 1, "Div": 1}.get(kind)
            if neutral is not None and args[1:] == (neutral,):
                self.names[node] = self._float(first)
                return
            logical = kind in ("And", "Or", "Not")
            inputs = [
                self.names[a] if logical or (kind == "Where" and not i) else self._float(a)  # type: ignore[index]
                for i, a in enumerate(args)
            ]
            self.names[node] = self._add(kind, inputs, node.name)
            if logical or kind in ("GreaterOrEqual", "Greater", "LessOrEqual", "Less", "Equal"):
                self.bools.add(node.name)
        else:
            raise UnsupportedError(f"a step of {self.what} is not elementwise, or not known: it has `{name}`")

    def _float(self, value: Any) -> str:
        """The name of a value as float32."""
        if isinstance(value, fx.Node) and value in self.names:
            name = self.names[value]
            return self._add("Cast", [name], f"{name}_float", to=TensorProto.FLOAT) if name in self.bools else name
        if value is None:
            return ""
        number = self.held[value] if isinstance(value, fx.Node) else torch.tensor(float(value))
        if number.numel() != 1:
            raise UnsupportedError(f"a step of {self.what} is not elementwise: it has a parameter {[*number.shape]}")
        found = float(number)
        name = f"constant{len(self.constants)}"
        made = helper.make_tensor(name, TensorProto.FLOAT, [], [found])
        return str(self.constants.setdefault(found, made).name)

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        if all(output != node.output[0] for node in self.nodes):
            self.nodes.append(helper.make_node(kind, inputs, [output], f"{kind}_{len(self.nodes)}", **attributes))
        return output


def _probe(graph: onnx.GraphProto, node: Any, rests: tuple[float, ...]) -> None:
    """Run the step beside the node's own steps."""
    opsets = [helper.make_opsetid("", 18)]
    step = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    rng = np.random.default_rng(0)
    currents = (3 * rng.standard_normal((_PROBE_STEPS, _PROBES))).astype(np.float32)
    names = [value.name for value in graph.input]
    states = [np.full(_PROBES, rest, np.float32) for rest in rests]
    with torch.no_grad():
        wanted = node(torch.from_numpy(currents)).numpy()
    node.reset()
    for current, spikes in zip(currents, wanted, strict=True):
        *states, got = step.run(None, dict(zip(names, (*states, current), strict=True)))
        if not np.allclose(got, spikes, rtol=1e-5, atol=1e-6):
            raise UnsupportedError(f"a step of {type(node).__name__} alone is not what its own steps compute")
