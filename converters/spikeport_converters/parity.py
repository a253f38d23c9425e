"""Parity: what an artefact computes on its target's runtime beside what the reference computes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ParityRow:
    """One comparison: `value` must not exceed `limit` (both in `unit`); `ok` says whether it holds.

    `kind` is spikes (mismatch rate, unit 1), output (NMSE against the reference, dB) or task (change of the
    task's own metric, dB). A row without a limit is reported, not gated.
    """

    name: str
    kind: str
    value: float
    limit: float | None
    unit: str
    ok: bool
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values; an infinite value becomes null, since JSON has none."""
        return {**asdict(self), "value": self.value if math.isfinite(self.value) else None}


@dataclass(frozen=True)
class ParityReport:
    """All comparisons of one artefact; true when every row holds. `notes` say what they leave open."""

    rows: tuple[ParityRow, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every row holds."""
        return all(row.ok for row in self.rows)

    def __bool__(self) -> bool:
        return self.ok

    def summary(self) -> str:
        """One line per row and note."""
        return "\n".join([*(_line(row) for row in self.rows), *(f"note parity {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """`{"ok", "rows", "notes"}` as the manifest holds it."""
        return {"ok": self.ok, "rows": [row.to_dict() for row in self.rows], "notes": list(self.notes)}


def gated(
    name: str, kind: str, value: float, limit: float, unit: str, *, gate: bool = True, detail: str = ""
) -> ParityRow:
    """A row that holds when value <= limit; with `gate` False it is reported only."""
    if not gate:
        note = "reported, not gated: untrained"
        return ParityRow(name, kind, value, limit, unit, True, f"{note}; {detail}" if detail else note)
    return ParityRow(name, kind, value, limit, unit, value <= limit, detail)


def nmse_db(prediction: NDArray[Any], reference: NDArray[Any]) -> float:
    """10 log10(|prediction - reference|^2 / |reference|^2) over all values; -inf where they are equal.

    Positive infinity where the prediction holds a value that is not finite.
    """
    truth = reference.astype(np.float64)
    error = float(np.sum((prediction.astype(np.float64) - truth) ** 2))
    if not math.isfinite(error):
        return math.inf
    power = float(np.sum(truth**2))
    if not error:
        return -math.inf
    return 10 * math.log10(error / power) if power else math.inf


def _line(row: ParityRow) -> str:
    limit = "" if row.limit is None else f" (limit {row.limit:g})"
    detail = f"; {row.detail}" if row.detail else ""
    unit = "" if row.unit == "1" else f" {row.unit}"
    return f"{'ok  ' if row.ok else 'FAIL'} {row.kind:6} {row.name}: {row.value:.3g}{unit}{limit}{detail}"
