"""The drill-down: rasters, membrane potentials, rates over time steps and over SNR, layer by layer."""

from __future__ import annotations

from typing import Any

from .accuracy import snr_text
from .numbers import percent_text
from .sparsity import short_path

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def detail_section(trace: dict[str, Any]) -> dict[str, Any] | None:
    """One entry per spiking layer with what the profile kept of it; None where it kept nothing."""
    kept = trace["detail"] or {"rasters": [], "membranes": [], "sample": None}
    rasters = {raster["path"]: raster for raster in kept["rasters"]}
    membranes = {membrane["path"]: membrane for membrane in kept["membranes"]}
    layers = [
        {
            "path": layer["path"],
            "label": short_path(layer["path"]),
            "spike_rate": layer["spike_rate"],
            "rate_per_step": layer["rate_per_step"],
            "raster": _raster(rasters.get(layer["path"])),
            "membrane": _membrane(membranes.get(layer["path"])),
            "over_snr": [p["layers"].get(layer["path"]) for p in trace["over_snr"]],
        }
        for layer in trace["layers"]
        if layer["kind"] == "spiking"
    ]
    if not any(x["raster"] or x["membrane"] or x["rate_per_step"] or x["over_snr"] for x in layers):
        return None
    over = [{key: p[key] for key in ("snr_db", "samples", "spike_rate", "synops")} for p in trace["over_snr"]]
    return {
        "kind": trace["kind"],
        "source": f"{trace['source']}, {trace['samples']} samples",
        "one_sample": f"{trace['source']}, sample {kept['sample']}",
        "over_snr": over,
        "findings": _findings(over),
        "layers": layers,
    }


def events(digit: str) -> int:
    """The events that a digit of a raster stands for; -1 for a negative spike."""
    return -1 if digit == "-" else DIGITS.index(digit.lower())


def _raster(raster: dict[str, Any] | None) -> dict[str, Any] | None:
    """The raster with the share of its cells that hold a spike, and a sentence."""
    if raster is None or not raster["rows"]:
        return None
    cells = [[events(digit) for digit in row] for row in raster["rows"]]
    share = sum(value != 0 for row in cells for value in row) / max(1, sum(map(len, cells)))
    active = [sum(value != 0 for value in row) for row in cells]
    busiest = max(range(len(active)), key=active.__getitem__)
    text = (
        f"{len(cells)} neurons over {len(raster['tokens'])} tokens of {raster['steps']} steps: "
        f"{percent_text(share)} of the cells hold a spike, {active.count(0)} of the neurons are silent, neuron "
        f"{raster['neurons'][busiest]} is busiest with {active[busiest]} of {len(cells[busiest])}."
    )
    return {**raster, "share": share, "text": text}


def _membrane(membrane: dict[str, Any] | None) -> dict[str, Any] | None:
    """The histogram with the share of potentials at or above the threshold, by whole bins, and a sentence."""
    if membrane is None:
        return None
    edges, counts = membrane["edges"], membrane["counts"]
    total = sum(counts) + membrane["below"] + membrane["above"]
    if not total:
        return None
    reached = sum(c for c, left in zip(counts, edges, strict=False) if left >= membrane["threshold"] - 1e-9)
    share = (reached + membrane["above"]) / total
    fullest = max(range(len(counts)), key=counts.__getitem__)
    text = (
        f"{total:,} potentials just before the spike; {percent_text(share)} in bins at or above the threshold of "
        f"{membrane['threshold']:g}; the fullest bin runs from {edges[fullest]:.3g} to {edges[fullest + 1]:.3g}; "
        f"{membrane['below']:,} lie below the axis and {membrane['above']:,} above it."
    )
    return {**membrane, "share": share, "text": text}


def _findings(over: list[dict[str, Any]]) -> list[str]:
    if len(over) < 2:
        return []
    first, last = over[0], over[-1]
    return [
        f"The mean spike rate is {percent_text(first['spike_rate'])} at {snr_text(first['snr_db'])} dB SNR and "
        f"{percent_text(last['spike_rate'])} at {snr_text(last['snr_db'])} dB."
    ]
