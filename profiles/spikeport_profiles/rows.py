"""The running sums behind a LayerCounts: they grow with the layers, not with the batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import add as plus
from typing import Any

from torch import Tensor

from .counts import InputKind, LayerCounts, LayerKind


@dataclass
class Row:
    """Sums of one layer over all samples (`sums`, and at each step `series`), and what does not depend on them."""

    path: str
    kind: LayerKind
    input: InputKind = "analog"
    fed_by: str | None = None
    levels: int = 1
    busiest: float = 0
    sums: dict[str, float] = field(default_factory=dict)
    series: dict[str, list[float]] = field(default_factory=dict)
    fixed: dict[str, int] = field(default_factory=dict)

    def add(self, **values: float) -> None:
        """Add to the sums."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value

    def macs(self, count: float, steps: int = 1, needed: float | None = None) -> None:
        """Add matrix-product MACs; a loop over time would do them `steps` times, `needed` of them are no repetition."""
        self.add(macs_executed=count, macs_algebraic=count if needed is None else needed, macs_unrolled=count * steps)

    def at_steps(self, name: str, first: int, values: Sequence[float], together: Callable[..., float] = plus) -> None:
        """Add `values` to the series `name` from step `first` on (or, with `together` max, keep the larger)."""
        series = self.series.setdefault(name, [])
        series.extend([0.0] * (first + len(values) - len(series)))
        for step, value in enumerate(values, first):
            series[step] = together(series[step], value)

    def finish(self, samples: int) -> LayerCounts:
        """Means per sample; whole numbers stay whole."""
        slots = self.sums.get("neuron_updates", 0) * self.levels
        values: dict[str, Any] = {name: _mean(total, samples) for name, total in self.sums.items()} | self.fixed
        for name in ("spikes", "synops"):
            values[f"{name}_per_step"] = tuple(_mean(total, samples) for total in self.series.get(name, ()))
        pairs = zip(self.series.get("spikes", ()), self.series.get("updates", ()), strict=True)
        values["rate_per_step"] = tuple(spikes / (updates * self.levels) for spikes, updates in pairs)
        values["busiest_per_step"] = tuple(self.series.get("busiest", ()))
        return LayerCounts(
            self.path,
            self.kind,
            self.input,
            self.fed_by,
            spike_rate=self.sums.get("spikes", 0) / slots if slots else 0.0,
            busiest_unit_per_step=self.busiest,
            **values,
        )


def bytes_of(*tensors: Any) -> int:
    """Bytes of the tensors among the arguments."""
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))


def _mean(total: float, samples: int) -> float:
    whole = int(total)
    return whole // samples if whole == total and whole % samples == 0 else total / samples
