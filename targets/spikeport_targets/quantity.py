"""Numbers that never travel bare: a constant of a card, and a quantity computed from constants."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Basis = Literal["measured", "fitted_silicon", "simulated", "derived", "vendor", "assumed", "published", "inherited"]
Kind = Literal["measured", "simulated", "estimated"]

BASES: tuple[str, ...] = (
    "measured", "fitted_silicon", "simulated", "derived", "vendor", "assumed", "published", "inherited",
)  # fmt: skip


@dataclass(frozen=True)
class Quantity:
    """A value that a user sees: interval, SI unit, kind and sources; `nominal` is None when nobody published it."""

    low: float | None
    nominal: float | None
    high: float | None
    unit: str
    kind: Kind
    source: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as every JSON file of spikeport holds them."""
        return {**asdict(self), "source": list(self.source)}

    def summary(self) -> str:
        """One line: `9.7e-09 s (5.3e-09 to 9.7e-09), estimated`."""
        if self.nominal is None:
            return f"not published ({self.unit})"
        return f"{self.nominal:.3g} {self.unit} ({self.low:.3g} to {self.high:.3g}), {self.kind}"


@dataclass(frozen=True)
class Constant:
    """One constant of a card in SI units, with its interval and where it comes from.

    `unknown` means that nobody has published it: low, nominal and high are None, and `source` says so in a sentence.
    """

    name: str
    low: float | None
    nominal: float | None
    high: float | None
    unit: str
    basis: Basis
    source: tuple[str, ...]
    conditions: str = ""
    unknown: bool = False

    def quantity(self, kind: Kind = "estimated") -> Quantity:
        """The constant as a Quantity of `kind`."""
        return Quantity(self.low, self.nominal, self.high, self.unit, kind, self.source)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "source": list(self.source)}

    def summary(self) -> str:
        """One line: name, value, interval, basis."""
        if self.nominal is None:
            return f"{self.name}: not published ({self.source[0]})"
        return f"{self.name} = {self.nominal:.3g} {self.unit} ({self.low:.3g} to {self.high:.3g}), {self.basis}"
