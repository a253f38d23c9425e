"""Tasks that give no NMSE over SNR: scores by method and number of labels, as one table of rows and columns."""

from __future__ import annotations

from typing import Any


def task_section(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Columns and rows of an evaluation.json of `spikeport.scores/1` or `spikeport.classification/1`."""
    make = _scores if evaluation["schema"] == "spikeport.scores/1" else _classification
    facts = {key: evaluation[key] for key in ("task", "model", "data", "links", "seed", "kind", "notes")}
    return {**facts, **make(evaluation)}


def _scores(evaluation: dict[str, Any]) -> dict[str, Any]:
    metrics = evaluation["metrics"]
    snr = evaluation["snr_db"]
    noise = "no noise" if snr is None else f"{snr:g} dB SNR"
    source = (
        f"evaluation.json: {evaluation['links']} test links, {noise}, seed {evaluation['seed']}, {evaluation['data']}"
    )
    spread = f"lowest to highest of {evaluation['places']} places and {evaluation['seeds']} draws of labels"
    columns = [{"name": m["name"], "unit": m["unit"], "better": m["better"]} for m in metrics]
    rows = [
        {
            "method": score["method"], "role": score["role"], "setting": score["setting"], "labels": score["labels"],
            "cells": [_cell(score["values"].get(m["name"]), m["unit"], evaluation["kind"], source) for m in metrics],
        }
        for score in evaluation["scores"]
    ]  # fmt: skip
    return {"source": source, "spread": spread, "columns": columns, "rows": rows}


def _classification(evaluation: dict[str, Any]) -> dict[str, Any]:
    draws = evaluation["draws"]
    source = (
        f"evaluation.json: {evaluation['links']} links, {evaluation['classes']} classes, {draws} draws of labels, "
        f"seed {evaluation['seed']}, {evaluation['data']}"
    )
    rows = [
        {
            "method": curve["method"], "role": "features: " + curve["features"], "setting": "", "labels": count,
            "cells": [
                _quantity(accuracy, accuracy - spread, accuracy + spread, "fraction", evaluation["kind"], source),
                _quantity(f1, f1, f1, "fraction", evaluation["kind"], source),
            ],
        }
        for curve in evaluation["curves"]
        for count, accuracy, spread, f1 in zip(
            curve["labels"], curve["accuracy"], curve["spread"], curve["f1"], strict=True
        )
    ]  # fmt: skip
    columns = [{"name": name, "unit": "", "better": "higher"} for name in ("accuracy", "weighted F1")]
    spread = f"one standard deviation over {draws} draws, accuracy only"
    return {"source": source, "spread": spread, "columns": columns, "rows": rows}


def _cell(value: dict[str, float] | None, unit: str, kind: str, source: str) -> dict[str, Any] | None:
    return None if value is None else _quantity(value["mean"], value["low"], value["high"], unit or "1", kind, source)


def _quantity(nominal: float, low: float, high: float, unit: str, kind: str, source: str) -> dict[str, Any]:
    return {"low": low, "nominal": nominal, "high": high, "unit": unit, "kind": kind, "source": [source]}
