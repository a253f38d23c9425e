"""Numbers as people read them."""

from __future__ import annotations

_PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))


def si(value: float, unit: str, digits: int = 3) -> str:
    """So many digits with an SI prefix: `si(1.234e-5, "J")` is `12.3 µJ`."""
    for size, prefix in _PREFIXES:
        if abs(value) >= size or (size, prefix) == _PREFIXES[-1]:
            return f"{value / size:.{digits}g} {prefix}{unit}"
    raise AssertionError


def percent_more(ratio: float) -> str:
    """A ratio as a difference: 1.04 is `4 % more`, 0.5 is `50 % less`, 3 is `3.0 times`."""
    if abs(ratio - 1) < 0.005:
        return "the same"
    if ratio >= 2:
        return f"{ratio:.1f} times as much"
    return f"{abs(ratio - 1):.0%} {'more' if ratio >= 1 else 'less'}".replace("%", " %")
