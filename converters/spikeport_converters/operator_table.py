"""What each TensorRT that a Jetson can have parses: operators, types and restrictions, as a table of facts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .onnx_graph import QDQ

VERSIONS = ("10.3", "10.13", "10.16", "11.4")
"""JetPack 6.2, 7.0 and 7.1, 7.2, and 7.2.2 or later."""
_ZERO_POINTS = ("INT8", "FLOAT8E4M3FN", "FLOAT4E2M1", "INT4")
_DATA = {"Where": 1, "Gather": 0}
"""Which input carries the data whose type the table is about; the first elsewhere."""


@dataclass(frozen=True)
class Fault:
    """Something in a graph that a TensorRT refuses: the node, what is wrong, in which `versions`, and the remedy."""

    node: str
    what: str
    remedy: str
    versions: tuple[str, ...]

    def __str__(self) -> str:
        where = f"{self.node}: " if self.node else ""
        return f"{where}{self.what}: {self.remedy} (TensorRT {', '.join(self.versions)})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@cache
def operator_table() -> dict[str, Any]:
    """The table: `sources` and `versions` by TensorRT, `operators` with types and restrictions, `remedies`."""
    table: dict[str, Any] = json.loads((files(__package__) / "data" / "tensorrt_operators.json").read_text())
    return table


def operator_faults(model: onnx.ModelProto, versions: Sequence[str] = VERSIONS) -> list[Fault]:
    """Everything in `model` that one of `versions` would refuse; empty when it is legal for all of them.

    Checked: opset and IR version, operators, the types of tensors and of what operators read, that quantisation is
    symmetric with constant zero points 0, and that a loop runs a constant number of times. A table is no parser: what
    it lets pass, a compiler can still refuse.
    """
    found: dict[tuple[str, str, str], list[str]] = {}
    for version in versions:
        for node, what, remedy in _faults(model, version):
            found.setdefault((node, what, remedy), []).append(version)
    return [Fault(*key, tuple(where)) for key, where in found.items()]


Found = Iterator[tuple[str, str, str]]


def _faults(model: onnx.ModelProto, version: str) -> Found:
    table = operator_table()
    limits, remedies = table["versions"][version], table["remedies"]
    opset = next((o.version for o in model.opset_import if o.domain == ""), 0)
    # What only a newer opset has is the better thing to name than the opset itself: operators first.
    yield from _graph_faults(model.graph, version, {})
    if not table["opset_first"] <= opset <= limits["opset_last"]:
        yield "", f"opset {opset} is not {table['opset_first']} to {limits['opset_last']}", "export with opset 17 to 20"
    if model.ir_version > limits["ir_last"]:
        yield "", f"IR version {model.ir_version} is above {limits['ir_last']}", "write the file with IR version 10"
    for name, kind in _types(model.graph).items():
        if kind not in limits["types"]:
            legal = ", ".join(limits["types"])
            yield name, f"tensor of type {kind}; legal are {legal}", remedies.get(kind, "cast it before the export")


def _graph_faults(graph: onnx.GraphProto, version: str, outer: dict[str, str]) -> Found:
    table = operator_table()
    constants = {i.name: i for i in graph.initializer}
    fixed = set(constants) | {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    types = {**outer, **_types(graph)}
    for node in graph.node:
        entry = table["operators"].get(node.op_type) if node.domain in ("", "ai.onnx") else None
        name = f"operator {node.domain or 'ai.onnx'}.{node.op_type}"
        remedy = table["remedies"].get(node.op_type, "write it with operators of the table, or remove it")
        if entry is None:
            yield node.name, f"{name}: not in the operator table", remedy
            continue
        if _number(entry.get("since", "0")) > _number(version):
            yield node.name, f"{name}: in the parser since {entry['since']} only", remedy
        if _number(entry.get("until", "99")) < _number(version):
            yield node.name, f"{name}: in the parser until {entry['until']} only", remedy
        if node.op_type in QDQ:
            yield from _quantisation_faults(node, constants)
        else:
            yield from _type_faults(node, entry, types)
        if node.op_type == "Loop" and node.input[0] and node.input[0] not in fixed:
            yield (
                node.name,
                "Loop whose number of steps is computed: T is dynamic",
                "export with a fixed number of steps",
            )
        if node.op_type == "Scan" and not _fixed_length(graph, node):
            yield node.name, "Scan over a free number of steps: T is dynamic", "export with a fixed number of steps"
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graph_faults(attribute.g, version, types)


def _fixed_length(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    """Whether the first input that a Scan runs over says how long it is."""
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    scanned = node.input[-given["num_scan_inputs"]]
    axis = next(iter(given.get("scan_input_axes", ())), 0)
    for value in (*graph.input, *graph.value_info):
        if value.name == scanned and value.type.tensor_type.HasField("shape"):
            return bool(value.type.tensor_type.shape.dim[axis].dim_value)
    return True


def _type_faults(node: onnx.NodeProto, entry: dict[str, Any], types: dict[str, str]) -> Found:
    place = _DATA.get(node.op_type, 0)
    kind = types.get(node.input[place]) if len(node.input) > place else None
    if kind in ("INT8", "UINT8", "INT32", "FLOAT8E4M3FN", "FLOAT4E2M1") and kind not in entry["types"]:
        yield (
            node.name, f"{node.op_type} of {kind} values; it takes {', '.join(entry['types'])}",
            "dequantise first, or cast to float32",
        )  # fmt: skip


def _quantisation_faults(node: onnx.NodeProto, constants: dict[str, TensorProto]) -> Found:
    given = node.input[2] if len(node.input) > 2 else ""
    if not given:
        stored = constants.get(node.input[0])
        if node.op_type == QDQ[1] and stored is not None and _kind(stored.data_type) in _ZERO_POINTS:
            return
        if node.op_type == QDQ[1] and stored is None and not constants.get(node.input[1]):
            return
        if not any(a.name == "output_dtype" for a in node.attribute) and node.op_type == QDQ[0]:
            yield (
                node.name,
                f"{node.op_type} has no constant zero point, which means UINT8",
                "give an int8 zero point 0",
            )
        return
    if given not in constants:
        yield node.name, f"{node.op_type} has no constant zero point", "quantise with static int8 scales"
        return
    zero = constants[given]
    kind = _kind(zero.data_type)
    if kind not in _ZERO_POINTS:
        remedy = operator_table()["remedies"].get(kind, "quantise to int8")
        yield node.name, f"zero point of type {kind}; TensorRT takes INT8 only, or FP8 and FP4", remedy
    elif np.any(numpy_helper.to_array(zero).astype(np.float32)):
        yield node.name, "non-zero zero point; TensorRT takes symmetric quantisation only", "quantise symmetrically"


def _types(graph: onnx.GraphProto) -> dict[str, str]:
    typed = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info)}
    typed |= {i.name: i.data_type for i in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].type == onnx.AttributeProto.TENSOR:
            typed[node.output[0]] = helper.get_attribute_value(node.attribute[0]).data_type
    return {name: _kind(code) for name, code in typed.items() if code}


def _kind(code: int) -> str:
    return str(TensorProto.DataType.Name(code))


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
