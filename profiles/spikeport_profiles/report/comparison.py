"""Several runs side by side: one table of quantities, and the models' curves in common panels."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from .accuracy import panels
from .costs import FOREIGN
from .headline import quoted

Row = dict[str, Any]


def comparison(runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Table rows with one cell a run (null where a run lacks the number) and shared panels; None for a single run."""
    if len(runs) < 2:
        return None
    tables = [_quantities(run) for run in runs]
    labels = list(dict.fromkeys(label for table in tables for label in table))
    rows = [{"label": label, "cells": [table.get(label) for table in tables]} for label in labels]
    return {"columns": [run["name"] for run in runs], "rows": rows, "panels": panels(_shared_curves(runs))}


def _quantities(run: dict[str, Any]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    if run["accuracy"]:
        _add_accuracy(cells, run["accuracy"])
    if run["sparsity"]:
        kind, source = run["sparsity"]["kind"], run["sparsity"]["source"]
        total = run["layers"]["total"]
        cells["mean spike rate"] = _exact(run["sparsity"]["mean_rate"], "fraction", kind, source)
        cells["synaptic operations"] = _exact(total["synops"], "SynOp", kind, source)
        cells["multiply-accumulates, algebraic"] = _exact(total["macs_algebraic"], "MAC", kind, source)
        cells["weights"] = _exact(total["weight_bytes"], "B", kind, source)
    for target in run["cost"]["targets"] if run["cost"] else ():
        place = f"{target['name']}, {target['precision']}"
        for row in target["shown"]:
            cells[f"{row['part']} energy: {place}"] = row["model"] or _exact(None, "J", "estimated", "none published")
        if target["absent"]["latency"] != FOREIGN:
            cells[f"latency: {place}"] = target["latency"] or _exact(None, "s", "estimated", "none published")
    return cells


def _add_accuracy(cells: dict[str, Any], section: dict[str, Any]) -> None:
    for panel in section["panels"]:
        for curve in (c for c in panel["curves"] if c["role"] == "model"):
            snr, nmse = quoted(curve)
            index = curve["snr_db"].index(snr)
            cells[f"NMSE at {snr:g} dB SNR: {panel['regime']} {panel['split']}"] = {
                "low": curve["low_db"][index], "nominal": nmse, "high": curve["high_db"][index],
                "unit": "dB", "kind": section["kind"], "source": [section["source"]],
            }  # fmt: skip


def _exact(value: float | None, unit: str, kind: str, source: str) -> dict[str, Any]:
    return {"low": value, "nominal": value, "high": value, "unit": unit, "kind": kind, "source": [source]}


def _shared_curves(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Models and baselines of all runs; equal curves once, differing ones of the same method named by their run."""
    kept: list[tuple[str, dict[str, Any]]] = []
    for run in runs:
        for curve in (c for p in run["accuracy"]["panels"] for c in p["curves"]) if run["accuracy"] else ():
            if curve["role"] != "twin" and not any(other == curve for _, other in kept):
                kept.append((run["name"], curve))
    return [_named(name, curve, kept) for name, curve in kept]


def _named(name: str, curve: dict[str, Any], kept: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    key = ("method", "regime", "split")
    clash = sum(all(other[k] == curve[k] for k in key) for _, other in kept) > 1
    return {**deepcopy(curve), "label": f"{curve['label']} ({name})" if clash else curve["label"]}
