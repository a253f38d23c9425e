"""What a device was measured to take, beside the estimate that it replaces."""

from __future__ import annotations

from typing import Any

from .gather import Run

Quantity = dict[str, Any]


def measured_section(run: Run) -> list[dict[str, Any]] | None:
    """A row per figure of every measurement of the run: measured, estimated, and the ratio of the two.

    The estimate is that of profile.json as it was written, for the same target, precision and scenario.
    """
    rows = []
    for taken in run.measured:
        estimated = run.estimated or {"targets": [], "model": {"name": taken.model}}
        place = (taken.target, taken.precision, taken.scenario)
        same = (t for t in estimated["targets"] if (t["id"], t["precision"], t["scenario"] or "none") == place)
        target = next(same, None)
        bill = target if target is None or taken.model == estimated["model"]["name"] else target["twin"]
        figures = {"latency": (taken.latency(), bill and bill["latency"])}
        if (joules := taken.energy()) is not None:
            figures["energy"] = (joules, bill and bill["energy"]["total"])
        for figure, (measured, estimate) in figures.items():
            rows.append({
                "model": taken.model, "target": taken.target, "precision": taken.precision,
                "scenario": taken.scenario, "figure": figure, "source": taken.source,
                "measured": measured.to_dict(), **_held(measured.nominal, estimate),
            })  # fmt: skip
    return rows or None


def _held(measured: float | None, estimate: Quantity | None) -> dict[str, Any]:
    """The estimate, measured over estimated, and whether the measurement lies in the estimate's interval."""
    if estimate is None or measured is None or estimate["nominal"] is None or estimate["kind"] == "measured":
        return {"estimate": None, "ratio": None, "inside": None}
    low, high = (estimate[key] or estimate["nominal"] for key in ("low", "high"))
    return {"estimate": estimate, "ratio": measured / estimate["nominal"], "inside": low <= measured <= high}
