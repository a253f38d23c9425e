"""Small tools on traced graphs: new operators with their shapes, equal ones shared, order restored."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx

from .operators import op_name
from .timewise import VIEWS

NEURON = "neuron"
"""Name of the operator that stands for a spiking neuron while a module is traced."""


def emit(like: fx.Node, target: Any, arguments: tuple[Any, ...] | dict[str, Any]) -> fx.Node:
    """A new operator before `like`, as a part of the same module; `in_order` puts it behind what it reads."""
    args, kwargs = (arguments, {}) if isinstance(arguments, tuple) else _split(target, arguments)
    with like.graph.inserting_before(like):
        node = like.graph.call_function(target, args, kwargs)
    node.meta = {k: v for k, v in like.meta.items() if k in ("nn_module_stack", "stack_trace", "source_fn_stack")}
    node.meta["val"] = shape_of(node, target, args, kwargs)
    return node


def outside(made: fx.Node) -> fx.Node:
    """`made`, as a part of the module around the one that it was emitted for."""
    stack = dict(made.meta.get("nn_module_stack") or {})
    if stack:
        stack.popitem()
    made.meta["nn_module_stack"] = stack
    return made


def make_anew(like: fx.Node, arguments: dict[str, Any]) -> fx.Node:
    """The operator of `like` with other arguments by name (a change of shape becomes a reshape)."""
    return emit(like, _target(like), arguments)


def cast_shape(like: fx.Node, arguments: dict[str, Any]) -> Any:
    """What `make_anew` would give, as shapes; None where the operator refuses these arguments."""
    args, kwargs = _split(_target(like), arguments)
    try:
        return shape_of(like, _target(like), args, kwargs)
    except Exception:  # whatever an operator raises for shapes that it does not take
        return None


def shape_of(inside: fx.Node, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Shapes that `target` gives for these arguments: nodes, fake tensors and plain values."""
    program = inside.graph.owning_module
    values = (n.meta.get("val") for n in inside.graph.nodes)
    mode = next(v.fake_mode for v in values if isinstance(v, Tensor) and hasattr(v, "fake_mode"))

    def value(node: fx.Node) -> Any:
        found = node.meta.get("val")
        if found is None and node.op == "get_attr":
            found = mode.from_tensor(operator.attrgetter(str(node.target))(program), static_shapes=True)
            node.meta["val"] = found
        return found

    with mode, torch.no_grad():
        return target(*fx.node.map_arg(args, value), **fx.node.map_arg(kwargs, value))


def equal(shape: Iterable[Any], other: Iterable[Any]) -> bool:
    """Whether two shapes are equal for every batch size."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    shape, other = tuple(shape), tuple(other)
    return len(shape) == len(other) and all(statically_known_true(a == b) for a, b in zip(shape, other, strict=True))


def share_equal(graph: fx.Graph) -> None:
    """Operators that compute the same from the same become one; a neuron does not: it has a state."""
    written = {a for n in graph.nodes if writes(n) for a in n.all_input_nodes}
    first: dict[Any, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op not in ("call_function", "get_attr") or node in written or writes(node) or op_name(node) == NEURON:
            continue
        if any(a in written for a in node.all_input_nodes):
            continue
        key = (node.op, node.target, repr(node.args), repr(node.kwargs))
        if key in first:
            node.replace_all_uses_with(first[key])
            graph.erase_node(node)
        else:
            first[key] = node


def drop_unread(graph: fx.Graph) -> None:
    """Remove every operator whose result nobody reads, neurons included."""
    graph.eliminate_dead_code(is_impure_node=lambda node: node.op in ("placeholder", "output"))


def in_order(graph: fx.Graph) -> None:
    """Move every node behind what it reads."""
    done: set[fx.Node] = set()
    output = graph.output_node()
    for node in list(graph.nodes):
        pending = [node] if node is not output else []
        while pending:
            current = pending[-1]
            before = [a for a in current.all_input_nodes if a not in done] if current not in done else []
            if before:
                pending += before
                continue
            pending.pop()
            if current not in done:
                done.add(current)
                output.prepend(current)


def writes(node: fx.Node) -> bool:
    """Whether an operator changes its argument in place."""
    return op_name(node).endswith("_") and not op_name(node).endswith("__") and op_name(node) != "detach_"


def _target(like: fx.Node) -> Any:
    return torch.ops.aten.reshape.default if op_name(like) in VIEWS else like.target


def _split(target: Any, arguments: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments, as the operator's schema has them."""
    schema = getattr(target, "_schema", None)
    if schema is None:
        return tuple(arguments.values()), {}
    args = tuple(arguments[a.name] for a in schema.arguments if a.name in arguments and not a.kwarg_only)
    return args, {a.name: arguments[a.name] for a in schema.arguments if a.kwarg_only and a.name in arguments}
