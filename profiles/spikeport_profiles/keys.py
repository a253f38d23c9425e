"""The counts of a trace by the names of other tools: SpikingJelly's op counters, NeuroBench's metrics.

Names and structure are theirs, the counts are ours: where a tool drops attention or sees no spikes in a mean of
spikes, its own figure is lower (docs/counting.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from spikeport_errors import unknown_name

if TYPE_CHECKING:
    from .counts import LayerCounts, Trace

Keys = Literal["spikeport", "spikingjelly", "neurobench"]


def keyed(trace: Trace, keys: str) -> dict[str, Any]:
    """The trace, per sample, as `spikingjelly` (2.0: `get_counts()` of each counter) or `neurobench` (2.3: results).

    - spikingjelly: counter class, then scope ("Global", and each layer's path), then the count. `MACCounter` holds the
      layers on analog input, `SynOpCounter` those on spikes.
    - neurobench: metric, as `Benchmark.run` returns it. `Effective_MACs` counts inputs and weights that are not zero
      where both are known to be zeros (behind an activation), else the weights that are not zero; `MembraneUpdates`
      counts every update, changed or not.

    Raises UsageError for other keys.
    """
    if keys == "spikingjelly":
        return {
            "MACCounter": _scopes(trace, lambda layer: layer.macs_executed if layer.input == "analog" else 0),
            "SynOpCounter": _scopes(trace, lambda layer: layer.synops),
        }
    if keys == "neurobench":
        return _neurobench(trace)
    raise unknown_name("keys", keys, get_args(Keys), "choose one")


def _scopes(trace: Trace, count: Any) -> dict[str, float]:
    rows = {layer.path: count(layer) for layer in trace.layers}
    return {"Global": sum(rows.values())} | {path: value for path, value in rows.items() if value}


def _neurobench(trace: Trace) -> dict[str, Any]:
    total = trace.totals
    fired = total["spikes"] if trace.levels == 1 else None
    active = [layer for layer in trace.layers if layer.kind in ("spiking", "activation")]
    places = sum(layer.neuron_updates or layer.elements for layer in active)
    sent = sum(layer.nonzero if layer.kind == "activation" else layer.spikes for layer in active)
    graded = fired is None and trace.spiking
    return {
        "Footprint": int(total["weight_bytes"]),
        "ConnectionSparsity": 1 - total["weights_nonzero"] / total["weights"] if total["weights"] else 0.0,
        "ActivationSparsity": None if graded else 1 - sent / places if places else 0.0,
        "SynapticOperations": {
            "Effective_MACs": sum(_effective(layer) for layer in trace.layers if layer.input == "analog"),
            "Effective_ACs": total["synops"],
            "Dense": total["macs_unrolled"],
        },
        "MembraneUpdates": {
            layer.path: layer.neuron_updates for layer in trace.layers if layer.kind == "spiking"
        },
    }  # fmt: skip


def _effective(layer: LayerCounts) -> float:
    if layer.fed_by:
        return layer.graded_synops
    if layer.kind == "linear" and layer.weights:
        return layer.macs_executed * layer.weights_nonzero / layer.weights
    return layer.macs_executed
