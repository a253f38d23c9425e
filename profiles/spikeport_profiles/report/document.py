"""report.json: the truth behind the page. HTML, Markdown and plots show what stands here and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .accuracy import accuracy_section
from .bundles import bundle_section
from .comparison import comparison
from .costs import cost_section
from .detail import detail_section
from .gather import Run
from .headline import headline, limits
from .measurements import measured_section
from .numbers import plural
from .sparsity import layer_section, sparsity_section
from .tasks import task_section
from .tradeoff import sweep_section, tradeoff_section

SCHEMA = "spikeport.report/1"


def report_document(runs: Sequence[Run], title: str | None = None) -> dict[str, Any]:
    """The whole report as plain values (schema `spikeport.report/1`)."""
    sections = [_run(run) for run in runs if run.evaluation or run.profile or run.bundles or run.table]
    sweeps = [sweep_section(run.name, run.sweep) for run in runs if run.sweep]
    names = list(dict.fromkeys([*(s["model"]["name"] for s in sections), *(s["model"] for s in sweeps)]))
    return {
        "schema": SCHEMA,
        "title": title or f"{', '.join(names)}: accuracy, sparsity and cost",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "spikeport": _version(),
        "headline": [{"run": section["name"], "points": headline(section)} for section in sections],
        "limits": limits(sections),
        "tradeoff": tradeoff_section(runs),
        "sweeps": sweeps,
        "comparison": comparison(sections),
        "runs": sections,
    }


def _run(run: Run) -> dict[str, Any]:
    profile = run.profile
    return {
        "name": run.name,
        "model": _model(run),
        "accuracy": accuracy_section(run.evaluation) if run.evaluation else None,
        "sparsity": sparsity_section(profile["trace"]) if profile else None,
        "cost": cost_section(profile) if profile else None,
        "budget": profile["budget"] if profile else None,
        "measured": measured_section(run),
        "layers": layer_section(profile["trace"]) if profile else None,
        "detail": detail_section(profile["trace"]) if profile else None,
        "table": task_section(run.table) if run.table else None,
        "twin": _twin(profile),
        "bundles": [bundle_section(name, manifest) for name, manifest in run.bundles.items()],
    }


def _twin(profile: dict[str, Any] | None) -> dict[str, Any] | None:
    if profile is None or profile["twin"] is None:
        return None
    twin = profile["twin"]
    return {"name": twin["name"], "trained": twin["trained"], "total": layer_section(twin["trace"])["total"]}


def _model(run: Run) -> dict[str, Any]:
    """What is known of the model, from the profile, else a bundle, else the evaluation's name alone."""
    if run.profile:
        model, trace = run.profile["model"], run.profile["trace"]
        head, counts = model["head_parameters"], trace
    elif run.bundles:
        counts = next(iter(run.bundles.values()))
        model, head = counts["model"], None
    else:
        found = run.evaluation or run.table
        name = found["model"] if found else run.name
        model, counts, head = {"name": name, "parameters": None, "trained": None}, {"steps": None, "levels": None}, None
    return {
        "name": model["name"],
        "parameters": model["parameters"],
        "head_parameters": head,
        "trained": model["trained"],
        "steps": counts["steps"],
        "levels": counts["levels"],
        "inference": _inference(model.get("config")),
    }


def _inference(config: dict[str, Any] | None) -> str | None:
    """What one inference reads and gives, from the model's token grid."""
    grid = (config or {}).get("grid")
    if not grid:
        return None
    seen, next_slots = grid["slots"] - grid["predicted_slots"], grid["predicted_slots"]
    return (
        f"One inference reads {seen} slots of 14 symbols x {grid['antennas']} antenna links x {12 * grid['blocks']} "
        f"subcarriers (30 kHz apart) and predicts the next {plural(next_slots, 'slot')}, batch 1"
    )


def _version() -> str:
    try:
        return version("spikeport")
    except PackageNotFoundError:
        return "(development tree)"
