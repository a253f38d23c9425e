"""The graph of a time-folded model in a precision: exported, quantised, and in the types that its assignment says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from torch import Tensor, nn

from spikeport_errors import UnsupportedError

from .fold import StaircaseNeuron
from .half import half_model
from .onnx_graph import OPSET, QDQ, few_samples, onnx_from_model, with_float_io
from .precision import Assignment

HALF_SCALES_OPSET = 19
"""The first opset whose QuantizeLinear takes a half-precision scale."""
OPSETS, IR_VERSIONS = {"fp8": 19, "nvfp4": 23}, {"nvfp4": 11}
"""The first opset, and the first version of the file format above 10, that have the type (ONNX 1.14 and 1.18)."""


def precision_graph(
    static: nn.Module, samples: Tensor, chosen: Assignment, *, weights: Path | None = None
) -> onnx.ModelProto:
    """ONNX graph of `static` (time folded, attention explicit) with the types of `chosen`.

    `samples` [sample, ...] float32 are inputs; all of them calibrate. The graph takes and gives float32. `weights` as
    in onnx_from_model, but for FP8 and FP4.
    """
    half = chosen.rest == "fp16"
    model = half_model(static) if half else static
    given = samples.half() if half else samples
    example = few_samples(static, given)
    if chosen.kind == "int8":
        from .quantize import int8_model

        model = int8_model(model, given, chosen)
    opset = opset_of(chosen)
    graph = onnx_from_model(model, example, opset, weights=weights if chosen.kind in ("", "int8") else None)
    if half and chosen.kind == "int8":
        _half_scales(graph)
    if half:
        graph = with_float_io(graph)
    if chosen.kind not in ("", "int8"):
        from .low_float import low_float

        stairs = {
            p: m.stairs.steps * m.stairs.levels for p, m in static.named_modules() if isinstance(m, StaircaseNeuron)
        }
        graph = low_float(graph, chosen, samples.numpy(), stairs)
    graph.ir_version = max(graph.ir_version, IR_VERSIONS.get(chosen.kind, 0))
    return graph


def opset_of(chosen: Assignment) -> int:
    """The opset of a graph in these types: the first that has them, so that old parsers take what can be old."""
    if chosen.kind in OPSETS:
        return OPSETS[chosen.kind]
    return HALF_SCALES_OPSET if chosen.kind and chosen.rest == "fp16" else OPSET


def _half_scales(model: onnx.ModelProto) -> None:
    """Make the scales of QuantizeLinear and DequantizeLinear half precision, as the values beside them are.

    torchao writes float32 scales; beside half values the operators then have two types, which is no legal graph.
    """
    graph = model.graph
    scales = {node.input[1] for node in graph.node if node.op_type in QDQ}
    for constant in graph.initializer:
        if constant.name in scales:
            value = numpy_helper.to_array(constant).astype(np.float16)
            if not (value > 0).all():
                raise UnsupportedError(
                    f"{constant.name}: a scale below 6e-8 is zero in half precision: take --precision int8"
                )
            constant.CopyFrom(numpy_helper.from_array(value, constant.name))
    del graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    graph.value_info.extend(inferred.graph.value_info)
