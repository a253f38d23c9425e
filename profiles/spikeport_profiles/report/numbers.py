"""One way to print a number, for HTML, Markdown and plots alike."""

from __future__ import annotations

import math
from typing import Any

NOT_PUBLISHED = "not published"
"""Stands where a constant is missing; such a number is never shown as 0."""

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}
_PREFIXED = frozenset({"J", "s", "W", "B", "Hz"})
_DB_MINUS = "\N{MINUS SIGN}"


def quantity_text(quantity: dict[str, Any] | None) -> str:
    """`1.23 mJ (0.6 to 2.4)`: nominal, then low and high where they differ, all in one unit."""
    return f"{nominal_text(quantity)} {range_text(quantity)}".rstrip()


def nominal_text(quantity: dict[str, Any] | None) -> str:
    """The nominal value alone, with its unit."""
    if quantity is None or quantity["nominal"] is None:
        return NOT_PUBLISHED
    scale, symbol = _scale(quantity["nominal"], quantity["unit"])
    return f"{_plain(quantity['nominal'] / scale, quantity['unit'])}{symbol}"


def range_text(quantity: dict[str, Any] | None) -> str:
    """`(0.6 to 2.4)` in the unit of the nominal value; empty where there is no range."""
    if quantity is None or quantity["nominal"] is None:
        return ""
    low, nominal, high, unit = (quantity[key] for key in ("low", "nominal", "high", "unit"))
    if low is None or high is None or low == nominal == high:
        return ""
    scale, _ = _scale(nominal, unit)
    return f"({_plain(low / scale, unit)} to {_plain(high / scale, unit)})"


def count_text(value: float | None) -> str:
    """A count to three digits: `59.2 M`; small ones in full; an en dash where the count has no meaning."""
    if value is None:
        return "–"
    if abs(value) < 10_000:
        return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
    scale, prefix = _engineering(value)
    return f"{_digits(value / scale)} {prefix}"


def percent_text(fraction: float | None) -> str:
    """`18.3 %`; an en dash for null."""
    return "–" if fraction is None else f"{100 * fraction:.3g} %"


def decibel_text(value: float) -> str:
    """`−12.4` with a real minus sign, and no negative zero."""
    text = f"{value:.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", _DB_MINUS)


def source_text(quantity: dict[str, Any] | None) -> str:
    """Kind, unit and sources of a number, for a tooltip."""
    if quantity is None:
        return "no estimate: a constant it needs has not been published"
    return f"{quantity['kind']}; unit {quantity['unit']}; source: {'; '.join(quantity['source']) or 'not given'}"


def plural(count: int, noun: str) -> str:
    """`1 part`, `4 parts`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def value_text(value: float | None, unit: str) -> str:
    """A value with its unit (none for unit 1): integers in full, small fractions in scientific form."""
    if value is None:
        return "–"
    unit = "" if unit == "1" else unit
    number = f"{value:,.0f}" if value == int(value) and abs(value) < 1e9 else f"{value:.3g}"
    return f"{number} {unit}".strip().replace("-", _DB_MINUS)


def score_text(quantity: dict[str, Any]) -> str:
    """The nominal value of a score without its unit, which stands above the column; fractions as percentages."""
    return nominal_text(quantity) if quantity["unit"] == "fraction" else _plain(quantity["nominal"], quantity["unit"])


def score_range_text(quantity: dict[str, Any]) -> str:
    """`0.6 to 2.4`, in the same unit."""
    return " to ".join(score_text({**quantity, "nominal": quantity[key]}) for key in ("low", "high"))


def _scale(value: float, unit: str) -> tuple[float, str]:
    if unit == "fraction":
        return 0.01, " %"
    if unit in _PREFIXED:
        scale, prefix = _engineering(value)
        return scale, f" {prefix}{unit}"
    if unit in {"MAC", "SynOp", "parameters", "spikes"} and abs(value) >= 10_000:
        scale, prefix = _engineering(value)
        return scale, f" {prefix} {unit}"
    return 1.0, f" {unit}"


def _engineering(value: float) -> tuple[float, str]:
    exponent = 0 if value == 0 else 3 * math.floor(math.log10(float(f"{abs(value):.2e}")) / 3)
    exponent = min(max(exponent, min(_PREFIXES)), max(_PREFIXES))
    return 10.0**exponent, _PREFIXES[exponent]


def _plain(value: float, unit: str) -> str:
    return decibel_text(value) if unit == "dB" else _digits(value)


def _digits(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        value = float(f"{value:.2e}")
        decimals = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
        return f"{value:,.{decimals}f}"
    return f"{value:.2e}"
