"""Static legality of an ONNX graph for the TensorRT versions a Jetson can have (10.3 to 11.4)."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto

from spikeport_errors import UnsupportedError

from .onnx_graph import INLINE
from .operator_table import VERSIONS, operator_faults, operator_table

__all__ = ["onnx_faults", "onnx_legal", "onnx_valid", "operator_table"]


def onnx_faults(model: onnx.ModelProto, versions: Sequence[str] = VERSIONS) -> list[str]:
    """Everything in `model` that one of the TensorRT `versions` would refuse; empty when it is legal."""
    return [str(fault) for fault in operator_faults(model, versions)]


def onnx_valid(model: onnx.ModelProto) -> str:
    """Why onnx's own full check refuses `model`; empty where it does not."""
    try:
        onnx.checker.check_model(_without_weights(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return " ".join(str(error).split())
    return ""


def onnx_legal(model: onnx.ModelProto, versions: Sequence[str] = VERSIONS) -> onnx.ModelProto:
    """`model` itself, once onnx's full check passes and no TensorRT of `versions` finds fault with it.

    Raises UnsupportedError with the faults otherwise.
    """
    if reason := onnx_valid(model):
        raise UnsupportedError(f"the ONNX graph is not valid: {reason}")
    if faults := onnx_faults(model, versions):
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        where = f"{versions[0]} to {versions[-1]}"
        raise UnsupportedError(f"the ONNX graph is not legal for TensorRT {where}: {'; '.join(faults[:3])}{more}")
    return model


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with large constants as inputs of their type and shape: the same check, without copies of them."""
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph, light.graph.name = model.graph, model.graph.name
    for part in ("node", "input", "output", "value_info"):
        getattr(light.graph, part).extend(getattr(graph, part))
    for constant in graph.initializer:
        if constant.data_location != TensorProto.EXTERNAL and constant.ByteSize() <= INLINE:
            light.graph.initializer.append(constant)
        else:
            value = onnx.helper.make_tensor_value_info(constant.name, constant.data_type, constant.dims)
            light.graph.input.append(value)
    return light
