"""Budgets that a profile is held against: latency, energy and NMSE, with units; what is not known does not pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from spikeport_errors import UsageError, unknown_name

from .text import si

if TYPE_CHECKING:
    from spikeport_targets.card import Quantity

    from .estimate import Estimate

Gate = Literal["p10", "nominal", "p90"]
GATES: tuple[Gate, ...] = ("p10", "nominal", "p90")
PREFIXES = {"": 1.0, "k": 1e3, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "n": 1e-9, "p": 1e-12}
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\s\d]*)\s*")


@dataclass(frozen=True)
class Budget:
    """Most seconds, joules and dB of NMSE an inference may take, each None for no limit.

    `gate` says which value of an interval is held against the limit: its 10th percentile, nominal or 90th percentile.
    """

    latency_s: float | None = None
    energy_j: float | None = None
    nmse_db: float | None = None
    gate: Gate = "nominal"

    def __bool__(self) -> bool:
        return any(limit is not None for limit in (self.latency_s, self.energy_j, self.nmse_db))


@dataclass(frozen=True)
class BudgetRow:
    """One figure of one target against its limit; `value` None is not known, and does not pass."""

    target: str
    precision: str
    figure: Literal["latency", "energy", "nmse"]
    value: float | None
    limit: float
    unit: str
    kind: str
    ok: bool
    message: str

    @property
    def text(self) -> str:
        """The line of the summary."""
        return f"{'ok  ' if self.ok else 'FAIL'} budget  {self.message}"


@dataclass(frozen=True)
class BudgetReport:
    """Every figure against its limit; truthy when all hold."""

    budget: Budget
    rows: tuple[BudgetRow, ...]

    @property
    def ok(self) -> bool:
        """Whether every figure is known and within its limit."""
        return all(row.ok for row in self.rows)

    def __bool__(self) -> bool:
        return self.ok

    def summary(self) -> str:
        """One line a figure."""
        return "\n".join(row.text for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The `budget` of profile.json."""
        limits = {k: v for k, v in asdict(self.budget).items() if k != "gate"}
        return {"gate": self.budget.gate, "ok": self.ok, "limits": limits, "rows": [asdict(row) for row in self.rows]}


def parse_budget(
    latency: str | None = None, energy: str | None = None, nmse: str | None = None, gate: str = "nominal"
) -> Budget:
    """A Budget from texts such as `2ms`, `5mJ` and `-10dB`; UsageError for a text without its unit."""
    if gate not in GATES:
        raise unknown_name("gate", gate, GATES, "choose which value of the interval is held against the budget")
    return Budget(
        latency_s=_parsed("--max-latency", latency, "s", "2ms"),
        energy_j=_parsed("--max-energy", energy, "J", "5mJ"),
        nmse_db=_parsed("--max-nmse", nmse, "dB", "-10dB"),
        gate=next(known for known in GATES if known == gate),
    )


def check_budget(targets: Sequence[Estimate], budget: Budget) -> BudgetReport:
    """Hold every target against every limit of `budget`; energy is the total, NMSE the deployed artefact's mean."""
    rows = []
    for target in targets:
        if budget.latency_s is not None:
            rows.append(_quantity(target, "latency", target.latency, budget.latency_s, budget.gate, _why(target, "t")))
        if budget.energy_j is not None:
            rows.append(
                _quantity(target, "energy", target.energy.total, budget.energy_j, budget.gate, _why(target, "e"))
            )
        if budget.nmse_db is not None:
            rows.append(_nmse(target, budget.nmse_db))
    return BudgetReport(budget, tuple(rows))


def _parsed(option: str, text: str | None, unit: str, example: str) -> float | None:
    if text is None:
        return None
    found = _NUMBER.fullmatch(text)
    prefixes = {"": 1.0} if unit == "dB" else PREFIXES
    scale = prefixes.get(found[2].removesuffix(unit)) if found and found[2].endswith(unit) else None
    if found is None or scale is None:
        raise UsageError(f"{option} {text!r}: give a number and its unit, such as {example}")
    value = float(found[1]) * scale
    if not (-200 <= value <= 200 if unit == "dB" else 0 < value < 1e9):
        raise UsageError(f"{option} {text!r} is out of range: give something like {example}")
    return value


def _quantity(
    target: Estimate,
    figure: Literal["latency", "energy"],
    found: Quantity | None,
    limit: float,
    gate: Gate,
    why: str,
) -> BudgetRow:
    unit = "s" if figure == "latency" else "J"
    value = None if found is None else {"p10": found.low, "nominal": found.nominal, "p90": found.high}[gate]
    place = f"{target.id} ({target.precision}): {figure}"
    if found is None or value is None:
        message = f"{place} is not known, so it cannot be held to {si(limit, unit)}: {why}"
        return BudgetRow(target.id, target.precision, figure, None, limit, unit, "none", ok=False, message=message)
    ok = value <= limit
    verb = "within" if ok else "exceeds"
    shown, most = _apart(value, limit, lambda number, digits: si(number, unit, digits))
    message = f"{place} {shown} ({found.kind}, {gate}) {verb} {most}"
    return BudgetRow(target.id, target.precision, figure, value, limit, unit, found.kind, ok, message)


def _nmse(target: Estimate, limit: float) -> BudgetRow:
    accuracy = target.accuracy
    value = None if accuracy is None else accuracy.nmse_db
    place = f"{target.id} ({target.precision}): nmse"
    if accuracy is None or value is None:
        why = accuracy.reason if accuracy is not None else "add --accuracy"
        message = f"{place} is not known, so it cannot be held to {limit:g} dB: {why}"
        return BudgetRow(target.id, target.precision, "nmse", None, limit, "dB", "none", ok=False, message=message)
    ok = value <= limit
    verb = "within" if ok else "exceeds"
    shown, most = _apart(value, limit, lambda number, digits: f"{number:.{digits - 1}f} dB")
    message = f"{place} {shown} ({accuracy.kind}, mean over regimes, splits and SNRs) {verb} {most}"
    return BudgetRow(target.id, target.precision, "nmse", value, limit, "dB", accuracy.kind, ok, message)


def _apart(value: float, limit: float, text: Callable[[float, int], str]) -> tuple[str, str]:
    """Both in as few digits, 3 or more, as tell them apart."""
    digits = next((n for n in range(3, 17) if value == limit or text(value, n) != text(limit, n)), 17)
    return text(value, digits), text(limit, digits)


def _why(target: Estimate, which: Literal["t", "e"]) -> str:
    if which == "e" and target.klass == "event" and target.energy.host is None and target.energy.event is not None:
        return "name the --host that runs the rest of the model"
    if target.klass == "convention":
        return "the 45 nm convention is no device and has no time"
    return "nobody has published a constant that it needs, or no counter could be read here"
