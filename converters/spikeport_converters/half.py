"""Half precision without changing what a staircase decides, and without squaring what half precision cannot square."""

from __future__ import annotations

import copy
import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from spikeport_errors import UnsupportedError

from .fold import Staircase, StaircaseNeuron
from .operators import module_path, op_name

_SQUARES = ("std", "var", "square")
_STATISTICS = ("sum", "mean", "sqrt", "rsqrt", "add", "sub", "mul", "div", "reciprocal", "clamp_min", "clamp")
_aten: Any = torch.ops.aten


def half_model(model: nn.Module) -> nn.Module:
    """A half-precision copy. Thresholds go up to the next half, so that every half current decides as in float32.

    In a traced graph, squares and the statistics made of them (a variance, a standard deviation and its eps) are
    computed in float32 behind casts: a square leaves half precision's range above 255. So is everything in a module
    whose `keep_float` is true.
    """
    half = _half_graph(model) if isinstance(model, fx.GraphModule) else copy.deepcopy(model).half()
    for module in half.modules():
        if isinstance(module, StaircaseNeuron):
            stairs = module.stairs
            raised = tuple(_half_not_below(t) for t in stairs.thresholds)
            module.stairs = Staircase(raised, stairs.increments, stairs.steps, stairs.levels)
    _check_range(model, half)
    return half


def _check_range(model: nn.Module, half: nn.Module) -> None:
    """UnsupportedError where a finite value has no finite half."""
    full = dict((*model.named_parameters(), *model.named_buffers()))
    for name, value in (*half.named_parameters(), *half.named_buffers()):
        before = full.get(name.removesuffix("_half"))
        if value.dtype == torch.float16 and before is not None and (value.isinf() & before.isfinite()).any():
            most = float(before.detach().abs().max())
            raise UnsupportedError(
                f"{name.removesuffix('_half')} holds {most:.3g}, beyond half precision's 65,504: "
                "export with --precision fp32"
            )


def _half_not_below(value: float) -> float:
    half = np.float16(value)
    return float(half if float(half) >= value else np.nextafter(half, np.float16(np.inf)))


def _half_graph(program: fx.GraphModule) -> fx.GraphModule:
    graph = fx.Graph()
    known: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(program.graph, known))
    for old, new in known.items():
        new.meta = dict(old.meta)
    half = fx.GraphModule(program, graph)
    kept = _float_nodes(graph, tuple(program.meta.get("keep_float", ())))
    for name, child in list(half.named_modules()):
        if name in {str(n.target) for n in graph.nodes if n.op == "call_module"}:
            parent, _, own = name.rpartition(".")
            setattr(half.get_submodule(parent), own, copy.deepcopy(child).half())
    for node in list(graph.nodes):
        if node.op == "get_attr":
            _half_constant(half, node, kept)
        elif node.op == "call_function" and node not in kept:
            node.args, node.kwargs = (fx.node.map_aggregate(part, _half_type) for part in (node.args, node.kwargs))
            _halve_made(graph, node)
    for node in list(graph.nodes):
        if node in kept:
            _cast(graph, node, kept)
    half.meta = dict(program.meta)
    half.recompile()
    return half


def _float_nodes(graph: fx.Graph, modules: tuple[str, ...]) -> set[fx.Node]:
    """What stays in float32."""
    kept: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        name, path = op_name(node), module_path(node)
        inside = any(path == m or path.startswith(f"{m}.") for m in modules)
        power = name == "pow" and node.args[1] in (2, 2.0)
        square = name in _SQUARES or power or (name == "mul" and node.args[0] is node.args[1])
        before = [a for a in node.all_input_nodes if isinstance(a.meta.get("val"), Tensor)]
        follows = name in _STATISTICS and bool(before) and all(a in kept for a in before)
        if inside or square or follows:
            kept.add(node)
    return kept


def _cast(graph: fx.Graph, node: fx.Node, kept: set[fx.Node]) -> None:
    """Float32 in, half out, where `node` meets what is in half precision."""
    for given in node.all_input_nodes:
        value = given.meta.get("val")
        if given not in kept and given.op != "get_attr" and isinstance(value, Tensor) and value.is_floating_point():
            with graph.inserting_before(node):
                wide = graph.call_function(_aten.to.dtype, (given, torch.float32))
            wide.meta = {**node.meta, "val": value}
            node.replace_input_with(given, wide)
    others = [user for user in node.users if user not in kept]
    value = node.meta.get("val")
    if others and isinstance(value, Tensor) and value.is_floating_point():
        with graph.inserting_after(node):
            narrow = graph.call_function(_aten.to.dtype, (node, torch.float16))
        narrow.meta = dict(node.meta)
        for user in others:
            user.replace_input_with(node, narrow)


def _half_constant(half: fx.GraphModule, node: fx.Node, kept: set[fx.Node]) -> None:
    value: Tensor = operator.attrgetter(str(node.target))(half)
    others = [user for user in node.users if user not in kept]
    if not value.is_floating_point() or not others:
        return
    parent, _, own = str(node.target).rpartition(".")
    module, name = half.get_submodule(parent), f"{own}_half"
    if not hasattr(module, name):
        module.register_buffer(name, value.detach().half())
    with half.graph.inserting_after(node):
        made = half.graph.get_attr(f"{parent}.{name}".lstrip("."))
    made.meta = dict(node.meta)
    for user in others:
        user.replace_input_with(node, made)


def _halve_made(graph: fx.Graph, node: fx.Node) -> None:
    """Half precision for a float that is made of whole numbers, or of none, which is float32 wherever it stands."""
    values = [a.meta.get("val") for a in node.all_input_nodes]
    made = node.meta.get("val")
    floats = any(isinstance(v, Tensor) and v.is_floating_point() for v in values)
    if not isinstance(made, Tensor) or not made.is_floating_point() or floats:
        return
    users = list(node.users)
    with graph.inserting_after(node):
        narrow = graph.call_function(_aten.to.dtype, (node, torch.float16))
    narrow.meta = dict(node.meta)
    for user in users:
        user.replace_input_with(node, narrow)


def _half_type(value: Any) -> Any:
    return torch.float16 if value is torch.float32 else value
