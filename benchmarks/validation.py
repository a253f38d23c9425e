"""Every published calibration point, predicted and measured: writes docs/validation.md.

    python benchmarks/validation.py

Jetson latency is predicted by fits that saw nothing of the point (or its device, or its family), with the interval of
the refitted constants and the structural factor; neuromorphic energy by the cards as they are shipped. A point that
fitted a constant is shown and not counted.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spikeport_profiles.bare import Counts
from spikeport_profiles.estimate import estimate
from spikeport_profiles.gpu import KNOWN_FAMILY, LATENCY_FACTOR
from spikeport_profiles.latency_fit import (
    NAMES,
    LatencyPoint,
    bootstrap,
    fit,
    held_out,
    latency_points,
    predict,
    within,
)
from spikeport_profiles.montecarlo import DRAWS, TAIL, log_triangular
from spikeport_targets.card import load_card

PAGE = Path(__file__).parent.parent / "docs" / "validation.md"
REFITS = 40
GROUPS: dict[str, tuple[Callable[[LatencyPoint], str], float]] = {
    "one point left out": (lambda p: p.id, KNOWN_FAMILY),
    "one device left out": (lambda p: p.device, LATENCY_FACTOR),
    "one family left out": (lambda p: p.family, LATENCY_FACTOR),
}

EVENT_POINTS = {
    "loihi1_knn_76800": ("loihi1", "counts", ""),
    "loihi2_pilotnet_lif": ("loihi1", "counts", "constants of Loihi 1, which never saw it"),
    "loihi1_kws_scaled_N2": ("loihi1", "fitted", "its spike rate was fitted to the slope between N = 2 and N = 10"),
    "loihi1_kws_scaled_N10": ("loihi1", "fitted", "its spike rate was fitted to the slope between N = 2 and N = 10"),
    "truenorth_sweep_11.58Hz": ("truenorth", "fitted", "an end of the sweep that gave both constants"),
    "truenorth_sweep_95.93Hz": ("truenorth", "fitted", "an end of the sweep that gave both constants"),
    "odin_75MHz": ("odin", "fitted", "the chip's own published model"),
    "spinnaker2_kws_yan": ("spinnaker2", "other path", "dense MACs on the MAC array; it gave that array's upper bound"),
    "akida_akidanet05_224": ("akida-akd1000", "fitted", "gave the floor power and the energy of a MAC"),
}
"""Point, card that predicts it, whether it counts as a test, and why not."""

Interval = tuple[float, float, float]


def latency_intervals(group: Callable[[LatencyPoint], str], factor: float) -> list[Interval]:
    """p10, nominal and p90 of each point, in s, from fits without its group."""
    points = latency_points()
    found: dict[str, Interval] = {}
    for name in dict.fromkeys(map(group, points)):
        rest = [p for p in points if group(p) != name]
        constants, spread = fit(rest), bootstrap(rest, REFITS)
        draws = {
            n: log_triangular(n, min(spread[n][0], constants[n]), constants[n], max(spread[n][1], constants[n]))
            for n in NAMES
        }
        structural = log_triangular("factor_latency", factor**-TAIL, 1, factor**TAIL)
        for point in points:
            if group(point) == name:
                values = np.array(
                    [predict({n: draws[n][i] for n in NAMES}, [point])[0] * structural[i] for i in range(1 + DRAWS)]
                )
                low, high = np.percentile(values[1:], [10, 90])
                found[point.id] = (float(low), float(values[0]), float(high))
    return [found[p.id] for p in points]


def covered(intervals: list[Interval], measured: NDArray[np.float64]) -> float:
    """Share of points inside their interval."""
    return float(np.mean([low <= m <= high for (low, _, high), m in zip(intervals, measured, strict=True)]))


def latency_section() -> list[str]:
    points = latency_points()
    measured = np.array([p.seconds for p in points])
    lines = [
        "## Jetson latency",
        "",
        f"{len(points)} published TensorRT and LLM measurements on AGX Orin and Orin Nano. The interval is the 10th to "
        f"90th percentile of the refitted constants ({REFITS} bootstrap refits) and a structural factor, "
        f"{KNOWN_FAMILY:g} each way where the model family was seen and {LATENCY_FACTOR:g} where not; an estimate of a "
        f"wireless model, whose family nobody measured, carries {LATENCY_FACTOR:g}.",
        "",
        "| held out | within x2 | inside p10-p90 | median p90/p10 | geometric mean of predicted / measured | worst |",
        "|---|---|---|---|---|---|",
    ]
    per_point: list[Interval] = []
    for name, (group, factor) in GROUPS.items():
        intervals, ratios = latency_intervals(group, factor), held_out(points, group)
        per_point = per_point or intervals
        widths = np.median([high / low for low, _, high in intervals])
        mean, worst = np.exp(np.mean(np.log(ratios))), np.exp(np.abs(np.log(ratios)).max())
        lines.append(
            f"| {name} | {within(ratios, 2):.0%} | {covered(intervals, measured):.0%} | {widths:.2f} | {mean:.2f} | "
            f"x{worst:.2f} |"
        )
    errors = np.abs(np.log(held_out(points, lambda p: p.id)))
    nested = np.mean([e <= np.quantile(np.delete(errors, i), 0.85) for i, e in enumerate(errors)])
    lines += [
        "",
        f"The factors were read off these same left-out errors. Read off the others' errors for each point (their 85 % "
        f"quantile), the factor alone covers {nested:.0%}.",
        "",
        "Devices and families are confounded in these points: a family left out usually takes its device along.",
        "",
        "Each point, with itself left out:",
        "",
        "| point | measured, ms | predicted, ms | p10 to p90, ms | inside |",
        "|---|---|---|---|---|",
    ]
    for p, (low, value, high) in zip(points, per_point, strict=True):
        inside = "yes" if low <= p.seconds <= high else "no"
        lines.append(
            f"| {p.id} | {1e3 * p.seconds:.3g} | {1e3 * value:.3g} | {1e3 * low:.3g} to {1e3 * high:.3g} | {inside} |"
        )
    return lines


def energy_section() -> list[str]:
    table = (files("spikeport_profiles") / "calibration" / "gpu_energy.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(table.splitlines()))
    rate = np.array([2 * float(r["macs"]) * float(r["ips"]) for r in rows])
    power = np.array([float(r["power_w"]) for r in rows])
    lines = [
        "## Jetson power at the wall",
        "",
        "P = P0 + e x operations a second on five INT8 runs of MLPerf, AGX Orin, MAXN: each predicted by a line "
        "through the four others. Five points of one board and one mode test no other.",
        "",
        "| run | measured, W | predicted, W | error |",
        "|---|---|---|---|",
    ]
    for i, row in enumerate(rows):
        rest = np.arange(len(rows)) != i
        slope, base = np.polyfit(rate[rest], power[rest], 1)
        value = base + slope * rate[i]
        lines.append(f"| {row['model']} {row['scen']} | {power[i]:.1f} | {value:.1f} | {value / power[i] - 1:+.1%} |")
    return lines


def event_section() -> list[str]:
    table = (files("spikeport_profiles") / "calibration" / "neuromorphic.csv").read_text(encoding="utf-8")
    rows = {row["id"]: row for row in csv.DictReader(table.splitlines())}
    lines = [
        "## Neuromorphic energy",
        "",
        "Event energy by the shipped cards from the published SynOps and neuron updates. Only points whose figures "
        "fitted no constant of the card count as a test. `with system` adds the static and management power over the "
        "measured time, where there is one.",
        "",
        "| point | card | measured | predicted, event | p10 to p90 | event / measured | with system | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, (card, role, why) in EVENT_POINTS.items():
        row, measured = rows[name], float(rows[name]["energy_measured_J"])
        counts = Counts(
            synops=float(row["synops"]),
            neuron_updates=float(row["neuron_updates"] or 0),
            latency_s=float(row["latency_s"]) if row["latency_s"] else None,
        )
        found = estimate(counts, load_card(card)).energy
        energy, system = found.event, found.system
        if energy is None or energy.nominal is None or energy.low is None or energy.high is None:
            lines.append(f"| {name} | {card} | {measured:.3g} J | not published | - | - | - | {role}: {why} |")
            continue
        inside = "inside" if energy.low <= measured <= energy.high else "outside"
        verdict = f"tested: {inside}" + (f" ({why})" if why else "") if role == "counts" else f"{role}: {why}"
        whole = "-"
        if counts.latency_s and system is not None and system.nominal is not None:
            whole = f"{energy.nominal + system.nominal:.3g} J"
        lines.append(
            f"| {name} | {card} | {measured:.3g} J, {row['energy_kind']} | {energy.nominal:.3g} J | "
            f"{energy.low:.3g} to {energy.high:.3g} J | {energy.nominal / measured:.2f} | {whole} | {verdict} |"
        )
    lines += [
        "",
        "What this cannot show: a chip whose floor power is nearly all of its energy (Akida, keyword spotting on "
        "Loihi, TrueNorth) is not described by its events, a network on a MAC array not by its SynOps, and no "
        "end-to-end figure of a hybrid transformer split between chip and host is published.",
    ]
    return lines


def main() -> None:
    head = [
        "# How far off the estimates are",
        "",
        "Written by `python benchmarks/validation.py`. Published measurements only; nothing was measured on "
        "hardware here.",
        "",
    ]
    PAGE.write_text("\n".join([*head, *latency_section(), "", *energy_section(), "", *event_section(), ""]))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
