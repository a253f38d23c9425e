"""The verify ladder: what an exported graph has to pass, cheapest first, and where it stopped.

device           the target computes in these types (its card)
onnx.checker     a valid graph, shapes and types inferred throughout
operator table   operators, types and restrictions of the parsers of TensorRT 10.3 to 11.4; opset and IR of the card
batch profile    the shapes an engine is built for are shapes of the graph, which runs at each where tokens vary
parity           onnxruntime gives what the reference gives; where not, the first diverging layer
TensorRT-RTX     its compiler builds an engine, for SM86 and for SM120
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from spikeport_errors import InputError, SpikeportError
from spikeport_targets.runtimes import tensorrt_rtx
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime

from .onnx_graph import INPUT
from .onnx_legal import onnx_valid
from .operator_table import operator_faults
from .parity import ParityReport
from .precision import Assignment, check_precision

if TYPE_CHECKING:
    from spikeport_targets.card import Card

    from .divergence import Divergence

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
DEVICE, CHECKER, TABLE, PROFILE, PARITY = "device", "onnx.checker", "operator table", "batch profile", "parity"
COMPILE = tuple(f"TensorRT-RTX {name}" for name in tensorrt_rtx.CAPABILITIES)
RUNGS = (DEVICE, CHECKER, TABLE, PROFILE, PARITY, *COMPILE)
BATCHES = (1, 8, 32)
"""Least, best and most batch of the engines that the runner builds."""
_RUN_BATCH = 2
"""Samples that a graph of free tokens is run on at each shape."""


@dataclass(frozen=True)
class Rung:
    """One rung: passed, failed or not run; the `layer` it names, what was found, and the remedy where it failed."""

    name: str
    verdict: str
    detail: str = ""
    layer: str = ""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Whether it did not fail."""
        return self.verdict != FAILED

    def summary(self) -> str:
        """One line."""
        mark = {PASSED: "ok  ", FAILED: "FAIL", NOT_RUN: "--  "}[self.verdict]
        where = f" at {self.layer}" if self.layer else ""
        what = f"{where}: {self.detail}" if self.detail or where else ""
        return f"{mark} {self.name}{what}{f': {self.remedy}' if self.remedy else ''}"

    def to_dict(self) -> dict[str, str]:
        """What the manifest keeps."""
        return asdict(self)


@dataclass(frozen=True)
class Ladder:
    """The rungs that were climbed, in order; it ends at the first that failed. Truthy when none failed."""

    rungs: tuple[Rung, ...]

    @property
    def ok(self) -> bool:
        """Whether no rung failed."""
        return all(rung.ok for rung in self.rungs)

    @property
    def stopped(self) -> Rung | None:
        """The rung that failed."""
        return next((rung for rung in self.rungs if not rung.ok), None)

    def __bool__(self) -> bool:
        return self.ok

    def summary(self) -> str:
        """One line a rung."""
        return "\n".join(rung.summary() for rung in self.rungs)

    def to_dict(self) -> list[dict[str, str]]:
        """What the manifest keeps."""
        return [rung.to_dict() for rung in self.rungs]


def climb(
    path: Path,
    card: Card,
    chosen: Assignment,
    *,
    parity: Callable[[], ParityReport] | None = None,
    diverging: Callable[[], Divergence] | None = None,
    shapes: tensorrt_rtx.Shapes,
    compilers: bool = True,
) -> Ladder:
    """Climb the ladder with the graph at `path`, made for `card` in `chosen`, up to the first rung that fails.

    `parity` runs the graph beside its reference, `diverging` finds the layer where that failed; without them, and
    without TensorRT-RTX, the rung says that it was not run. `shapes` are those an engine is to be built for
    (`batch_profile`). `compilers` False leaves the compiler out: a check need not build engines again.
    """
    rungs: list[Rung] = []
    for rung in _climb(path, card, chosen, parity, diverging, shapes, compilers):
        rungs.append(rung)
        if not rung.ok:
            break
    return Ladder(tuple(rungs))


def _climb(
    path: Path,
    card: Card,
    chosen: Assignment,
    parity: Callable[[], ParityReport] | None,
    diverging: Callable[[], Divergence] | None,
    shapes: tensorrt_rtx.Shapes,
    compilers: bool,
) -> Iterator[Rung]:
    yield _device(card, chosen)
    model = onnx.load(path, load_external_data=False)
    yield _checker(model)
    yield _table(model, () if card.klass == "cpu" else chosen.versions, card)
    yield _profile(model, shapes, path)
    yield _parity(parity, diverging, card, chosen)
    if compilers:
        for capability in tensorrt_rtx.CAPABILITIES:
            yield _compile(path, capability, chosen, shapes)


def batch_profile(shape: Sequence[int], batches: Sequence[int] = BATCHES) -> dict[str, list[list[int]]]:
    """Least, best and most shape of the input, whose samples have the shape of those in `shape` [sample, ...]."""
    return {INPUT: [[batch, *map(int, shape[1:])] for batch in batches]}


def _device(card: Card, chosen: Assignment) -> Rung:
    try:
        check_precision(card, chosen)
    except SpikeportError as error:
        what, _, remedy = str(error).rpartition(": ")
        return Rung(DEVICE, FAILED, what, card.id, remedy)
    has = card.limits.get("compute_capability")
    return Rung(DEVICE, PASSED, f"{chosen.name} on {card.name}" + (f", SM {has:g}" if has else ""))


def _checker(model: onnx.ModelProto) -> Rung:
    reason = onnx_valid(model)
    if not reason:
        return Rung(CHECKER, PASSED, f"full check, {len(model.graph.node)} nodes")
    names = sorted((node.name for node in model.graph.node if node.name), key=len, reverse=True)
    layer = next((name for name in names if name in reason), "")
    return Rung(CHECKER, FAILED, reason, layer, "export it again with spikeport, which writes valid graphs")


def _table(model: onnx.ModelProto, versions: Sequence[str], card: Card) -> Rung:
    faults = operator_faults(model, versions)
    if not faults:
        opset = next((o.version for o in model.opset_import if o.domain == ""), 0)
        for what, has, key in (("opset", opset, "opset_max"), ("IR version", model.ir_version, "ir_max")):
            most = int(card.limits.get(key, has))
            if has > most:
                detail = f"{what} {has} is above {most}, the most that {card.name} takes"
                return Rung(
                    TABLE, FAILED, detail, "the graph", f"export it for {card.id}, which keeps to {what} {most}"
                )
        where = f"TensorRT {', '.join(versions)}" if versions else "onnxruntime, which takes every operator of ONNX"
        return Rung(TABLE, PASSED, f"legal for {where}")
    first = faults[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    detail = f"{first.what} (TensorRT {', '.join(first.versions)}){more}"
    return Rung(TABLE, FAILED, detail, first.node or "the graph", first.remedy)


def _profile(model: onnx.ModelProto, shapes: tensorrt_rtx.Shapes, path: Path) -> Rung:
    for value in model.graph.input:
        sizes, given = _dims(value), shapes.get(value.name)
        if given is None:
            return Rung(PROFILE, FAILED, "no shapes are given for this input", value.name, "give least, best and most")
        for axis, dim in enumerate(sizes):
            if any(len(shape) != len(sizes) for shape in given):
                ranks = " and ".join(str(len(shape)) for shape in given)
                return Rung(
                    PROFILE, FAILED, f"shapes of rank {ranks} for {len(sizes)} axes", value.name, "name every axis"
                )
            low, best, high = (shape[axis] for shape in given)
            where = f"axis {axis}"
            if not 1 <= low <= best <= high:
                what = f"{where} is {low} at least, {best} at best, {high} at most"
                return Rung(PROFILE, FAILED, what, value.name, "order them: least <= best <= most")
            if dim.dim_value and {low, best, high} != {dim.dim_value}:
                what = f"{where} is {dim.dim_value} in the graph, and the profile has {low} to {high}"
                free = "a free batch" if axis == 0 else "--tokens MIN:OPT:MAX"
                return Rung(PROFILE, FAILED, what, value.name, f"export with {free}, or give the graph's own size")
    said = "; ".join(
        f"{name} {' | '.join('x'.join(map(str, shape)) for shape in given)}" for name, given in shapes.items()
    )
    open_axes = {v.name: [axis for axis, dim in enumerate(_dims(v)) if dim.dim_param] for v in model.graph.input}
    if any(len(axes) > 1 for axes in open_axes.values()):
        return _run_at(path, shapes, {name: axes[0] for name, axes in open_axes.items() if axes}, said)
    return Rung(PROFILE, PASSED, said)


def _run_at(path: Path, shapes: tensorrt_rtx.Shapes, batch: Mapping[str, int], said: str) -> Rung:
    """Run the graph at the least, best and most shape but for the axis `batch` of each input, of which a few do."""
    rng, session = np.random.default_rng(0), OnnxRuntime().open(path)
    for place in range(3):
        inputs = {}
        for name, given in shapes.items():
            shape = [min(size, _RUN_BATCH) if batch.get(name) == a else size for a, size in enumerate(given[place])]
            inputs[name] = rng.standard_normal(shape, np.float32)
        sizes = " and ".join("x".join(map(str, value.shape)) for value in inputs.values())
        try:
            found = session.run(inputs).values
        except InputError as error:
            layer = re.search(r"Name:'([^']*)'", str(error))
            reason = str(error).partition(" (")[2].rpartition(");")[0] or str(error)
            what = f"at {sizes} onnxruntime fails: {reason}"
            return Rung(PROFILE, FAILED, what, layer[1] if layer else "", "give --tokens a range that forward takes")
        if not all(np.isfinite(value).all() for value in found.values()):
            return Rung(PROFILE, FAILED, f"at {sizes} the output is not finite", "", "export with --precision fp32")
    return Rung(PROFILE, PASSED, f"{said}, run at each")


def _parity(
    parity: Callable[[], ParityReport] | None,
    diverging: Callable[[], Divergence] | None,
    card: Card,
    chosen: Assignment,
) -> Rung:
    if parity is None:
        return Rung(PARITY, NOT_RUN, "no reference was given")
    report = parity()
    if report:
        return Rung(
            PARITY, PASSED, "; ".join(f"{row.name} {row.value:.3g} {row.unit}".strip(" 1") for row in report.rows)
        )
    row = next(row for row in report.rows if not row.ok)
    detail = f"{row.name} {row.value:.3g} {row.unit}, limit {row.limit:g}"
    found, milder = diverging() if diverging is not None else None, _milder(card, chosen)
    if not found or found.first is None:
        remedy = milder or "`spikeport check DIR --bisect` names the first diverging layer"
        return Rung(PARITY, FAILED, detail, remedy=remedy)
    remedy = found.remedy if found.first.unit == "1" and found.first.wrong else milder or found.remedy
    return Rung(PARITY, FAILED, f"{detail}; {found.first.summary()}", found.first.path, remedy)


def _milder(card: Card, chosen: Assignment) -> str:
    """What to do where a precision costs too much; empty in float32, where no other is more exact."""
    own = {"int8": "int8", "nvfp4": "nvfp4"}.get(chosen.kind, "") or chosen.name
    better = {"int8": ("int8-safe", "fp16"), "nvfp4": ("fp8", "fp16"), "fp8": ("fp16",), "fp16": ("fp32",)}
    known = card.limits.get("presets", ())
    names = [name for name in better.get(own, ()) if name in known and name != chosen.name] or ["fp32"]
    tuned = "; a channel predictor can be tuned for it: --qat 200, or --max-nmse-loss 0.05dB"
    if own == "fp32":
        return ""
    return f"take --precision {' or '.join(names)}{tuned if chosen.kind == 'int8' else ''}"


def _compile(path: Path, capability: str, chosen: Assignment, shapes: tensorrt_rtx.Shapes) -> Rung:
    name = f"TensorRT-RTX {capability}"
    able = int(capability.removeprefix("SM")) / 10
    if chosen.capability > able:
        return Rung(name, NOT_RUN, f"{chosen.kind.upper()} needs compute capability {chosen.capability:g}")
    answer = tensorrt_rtx.available()
    if not answer:
        return Rung(name, NOT_RUN, answer.reason, remedy=answer.remedy)
    built = tensorrt_rtx.compile_onnx(path, capability, shapes)
    if built:
        return Rung(name, PASSED, built.summary().partition(": ")[2])
    return Rung(name, FAILED, built.reason, built.node, "keep the node it names out of the graph, or report this model")


def _dims(value: onnx.ValueInfoProto) -> list[Any]:
    return list(value.type.tensor_type.shape.dim)
