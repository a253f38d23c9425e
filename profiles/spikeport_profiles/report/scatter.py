"""Drawing the main picture: NMSE against a cost on a log axis, intervals both ways, the slot and the Pareto front."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .palette import Palette
from .plots import tick_text

MARKERS = "os^Dv<>Pph8"
MOST_NUMBERED = 24
Point = dict[str, Any]


def drawn(points: list[Point], cost: str) -> list[Point]:
    """The points that have both an NMSE and this cost."""
    return [p for p in points if p["nmse"] and p[cost]]


def scatter_plot(ax: Axes, points: list[Point], cost: str, palette: Palette, slot_s: float) -> None:
    """Points by number, colour a model (its twin hollow), marker a target; `cost` is energy (J) or latency (s)."""
    shown = drawn(points, cost)
    colours = dict(zip(dict.fromkeys(p["model"] for p in shown), (palette.model, *palette.series * 9), strict=False))
    markers = dict(zip(dict.fromkeys(p["target"] for p in points), MARKERS * 9, strict=False))
    ax.set_xscale("log")
    front = [p for p in shown if p[f"front_{cost}"]]
    for basis in dict.fromkeys((p["basis"], cost == "energy" and p["energy_part"]) for p in front):
        steps = [p for p in front if (p["basis"], cost == "energy" and p["energy_part"]) == basis]
        steps.sort(key=lambda p: p[cost]["nominal"])
        places = [(p[cost]["nominal"], p["nmse"]["nominal"]) for p in steps]
        ax.step(*zip(*places, strict=True), where="post", color=palette.soft, linewidth=1.2, zorder=1)
        ax.plot(*zip(*places, strict=True), "o", markersize=14, markerfacecolor="none", markeredgecolor=palette.ink,
                zorder=1)  # fmt: skip
    for n, point in enumerate(shown):
        _point(ax, point, cost, colours[point["model"]], markers[point["target"]], palette)
        if len(shown) <= MOST_NUMBERED or point in front:
            ax.annotate(
                str(point["number"]), (point[cost]["nominal"], point["nmse"]["nominal"]),
                (8, 7) if n % 2 == 0 else (8, -15), textcoords="offset points", color=palette.ink, zorder=5,
            )  # fmt: skip
    if cost == "latency":
        ax.axvline(slot_s, color=palette.ink, linestyle=(0, (1, 1.5)), linewidth=1.6, label="5G slot, 0.5 ms")
    values = [p[cost][key] or p[cost]["nominal"] for p in shown for key in ("low", "nominal", "high")]
    values += [slot_s] if cost == "latency" else []
    ax.set_xlim(min(values) / 2, max(values) * 2)
    ax.xaxis.set_major_locator(LogLocator(base=10, numticks=6))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: tick_text(value, {"energy": "J", "latency": "s"}[cost]))
    )
    ax.set_xlabel({"energy": "energy per inference", "latency": "latency of one inference"}[cost])
    ax.set_ylabel("NMSE (dB), lower is better")
    ax.grid(True)
    _legend(ax, shown, colours, markers, palette, bool(front))


def _point(ax: Axes, point: Point, cost: str, colour: str, marker: str, palette: Palette) -> None:
    x, y = point[cost], point["nmse"]
    low, high = (x[key] or x["nominal"] for key in ("low", "high"))
    dash = ":" if cost == "energy" and point["energy_part"] == "event" else "-"
    ax.plot([low, high], [y["nominal"]] * 2, dash, color=colour, linewidth=1.5, zorder=2)
    ax.plot([x["nominal"]] * 2, [y["low"], y["high"]], "-", color=colour, linewidth=1, zorder=2)
    face = palette.paper if point["role"] == "twin" else colour
    ax.plot([x["nominal"]], [y["nominal"]], marker, color=colour, markerfacecolor=face, markersize=7, zorder=3)


def _legend(
    ax: Axes, shown: list[Point], colours: dict[str, str], markers: dict[str, str], palette: Palette, front: bool
) -> None:
    """Entries without points: a colour a model, a marker a target, the ring of the front."""
    twins = {p["model"] for p in shown if p["role"] == "twin"}
    for model, colour in colours.items():
        face = palette.paper if model in twins else colour
        ax.plot([], [], "-o", color=colour, markerfacecolor=face, label=f"twin {model}" if model in twins else model)
    for target in dict.fromkeys(p["target"] for p in shown):
        ax.plot([], [], markers[target], color=palette.soft, label=target)
    if front:
        ax.plot([], [], "-o", markersize=11, color=palette.soft, markerfacecolor="none", label="Pareto front")
