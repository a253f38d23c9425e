"""Small drawings of one layer as plain SVG: spike raster, histogram of membrane potentials, rate per time step.

Hand-made, where matplotlib would take seconds and megabytes for the many layers of a model.
"""

from __future__ import annotations

from html import escape
from typing import Any

from markupsafe import Markup

from .detail import events
from .numbers import percent_text

WIDTH, LEFT, RIGHT = 350, 46, 8
INNER = WIDTH - LEFT - RIGHT


def raster_svg(name: str, label: str, raster: dict[str, Any]) -> Markup:
    """Cells of neurons (rows) by tokens and their steps (columns); darker for more events, red for negative spikes."""
    rows, steps = raster["rows"], raster["steps"]
    columns, height = len(rows[0]), max(3.0, min(8.0, 200 / len(rows)))
    cell, bottom = INNER / columns, 8 + height * len(rows)
    wide, shades = cell * 0.94, dict[int, list[str]]()
    for y, row in enumerate(rows):
        for x, digit in enumerate(row):
            if value := events(digit):
                shades.setdefault(value, []).append(
                    f"M{LEFT + x * cell:.1f} {8 + y * height:.1f}h{wide:.1f}v{height * 0.8:.1f}h-{wide:.1f}z"
                )
    most = max((*shades, raster["levels"], 1))
    parts = [
        f'<path d="{"".join(cells)}" style="fill: var({"--model" if value > 0 else "--bad"}); '
        f'fill-opacity: {0.35 + 0.65 * abs(value) / most if value < most else 1:.2f}"/>'
        for value, cells in sorted(shades.items())
    ]
    every = -(-len(raster["tokens"]) // 8)
    for n, token in enumerate(raster["tokens"]):
        x = LEFT + n * steps * cell
        if n:
            parts.append(_line(x, 8, x, bottom, "--line"))
        if n % every == 0:
            parts.append(_text(x + steps * cell / 2, bottom + 14, str(token), "middle"))
    parts.append(_text(LEFT + INNER / 2, bottom + 30, f"token, {steps} time steps each", "middle"))
    parts += [
        _text(LEFT - 6, 8 + height * (n + 0.5) + 3.5, str(raster["neurons"][n]), "end") for n in _few(len(rows), 5)
    ]
    middle = 8 + (bottom - 8) / 2
    parts.append(_text(10, middle, "neuron", "middle", f"rotate(-90 10 {middle:.0f})"))
    return _svg(name, f"Spike raster of {label}", raster["text"], bottom + 36, parts)


def histogram_svg(name: str, label: str, membrane: dict[str, Any]) -> Markup:
    """Counts of potentials between the edges; the threshold is a line, what it is reached by stands in full colour."""
    edges, counts, threshold = membrane["edges"], membrane["counts"], membrane["threshold"]
    low, high, top = edges[0], edges[-1], max(*counts, 1)
    bottom, tall = 150.0, 126.0

    def at(value: float) -> float:
        return float(LEFT + (value - low) / (high - low) * INNER)

    below: list[str] = []
    reached: list[str] = []
    for count, left, right in zip(counts, edges, edges[1:], strict=False):
        size = tall * count / top
        bar = f"M{at(left):.1f} {bottom:.1f}v-{size:.1f}H{at(right) - 0.6:.1f}V{bottom:.1f}z"
        (reached if left >= threshold - 1e-9 else below).append(bar)
    parts = [
        f'<path d="{"".join(below)}" style="fill: var(--soft); fill-opacity: 0.6"/>',
        f'<path d="{"".join(reached)}" style="fill: var(--model)"/>',
        _line(LEFT, bottom, WIDTH - RIGHT, bottom, "--soft"),
    ]
    parts += [_text(at(v), bottom + 14, f"{v:.3g}".replace("-", "\N{MINUS SIGN}"), "middle") for v in _ticks(low, high)]
    if low <= threshold <= high:
        parts.append(_line(at(threshold), 16, at(threshold), bottom, "--ink", "4 3"))
        side = "end" if at(threshold) > LEFT + INNER * 0.7 else "start"
        parts.append(
            _text(at(threshold) + (-4 if side == "end" else 4), 14, f"threshold {threshold:g}", side, ink=True)
        )
    parts += [_text(LEFT - 6, bottom - tall * share + 3.5, f"{top * share:,.0f}", "end") for share in (0.5, 1.0)]
    parts.append(_text(LEFT + INNER / 2, bottom + 30, "membrane potential before the spike, model units", "middle"))
    return _svg(name, f"Membrane potentials of {label}", membrane["text"], bottom + 36, parts)


def steps_svg(name: str, label: str, rates: list[float]) -> Markup:
    """A bar per time step, with its rate above."""
    bottom, tall, top = 120.0, 92.0, max(*rates, 1e-9)
    slot = INNER / len(rates)
    wide, shown = min(slot * 0.7, 48), _few(len(rates), 6)
    parts = [_line(LEFT, bottom, WIDTH - RIGHT, bottom, "--soft")]
    for n, rate in enumerate(rates):
        x, size = LEFT + (n + 0.5) * slot, tall * rate / top
        bar = f"M{x - wide / 2:.1f} {bottom:.1f}v-{size:.1f}h{wide:.1f}v{size:.1f}z"
        parts.append(f'<path d="{bar}" style="fill: var(--model)"/>')
        if n in shown:
            parts.append(_text(x, bottom - size - 4, percent_text(rate), "middle", ink=True))
            parts.append(_text(x, bottom + 14, str(n + 1), "middle"))
    parts.append(_text(LEFT + INNER / 2, bottom + 30, "time step", "middle"))
    listed = ", ".join(percent_text(rate) for rate in rates)
    return _svg(name, f"Spike rate per time step of {label}", f"Steps 1 to {len(rates)}: {listed}.", bottom + 36, parts)


def _svg(name: str, title: str, description: str, height: float, parts: list[str]) -> Markup:
    return Markup(
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-labelledby="{name}-name {name}-description"><title id="{name}-name">{escape(title)}</title>'
        f'<desc id="{name}-description">{escape(description)}</desc>{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str, transform: str = "", *, ink: bool = False) -> str:
    turn = f' transform="{transform}"' if transform else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}"{turn} style="font: 10.5px var(--font); '
        f'fill: var({"--ink" if ink else "--soft"}); text-anchor: {anchor}">{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dash: str = "") -> str:
    dashed = f"; stroke-dasharray: {dash}" if dash else ""
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" style="fill: none; stroke: var({colour}){dashed}"/>'


def _few(count: int, most: int) -> list[int]:
    """At most so many of `count` indices, evenly spread."""
    return list(range(0, count, -(-count // most)))


def _ticks(low: float, high: float) -> list[float]:
    return [low + (high - low) * n / 5 for n in range(6)]
