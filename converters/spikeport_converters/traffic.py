"""Traffic of a hybrid bundle between host and chip, in values, spikes and bytes per predicted OFDM slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil, log2
from pathlib import Path
from typing import Any

import numpy as np

from spikeport_targets.runtimes.nir_runner import GOLDEN, read_arrays, read_island

SLOT_S = 0.5e-3
"""14 symbols at 30 kHz subcarrier spacing."""
FEATURE_BITS, CURRENT_BITS, OUTPUT_BITS = 32, 24, 24
ENCODINGS = {
    "features": f"W1 on the chip: every feature of every token once, float32, {FEATURE_BITS} bits",
    "currents": f"W1 on the host: one bias current per neuron and token, held over T steps, {CURRENT_BITS} bits",
    "spikes": "one address event per spike, of ceil(log2 neurons) bits; step and token are implied by their order",
    "graded": "one event per neuron that spikes at all over T steps: address and the count in ceil(log2(T D + 1)) bits",
    "outputs": f"the accumulated output of every channel and token, once after T steps, {OUTPUT_BITS} bits",
}
"""What a byte count stands for. No framing, headers or padding: a lower bound for any real link."""


@dataclass(frozen=True)
class IslandTraffic:
    """One island for one predicted slot: means over the golden samples.

    `features` (None where the island takes currents), `currents` (None where it has several spiking layers) and
    `outputs` are values that cross between host and chip; `spikes` are those inside, and `events` its neurons that
    spike at all.
    """

    path: str
    neurons: int
    features: float | None
    currents: float | None
    spikes: float
    events: float
    outputs: float
    slots: int

    @property
    def bytes(self) -> dict[str, float | None]:
        """Bytes per slot under each of ENCODINGS."""
        address = max(1, ceil(log2(self.neurons)))
        bits = {
            "features": None if self.features is None else self.features * FEATURE_BITS,
            "currents": None if self.currents is None else self.currents * CURRENT_BITS,
            "spikes": self.spikes * address,
            "graded": self.events * (address + ceil(log2(self.slots + 1))),
            "outputs": self.outputs * OUTPUT_BITS,
        }
        return {name: None if count is None else count / 8 for name, count in bits.items()}

    def to_dict(self) -> dict[str, Any]:
        """Counts and bytes."""
        return {**asdict(self), "bytes": self.bytes}


@dataclass(frozen=True)
class Traffic:
    """All islands of a bundle, for one predicted OFDM slot.

    One inference reads the observed slots and predicts `predicted_slots` more, over all its tokens; what it moves is
    divided by that number. A model without a token grid counts per sample (`predicted_slots` None). Spikes are counted
    on `samples` golden samples.
    """

    samples: int
    predicted_slots: int | None
    islands: tuple[IslandTraffic, ...]

    @property
    def unit(self) -> str:
        """What the counts are for."""
        return "sample" if self.predicted_slots is None else "predicted OFDM slot"

    def total(self, name: str) -> float | None:
        """Bytes per slot of all islands under one of ENCODINGS; None where an island has no such form."""
        parts = [island.bytes[name] for island in self.islands]
        return None if None in parts else float(sum(part for part in parts if part is not None))

    def rate(self, name: str) -> float | None:
        """Bytes a second in both directions, if every slot of SLOT_S is predicted and `name` is what goes in."""
        given, back = self.total(name), self.total("outputs")
        return None if given is None or back is None or self.predicted_slots is None else (given + back) / SLOT_S

    def summary(self) -> str:
        """One line for each way to cut the model, and one for what stays inside."""
        spikes = sum(island.spikes for island in self.islands)
        given = [("neurons and W2 on the chip", "currents"), ("W1 too", "features")]
        lines = [
            f"     {what}: {_size(self.total(name))} in, {_size(self.total('outputs'))} out per {self.unit}"
            + ("" if self.rate(name) is None else f" ({_size(self.rate(name))}/s to keep up with slots of 0.5 ms)")
            for what, name in given
            if self.total(name) is not None
        ]
        inside = f"     inside: {spikes:,.0f} spikes, {_size(self.total('spikes'))} as address events"
        return "\n".join(
            [
                f"traffic between host and chip, {len(self.islands)} islands, {self.samples} golden samples",
                *lines,
                f"{inside}, {_size(self.total('graded'))} as graded events",
            ]
        )

    def markdown(self) -> str:
        """The table of a bundle's README."""
        rows = [
            f"| {i.path} | {i.neurons} | {i.spikes:,.0f} | "
            + " | ".join(_size(i.bytes[name]) for name in ENCODINGS)
            + " |"
            for i in self.islands
        ]
        total = " | ".join(_size(self.total(name)) for name in ENCODINGS)
        spikes = sum(island.spikes for island in self.islands)
        return "\n".join(
            [
                "| island | neurons | spikes | features in | currents in | spikes | graded | outputs out |",
                "|---|---|---|---|---|---|---|---|",
                *rows,
                f"| all | | {spikes:,.0f} | {total} |",
                "",
                *(f"- {name}: {text}" for name, text in ENCODINGS.items()),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """As the manifest holds it."""
        return {
            "per": self.unit,
            "kind": "measured",
            "samples": self.samples,
            "predicted_slots": self.predicted_slots,
            "encodings": ENCODINGS,
            "islands": [island.to_dict() for island in self.islands],
            "total_bytes": {name: self.total(name) for name in ENCODINGS},
            "bytes_per_second": {name: self.rate(name) for name in ("currents", "features")},
        }


def traffic(folder: Path, manifest: Mapping[str, Any]) -> Traffic:
    """Traffic of the NIR bundle in `folder`, counted on its golden runs.

    Raises IslandError for a golden file that is missing or damaged.
    """
    grid = manifest["model"]["config"].get("grid")
    samples = len(read_arrays(folder / "golden/model.npz", ("output",))["output"])
    slots = None if grid is None else int(grid["predicted_slots"])
    found = []
    for entry in manifest["hybrid"]["islands"]:
        run = read_arrays(folder / entry["golden"], GOLDEN)
        layers = len(read_island(folder / entry["file"]).neurons)
        most = int(manifest["steps"]) * int(manifest["levels"])
        found.append(_island(entry, run, layers, samples * (slots or 1), most))
    return Traffic(samples, slots, tuple(found))


def _island(
    entry: Mapping[str, Any], run: Mapping[str, np.ndarray[Any, Any]], layers: int, slots: int, most: int
) -> IslandTraffic:
    counts = run["spikes"].sum(0, dtype=np.int64)
    entering = run["input"].size / slots
    return IslandTraffic(
        path=str(entry["path"]),
        neurons=counts.shape[-1],
        features=None if entry["takes"] == "currents" else entering,
        currents=counts.size * entry["input_steps"] / slots if layers == 1 else None,
        spikes=float(counts.sum()) / slots,
        events=np.count_nonzero(counts) / slots,
        outputs=run["output"].size / slots,
        slots=most,
    )


def _size(value: float | None) -> str:
    if value is None:
        return "-"
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value / 1e3:.1f} kB"
