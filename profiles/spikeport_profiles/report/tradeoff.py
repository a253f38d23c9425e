"""The main picture: NMSE against energy and against latency, a point per model, target and precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from ..pareto import fronts
from .gather import Run
from .numbers import quantity_text

SLOT_S = 0.5e-3
"""One slot of 14 symbols at 30 kHz subcarrier spacing, in seconds (3GPP TS 38.211, 4.3.2)."""
SLOT = "5G slot at 30 kHz subcarrier spacing"
MOST_NAMED = 4
"""More points than these go by their numbers in a sentence."""
_SLOT_WORDS = {
    "within": "Within one slot over the whole interval",
    "over": "Longer than one slot over the whole interval",
    "undecided": "Interval straddles the slot",
}
Point = dict[str, Any]


def tradeoff_section(runs: Sequence[Run]) -> dict[str, Any] | None:
    """Points of all profiles with what they say together; None where no run has a profile with targets."""
    points = [point for run in runs if run.profile for point in _of_profile(run)]
    return picture(points) if points else None


def sweep_section(name: str, sweep: dict[str, Any]) -> dict[str, Any]:
    """A sweep's points in the same form, its axes and settings, and the points that a target refused."""
    settings = sweep["settings"]
    basis = f"sweep.json: {settings['links']} links a point, seed {settings['seed']}"
    points = [_of_sweep(sweep, point, basis) for point in sweep["points"] if point["status"] == "done"]
    refused = [{"id": p["id"], "reason": p["reason"]} for p in sweep["points"] if p["status"] != "done"]
    return {
        "name": name,
        "model": sweep["model"],
        "axes": sweep["axes"],
        "settings": settings,
        "refused": refused,
        **picture(points, marked=True),
    }


def picture(points: list[Point], marked: bool = False) -> dict[str, Any]:
    """Number the points, mark the Pareto fronts (unless they are `marked`) and say what the two plots show.

    A front holds the points that no other beats in both NMSE and cost. Only points evaluated on the same samples are
    compared, totals with totals and event energies with event energies; the 45 nm convention, no device, stays out.
    """
    for number, point in enumerate(points, 1):
        point |= {"number": number, "slot": _slot(point["latency"])}
    if not marked:
        for basis in dict.fromkeys(p["basis"] for p in points):
            for found in fronts([_priced(p) for p in points if p["basis"] == basis]):
                points[found["number"] - 1] |= {k: found[k] for k in ("front_energy", "front_latency")}
    return {"slot_s": SLOT_S, "slot": SLOT, "points": points, "findings": _findings(points)}


def label(point: Point) -> str:
    """`3 (spikewfm-nano on Loihi 2, int8)`."""
    what = point["setting"] or f"{point['model']} on {point['target']}, {point['precision']}"
    return f"{point['number']} ({what})"


def _of_profile(run: Run) -> Iterable[Point]:
    profile = run.profile
    assert profile is not None
    report = profile["accuracy"]
    for target in profile["targets"]:
        twin, bills = profile["twin"], [(target, profile["model"]["name"], "model")]
        if target["twin"] and twin:
            bills.append((target["twin"], twin["name"], "twin"))
        for bill, name, role in bills:
            total, event = bill["energy"]["total"], bill["energy"]["event"]
            part = "total" if _known(total) else "event" if _known(event) else None
            yield {
                "run": run.name, "model": name, "role": role, "setting": None, "target": target["name"],
                "target_id": target["id"], "class": target["class"], "precision": target["precision"],
                "boundary": target["boundary"], "note": "",
                **_nmse(run, report, bill["accuracy"] if role == "twin" else target["accuracy"], role, name),
                "energy": {"total": total, "event": event, None: None}[part], "energy_part": part,
                "latency": bill["latency"] if _known(bill["latency"]) else None,
                "front_energy": False, "front_latency": False,
            }  # fmt: skip


def _of_sweep(sweep: dict[str, Any], point: dict[str, Any], basis: str) -> Point:
    artefact = point.get("nmse_of", "artefact") == "artefact"
    return {
        "run": None, "model": sweep["model"], "role": "model",
        "setting": f"{point['neuron']}, T = {point['steps']}, D = {point['levels']}, {point['precision']}, "
        f"{point['target']}",
        "target": point["target"], "target_id": point["target"], "class": "", "precision": point["precision"],
        "boundary": point["boundary"] or "", "note": point["note"] or point["reason"],
        "nmse": _mean(point["curves"], basis), "nmse_of": "artefact" if artefact else "float model", "basis": basis,
        "energy": point["energy"] if _known(point["energy"]) else None, "energy_part": point["energy_part"],
        "latency": point["latency"] if _known(point["latency"]) else None,
        "front_energy": point["front_energy"], "front_latency": point["front_latency"],
    }  # fmt: skip


def _nmse(
    run: Run, report: dict[str, Any] | None, deployed: dict[str, Any] | None, role: str, name: str
) -> dict[str, Any]:
    """NMSE of the artefact where it was run, else of the float model: in the profile, else in the evaluation."""
    terms = f"{report['links']} links a point, seed {report['seed']}, {report['data']}" if report else ""
    if deployed and deployed["curves"]:
        source = f"profile.json: the artefact in {deployed['runtime']}, {terms}"
        return _scored(deployed["curves"], source, "artefact", terms)
    if report and report[role]:
        return _scored(report[role], f"profile.json: the float {role}, {terms}", "float model", terms)
    evaluation = run.evaluation
    if evaluation:
        curves = [c for c in evaluation["curves"] if c["role"] == role and c["method"] == name]
        terms = f"{evaluation['links']} links a point, seed {evaluation['seed']}, {evaluation['data']}"
        return _scored(curves, f"evaluation.json: the float {role}, {terms}", "float model", terms)
    return {"nmse": None, "nmse_of": "float model", "basis": ""}


def _scored(curves: list[dict[str, Any]], source: str, of: str, terms: str) -> dict[str, Any]:
    grid = sorted((c["regime"], c["split"], *c["snr_db"]) for c in curves)
    return {"nmse": _mean(curves, source), "nmse_of": of, "basis": f"{terms} {grid}"}


def _mean(curves: list[dict[str, Any]], source: str) -> dict[str, Any] | None:
    """Mean in dB over regimes, splits and SNRs; low and high are the means of the 95 % bounds of the points."""
    if not curves:
        return None
    low, nominal, high = (fmean(v for curve in curves for v in curve[key]) for key in ("low_db", "nmse_db", "high_db"))
    snrs = ", ".join(f"{snr:g}" for snr in sorted({snr for curve in curves for snr in curve["snr_db"]}))
    places = ", ".join(dict.fromkeys(f"{c['regime']} {c['split']}" for c in curves))
    text = f"{source}; mean in dB over {places} and {snrs} dB SNR"
    return {"low": low, "nominal": nominal, "high": high, "unit": "dB", "kind": "simulated", "source": [text]}


def _priced(point: Point) -> dict[str, Any]:
    """A point as `fronts` reads it; a convention has no price."""
    device, nmse = point["class"] != "convention", point["nmse"]
    return {
        "number": point["number"],
        "nmse_db": nmse and nmse["nominal"],
        "energy": point["energy"] if device else None,
        "energy_part": point["energy_part"],
        "latency": point["latency"] if device else None,
    }


def _slot(latency: dict[str, Any] | None) -> str | None:
    if latency is None:
        return None
    low, high = (latency[key] or latency["nominal"] for key in ("low", "high"))
    return "within" if high <= SLOT_S else "over" if low > SLOT_S else "undecided"


def _findings(points: list[Point]) -> list[str]:
    found = []
    for cost in ("energy", "latency"):
        front = [p for p in points if p[f"front_{cost}"]]
        priced = [p for p in points if p["nmse"] and p[cost]]
        if front and len(priced) > 1:
            names = "; ".join(f"{label(p)}: {quantity_text(p[cost])}" for p in front[:MOST_NAMED])
            names += f"; and {len(front) - MOST_NAMED} more, marked below" if len(front) > MOST_NAMED else ""
            found.append(f"On the Pareto front of NMSE against {cost}, by nominal values: {names}.")
    for verdict, words in _SLOT_WORDS.items():
        chosen = [p for p in points if p["slot"] == verdict]
        if chosen:
            few = "; ".join(map(label, chosen))
            numbers = f"points {', '.join(str(p['number']) for p in chosen)}"
            found.append(f"{words} (0.5 ms): {few if len(chosen) <= MOST_NAMED else numbers}.")
    if len({p["basis"] for p in points if p["nmse"]}) > 1:
        found.append("Not all points were evaluated on the same samples: fronts hold only those that were.")
    floats = [p["number"] for p in points if p["nmse"] and p["nmse_of"] != "artefact"]
    if floats:
        numbers = ", ".join(map(str, floats))
        found.append(
            f"NMSE is that of the deployed artefact, run as on the target, except for the float model's at {numbers}."
            if len(floats) < sum(p["nmse"] is not None for p in points)
            else "NMSE is that of the float model: no artefact was run for these targets (profile with --accuracy)."
        )
    elif any(p["nmse"] for p in points):
        found.append("NMSE is that of the deployed artefact, run as on the target.")
    if any(p["energy_part"] == "event" for p in points):
        found.append(
            "Points marked event hold event energy alone, which is no total: they are compared among themselves."
        )
    unseen = [label(p) for p in points if p["nmse"] is None or (p["energy"] is None and p["latency"] is None)]
    if unseen:
        found.append(f"Not in the pictures, for want of a figure: {'; '.join(unseen)}.")
    return found


def _known(quantity: dict[str, Any] | None) -> bool:
    return quantity is not None and quantity["nominal"] is not None
