"""Parity of a dense bundle in onnxruntime: spikes end to end and layer by layer, the output, the task."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from spikeport_errors import InputError
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime

from .onnx_graph import INPUT, OUTPUT, subgraph, weight_file
from .parity import ParityReport, ParityRow, gated, nmse_db
from .precision import gates_of
from .spiking_taps import SpikingTap
from .tokens import token_counts

LAYER_RATE_LIMIT = 1e-6
LAYER_DISTANCE_LIMIT = 1e-5

Arrays = Mapping[str, NDArray[Any]]


def onnx_parity(folder: Path, manifest: Mapping[str, Any]) -> ParityReport:
    """Run `dense/model.onnx` of the bundle on its golden inputs and compare with what the reference gave.

    End-to-end rows of an untrained model are reported, not gated: at random weights a flipped spike grows with
    depth. The layer rows (fp32) feed each layer the reference's own input and hold for any weights. The limits are
    those of the precision (precision.Gates). A model that was fine-tuned for its precision is held, in the task,
    against what it was before.
    """
    dense, gates = manifest["dense"], gates_of(str(manifest["precision"]))
    path, trained = folder / dense["model"], bool(manifest["model"]["trained"])
    taps = [SpikingTap.from_dict(layer) for layer in dense["layers"]]
    with _golden(folder / dense["golden"]) as golden:
        if lacking := _lacking(golden):
            return ParityReport((gated("golden", "output", math.inf, gates.output_db, "dB", detail=lacking),))
        most = max((tap.slots for tap in taps), default=0)
        got, rows = _run(path, golden["input"], [tap.count for tap in taps], most), []
        if taps:
            rows.append(_spike_row(taps, golden, got, gates.spikes, trained))
        output, limit = golden["output"], gates.output_db
        rows.append(gated("output", "output", nmse_db(got[OUTPUT], output), limit, "dB", gate=trained))
        if "target" in golden:
            float_model, target = golden.get("original", output), golden["target"]
            before, after = nmse_db(float_model, target), nmse_db(got[OUTPUT], target)
            detail = f"NMSE {before:.3f} dB in torch, {after:.3f} dB here"
            limit = gates.task_db
            rows.append(gated("task NMSE change", "task", after - before, limit, "dB", gate=trained, detail=detail))
        if prefixes := token_counts(golden):
            errors = [nmse_db(_run(path, golden[f"{p}input"], [], 0)[OUTPUT], golden[f"{p}output"]) for p in prefixes]
            detail = f"at {' and '.join(p.split('/')[1] for p in prefixes)} tokens"
            limit = gates.output_db
            rows.append(gated("output, tokens", "output", max(errors), limit, "dB", gate=trained, detail=detail))
        fed = [tap for tap in taps if tap.input is not None and f"fc1/{tap.path}" in golden]
        rows += _layer_rows(path, fed, golden) if fed else ()
        return ParityReport(tuple(rows), tuple(_notes(golden, dense.get("uncompared", ()))))


def _notes(golden: Arrays, uncompared: Sequence[str]) -> Iterator[str]:
    """What a verdict on these golden arrays leaves open."""
    counted = [name for name in golden if name.startswith("spikes/")]
    if counted and not any(golden[name].any() for name in counted):
        yield "no neuron spikes on the golden inputs: parity says little; give real data"
    if not golden["output"].any():
        yield "all outputs are zero on the golden inputs: parity says little; give real data"
    if uncompared:
        yield f"the spikes of {', '.join(uncompared)} (steps in the graph) are not compared, only the output"


def _lacking(golden: Arrays) -> str:
    """Why nothing can be compared with these golden arrays; empty where it can."""
    for name in ("input", "output"):
        if not golden[name].size:
            return f"golden {name} holds no sample, so that nothing can be compared: export again"
        if not np.isfinite(golden[name]).all():
            return f"golden {name} holds values that are not finite: export again"
    return ""


def _run(path: Path, given: NDArray[Any], counts: Sequence[str], most: int) -> Arrays:
    """Output of the graph at `path` and its spike counts up to `most`, which leave it as small integers."""
    if not counts:
        return OnnxRuntime().run(path, {INPUT: given}).values
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises its own classes for a damaged file
        raise InputError(f"{path} is not a readable ONNX file ({error}): export again") from None
    kind = TensorProto.UINT8 if most < 256 else TensorProto.UINT16
    small = {f"{name}/small": name for name in counts}
    for name, count in small.items():
        model.graph.node.append(helper.make_node("Cast", [count], [name], name, to=kind))
        model.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    with tempfile.TemporaryDirectory() as place:
        tapped = Path(place) / path.name
        onnx.save(model, tapped)
        del model  # the runtime has its own
        try:
            weights = path.parent if weight_file(path).is_file() else None
            got = OnnxRuntime().run(tapped, {INPUT: given}, weights=weights).values
        except InputError as error:
            raise InputError(str(error).replace(str(tapped), str(path))) from None
    return {small.get(name, name): value for name, value in got.items()}


def _spike_row(taps: Sequence[SpikingTap], golden: Arrays, got: Arrays, limit: float, trained: bool) -> ParityRow:
    """Spikes gained or lost over neuron-steps: sum |count - reference count| / sum(neurons T D)."""
    rates, slots, neurons, changed, moved = dict[str, float](), 0, 0, 0, 0.0
    for tap in taps:
        steps = _moved(got[tap.count], golden[f"spikes/{tap.path}"])
        rates[tap.path] = float(np.mean(steps)) / tap.slots
        slots, neurons, moved = slots + steps.size * tap.slots, neurons + steps.size, moved + float(steps.sum())
        changed += int(np.count_nonzero(steps))
    worst = max(rates, key=lambda p: rates[p])
    detail = f"{changed:,} of {neurons:,} spike counts differ, worst layer {worst} {rates[worst]:.2g}"
    return gated("spikes end to end", "spikes", moved / slots, limit, "1", gate=trained, detail=detail)


def _layer_rows(path: Path, taps: Sequence[SpikingTap], golden: Arrays) -> tuple[ParityRow, ParityRow]:
    wrong, total, distance = 0, 0, 0.0
    model = onnx.load(path, load_external_data=False)
    for tap in taps:
        got, expected = _layer(model, path, tap, golden[f"fc1/{tap.path}"]), golden[f"spikes/{tap.path}"]
        flipped = _moved(got[tap.count], expected) > 0
        wrong, total = wrong + int(flipped.sum()), total + expected.size
        if flipped.any():
            thresholds = np.array(tap.thresholds)
            away = np.abs(got[tap.current][flipped][:, None] - tap.shift - thresholds) / np.abs(thresholds)
            distance = max(distance, float(away.min(axis=1).max()))
    detail = f"{wrong} of {total:,}, each layer fed the reference's own input"
    limit = max(LAYER_RATE_LIMIT, 1 / total)
    return (
        gated("spike counts layer by layer", "spikes", wrong / total, limit, "1", detail=detail),
        gated("distance of those from their threshold", "spikes", distance, LAYER_DISTANCE_LIMIT, "relative"),
    )


def _layer(model: onnx.ModelProto, path: Path, tap: SpikingTap, source: NDArray[Any]) -> Arrays:
    """Current and spike counts of one layer of the graph at `path` that is fed `source`."""
    inputs = {str(tap.input): source}
    with tempfile.TemporaryDirectory() as place:
        part = Path(place) / "layer.onnx"
        onnx.save(subgraph(model, inputs, (tap.current, tap.count)), part)
        return OnnxRuntime().run(part, inputs, weights=path.parent).values


def _moved(got: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """|count - reference count| of every neuron."""
    if got.shape != expected.shape:
        raise InputError(f"the graph gives spike counts {[*got.shape]}, golden holds {[*expected.shape]}: export again")
    return np.abs(got.astype(np.float64) - expected.astype(np.float64))


@contextmanager
def _golden(path: Path) -> Iterator[Arrays]:
    """The arrays of golden I/O, each read when it is asked for."""
    try:
        archive = np.load(path)
    except Exception as error:
        raise _unreadable(path, error) from None
    with archive:
        yield _Archive(path, archive)


class _Archive(Mapping[str, NDArray[Any]]):
    def __init__(self, path: Path, archive: Any):
        self.path, self.archive = path, archive

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self:
            raise KeyError(name)
        try:
            value: NDArray[Any] = self.archive[name]
        except Exception as error:  # a damaged zip raises zipfile, zlib, struct or value errors
            raise _unreadable(self.path, error) from None
        return value

    def __contains__(self, name: object) -> bool:
        return name in self.archive.files

    def __iter__(self) -> Iterator[str]:
        return iter(self.archive.files)

    def __len__(self) -> int:
        return len(self.archive.files)


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is not readable ({error}): export again")
