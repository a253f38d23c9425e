"""Drawing on matplotlib axes: NMSE over SNR, spike rates, intervals on a log axis. No files, no themes here."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, MultipleLocator, NullFormatter

from .numbers import NOT_PUBLISHED, nominal_text, percent_text
from .palette import Palette

_TWIN_STYLES = (("--", "s"), ("--", "^"), ("--", "D"), ("--", "v"))
_BASELINE_DASHES = (":", "-.", (0, (8, 2)), (0, (4, 1.5, 1, 1.5, 1, 1.5)), (0, (1, 3)))
_BASELINE_STYLES = tuple(zip(_BASELINE_DASHES * 7, "x+1234|" * 5, strict=True))
"""Seven markers over six colours: no pair comes twice among 42 baselines."""
_MODEL_STYLES = (("-", "o"), ((0, (6, 1)), "P"), ((0, (6, 1, 2, 1)), "X"), ((0, (3, 1)), "*"))
_DEPLOYED_STYLES = (((0, (2, 2)), "d"), ((0, (2, 2)), "p"), ((0, (2, 2)), "h"), ((0, (2, 2)), "8"))
_LIMIT_STYLES = (("-", ""),)
_STYLES: dict[str, tuple[tuple[Any, str], ...]] = {
    "model": _MODEL_STYLES,
    "deployed": _DEPLOYED_STYLES,
    "twin": _TWIN_STYLES,
    "baseline": _BASELINE_STYLES,
    "limit": _LIMIT_STYLES,
}
_THIN: dict[str, Any] = {"linewidth": 1.3, "markersize": 5, "zorder": 2}
_WEIGHTS: dict[str, dict[str, Any]] = {
    "model": {"linewidth": 2.2, "markersize": 5.5, "zorder": 3},
    "deployed": {"linewidth": 1.0, "markersize": 10, "zorder": 4},  # a ring: it lies on the model's curve, as it should
}
Interval = dict[str, Any] | None


def nmse_plot(ax: Axes, panel: dict[str, Any], palette: Palette) -> None:
    """NMSE in dB over SNR in dB: line and marker per method, a band from low to high."""
    seen = dict.fromkeys(_STYLES, 0)
    colours = iter(palette.series * 9)
    for curve in panel["curves"]:
        role, number = curve["role"], seen[curve["role"]]
        seen[role] += 1
        styles = _STYLES[role]
        dash, marker = styles[number % len(styles)]
        own = {"limit": palette.ink} | ({"model": palette.model} if number == 0 else {})
        colour = own.get(role) or next(colours)
        ax.fill_between(curve["snr_db"], curve["low_db"], curve["high_db"], color=colour, alpha=0.18, linewidth=0)
        ax.plot(
            curve["snr_db"], curve["nmse_db"], linestyle=dash, marker=marker, color=colour, label=curve["label"],
            **_WEIGHTS.get(role, _THIN), markerfacecolor={"model": colour, "deployed": "none"}.get(role, palette.paper),
        )  # fmt: skip
    points = sorted({snr for curve in panel["curves"] for snr in curve["snr_db"]})
    if len(points) > 1:
        ax.xaxis.set_major_locator(MultipleLocator(max(10.0, (points[-1] - points[0]) / 6)))
    for curve in (c for c in panel["curves"] if c["role"] == "limit"):
        low = ax.get_ylim()[0]
        ax.fill_between(curve["snr_db"], curve["nmse_db"], low, color=palette.line, alpha=0.5, linewidth=0, zorder=0)
        ax.set_ylim(bottom=low)
    ax.set_xlabel(f"{panel.get('axis', 'SNR')} (dB)")
    ax.set_ylabel("NMSE (dB), lower is better")
    ax.grid(True)


def rate_plot(ax: Axes, section: dict[str, Any], palette: Palette) -> None:
    """Horizontal bars of the spike rate of every spiking layer, first layer on top, and the mean as a line."""
    rows, mean = section["rows"], section["mean_rate"]
    rates = [row["spike_rate"] for row in rows]
    ax.barh(range(len(rows)), rates, height=0.68, color=palette.model)
    for y, rate in enumerate(rates):
        ax.annotate(percent_text(rate), (rate, y), (5, 0), textcoords="offset points", va="center", color=palette.ink,
                    zorder=4, bbox=_patch(palette))  # fmt: skip
    ax.axvline(mean, color=palette.ink, linestyle="--", linewidth=1, zorder=3)
    ax.set_yticks(range(len(rows)), [row["label"] for row in rows])
    ax.invert_yaxis()
    ax.set_xlim(0, max(max(rates) * 1.25, 0.01))
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent_text(value)))
    ax.set_xlabel("spikes per neuron and step")
    ax.grid(True, axis="x")
    ax.tick_params(axis="y", length=0)


def rates_over_snr_plot(ax: Axes, section: dict[str, Any], palette: Palette) -> None:
    """Spike rate over SNR in dB: a thin line a layer, the mean of all layers thick."""
    snrs = [point["snr_db"] for point in section["over_snr"]]
    for n, layer in enumerate(section["layers"]):
        dash, marker = _BASELINE_STYLES[n % len(_BASELINE_STYLES)]
        ax.plot(snrs, layer["over_snr"], linestyle=dash, marker=marker, color=palette.series[n % len(palette.series)],
                label=layer["label"], **_THIN)  # fmt: skip
    mean = [point["spike_rate"] for point in section["over_snr"]]
    ax.plot(snrs, mean, "-o", color=palette.model, label="all layers", **_WEIGHTS["model"])
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent_text(value)))
    ax.set_xlabel("SNR (dB)")
    ax.set_ylabel("spikes per neuron and step")
    ax.grid(True)


def interval_plot(
    ax: Axes,
    rows: list[tuple[str, Interval, Interval]],
    names: tuple[str, str | None],
    unit: str,
    palette: Palette,
    limit: tuple[float, str] | None = None,
) -> None:
    """Nominal and interval of model and twin per target on a log axis.

    Args:
        ax: where to draw.
        rows: target's name, the model's quantity, the twin's quantity.
        names: the model's name, and the twin's (None: no twin lines).
        unit: SI unit of the axis.
        palette: colours.
        limit: a value to mark by a vertical line, and its label.
    """
    values = [q[key] for _, *pair in rows for q in pair if _known(q) for key in ("low", "nominal", "high") if q[key]]  # type: ignore[index]
    values += [limit[0]] if limit else []
    ax.set_xscale("log")
    low, high = (min(values), max(values)) if values else (1e-6, 1e-3)
    ax.set_xlim(low / 3, high * 3)
    for n, (title, model, twin) in enumerate(rows):
        top = 3.0 * n
        _text(ax, 0.01, top - 0.85, title, palette, color=palette.ink, weight="bold")
        if n:
            ax.axhline(top - 1.5, color=palette.line, linewidth=0.8)
        _interval(ax, top, model, "o", "-", palette.model, palette, names[0] if n == 0 else None)
        if names[1]:
            _interval(ax, top + 0.85, twin, "s", "--", palette.series[0], palette, names[1] if n == 0 else None)
    if limit:
        ax.axvline(limit[0], color=palette.ink, linestyle=(0, (1, 1.5)), linewidth=1.6, label=limit[1])
    ax.set_ylim(3.0 * len(rows) - 1.5, -1.6)
    ax.set_yticks([])
    narrow = math.log10(ax.get_xlim()[1] / ax.get_xlim()[0]) < 2.2
    ax.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 3) if narrow else (1,), numticks=6))
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value, unit)))
    ax.grid(True, axis="x")


def _interval(
    ax: Axes, y: float, quantity: Interval, marker: str, dash: str, colour: str, palette: Palette, label: str | None
) -> None:
    fill = colour if dash == "-" else palette.paper
    ax.plot([], [], marker=marker, linestyle=dash, color=colour, markerfacecolor=fill, markersize=7, label=label)
    if not _known(quantity):
        _text(ax, 0.02, y, NOT_PUBLISHED, palette, style="italic", color=palette.soft)
        return
    assert quantity is not None
    nominal = quantity["nominal"]
    low, high = quantity["low"] or nominal, quantity["high"] or nominal
    ax.plot([low, high], [y, y], linestyle=dash, color=colour, linewidth=2, marker="|", markersize=8)
    ax.plot([nominal], [y], marker=marker, linestyle=dash, color=colour, markersize=7, markerfacecolor=fill)
    left, right = (math.log10(x) for x in ax.get_xlim())
    on_left = (math.log10(high) - left) / (right - left) > 0.76
    ax.annotate(nominal_text(quantity), (low if on_left else high, y), (-7 if on_left else 7, 0), va="center",
                textcoords="offset points", ha="right" if on_left else "left", color=palette.ink)  # fmt: skip


def _text(ax: Axes, x: float, y: float, text: str, palette: Palette, **style: Any) -> None:
    """A line of text at `x` of the axes' width and `y` in data units."""
    ax.text(x, y, text, transform=ax.get_yaxis_transform(), va="center", zorder=4, bbox=_patch(palette), **style)


def _known(quantity: Interval) -> bool:
    return quantity is not None and quantity["nominal"] is not None


def tick_text(value: float, unit: str) -> str:
    """`10 mJ`: a round value of a log axis."""
    number, prefixed = nominal_text({"nominal": value, "unit": unit}).split(" ")
    return f"{float(number):g} {prefixed}"


def _patch(palette: Palette) -> dict[str, Any]:
    """A backing in the page's colour, so that a line behind a text does not cross it."""
    return {"facecolor": palette.paper, "edgecolor": "none", "pad": 1.0}
