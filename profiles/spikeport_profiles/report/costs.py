"""The cost section: energy and latency per target, beside the quantised ANN twin and the slot."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .numbers import NOT_PUBLISHED, nominal_text, percent_text, quantity_text
from .tradeoff import SLOT_S

CLAIMS = {
    "gpu": "Uncalibrated, latency is good to about a factor of 2 (2.5 for a model family unlike those it was fitted "
    "on), and energy to a factor of 2 at one power mode. No credit is given for spike sparsity on a GPU.",
    "event": "Event energy with a known spike census: within about ±40 %. End-to-end latency is an order of magnitude "
    "unless the cores are the bottleneck. Attention and LayerNorm run on a host: composed, unvalidated.",
    "convention": "A convention that papers use to compare operation counts. It is not a device; measured boards lie "
    "an order of magnitude apart from it.",
    "cpu": "Measured on the machine that wrote the profile, through ONNX Runtime, one thread at batch 1: real, and of "
    "that machine only.",
    "simulator": "Simulated by SANA-FE's model of Loihi 1: dynamic energy of the islands, no static power, host or "
    "link. Its authors state 12 % on energy and 25 % on latency against the chip.",
}
"""What an estimate for this class of target supports, and no more."""

FOREIGN = "does not apply"
"""Stands where a class of target has no such part of the bill."""


def cost_section(profile: dict[str, Any]) -> dict[str, Any]:
    """Every target with what a plot shows of it, its latency against the slot, verdict and constants."""
    targets = [_target(target) for target in profile["targets"]]
    return {
        "slot_s": SLOT_S,
        "twin": profile["twin"] and profile["twin"]["name"],
        "mean_rate": profile["trace"]["totals"].get("spike_rate"),
        "energy_kind": kinds(row["model"] for target in targets for row in target["shown"]),
        "latency_kind": kinds(target["latency"] for target in targets),
        "targets": targets,
    }


def cost_sentence(target: dict[str, Any], twin: str | None) -> str:
    """Energy and latency of one target in a sentence, each with the twin's figure beside it."""
    parts = []
    for row in target["shown"]:
        what = "energy" if row["part"] == "total" else f"{row['part']} energy"
        parts.append(_beside(what, row["model"], row["twin"], twin))
    if target["absent"]["latency"] != FOREIGN:
        parts.append(_beside("latency", target["latency"], target["twin"] and target["twin"]["latency"], twin))
    numbers = [*(row["model"] for row in target["shown"]), target["latency"]]
    return f"{target['name']}: {'; '.join(parts)} ({kinds(numbers)})."


def kinds(quantities: Iterable[dict[str, Any] | None]) -> str:
    """`estimated`, or `estimated and measured` where they differ."""
    return " and ".join(sorted({q["kind"] for q in quantities if q is not None})) or NOT_PUBLISHED


def _target(target: dict[str, Any]) -> dict[str, Any]:
    return {
        **target,
        "claim": CLAIMS.get(target["class"]),
        "absent": {part: _absent_text(target, part) for part in ("event", "system", "host", "total", "latency")},
        "shown": _shown(target),
        "slot": _slot(target),
        "break_even": _break_even(target["break_even_spike_rate"]),
        "missing": [c["name"] for c in target["constants"] if c["nominal"] is None],
    }


def _shown(target: dict[str, Any]) -> list[dict[str, Any]]:
    """The total where it is known; else every known part by itself, since event energy alone would mislead."""
    energy, twin = target["energy"], target["twin"]
    if target["class"] == "cpu" and not _known(energy["total"]):
        return []
    known = [part for part in ("event", "system", "host") if _known(energy[part])]
    parts = known if known and not _known(energy["total"]) else ["total"]
    return [{"part": part, "model": energy[part], "twin": twin and twin["energy"][part]} for part in parts]


def _absent_text(target: dict[str, Any], part: str) -> str:
    """What it means that the target has no number for this part of the bill."""
    klass, energy = target["class"], target["energy"]
    if (klass == "convention" and part != "total") or (klass == "gpu" and part == "host"):
        return FOREIGN
    if klass == "simulator":
        return "not in the simulator's model"
    if klass == "cpu":
        return FOREIGN if part in {"event", "system", "host"} else "no counter could be read"
    if klass == "gpu" and part in {"event", "system"} and _known(energy["total"]):
        return "within the total"
    if klass == "event" and energy["host"] is None and part in {"host", "total"}:
        return "no host given"
    return NOT_PUBLISHED


def _slot(target: dict[str, Any]) -> str | None:
    """How the latency interval lies to one slot; None where the target has no notion of time."""
    latency = target["latency"]
    if not _known(latency):
        no_time = target["class"] == "convention"
        return None if no_time else "Latency rests on an unpublished constant: nothing is said about the slot."
    low, high = latency["low"] or latency["nominal"], latency["high"] or latency["nominal"]
    count = latency["nominal"] / SLOT_S
    slots = f"nominal {count:,.0f} slots" if count >= 10 else f"nominal {count:.2g} slots"
    if high <= SLOT_S:
        return f"Fits in one slot of 0.5 ms over its whole interval ({slots})."
    if low > SLOT_S:
        return f"Longer than one slot of 0.5 ms over its whole interval ({slots})."
    return f"The interval straddles one slot of 0.5 ms ({slots}): undecided without a measurement."


def _break_even(rate: float | None) -> str | None:
    if rate is None:
        return None
    if rate <= 0:
        return "none: dearer even when silent"
    return "any: cheaper even at 100 %" if rate >= 1 else percent_text(rate)


def _beside(what: str, quantity: dict[str, Any] | None, other: dict[str, Any] | None, twin: str | None) -> str:
    text = f"{what} {quantity_text(quantity)}"
    return f"{text}, twin {nominal_text(other)}" if twin else text


def _known(quantity: dict[str, Any] | None) -> bool:
    return quantity is not None and quantity["nominal"] is not None
