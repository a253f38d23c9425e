"""A card as text for people."""

from __future__ import annotations

from .card import Card
from .quantity import Constant


def card_text(card: Card) -> str:
    """The whole card: what it is, its limits, and a block per constant (value, range, unit, basis, source)."""
    lines = [card.summary(), card.description, f"energy boundary: {card.boundary}", "", "limits"]
    lines += [f"  {key} = {value}" for key, value in card.limits.items()]
    lines += ["", "constants", *(_constant(name, item) for name, item in card.constants.items())]
    for scenario in card.scenarios.values():
        lines += ["", f"scenario {scenario.name}: {scenario.summary}"]
        lines += [_constant(name, item) for name, item in scenario.constants.items()]
    return "\n".join(lines)


def _constant(name: str, item: Constant) -> str:
    if item.unknown:
        value = "not published"
    else:
        value = f"{item.nominal:.4g} {item.unit} ({item.low:.4g} to {item.high:.4g}), {item.basis}"
    conditions = f"\n      {item.conditions}" if item.conditions else ""
    return f"  {name}: {value}\n      {'; '.join(item.source)}{conditions}"
