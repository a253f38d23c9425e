"""The counts of a trace: spike rates and the per-layer table."""

from __future__ import annotations

from typing import Any

from .numbers import percent_text

COUNTS = (
    "spikes", "synops", "macs_executed", "macs_algebraic", "neuron_updates",
    "weight_bytes", "activation_bytes", "state_bytes",
)  # fmt: skip


def sparsity_section(trace: dict[str, Any]) -> dict[str, Any]:
    """Spike rate per spiking layer, their mean weighted by neurons, and how much arithmetic spikes can spare."""
    rows = [
        {"path": layer["path"], "label": short_path(layer["path"]), "spike_rate": layer["spike_rate"],
         "neurons": layer["neurons"], "spikes": layer["spikes"]}
        for layer in trace["layers"] if layer["kind"] == "spiking"
    ]  # fmt: skip
    share = spiking_share(trace)
    return {
        "kind": trace["kind"],
        "source": _source(trace),
        "rows": rows,
        "mean_rate": trace["totals"].get("spike_rate") or _mean_rate(rows),
        "spiking_mac_share": share,
        "findings": _findings(rows, share),
    }


def layer_section(trace: dict[str, Any]) -> dict[str, Any]:
    """Every layer's counts per sample, with totals by kind of layer and over all."""
    layers = [_meaningful(layer) for layer in trace["layers"]]
    kinds = list(dict.fromkeys(layer["kind"] for layer in layers))
    return {
        "kind": trace["kind"],
        "source": _source(trace),
        "rows": layers,
        "by_kind": [_sum(kind, [x for x in layers if x["kind"] == kind]) for kind in kinds],
        "total": _sum("all layers", layers),
        "unaccounted": trace["unaccounted"],
    }


def spiking_share(trace: dict[str, Any]) -> float | None:
    """Share of the algebraic MACs whose input is spikes: the only ones that silence can spare."""
    total = sum(layer["macs_algebraic"] or 0 for layer in trace["layers"])
    fed = sum(
        layer["macs_algebraic"] or 0 for layer in trace["layers"] if layer["input"] == "spikes" or layer["synops"]
    )
    return fed / total if total else None


def _meaningful(layer: dict[str, Any]) -> dict[str, Any]:
    """A zero stays only where it is a finding: a silent neuron layer, or no SynOps in a layer that spikes feed."""
    keep = {"spikes", "spike_rate", "neuron_updates"} if layer["kind"] == "spiking" else set()
    keep |= {"synops"} if layer["input"] == "spikes" else set()
    return {key: None if value == 0 and key not in keep else value for key, value in layer.items()}


def short_path(path: str) -> str:
    """`backbone.blocks.0.ffn.neuron` as `backbone 0`; other paths stay whole."""
    parts = path.split(".")
    if len(parts) == 5 and parts[1] == "blocks" and parts[3:] == ["ffn", "neuron"]:
        return f"{parts[0]} {parts[2]}"
    return path


def _sum(label: str, layers: list[dict[str, Any]]) -> dict[str, Any]:
    counts = {}
    for key in COUNTS:
        known = [layer[key] for layer in layers if layer[key] is not None]
        counts[key] = sum(known) if known else None
    return {"label": label, "layers": len(layers), **counts}


def _mean_rate(rows: list[dict[str, Any]]) -> float | None:
    weights = [row["neurons"] or 1 for row in rows]
    return sum(r["spike_rate"] * w for r, w in zip(rows, weights, strict=True)) / sum(weights) if rows else None


def _findings(rows: list[dict[str, Any]], share: float | None) -> list[str]:
    if not rows:
        return ["No layer of this model spikes."]
    low, high = (f(rows, key=lambda row: row["spike_rate"]) for f in (min, max))
    found = [
        f"Rates run from {percent_text(low['spike_rate'])} ({low['label']}) to "
        f"{percent_text(high['spike_rate'])} ({high['label']})."
    ]
    if share:
        found.append(
            f"Spikes feed {percent_text(share)} of the multiply-accumulates (the second matrix of each feed-forward "
            f"block). Were all of those free, the arithmetic would shrink by {1 / (1 - share):.2f}× at most."
            if share < 1
            else "Spikes feed every multiply-accumulate."
        )
    return found


def _source(trace: dict[str, Any]) -> str:
    return f"{trace['source']}, mean of {trace['samples']} samples of {trace['tokens']} tokens"
