"""Exact rules for torch functions that multiply: how many multiply-accumulates (MACs) one call is.

    matmul, bmm, mm, @       out elements * K                      linear(x, W)         out elements * W.shape[1]
    addmm, baddbmm           a elements * b.shape[-1]              convNd(x, W)         out elements * W[0] elements
    einsum, two operands     product of the sizes of all labels    conv_transposeNd     x elements * W[0] elements
    scaled_dot_product_attention(q, k, v)    q rows * keys * (q width + v width)

A convolution counts its padded zeros, as dense hardware does. An einsum that sums over nothing is an elementwise
product and has no MACs. Whatever is not here has no rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor

MATMULS = frozenset(("matmul", "bmm", "mm", "__matmul__", "__rmatmul__"))
ADDED = frozenset(("addmm", "baddbmm"))
CONVOLUTIONS = frozenset(("conv1d", "conv2d", "conv3d"))
TRANSPOSED = frozenset(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"))
ATTENTION = "scaled_dot_product_attention"
MULTIPLIES = frozenset(
    (*MATMULS, *ADDED, *CONVOLUTIONS, *TRANSPOSED, ATTENTION, "einsum", "linear", "bilinear", "mv", "dot", "vdot",
     "addmv", "addbmm", "addr", "chain_matmul", "multi_dot", "tensordot", "inner", "outer", "kron")
)  # fmt: skip
"""Functions that multiply tensors with tensors: one of these without a rule is listed by name, never guessed."""


@dataclass(frozen=True)
class Product:
    """One call: its MACs and the tensors multiplied."""

    macs: int
    operands: tuple[Tensor, ...]


def product(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> Product | None:
    """The MACs of torch function `name` called so; None where there is no rule."""
    if name in MATMULS:
        a, b = (args[1], args[0]) if name == "__rmatmul__" else _named(args, kwargs, "input", "other|mat2")
        return Product(out.numel() * a.shape[-1], (a, b))
    if name in ADDED:
        a, b = _named(args, kwargs, "input", "mat1|batch1", "mat2|batch2")[1:]
        return Product(a.numel() * b.shape[-1], (a, b))
    if name == "linear":
        x, weight = _named(args, kwargs, "input", "weight")
        return Product(out.numel() * weight.shape[-1], (x, weight))
    if name in CONVOLUTIONS or name in TRANSPOSED:
        x, weight = _named(args, kwargs, "input", "weight")
        return Product((out if name in CONVOLUTIONS else x).numel() * weight[0].numel(), (x, weight))
    if name == ATTENTION:
        q, k, v = _named(args, kwargs, "query", "key", "value")
        return Product(q.numel() // q.shape[-1] * k.shape[-2] * (q.shape[-1] + v.shape[-1]), (q, k, v))
    return _einsum(args) if name == "einsum" else None


def _named(args: tuple[Any, ...], kwargs: Mapping[str, Any], *names: str) -> tuple[Any, ...]:
    """The first arguments by position or name; `a|b` are two spellings."""
    given = list(args[: len(names)])
    for name in names[len(given) :]:
        given.append(next(kwargs[spelling] for spelling in name.split("|") if spelling in kwargs))
    return tuple(given)


def _einsum(args: tuple[Any, ...]) -> Product | None:
    operands = args[1] if len(args) == 2 and isinstance(args[1], list | tuple) else args[1:]
    if not isinstance(args[0], str) or len(operands) != 2:
        return None
    equation = args[0].replace(" ", "")
    left, _, right = equation.partition("->")
    sizes: dict[str, int] = {}
    for labels, operand in zip(left.split(","), operands, strict=True):
        before, dots, after = labels.partition("...")
        hidden = operand.dim() - len(before) - len(after) if dots else 0
        names = [*before, *(f"...{k}" for k in range(hidden, 0, -1)), *after]
        for label, size in zip(names, operand.shape, strict=True):
            sizes[label] = max(sizes.get(label, 1), size)
    if "->" not in equation:
        plain = left.replace(",", "").replace("...", "")
        right = "".join(sorted(label for label in set(plain) if plain.count(label) == 1))
    summed = [label for label in sizes if not label.startswith("...") and label not in right]
    return Product(prod(sizes.values()) if summed else 0, tuple(operands))
