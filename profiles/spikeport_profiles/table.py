"""profile.csv: one row a figure, with its unit, kind, source and range."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikeport_targets.card import Quantity

    from .accuracy import Accuracy
    from .counts import Trace
    from .estimate import Energy, Estimate
    from .profile import Profile

COLUMNS = ("section", "name", "scenario", "precision", "figure", "value", "unit", "kind", "source", "low", "high")
"""`section` is trace, twin-trace, target, twin, accuracy or twin-accuracy; `name` a layer's path or a target's id."""
UNITS = {
    "macs_executed": "MAC", "macs_algebraic": "MAC", "macs_unrolled": "MAC", "spikes": "spikes", "spike_rate": "1",
    "synops": "SynOps", "graded_synops": "SynOps", "neuron_updates": "updates", "neurons": "neurons", "weights": "1",
    "weights_nonzero": "1", "outputs": "1", "elements": "1", "nonzero": "1", "weight_bytes": "B",
    "activation_bytes": "B", "state_bytes": "B", "busiest_unit_per_step": "events or SynOps",
}  # fmt: skip
Row = dict[str, Any]


def csv_of(profile: Profile) -> str:
    """The text of profile.csv. A figure that nobody can know keeps its row and has no value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_trace("trace", profile.trace))
    if profile.twin_trace is not None:
        writer.writerows(_trace("twin-trace", profile.twin_trace))
    for target in profile.targets:
        writer.writerows(_target(target))
    return text.getvalue()


def _trace(section: str, trace: Trace) -> Iterator[Row]:
    for layer in trace.layers:
        for figure, unit in UNITS.items():
            value = getattr(layer, figure)
            if value:
                yield {"section": section, "name": layer.path, "figure": figure, "value": value, "unit": unit,
                       "kind": "measured", "source": trace.source}  # fmt: skip
    for point in trace.over_snr:
        for path, rate in point.layers.items():
            yield {"section": section, "name": path, "scenario": f"SNR {point.snr_db:g} dB", "figure": "spike_rate",
                   "value": rate, "unit": "1", "kind": "measured", "source": trace.source}  # fmt: skip


def _target(target: Estimate) -> Iterator[Row]:
    place = {"name": target.id, "scenario": target.scenario, "precision": target.precision}
    twin = target.twin
    yield from _costs({"section": "target", **place}, target.energy, target.latency)
    if twin is not None:
        yield from _costs({"section": "twin", **place}, twin.energy, twin.latency)
    if target.break_even_spike_rate is not None:
        yield {"section": "target", **place, "figure": "break_even_spike_rate", "value": target.break_even_spike_rate,
               "unit": "1", "kind": "estimated"}  # fmt: skip
    yield from _accuracy({"section": "accuracy", **place}, target.accuracy)
    yield from _accuracy({"section": "twin-accuracy", **place}, None if twin is None else twin.accuracy)


def _costs(place: Row, energy: Energy, latency: Quantity | None) -> Iterator[Row]:
    figures = {f"energy_{part}": ("J", found) for part, found in vars(energy).items()} | {"latency": ("s", latency)}
    for figure, (unit, found) in figures.items():
        row = {**place, "figure": figure, "unit": unit}
        if found is not None:
            row |= {"value": found.nominal, "kind": found.kind, "source": "; ".join(found.source)}
            row |= {"low": found.low, "high": found.high}
        yield row


def _accuracy(place: Row, accuracy: Accuracy | None) -> Iterator[Row]:
    for curve in () if accuracy is None else accuracy.curves:
        points = zip(curve.snr_db, curve.nmse_db, curve.low_db, curve.high_db, strict=True)
        for snr, value, low, high in points:
            yield {**place, "figure": f"nmse {curve.regime} {curve.split} at {snr:g} dB", "value": value, "unit": "dB",
                   "kind": accuracy.kind if accuracy else "", "low": low, "high": high,
                   "source": accuracy.runtime if accuracy else ""}  # fmt: skip
