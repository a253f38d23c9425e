"""The accuracy section: NMSE over SNR per regime and split, and what each curve says against the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .numbers import decibel_text

_REGIMES = {"R1": "R1, contiguous slots", "R2": "R2, slots 5 ms apart", "recorded": "as recorded"}
_LABELS = {
    "last-value": "last value", "slot-mean": "slot mean", "wiener": "robust Wiener", "wiener-mixture": "Wiener mixture",
    "lmmse": "separable LMMSE", "genie": "genie LMMSE (limit)", "ar": "autoregression", "pad": "vector Prony (PAD)",
    "kalman": "Kalman filter", "wiener-2x1d": "2x1-D Wiener", "wiener-threshold": "delay threshold + Wiener",
    "lstm": "LSTM", "gru": "GRU", "ls": "least squares", "ls-linear": "least squares + interpolation",
}  # fmt: skip
_ASIDES = {
    "wiener": ", a fixed filter that is told the SNR,",
    "lmmse": ", a linear filter with the training cities' covariance that is told the SNR,",
}
EQUAL_DB = 0.05
"""Smaller differences would be printed as 0.0 dB and count as equal."""


def accuracy_section(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Panels in the order of their first curve, each with its curves and findings."""
    facts = {key: evaluation[key] for key in ("task", "model", "metric", "links", "seed", "kind", "data")}
    axis = evaluation.get("axis", "SNR")
    curves = [{**curve, "axis": axis} for curve in evaluation["curves"]]
    return {**facts, "source": _source(evaluation), "panels": panels(curves)}


def panels(curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Group curves by regime, split and axis (SNR or SINR)."""
    keys = ("regime", "split", "axis")
    places = sorted({tuple(str(curve[key]) for key in keys) for curve in curves})
    return [_panel(place, [c for c in curves if tuple(c[k] for k in keys) == place]) for place in places]


def _panel(place: tuple[str, ...], curves: list[dict[str, Any]]) -> dict[str, Any]:
    regime, split, axis = place
    order = {"model": 0, "deployed": 1, "twin": 2, "baseline": 3, "limit": 4}
    curves = sorted(curves, key=lambda curve: order[curve["role"]])
    for curve in curves:
        curve["label"] = curve.get("label") or _LABELS.get(curve["method"], curve["method"])
    models = [curve for curve in curves if curve["role"] == "model"]
    versus = [_versus(model, other) for model in models for other in curves if other["role"] != "model"]
    return {
        "regime": regime,
        "split": split,
        "axis": axis,
        "title": f"{_REGIMES.get(regime, regime)}: {split}",
        "curves": curves,
        "versus": versus,
        "findings": [_sentence(each).replace("SNR", axis) for each in versus],
    }


def _versus(model: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Where the mean NMSE of `other` is lower than the model's (`ahead`) and where it is higher (`behind`).

    The evaluation holds an interval for each mean and none for their paired difference, so no win is claimed.
    """
    theirs = {row[0]: row[1:] for row in _points(other)}
    pairs = [(snr, mine, theirs[snr]) for snr, *mine in _points(model) if snr in theirs]
    grid = [snr for snr, _, _ in pairs]
    ahead = [pair for pair in pairs if pair[1][0] - pair[2][0] > EQUAL_DB]
    behind = [pair for pair in pairs if pair[2][0] - pair[1][0] > EQUAL_DB]
    return {
        "model": model["label"],
        "other": other["label"],
        "method": other["method"],
        "role": other["role"],
        "points": len(pairs),
        "ahead": _where(ahead, grid),
        "behind": _where(behind, grid),
        "gap": _span([mine[0] - theirs[0] for _, mine, theirs in pairs]) if pairs else None,
    }


def _points(curve: dict[str, Any]) -> list[tuple[float, float, float, float]]:
    return list(zip(curve["snr_db"], curve["nmse_db"], curve["low_db"], curve["high_db"], strict=True))


def _sentence(versus: dict[str, Any]) -> str:
    us, other = versus["model"], versus["other"]
    name = other if versus["role"] in ("deployed", "twin") else f"{other[0].upper()}{other[1:]}"
    if not versus["points"]:
        return f"{name} and {us} were not evaluated at a common SNR."
    if versus["role"] == "limit" and versus["ahead"]:
        return (
            f"{us} stands {versus['gap']} above the limit, a {other.removesuffix(' (limit)')} that is told every path."
        )
    if not versus["ahead"] and not versus["behind"]:
        return f"{name} equals {us} within {EQUAL_DB} dB at every SNR."
    if not versus["ahead"]:
        return f"{us} has a lower mean NMSE than {other} {versus['behind']}."
    lower = f"{name}{_ASIDES.get(versus['method'], '')} has a lower mean NMSE than {us} {versus['ahead']}"
    return f"{lower}; {us} has the lower one {versus['behind']}." if versus["behind"] else f"{lower}."


def _where(pairs: Sequence[tuple[float, Sequence[float], Sequence[float]]], grid: list[float]) -> str | None:
    """`at 15 to 30 dB SNR, by 0.2 to 1.3 dB`, and at how many of those points the intervals overlap."""
    if not pairs:
        return None
    by = _span([abs(mine[0] - theirs[0]) for _, mine, theirs in pairs])
    place = "every SNR" if len(pairs) == len(grid) else f"{ranges([snr for snr, _, _ in pairs], grid)} SNR"
    overlaps = sum(mine[1] <= theirs[2] and theirs[1] <= mine[2] for _, mine, theirs in pairs)
    doubt = f" (95 % intervals overlap at {overlaps} of {len(pairs)} points)" if overlaps else ""
    return f"at {place}, by {by}{doubt}"


def _span(gaps: list[float]) -> str:
    """`0.2 to 1.3 dB`, or one value where they are all alike."""
    low, high = min(gaps), max(gaps)
    return f"{decibel_text(high)} dB" if high - low < EQUAL_DB else f"{decibel_text(low)} to {decibel_text(high)} dB"


def ranges(points: list[float], grid: list[float]) -> str:
    """`−10 to 0 and 20 dB`: runs of neighbouring grid points."""
    runs: list[list[float]] = []
    for point in points:
        if runs and grid.index(point) == grid.index(runs[-1][-1]) + 1:
            runs[-1].append(point)
        else:
            runs.append([point])
    texts = [snr_text(r[0]) if len(r) == 1 else f"{snr_text(r[0])} to {snr_text(r[-1])}" for r in runs]
    return " and ".join(texts) + " dB"


def snr_text(value: float) -> str:
    """`−10`, `2.5`: an SNR in dB without needless decimals."""
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def _source(evaluation: dict[str, Any]) -> str:
    first, count = evaluation["seed"], evaluation.get("seeds", 1)
    seeds = f"seed {first}" if count == 1 else f"seeds {first} to {first + count - 1}"
    parts = [f"evaluation.json: {evaluation['links']} links a point, {seeds}, {evaluation['data']}"]
    parts += evaluation.get("impairments", [])
    return "; ".join(parts + [note.rstrip(".") for note in evaluation.get("notes", [])])
