"""Colours of the plots: CSS variables for the page (light and dark), plain light ones for a picture file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """What a drawing function may use; `series` are told apart by marker and dash too."""

    ink: str
    soft: str
    line: str
    paper: str
    model: str
    series: tuple[str, ...]


LIGHT = Palette("#1b1f24", "#59636e", "#d1d9e0", "#ffffff", "#0072b2",
                ("#c2500a", "#00795a", "#a03b7d", "#7a6a00", "#59636e", "#8a4fbf"))  # fmt: skip
"""After Okabe and Ito's colour-blind safe set, darkened to a contrast of 4.5 on white."""

SENTINEL = Palette("#010203", "#010204", "#010205", "#010206", "#010207",
                   ("#010208", "#010209", "#01020a", "#01020b", "#01020c", "#01020d"))  # fmt: skip
"""Colours that occur nowhere else, to be replaced by CSS variables in the SVG text."""

VARIABLES: dict[str, str] = {
    SENTINEL.ink: "var(--ink)",
    SENTINEL.soft: "var(--soft)",
    SENTINEL.line: "var(--line)",
    SENTINEL.paper: "var(--paper)",
    SENTINEL.model: "var(--model)",
    **{colour: f"var(--series-{n})" for n, colour in enumerate(SENTINEL.series)},
}
