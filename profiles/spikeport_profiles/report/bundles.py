"""The bundle section: what became of each part, and whether the artefact equals the model."""

from __future__ import annotations

from typing import Any

from .numbers import plural, value_text

_FACTS = ("spikeport", "created", "route", "precision", "steps", "levels", "plan")


def bundle_section(name: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """Facts, plan counts and items, parity rows and sizes of one bundle."""
    actions = [item["action"] for item in manifest["plan"]]
    rows = [_row(row) for row in manifest["parity"]["rows"]]
    sizes = [entry["bytes"] for entry in manifest["files"].values()]
    return {
        "name": name,
        "model": manifest["model"]["name"],
        "trained": manifest["model"]["trained"],
        "target": manifest["target"]["id"],
        **{key: manifest[key] for key in _FACTS},
        "plan_counts": {action: actions.count(action) for action in ("kept", "rewritten", "refused")},
        "verdict": _verdict(manifest["parity"]["ok"], rows),
        "parity": {"ok": manifest["parity"]["ok"], "rows": rows},
        "files": len(sizes),
        "bytes": sum(sizes),
        "versions": manifest.get("versions", {}),
    }


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """A parity row with its texts; a null value is an infinite one: exact agreement, or no number at all.

    A row over its limit that is ok nevertheless was reported and not gated (untrained weights).
    """
    over = row["value"] is not None and row["limit"] is not None and row["value"] > row["limit"]
    holds = "NO" if not row["ok"] else "not gated" if over else "yes"
    infinite = "exact" if row["ok"] else "not finite"
    value = infinite if row["value"] is None else value_text(row["value"], row["unit"])
    return {**row, "value_text": value, "limit_text": value_text(row["limit"], row["unit"]), "holds": holds}


def bundle_sentence(bundle: dict[str, Any]) -> str:
    """The outcome of one bundle in a sentence."""
    rows, counts = bundle["parity"]["rows"], bundle["plan_counts"]
    held, ungated = _count(rows, "yes"), _count(rows, "not gated")
    loose = f", {ungated} over it but not gated" if ungated else ""
    refused = f"{counts['refused']} refused" if counts["refused"] else "none refused"
    return (
        f"{bundle['name']} ({bundle['target']}, {bundle['precision']}): {bundle['verdict']}, {held} of {len(rows)} "
        f"comparisons within their limit{loose}; {plural(counts['kept'], 'part')} kept, "
        f"{counts['rewritten']} rewritten, {refused}."
    )


def _verdict(ok: bool, rows: list[dict[str, Any]]) -> str:
    if not ok:
        return "parity FAILS"
    return "parity not gated" if _count(rows, "not gated") else "parity holds"


def _count(rows: list[dict[str, Any]], holds: str) -> int:
    return sum(row["holds"] == holds for row in rows)
