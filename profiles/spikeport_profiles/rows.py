"""The running sums behind a LayerCounts: they grow with the layers, not with the batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .counts import InputKind, LayerCounts, LayerKind


@dataclass
class Row:
    """Sums of one layer over all samples (`sums`), and what does not depend on them (`fixed`)."""

    path: str
    kind: LayerKind
    input: InputKind = "analog"
    fed_by: str | None = None
    levels: int = 1
    busiest: float = 0
    sums: dict[str, float] = field(default_factory=dict)
    fixed: dict[str, int] = field(default_factory=dict)

    def add(self, **values: float) -> None:
        """Add to the sums."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value

    def macs(self, count: float, steps: int = 1) -> None:
        """Add matrix-product MACs; a loop over time would do them `steps` times."""
        self.add(macs_executed=count, macs_algebraic=count, macs_unrolled=count * steps)

    def finish(self, samples: int) -> LayerCounts:
        """Means per sample; whole numbers stay whole."""
        slots = self.sums.get("neuron_updates", 0) * self.levels
        values: dict[str, Any] = {name: _mean(total, samples) for name, total in self.sums.items()} | self.fixed
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
