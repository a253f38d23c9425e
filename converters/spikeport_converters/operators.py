"""What a traced operator is: name, arguments, shapes, weights, and the window of a pooling."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx


def is_op(node: fx.Node, *names: str) -> bool:
    """Whether `node` calls one of the operators `names` (`linear`, `conv2d`, `spikes`, ...)."""
    return op_name(node) in names


def op_name(node: fx.Node) -> str:
    """Name of the operator that `node` calls, without namespace and overload; empty for other nodes."""
    if node.op != "call_function":
        return ""
    schema = getattr(node.target, "_schema", None)
    return str(schema.name).split("::")[-1] if schema is not None else str(getattr(node.target, "__name__", ""))


def module_path(node: fx.Node) -> str:
    """Path of the innermost module of the user's that made `node`."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def activations(node: fx.Node) -> list[fx.Node]:
    """The inputs of `node` that depend on the module's input or are computed, in order, without weights."""
    return [n for n in node.all_input_nodes if n.op != "get_attr"]


def is_value(value: Any) -> bool:
    """Whether an argument is a weight or buffer of the module."""
    return isinstance(value, fx.Node) and value.op == "get_attr"


def value_of(program: fx.GraphModule, node: fx.Node | None) -> torch.Tensor | None:
    """The weight that a node names."""
    if node is None:
        return None
    result: torch.Tensor = operator.attrgetter(str(node.target))(program)
    return result.detach()


def shape(node: fx.Node) -> tuple[int, ...]:
    """Shape of what `node` gives on the example input."""
    return tuple(int(n) for n in node.meta["val"].shape)


def arguments(node: fx.Node) -> Mapping[str, Any]:
    """The arguments of an operator by name, defaults filled in."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return dict(node.kwargs)
    found = {}
    for index, argument in enumerate(schema.arguments):
        default = argument.default_value if argument.has_default_value() else None
        found[argument.name] = node.args[index] if index < len(node.args) else node.kwargs.get(argument.name, default)
    return found


def pooling(node: fx.Node) -> tuple[str, dict[str, Any]]:
    """Kind (avgpool2d, sumpool2d, or empty where NIR has no form) and window of a pooling operator."""
    given, before = arguments(node), shape(activations(node)[0])
    if op_name(node) == "adaptive_avg_pool2d":
        sizes = list(zip(before[-2:], shape(node)[-2:], strict=True))
        kernel = tuple(was // now for was, now in sizes)
        even = all(was % now == 0 for was, now in sizes)
        return ("avgpool2d" if even else ""), {"kernel_size": kernel, "stride": kernel, "padding": (0, 0)}
    kernel = _pair(given["kernel_size"])
    window = {"kernel_size": kernel, "stride": _pair(given["stride"]) or kernel, "padding": _pair(given["padding"])}
    plain = not given["ceil_mode"] and (given["count_include_pad"] or not any(window["padding"]))
    divisor = given["divisor_override"]
    kind = "avgpool2d" if divisor in (None, math.prod(kernel)) else "sumpool2d" if divisor == 1 else ""
    return (kind if plain else ""), window


def _pair(values: Any) -> tuple[int, ...]:
    numbers = [values] if isinstance(values, int) else list(values or ())
    return tuple(numbers * 2 if len(numbers) == 1 else numbers)
