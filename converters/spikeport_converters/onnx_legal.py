"""Static legality of an ONNX graph for the TensorRT versions a Jetson can have (10.3 to 11.4)."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from spikeport_errors import UnsupportedError

from .onnx_graph import QDQ


@cache
def operator_table() -> dict[str, Any]:
    """The table of operators, types, opsets and IR version, with its sources."""
    table: dict[str, Any] = json.loads((files(__package__) / "data" / "tensorrt_operators.json").read_text())
    return table


def onnx_faults(model: onnx.ModelProto) -> list[str]:
    """Everything in `model` that one of those TensorRT versions would refuse; empty when it is legal.

    Checked: opset and IR version, operators, tensor types, and that quantisation is explicit, symmetric int8
    with zero points 0. This is a table, not a parser: it was not run through TensorRT.
    """
    table = operator_table()
    opset = next((o.version for o in model.opset_import if o.domain == ""), 0)
    faults = []
    if not table["opset"]["first"] <= opset <= table["opset"]["last"]:
        faults.append(f"opset {opset} is not {table['opset']['first']} to {table['opset']['last']}")
    if model.ir_version > table["ir_version_last"]:
        faults.append(f"IR version {model.ir_version} is above {table['ir_version_last']}")
    constants = {i.name: i for i in model.graph.initializer}
    for node in model.graph.node:
        if node.domain or node.op_type not in table["operators"]:
            reason = table["refused"].get(node.op_type, "not in the operator table")
            faults.append(f"{node.name}: operator {node.domain or 'ai.onnx'}.{node.op_type}: {reason}")
        if node.op_type in QDQ:
            faults += _quantisation_faults(node, constants)
    typed = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    types = {v.name: v.type.tensor_type.elem_type for v in typed} | {i.name: i.data_type for i in constants.values()}
    for name, code in types.items():
        kind = onnx.TensorProto.DataType.Name(code)
        if kind not in table["tensor_types"]:
            faults.append(f"tensor {name} is {kind}; legal are {', '.join(table['tensor_types'])}")
    return faults


def onnx_legal(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` itself, once onnx's full check passes and it has no fault; UnsupportedError with the faults otherwise."""
    try:
        onnx.checker.check_model(model, full_check=model.ByteSize() < 2**31)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UnsupportedError(f"the ONNX graph is not valid: {error}") from None
    if faults := onnx_faults(model):
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise UnsupportedError(f"the ONNX graph is not legal for TensorRT 10.3 to 11.4: {'; '.join(faults[:3])}{more}")
    return model


def _quantisation_faults(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> list[str]:
    if len(node.input) < 3 or node.input[2] not in constants:
        return [f"{node.name}: {node.op_type} has no constant zero point; TensorRT takes int8 with zero point 0"]
    zero = constants[node.input[2]]
    if zero.data_type != onnx.TensorProto.INT8:
        kind = onnx.TensorProto.DataType.Name(zero.data_type)
        return [f"{node.name}: zero point of type {kind}; TensorRT takes INT8 only"]
    if np.any(numpy_helper.to_array(zero)):
        return [f"{node.name}: non-zero zero point; TensorRT takes symmetric quantisation only"]
    return []
