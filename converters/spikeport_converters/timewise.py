"""Operators that treat every time step alike: how each looks on a value without its time axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor, fx

from .operators import arguments, is_op, op_name

VIEWS = ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze")
AFFINE = frozenset(
    (
        *VIEWS, "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
        "add", "add_", "sub", "sub_", "rsub", "neg", "mul", "mul_", "div", "div_", "matmul", "bmm", "sum", "mean",
        "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "batch_norm",
        "dropout", "feature_dropout", "alias", "detach", "detach_", "clone", "contiguous", "to", "_to_copy",
        "transpose", "permute", "movedim", "unsqueeze", "expand", "cat", "stack", "select", "slice", "narrow",
        "chunk", "split", "split_with_sizes", "unbind", "getitem", "pad", "constant_pad_nd", "upsample_nearest2d",
        "upsample_bilinear2d",
    )
)  # fmt: skip
"""Affine in what has a time axis: mean_t f(x_t) = f(mean_t x_t). A product only where one factor is free of time."""
STATIC = frozenset(
    (
        "relu", "relu_", "gelu", "silu", "sigmoid", "tanh", "softmax", "log_softmax", "layer_norm", "rms_norm",
        "group_norm", "scaled_dot_product_attention", "clamp", "clamp_min", "clamp_max", "pow", "square", "exp", "log",
        "sqrt", "rsqrt", "abs", "reciprocal", "max_pool1d", "max_pool2d", "ge", "gt", "le", "lt", "eq", "ne", "where",
        "maximum", "minimum", "std", "var", "hardtanh", "hardsigmoid", "leaky_relu", "elu", "softplus", "round",
        "floor", "ceil", "sign", "repeat", "amax", "amin", "masked_fill",
    )
)  # fmt: skip
"""The same function at every step: of a value that is constant over time the result is so too."""
_MERGED_ONLY = ("batch_norm", "group_norm")
_PRODUCTS = ("mul", "mul_", "div", "div_", "matmul", "bmm")
_DIMENSIONS = ("dim", "dim0", "dim1", "source", "destination", "start_dim", "end_dim")


class Timed(Protocol):
    """What `time_free_arguments` has to know of a value with a time axis."""

    steps: int
    merged: bool
    constant: bool

    @property
    def mean(self) -> fx.Node:
        """Its mean over time."""
        ...


Arguments = Callable[[Callable[[Any], Any]], dict[str, Any]]


def time_free_arguments(node: fx.Node, timed: Mapping[fx.Node, Timed]) -> tuple[int, bool, Arguments] | None:
    """T, whether the result is constant over T, and the arguments of the same operator without the time axis.

    The arguments are a function of how a value with a time axis is to be shown (by its node, by its shape). None for
    an operator that mixes steps, is not known, or is not affine in a value that changes over time.
    """
    name, before = op_name(node), [a for a in node.all_input_nodes if a in timed]
    values = [timed[a] for a in before]
    if len({(v.steps, v.merged) for v in values}) != 1:
        return None
    steps, merged, constant = values[0].steps, values[0].merged, all(v.constant for v in values)
    if name not in AFFINE and not (constant and name in STATIC):
        return None
    if name in _MERGED_ONLY and not merged:
        return None
    given = dict(arguments(node)) if name != "getitem" else {"0": node.args[0], "1": node.args[1]}
    if not constant and not affine_here(node, [a for a in before if not timed[a].constant]):
        return None
    if name in VIEWS:
        return _view(node, given, timed, steps, constant)
    first = before[0].meta["val"]
    if isinstance(first, Tensor):
        adjusted = _adjusted(name, given, first.ndim, merged, steps)
        if adjusted is None or not _broadcasts(node, before, first.ndim, merged):
            return None
        given = adjusted
    return steps, constant, lambda show: fx.node.map_arg(given, lambda n: show(timed[n]) if n in timed else n)


def affine_here(node: fx.Node, changing: list[fx.Node]) -> bool:
    """Whether an operator of AFFINE is affine, jointly, in the arguments `changing`."""
    name, given = op_name(node), arguments(node)
    if name in _PRODUCTS and (len(changing) != 1 or node.args[0] is node.args[1]):
        return False
    if name in ("div", "div_") and (given.get("other") in changing or given.get("rounding_mode")):
        return False
    if name in ("linear", "conv1d", "conv2d", "conv3d") and (len(changing) != 1 or given["input"] not in changing):
        return False
    if name == "batch_norm" and given["training"] is not False:
        return False
    if name == "pad" and given.get("mode") != "constant":
        return False
    if name in ("to", "_to_copy"):
        return bool(node.meta["val"].is_floating_point() and changing[0].meta["val"].is_floating_point())
    return True


def _broadcasts(node: fx.Node, before: list[fx.Node], rank: int, merged: bool) -> bool:
    """Whether no operand without a time axis lines up with it, and right operands of a product keep theirs."""
    others = [a for a in node.all_input_nodes if a not in before and isinstance(a.meta.get("val"), Tensor)]
    if is_op(node, "linear", "conv1d", "conv2d", "conv3d", "batch_norm", "layer_norm", "group_norm") or merged:
        return True
    if is_op(node, "matmul") and rank < 3:
        return node.args[0] in before and node.args[1] not in before
    return all(a.meta["val"].ndim < rank for a in others)


def _adjusted(name: str, given: dict[str, Any], rank: int, merged: bool, steps: int) -> dict[str, Any] | None:
    """The arguments with every named dimension counted without the time axis; None where one is that axis."""
    adjusted = dict(given)
    if name in ("sum", "mean", "std", "var", "amax", "amin") and given.get("dim") in (None, []):
        return None
    if name == "permute":
        order = [int(d) % rank for d in given["dims"]]
        return ({**given, "dims": order if merged else [d - 1 for d in order[1:]]}) if order[0] == 0 else None
    if name in ("expand", "repeat"):
        key = "size" if name == "expand" else "repeats"
        sizes = list(given[key])
        if len(sizes) != rank or (name == "repeat" and sizes[0] != 1):
            return None
        return {**given, key: [(-1 if name == "expand" else 1), *sizes[1:]] if merged else sizes[1:]}
    for key in _DIMENSIONS:
        if key not in given or given[key] is None:
            continue
        many = isinstance(given[key], list | tuple)
        ranks = rank + (name in ("unsqueeze", "stack"))
        dims = [int(d) % ranks for d in (given[key] if many else [given[key]])]
        if 0 in dims:
            return None
        shifted = dims if merged else [d - 1 for d in dims]
        adjusted[key] = shifted if many else shifted[0]
    return adjusted


def _view(
    node: fx.Node, given: Mapping[str, Any], timed: Mapping[fx.Node, Timed], steps: int, constant: bool
) -> tuple[int, bool, Arguments] | None:
    """A change of shape in which slice t of the result is the change of shape of slice t.

    The memory order is kept, so that holds as soon as the first axis of the result is T, or T times something.
    """
    source = given.get("self", node.args[0])
    shape = list(node.meta["val"].shape)
    if not shape:
        return None
    if shape[0] == steps and isinstance(shape[0], int):
        rest = shape[1:]
    else:
        lead = shape[0] // steps
        if not bool((lead * steps) == shape[0]):
            return None
        rest = [lead, *shape[1:]]
    inner = list(timed[source].mean.meta["val"].shape)
    sizes: list[Any] = []
    for size in rest:
        if isinstance(size, int):
            sizes.append(size)
        elif -1 not in sizes:
            sizes.append(-1)
        else:
            return None
    if not rest and inner:
        return None
    return steps, constant, lambda show: {"self": show(timed[source]), "shape": sizes}
