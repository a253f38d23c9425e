"""Which tensors carry spikes: decided by the module that made them, never by their values.

A value test (all elements 0 or 1) calls an all-zero tensor spikes and a mean of spikes analog; both are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import nan, prod
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
ORDERED = frozenset(
    ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous", "clone", "detach", "float",
     "double", "half", "to")
)  # fmt: skip
"""Shape changes that keep the order of the elements, so that T equal leading parts still are the T steps."""
JOINS = frozenset(("cat", "stack", "concat"))
DIVISIONS = frozenset(("div", "divide", "true_divide", "__truediv__"))
PRODUCTS = frozenset(("mul", "multiply", "__mul__", "__rmul__"))
ADDITIONS = frozenset(("add", "__add__", "__radd__"))
AVERAGE_POOLS = frozenset(("avg_pool1d", "avg_pool2d", "avg_pool3d"))
MAX_POOLS = frozenset(("max_pool1d", "max_pool2d", "max_pool3d"))


@dataclass(frozen=True)
class SpikeSource:
    """Spiking layer `path`; events = value * `scale`. `steps` are the spikes `[T, ..., neuron]` while they are at hand.

    `rows` are the events summed over the neurons, `sent` how many values are not zero, where they are known.
    `time` says that the tensor's T equal leading parts are the steps, `step` which step the whole tensor is. Scale 0
    marks the output of a twin's activation: analog, but its zeros are known to come from there.
    """

    path: str
    scale: float
    steps: Tensor | None = None
    rows: Tensor | None = None
    sent: int | None = None
    time: int | None = None
    step: int | None = None

    def per_step(self, values: Tensor) -> tuple[int, list[float]]:
        """The first step, and the sums over each step, of `values` in the order of the tensor; empty if unknown."""
        time = len(self.steps) if self.steps is not None else self.time
        if self.step is not None:
            return self.step, [float(values.sum())]
        return 0, [] if time is None else values.reshape(time, -1).sum(1).tolist()


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
        by = args[1] if len(args) > 1 else None
        if name in ADDITIONS and isinstance(by, Tensor):
            return _sum(source, self.of(by))
        if name in AVERAGE_POOLS:
            source = replace(
                source, scale=source.scale * _window(name, by if by is not None else kwargs["kernel_size"])
            )
        elif name not in ORDERED | MAX_POOLS:
            source = replace(source, time=None)
        if name in SHAPE_ONLY | AVERAGE_POOLS | MAX_POOLS:
            return source
        if name == "mean":
            return replace(source, scale=source.scale * first.numel() / out.numel())
        if isinstance(by, int | float) and by > 0:
            if name in DIVISIONS:
                return replace(source, scale=source.scale * by)
            if name in PRODUCTS:
                return replace(source, scale=source.scale / by)
        return None


def _sum(source: SpikeSource, other: SpikeSource | None) -> SpikeSource | None:
    """A residual sum of spikes holds the events of both; it goes by the name of the second.

    Where an event is worth more in one of them, the sum no longer tells how many there were: the scale is nan.
    """
    if other is None or not source.scale or not other.scale:
        return None
    scale = source.scale if source.scale == other.scale else nan
    return replace(source, path=other.path, scale=scale, time=source.time if source.time == other.time else None)


def _window(name: str, kernel: Any) -> int:
    """Elements under an average pool."""
    return prod(kernel) if isinstance(kernel, tuple | list) else int(kernel) ** int(name[-2])
