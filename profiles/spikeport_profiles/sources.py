"""Which tensors carry spikes: decided by the module that made them, never by their values.

A value test (all elements 0 or 1) calls an all-zero tensor spikes and a mean of spikes analog; both are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

SHAPE_ONLY = frozenset(
    (
        "view", "reshape", "flatten", "unflatten", "permute", "transpose", "movedim", "swapaxes", "squeeze",
        "unsqueeze", "contiguous", "clone", "detach", "float", "double", "half", "to", "__getitem__", "__get__",
        "unbind", "chunk", "split", "select", "narrow", "expand_as", "sum",
    )
)  # fmt: skip
JOINS = frozenset(("cat", "stack", "concat"))
DIVISIONS = frozenset(("div", "divide", "true_divide", "__truediv__"))
PRODUCTS = frozenset(("mul", "multiply", "__mul__", "__rmul__"))


@dataclass(frozen=True)
class SpikeSource:
    """Spiking layer `path`; events = value * `scale`. `steps` are the spikes `[T, ..., neuron]` while they are at hand.

    `rows` and `sent` are the events and the values that are not zero, summed over the neurons, where they are known.
    Scale 0 marks the output of a twin's activation: analog, but its zeros are known to come from there.
    """

    path: str
    scale: float
    steps: Tensor | None = None
    rows: Tensor | None = None
    sent: Tensor | None = None


class SpikeSources(TorchFunctionMode):
    """Follows tagged tensors through shape changes, sums, means and scalings, for as long as it is entered.

    `on_call(function name, args, kwargs, output)` is told of every torch function.
    """

    def __init__(self, on_call: Callable[[str, tuple[Any, ...], Mapping[str, Any], Any], None]):
        super().__init__()
        self._tags = WeakTensorKeyDictionary()
        self._on_call = on_call

    def tag(self, tensor: Tensor, source: SpikeSource) -> None:
        """Say that `tensor` carries spikes of `source`."""
        self._tags[tensor] = source

    def of(self, tensor: Tensor) -> SpikeSource | None:
        """The spiking layer that `tensor` comes from, or None for an analog tensor."""
        found: SpikeSource | None = self._tags.get(tensor)
        return found

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run `func`, then carry the tag over where the result still is the same spikes."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        self._on_call(name, args, kwargs, out)
        if self._tags and args:
            source = self._after(name, args, kwargs, out)
            if source is not None:
                for tensor in out if isinstance(out, tuple | list) else (out,):
                    if isinstance(tensor, Tensor):
                        self._tags[tensor] = source
        return out

    def _after(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> SpikeSource | None:
        first = args[0]
        if name in JOINS and isinstance(first, tuple | list):
            sources = {self.of(t) for t in first if isinstance(t, Tensor)}
            return next(iter(sources)) if len(sources) == 1 else None
        source = self.of(first) if isinstance(first, Tensor) else None
        if source is None:
            return None
        source = replace(source, steps=None, rows=None, sent=None)
        if name in SHAPE_ONLY:
            return source
        if name == "mean":
            return replace(source, scale=source.scale * first.numel() / out.numel())
        by = args[1] if len(args) > 1 else None
        if isinstance(by, int | float) and by > 0:
            if name in DIVISIONS:
                return replace(source, scale=source.scale * by)
            if name in PRODUCTS:
                return replace(source, scale=source.scale / by)
        return None
