"""FP8 and FP4 for a runtime without kernels for them: constants decoded, roundings of activations as a pair of casts.

DequantizeLinear(QuantizeLinear(x, s), s) = s E4M3(clip(x / s, -448, 448))
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LOW = (TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1)


def decode(model: onnx.ModelProto) -> bytes | None:
    """`model`, serialised, computing the same values without FP8 and FP4 tensors; None where it has none.

    Codes of weights become the values they stand for; an activation is rounded by a cast to FP8 and back, which
    onnxruntime does on the CPU although it quantises nothing to FP8 there.
    """
    graph = model.graph
    constants = {i.name: i for i in graph.initializer}
    if not any(i.data_type in LOW for i in constants.values()):
        return None
    values = {name: numpy_helper.to_array(i) for name, i in constants.items()}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in values and constants_low(values, node, constants):
            found = _plain(values, node)
            values[node.output[0]] = found
            graph.initializer.append(numpy_helper.from_array(found, node.output[0]))
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear") and _low_zero(node, constants):
            nodes += _cast(node, constants)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [i for i in graph.initializer if i.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    for opset in model.opset_import:
        if opset.domain == "":
            opset.version = min(opset.version, 21)
    data: bytes = model.SerializeToString()
    return data


def constants_low(
    values: dict[str, NDArray[Any]], node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> bool:
    """Whether `node` decodes a constant that is stored in FP8 or FP4, by constants."""
    stored = constants.get(node.input[0])
    return stored is not None and stored.data_type in LOW and node.input[1] in values


def _plain(values: dict[str, NDArray[Any]], node: onnx.NodeProto) -> NDArray[Any]:
    """What a DequantizeLinear of constants gives: per tensor, per channel on `axis`, or by blocks along it."""
    settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    codes, scale = values[node.input[0]].astype(np.float32), values[node.input[1]]
    axis, block = int(settings.get("axis", 1)), int(settings.get("block_size", 0))
    wide = scale.astype(np.float32)
    if block:
        wide = np.repeat(wide, block, axis)
    elif wide.ndim:
        shape = [1] * codes.ndim
        shape[axis] = -1
        wide = wide.reshape(shape)
    return np.asarray(codes * wide, scale.dtype)


def _low_zero(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    zero = constants.get(node.input[2]) if len(node.input) > 2 else None
    return zero is not None and zero.data_type in LOW


def _cast(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> list[onnx.NodeProto]:
    """QuantizeLinear as divide, clip, cast to FP8 and back; DequantizeLinear as the product with the scale."""
    out, name = node.output[0], node.name
    if node.op_type == "DequantizeLinear":
        return [helper.make_node("Mul", [node.input[0], node.input[1]], [out], name)]
    plain = constants[node.input[1]].data_type
    return [
        helper.make_node("Div", [node.input[0], node.input[1]], [f"{out}/scaled"], f"{name}/Div"),
        helper.make_node("Cast", [f"{out}/scaled"], [f"{out}/wide"], f"{name}/Wide", to=TensorProto.FLOAT),
        helper.make_node("Cast", [f"{out}/wide"], [f"{out}/low"], f"{name}/Low", to=TensorProto.FLOAT8E4M3FN),
        helper.make_node("Cast", [f"{out}/low"], [out], f"{name}/Back", to=plain),
    ]
