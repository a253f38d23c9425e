"""report.csv: one row a figure over all runs, in the columns of profile.csv, after one that names the run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from ..table import COLUMNS, UNITS
from .gather import Run
from .measurements import measured_section
from .tasks import task_section
from .tradeoff import sweep_section

Row = dict[str, Any]


def csv_text(runs: Sequence[Run]) -> str:
    """The text of report.csv. A figure that nobody can know keeps its row and has no value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ("run", *COLUMNS), restval="", lineterminator="\n")
    writer.writeheader()
    for run in runs:
        for row in _rows(run):
            writer.writerow({"run": run.name} | {key: "" if value is None else value for key, value in row.items()})
    return text.getvalue()


def _rows(run: Run) -> Iterator[Row]:
    if run.evaluation:
        facts = run.evaluation
        source = f"evaluation.json: {facts['links']} links a point, seed {facts['seed']}, {facts['data']}"
        for curve in facts["curves"]:
            yield from _curve({"section": "evaluation", "name": curve["method"]}, curve, facts["kind"], source)
    if run.table:
        yield from _task(task_section(run.table))
    if run.profile:
        yield from _profile(run.profile)
    for row in measured_section(run) or ():
        yield {"section": "measured", "name": row["target"], "precision": row["precision"], "scenario": row["scenario"],
               "figure": {"energy": "energy_total"}.get(row["figure"], row["figure"]),
               **_quantity(row["measured"], "")}  # fmt: skip
    if run.sweep:
        yield from _sweep(sweep_section(run.name, run.sweep))


def _task(section: dict[str, Any]) -> Iterator[Row]:
    for row in section["rows"]:
        labels = "" if row["labels"] is None else f"{row['labels']} labels"
        scenario = "; ".join(filter(None, (row["setting"], labels)))
        for column, quantity in zip(section["columns"], row["cells"], strict=True):
            place = {"section": "task", "name": row["method"], "scenario": scenario}
            yield {**place, "figure": column["name"], **_quantity(quantity, column["unit"] or "1")}


def _profile(profile: dict[str, Any]) -> Iterator[Row]:
    yield from _trace("trace", profile["trace"])
    if profile["twin"]:
        yield from _trace("twin-trace", profile["twin"]["trace"])
    for target in profile["targets"]:
        place = {"name": target["id"], "scenario": target["scenario"], "precision": target["precision"]}
        for section, bill in (("target", target), ("twin", target["twin"])):
            if bill is None:
                continue
            for part, quantity in bill["energy"].items():
                yield {"section": section, **place, "figure": f"energy_{part}", **_quantity(quantity, "J")}
            yield {"section": section, **place, "figure": "latency", **_quantity(bill["latency"], "s")}
            accuracy = bill["accuracy"]
            for curve in accuracy["curves"] if accuracy else ():
                named = {"section": "accuracy" if section == "target" else "twin-accuracy", **place}
                yield from _curve(named, curve, accuracy["kind"], accuracy["runtime"])
        if target["break_even_spike_rate"] is not None:
            yield {"section": "target", **place, "figure": "break_even_spike_rate", "unit": "1", "kind": "estimated",
                   "value": target["break_even_spike_rate"]}  # fmt: skip
    for row in profile["budget"]["rows"] if profile["budget"] else ():
        yield {"section": "budget", "name": row["target"], "precision": row["precision"], "figure": row["figure"],
               "scenario": "pass" if row["ok"] else "fail", "value": row["value"], "unit": row["unit"],
               "kind": row["kind"], "source": row["message"], "high": row["limit"]}  # fmt: skip


def _trace(section: str, trace: dict[str, Any]) -> Iterator[Row]:
    about = {"section": section, "kind": trace["kind"], "source": trace["source"]}
    for layer in trace["layers"]:
        for figure, unit in UNITS.items():
            if layer[figure]:
                yield {**about, "name": layer["path"], "figure": figure, "value": layer[figure], "unit": unit}
    for point in trace["over_snr"]:
        for path, rate in point["layers"].items():
            scenario = f"SNR {point['snr_db']:g} dB"
            yield {**about, "name": path, "scenario": scenario, "figure": "spike_rate", "value": rate, "unit": "1"}


def _sweep(section: dict[str, Any]) -> Iterator[Row]:
    for point in section["points"]:
        place = {"section": "sweep", "name": point["target_id"], "scenario": point["setting"]}
        place["precision"] = point["precision"]
        for figure, unit in (("nmse", "dB"), ("energy", "J"), ("latency", "s")):
            named = f"energy_{point['energy_part'] or 'total'}" if figure == "energy" else figure
            yield {**place, "figure": named, **_quantity(point[figure], unit)}


def _curve(place: Row, curve: dict[str, Any], kind: str, source: str) -> Iterator[Row]:
    for snr, value, low, high in zip(curve["snr_db"], curve["nmse_db"], curve["low_db"], curve["high_db"], strict=True):
        figure = f"nmse {curve['regime']} {curve['split']} at {snr:g} dB"
        yield {**place, "figure": figure, "value": value, "unit": "dB", "kind": kind, "source": source, "low": low,
               "high": high}  # fmt: skip


def _quantity(quantity: dict[str, Any] | None, unit: str) -> Row:
    if quantity is None:
        return {"unit": unit}
    return {"value": quantity["nominal"], "unit": quantity["unit"], "kind": quantity["kind"],
            "source": "; ".join(quantity["source"]), "low": quantity["low"], "high": quantity["high"]}  # fmt: skip
