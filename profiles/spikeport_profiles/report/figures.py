"""The figures of a report: every plot of the page as inline SVG, and one picture of a run as PNG."""

from __future__ import annotations

from functools import partial
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from spikeport_errors import InputError

from .accuracy import snr_text
from .costs import FOREIGN
from .miniature import histogram_svg, raster_svg, steps_svg
from .numbers import decibel_text, percent_text
from .palette import LIGHT
from .plots import interval_plot, nmse_plot, rate_plot, rates_over_snr_plot
from .scatter import drawn, scatter_plot
from .svg import png_figure, svg_figure, theme

Rows = list[tuple[str, Any, Any]]


def page_figures(document: dict[str, Any]) -> dict[str, Markup]:
    """Every plot of the page by its name: `main-energy`, `sweep0-latency`, `run0-nmse1`, `run0-layer2-raster`, ..."""
    found: dict[str, Markup] = {}
    if document["tradeoff"]:
        found |= _tradeoff("main", document["tradeoff"])
    for n, sweep in enumerate(document["sweeps"]):
        found |= _tradeoff(f"sweep{n}", sweep)
    for n, panel in enumerate((document["comparison"] or {"panels": []})["panels"]):
        found[f"all-nmse{n}"] = _nmse(f"all-nmse{n}", panel)
    for r, run in enumerate(document["runs"]):
        for n, panel in enumerate(run["accuracy"]["panels"] if run["accuracy"] else ()):
            found[f"run{r}-nmse{n}"] = _nmse(f"run{r}-nmse{n}", panel)
        if run["sparsity"] and run["sparsity"]["rows"]:
            found[f"run{r}-rates"] = _rates(f"run{r}-rates", run["sparsity"])
        if run["cost"] and run["cost"]["targets"]:
            found[f"run{r}-energy"] = _intervals(f"run{r}-energy", run, "energy")
            if _rows(run, "latency"):
                found[f"run{r}-latency"] = _intervals(f"run{r}-latency", run, "latency")
        if run["detail"]:
            found |= _detail(f"run{r}", run["detail"])
    return found


def summary_figure(report_json: dict[str, Any]) -> bytes:
    """One PNG of the first run of a report: accuracy, spike rates and energy side by side, on white.

    Args:
        report_json: the content of a report.json.

    Raises:
        InputError: the run lacks an evaluation or a profile with targets.
    """
    run = next((r for r in report_json["runs"] if r["accuracy"] and r["cost"] and r["cost"]["targets"]), None)
    if run is None:
        raise InputError("no run of this report has both an evaluation and a profile with targets; report such a run")
    with rc_context(theme(LIGHT)):
        figure = Figure(figsize=(12, 8.6), layout="constrained", facecolor=LIGHT.paper)
        figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15, wspace=0.04, hspace=0.04)  # type: ignore[union-attr, call-arg]
        axes = figure.subplots(2, 2)
        for ax, panel in zip(axes[0], _summary_panels(run["accuracy"]["panels"]), strict=False):
            nmse_plot(ax, panel, LIGHT)
            ax.set_title(f"{panel['title']} ({run['accuracy']['kind']})")
        axes[0, 0].legend(loc="best", fontsize=9.5)
        if run["sparsity"]["rows"]:
            rate_plot(axes[1, 0], run["sparsity"], LIGHT)
        axes[1, 0].set_title(f"{_rate_title(run['sparsity'])} ({run['sparsity']['kind']})")
        interval_plot(axes[1, 1], _rows(run, "energy"), _names(run), "J", LIGHT)
        axes[1, 1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.07), ncols=2)
        axes[1, 1].set_title(f"Energy per inference: low, nominal, high ({run['cost']['energy_kind']})")
    return png_figure(figure)


def _summary_panels(panels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One panel a regime, of unseen data where there is some, two at most."""
    best = {panel["regime"]: panel for panel in sorted(panels, key=lambda panel: panel["split"] == "unseen")}
    return [best[regime] for regime in sorted(best)][:2]


def _rate_title(section: dict[str, Any]) -> str:
    return f"Spike rate per layer, mean {percent_text(section['mean_rate'])} dashed"


def _tradeoff(name: str, section: dict[str, Any]) -> dict[str, Markup]:
    """NMSE against energy and against latency, each where at least one point has both."""
    found = {}
    for cost in ("energy", "latency"):
        points = drawn(section["points"], cost)
        if not points:
            continue
        front = [str(p["number"]) for p in points if p[f"front_{cost}"]]
        text = f"{len(points)} points, numbered as in the table below"
        text += f"; on the Pareto front: {', '.join(front)}" if front else ""
        text += "; a vertical line marks one 5G slot, 0.5 ms." if cost == "latency" else "."
        entries = len({p["model"] for p in points}) + len({p["target"] for p in points}) + 2
        found[f"{name}-{cost}"] = svg_figure(
            f"{name}-{cost}", f"NMSE against {cost}", text, 280 + 16 * -(-entries // 2),
            partial(_draw_scatter, section, cost),
        )  # fmt: skip
    return found


def _draw_scatter(section: dict[str, Any], cost: str, ax: Any, palette: Any) -> None:
    scatter_plot(ax, section["points"], cost, palette, section["slot_s"])


def _detail(run: str, section: dict[str, Any]) -> dict[str, Markup]:
    """Rates over SNR of all layers, then raster, potentials and steps of each."""
    found = {}
    if len(section["over_snr"]) > 1:
        ends = "; ".join(
            f"{row['label']} from {percent_text(row['over_snr'][0])} to {percent_text(row['over_snr'][-1])}"
            for row in section["layers"]
        )
        found[f"{run}-over-snr"] = svg_figure(
            f"{run}-over-snr", "Spike rate over SNR", f"{ends}. All values in the table below.",
            250 + 16 * -(-(len(section["layers"]) + 1) // 2),
            lambda ax, palette: rates_over_snr_plot(ax, section, palette),
        )  # fmt: skip
    for n, layer in enumerate(section["layers"]):
        name = f"{run}-layer{n}"
        if layer["raster"]:
            found[f"{name}-raster"] = raster_svg(f"{name}-raster", layer["label"], layer["raster"])
        if layer["membrane"]:
            found[f"{name}-membrane"] = histogram_svg(f"{name}-membrane", layer["label"], layer["membrane"])
        if layer["rate_per_step"]:
            found[f"{name}-steps"] = steps_svg(f"{name}-steps", layer["label"], layer["rate_per_step"])
    return found


def _nmse(name: str, panel: dict[str, Any]) -> Markup:
    ends = "; ".join(
        f"{c['label']} from {decibel_text(c['nmse_db'][0])} to {decibel_text(c['nmse_db'][-1])} dB"
        for c in panel["curves"]
    )
    first = panel["curves"][0]["snr_db"]
    text = (
        f"{panel['axis']} from {snr_text(first[0])} to {snr_text(first[-1])} dB: {ends}. All values in the table below."
    )
    rows = -(-len(panel["curves"]) // 2)
    return svg_figure(
        name, f"NMSE over {panel['axis']}, {panel['title']}", text, 262 + 16 * rows, partial(_draw_nmse, panel)
    )


def _draw_nmse(panel: dict[str, Any], ax: Any, palette: Any) -> None:
    nmse_plot(ax, panel, palette)


def _rates(name: str, section: dict[str, Any]) -> Markup:
    text = "; ".join(f"{row['label']} {percent_text(row['spike_rate'])}" for row in section["rows"])
    return svg_figure(
        name, _rate_title(section), f"Spikes per neuron and step: {text}.", 66 + 21 * len(section["rows"]),
        lambda ax, palette: rate_plot(ax, section, palette), legend=False,
    )  # fmt: skip


def _intervals(name: str, run: dict[str, Any], what: str) -> Markup:
    unit, word = {"energy": ("J", "Energy per inference"), "latency": ("s", "Latency of one inference")}[what]
    rows, names = _rows(run, what), _names(run)
    slot = (run["cost"]["slot_s"], "one slot, 0.5 ms") if what == "latency" else None
    text = f"{word} with low, nominal and high for {', '.join(row[0] for row in rows)}. All values in the table below."
    return svg_figure(
        name, f"{word}, {run['cost'][what + '_kind']}", text, 84 + 62 * len(rows),
        lambda ax, palette: interval_plot(ax, rows, names, unit, palette, slot),
    )  # fmt: skip


def _rows(run: dict[str, Any], what: str) -> Rows:
    targets = run["cost"]["targets"]
    if what == "latency":
        timed = [t for t in targets if t["absent"]["latency"] != FOREIGN]
        return [(t["name"], t["latency"], t["twin"] and t["twin"]["latency"]) for t in timed]
    return [(_row_name(t, row["part"]), row["model"], row["twin"]) for t in targets for row in t["shown"]]


def _row_name(target: dict[str, Any], part: str) -> str:
    if part == "total":
        return str(target["name"])
    return f"{target['name']}: {part} energy only"


def _names(run: dict[str, Any]) -> tuple[str, str | None]:
    return run["model"]["name"], run["cost"]["twin"] and f"twin {run['cost']['twin']}"
