"""Where each number comes from: the attributes that carry it, and the numbered list they point to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from .numbers import range_text

LONGEST = 140


@dataclass
class Sources:
    """The distinct sources of a page, in the order in which its numbers cite them."""

    numbers: dict[tuple[str, str], int] = field(default_factory=dict)

    def cite(self, kind: str, source: str, spread: str = "") -> Markup:
        """Attributes of an element that holds a number: focusable, with kind, range and source.

        The title shows on hover without any script; a screen reader gets the entry of the list of sources; the page's
        script shows both on hover and on focus.
        """
        number = self.numbers.setdefault((kind, source), len(self.numbers) + 1)
        short = source if len(source) <= LONGEST else source[:LONGEST].rsplit(" ", 1)[0] + " …"
        title = "; ".join(filter(None, (kind, spread, f"source {number}: {short}")))
        return Markup('tabindex="0" aria-describedby="about-{}" data-range="{}" title="{}"').format(
            number, spread, title
        )

    def of(self, quantity: dict[str, Any]) -> Markup:
        """`cite` of a quantity."""
        spread = range_text(quantity)
        words = f"low to high {spread[1:-1]}, in the unit shown" if spread else "no range"
        return self.cite(quantity["kind"], "; ".join(quantity["source"]) or "not given", words)

    def listed(self) -> list[tuple[int, str, str]]:
        """Number, kind and text of every source cited so far."""
        return [(number, kind, source) for (kind, source), number in self.numbers.items()]
