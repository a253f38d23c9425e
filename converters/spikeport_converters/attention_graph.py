"""Attention in the form that every TensorRT from 10.3 on fuses, on any traced module."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from .graph_tools import drop_unread, emit, in_order, share_equal
from .operators import arguments, is_op, is_value, op_name

MOVES = frozenset(
    (
        "view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "transpose", "permute",
        "movedim", "unbind", "getitem", "select", "slice", "chunk", "split", "split_with_sizes",
        "contiguous", "clone", "expand", "t",
    )
)  # fmt: skip
_aten: Any = torch.ops.aten


@dataclass(frozen=True)
class _Source:
    """A head tensor [batch, head, token, j] as rows of one linear layer: `rows[head, j]` of `linear`.

    `swapped` says that the layer works on [token, batch, feature].
    """

    linear: fx.Node
    rows: Tensor
    swapped: bool


def explicit_attention(program: fx.GraphModule, pad_heads: int = 1) -> int:
    """Rewrite scaled_dot_product_attention in place, softmax((s Q) K^T + mask) V, s = 1 / sqrt(d_head); how many.

    Where Q, K and V are proved to be rows of linear layers, s goes into the weights and bias of Q's rows (no operator
    is left of it), and heads are padded with zero rows to a multiple of `pad_heads`: zeros add nothing to Q K^T, and
    the zero columns that they give in V meet zero columns of the projection behind. Elsewhere s stands on Q, before
    the first product: behind it, TensorRT does not find its fused kernel. Causal and grouped-query attention is left.
    """
    graph = program.graph
    share_equal(graph)
    nodes = [n for n in graph.nodes if is_op(n, "scaled_dot_product_attention")]
    done = sum(_Attention(program, node, pad_heads).rewrite() for node in nodes)
    if done:
        in_order(graph)
        drop_unread(graph)
        graph.lint()
        program.recompile()
    return done


class _Attention:
    def __init__(self, program: fx.GraphModule, node: fx.Node, pad_heads: int):
        self.program, self.node, self.given = program, node, arguments(node)
        shape = node.args[0].meta["val"].shape  # type: ignore[union-attr]
        self.width = int(shape[-1])
        self.padded = -(-self.width // pad_heads) * pad_heads
        self.scale = float(self.given.get("scale") or self.width**-0.5)
        self.heads = shape[1] if len(shape) == 4 else None

    def rewrite(self) -> bool:
        given = self.given
        if given.get("is_causal") or given.get("enable_gqa") or given.get("dropout_p"):
            return False
        heads = tuple(self.node.args[:3])
        sources = [self._source(x) for x in heads] if isinstance(self.heads, int) else [None]  # type: ignore[arg-type]
        if all(s is not None for s in sources):
            q, k, v = self._projected(sources)  # type: ignore[arg-type]
            self._finish(self._attend(q, k, v))
            return True
        q, k, v = heads  # type: ignore[assignment]
        self.padded = self.width
        self.node.replace_all_uses_with(self._attend(self._emit(_aten.mul.Tensor, (q, self.scale)), k, v))
        return True

    def _attend(self, q: Any, k: Any, v: Any) -> fx.Node:
        scores = self._emit(_aten.matmul.default, (q, self._emit(_aten.transpose.int, (k, -2, -1))))
        mask = self.given.get("attn_mask")
        if isinstance(mask, fx.Node):
            if mask.meta["val"].dtype == torch.bool:
                scores = self._emit(
                    _aten.masked_fill.Scalar, (scores, self._emit(_aten.logical_not.default, (mask,)), -1e4)
                )
            else:
                scores = self._emit(_aten.add.Tensor, (scores, mask))
        return self._emit(_aten.matmul.default, (self._emit(_aten.softmax.int, (scores, -1)), v))

    def _projected(self, sources: list[_Source]) -> tuple[fx.Node, ...]:
        """Q (scaled), K and V [batch, head, token, padded], from one linear layer where they share their input."""
        shared = len({(s.linear.args[0], s.swapped, _bias(s) is None) for s in sources}) == 1
        groups = [sources] if shared else [[s] for s in sources]
        made: list[fx.Node] = []
        for group in groups:
            weight, bias = (
                torch.cat(parts) for parts in zip(*(self._rows(s, s is sources[0]) for s in group), strict=True)
            )
            (x, swapped), like = (group[0].linear.args[0], group[0].swapped), group[0].linear
            if swapped:
                x = self._emit(_aten.transpose.int, (x, 0, 1))
            path = _path(like) + ("" if len(groups) == 1 else "_" + "qkv"[len(made)])
            parameters = [self._constant(f"{path}.weight", weight)]
            if _bias(group[0]) is not None:
                parameters.append(self._constant(f"{path}.bias", bias))
            y = emit(like, _aten.linear.default, (x, *parameters))
            batch, tokens = (self._size(y, d) for d in (0, 1))
            y = self._emit(_aten.view.default, (y, [batch, tokens, len(group), self.heads, self.padded]))
            y = self._emit(_aten.permute.default, (y, [2, 0, 3, 1, 4]))
            parts = self._emit(_aten.unbind.int, (y,))
            made += [self._emit(operator.getitem, (parts, index)) for index in range(len(group))]
        return tuple(made)

    def _size(self, node: fx.Node, dim: int) -> Any:
        size = node.meta["val"].shape[dim]
        return size if isinstance(size, int) else self._emit(_aten.sym_size.int, (node, dim))

    def _rows(self, source: _Source, query: bool) -> tuple[Tensor, Tensor]:
        given = arguments(source.linear)
        weight = self._value(given["weight"])
        bias = self._value(given["bias"]) if given.get("bias") is not None else torch.zeros(len(weight))
        factor = self.scale if query else 1.0
        wide = torch.zeros(*source.rows.shape[:1], self.padded, weight.shape[1])
        wide[:, : self.width] = weight[source.rows] * factor
        thick = torch.zeros(source.rows.shape[0], self.padded)
        thick[:, : self.width] = bias[source.rows] * factor
        return wide.flatten(0, 1), thick.flatten()

    def _finish(self, y: fx.Node) -> None:
        """Hand `y` [batch, head, token, padded] to what read the attention: a projection with columns put in order."""
        sink = self._sink()
        if sink is None:
            if self.padded != self.width:
                y = self._emit(_aten.slice.Tensor, (y, 3, 0, self.width))
            self.node.replace_all_uses_with(y)
            return
        linear, columns, swapped, flat = sink
        weight = self._value(linear.args[1])
        wide = torch.zeros(len(weight), self.heads, self.padded)  # type: ignore[arg-type]
        wide[..., : self.width] = weight[:, columns]
        size = int(self.heads or 0) * self.padded
        y = (
            self._emit(_aten.permute.default, (y, [2, 0, 1, 3]))
            if swapped
            else self._emit(_aten.transpose.int, (y, 1, 2))
        )
        lead = [-1] if flat else [self._size(y, 0), self._size(y, 1)]
        y = self._emit(_aten.reshape.default, (y, [*lead, size]))
        weights = self._constant(f"{_path(linear)}.weight", wide.flatten(1))
        linear.replace_all_uses_with(emit(linear, _aten.linear.default, (y, weights, *linear.args[2:])))

    def _source(self, head: fx.Node) -> _Source | None:
        chain, current = [], head
        while op_name(current) in MOVES:
            chain.append(current)
            current = current.args[0]  # type: ignore[assignment]
        if not is_op(current, "linear") or not is_value(current.args[1]) or current.meta["val"].ndim != 3:
            return None
        first, second, width = _hints(current)
        features = torch.arange(width).expand(first, second, width)
        places = torch.arange(first * second).view(first, second, 1).expand(first, second, width)
        reached, place = (_follow(chain[::-1], current, x) for x in (features, places))
        batch, _, tokens, _ = _hints(head)
        rows = reached[0, :, 0]
        if not torch.equal(reached, rows[None, :, None].expand_as(reached)):
            return None
        for swapped in (False, True):
            grid = torch.arange(batch * tokens)
            grid = grid.view(tokens, batch).t() if swapped else grid.view(batch, tokens)
            if torch.equal(place, grid[:, None, :, None].expand_as(place)):
                return _Source(current, rows, swapped)
        return None

    def _sink(self) -> tuple[fx.Node, Tensor, bool, bool] | None:
        """The linear layer behind the attention, its column of [head, j], whether it is [token, batch], and flat."""
        chain, current = [], self.node
        while len(current.users) == 1 and op_name(next(iter(current.users))) in MOVES:
            current = next(iter(current.users))
            chain.append(current)
        reader = next(iter(current.users)) if len(current.users) == 1 else current
        if not is_op(reader, "linear") or reader.args[0] is not current or not is_value(reader.args[1]):
            return None
        shape = _hints(self.node)
        moved = _follow(chain, self.node, torch.arange(torch.Size(shape).numel()).view(shape))
        batch, heads, tokens, width = shape
        size = heads * width
        if moved.numel() != batch * tokens * size or moved.shape[-1] != size or moved.ndim not in (2, 3):
            return None
        where = torch.unravel_index(moved.reshape(-1, size)[0], shape)
        columns = torch.empty(heads, width, dtype=torch.long)
        columns[where[1], where[3]] = torch.arange(size)
        for swapped in (False, True):
            plain = torch.arange(moved.numel()).view(shape).permute((2, 0, 1, 3) if swapped else (0, 2, 1, 3))
            ordered = torch.empty(*plain.shape[:2], size, dtype=torch.long)
            ordered[..., columns.flatten()] = plain.flatten(2)
            if torch.equal(ordered.reshape(moved.shape), moved):
                return reader, columns, swapped, moved.ndim == 2
        return None

    def _value(self, node: Any) -> Tensor:
        found: Tensor = operator.attrgetter(str(node.target))(self.program)
        return found.detach()

    def _constant(self, path: str, value: Tensor) -> fx.Node:
        *parents, name = path.split(".")
        module: nn.Module = self.program
        for part in parents:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        while name in dict(module.named_parameters(recurse=False)) and name.count("_") < 3:
            name += "_"
        setattr(module, name, nn.Parameter(value.contiguous(), requires_grad=False))
        target = ".".join((*parents, name))
        with self.program.graph.inserting_before(self.node):
            made = self.program.graph.get_attr(target)
        made.meta = {"val": self.node.meta["val"].fake_mode.from_tensor(value, static_shapes=True)}
        return made

    def _emit(self, target: Any, given: tuple[Any, ...]) -> fx.Node:
        return emit(self.node, target, given)


def _bias(source: _Source) -> Any:
    return arguments(source.linear).get("bias")


def _path(node: fx.Node) -> str:
    return str(node.args[1].target).rpartition(".")[0]  # type: ignore[union-attr]


def _hints(node: fx.Node) -> tuple[int, ...]:
    return tuple(s if isinstance(s, int) else int(s.node.hint) for s in node.meta["val"].shape)


def _follow(chain: list[fx.Node], start: fx.Node, value: Tensor) -> Any:
    """`value` in place of what `start` gives, moved as `chain` moves it."""
    known: dict[fx.Node, Any] = {start: value}

    def show(node: fx.Node) -> Any:
        if node in known:
            value = known[node]  # a view of it may need it in order
            return value.contiguous() if isinstance(value, Tensor) else value
        size = node.meta["val"]
        return int(size.node.hint) if hasattr(size, "node") else size

    for node in chain:
        known[node] = node.target(*fx.node.map_arg(node.args, show), **fx.node.map_arg(node.kwargs, show))  # type: ignore[operator]
    return known[chain[-1]] if chain else value
