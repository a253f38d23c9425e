"""FP8 and NVFP4 by explicit scales in a finished half-precision graph, for the devices that compute in them.

FP8 (E4M3): x ~ s q with s = max|x| / 448 per tensor for activations and per output channel for weights; behind a
staircase s = 1/(T D), since counts up to 16 are E4M3 numbers.
NVFP4: weights only. Blocks of 16 along the input have q in E2M1 (largest 6) and a scale in E4M3, over one scale g:
    w ~ g b q,   b = E4M3(max|block| / (6 g)),   g = max|w| / (6 448)
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from spikeport_targets.runtimes.onnxruntime import OnnxRuntime

from .onnx_graph import INPUT
from .precision import Assignment, group_of

FP8_MOST, FP4_MOST, BLOCK = 448.0, 6.0, 16
_RUN = 8


def low_float(
    model: onnx.ModelProto, chosen: Assignment, samples: NDArray[np.float32], levels: Mapping[str, int]
) -> onnx.ModelProto:
    """`model`, in place, with the layers of `chosen` in FP8 or NVFP4.

    `samples` [sample, ...] are inputs whose ranges serve as scales; `levels` is T D of every staircase by module path.
    """
    layers = list(_layers(model.graph, chosen, levels))
    ranges = {} if chosen.kind == "nvfp4" else _ranges(model, [node.input[0] for node, _, _ in layers], samples)
    constants = {i.name: i for i in model.graph.initializer}
    known: dict[str, str] = {}
    for node, weight, exact in layers:
        if chosen.kind == "fp8":
            source = node.input[0]
            if source not in known:
                known[source] = _fp8_activation(model.graph, node, 1 / exact if exact else ranges[source] / FP8_MOST)
            node.input[0] = known[source]
        node.input[1] = _weight(model.graph, node, constants[weight], chosen.kind)
    _drop_unused(model.graph)
    _sort(model.graph)
    return model


def _layers(
    graph: onnx.GraphProto, chosen: Assignment, levels: Mapping[str, int]
) -> Iterator[tuple[onnx.NodeProto, str, int]]:
    """Every MatMul by a constant that `chosen` quantises, its weight, and T D where it reads counts (0 elsewhere)."""
    constants = {i.name: i for i in graph.initializer}
    producer = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in constants:
            continue
        if chosen.kind == "nvfp4" and constants[node.input[1]].dims[0] % BLOCK:
            continue  # no whole blocks of inputs: it stays in half precision
        path, maker = node.name.rpartition("/")[0], producer.get(node.input[0])
        exact = levels.get(maker.name.rpartition("/")[0], 0) if maker is not None else 0
        if chosen.quantises(path, group_of(path, reads_counts=bool(exact))):
            yield node, node.input[1], exact if exact <= BLOCK else 0


def _ranges(model: onnx.ModelProto, names: list[str], samples: NDArray[np.float32]) -> dict[str, float]:
    """Largest magnitude of every tensor of `names` on `samples`."""
    made = {name for node in model.graph.node for name in node.output}
    taps = sorted(set(names) & made)
    largest = dict.fromkeys(names, 0.0)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.onnx"
        onnx.save(model, path)
        session = OnnxRuntime().open(path, taps)
        for start in range(0, len(samples), _RUN):
            part = samples[start : start + _RUN]
            got: dict[str, Any] = {**session.run({INPUT: part}).values, INPUT: part}
            for name in largest:
                largest[name] = max(largest[name], float(np.abs(got[name]).max()))
    return {name: value or 1.0 for name, value in largest.items()}


def _fp8_activation(graph: onnx.GraphProto, reader: onnx.NodeProto, scale: float) -> str:
    base = f"{reader.name.rpartition('/')[0]}/input"
    graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float16), f"{base}/scale"))
    graph.initializer.append(_zero(f"{base}/zero", TensorProto.FLOAT8E4M3FN))
    coded, plain = f"{base}/QuantizeLinear", f"{base}/DequantizeLinear"
    scaled = [f"{base}/scale", f"{base}/zero"]
    graph.node.append(helper.make_node("QuantizeLinear", [reader.input[0], *scaled], [coded], coded))
    graph.node.append(helper.make_node("DequantizeLinear", [coded, *scaled], [plain], plain))
    return plain


def _weight(graph: onnx.GraphProto, reader: onnx.NodeProto, weight: onnx.TensorProto, kind: str) -> str:
    """Replace the constant [in, out] of `reader` by a coded one and the node that decodes it."""
    values = numpy_helper.to_array(weight).astype(np.float32)
    base = f"{reader.name.rpartition('/')[0]}/weight"
    plain, given = f"{base}/DequantizeLinear", [f"{base}/coded", f"{base}/scale"]
    if kind == "fp8":
        scale = (np.maximum(np.abs(values).max(0), 1e-12) / FP8_MOST).astype(np.float16)
        coded = helper.make_tensor(
            given[0], TensorProto.FLOAT8E4M3FN, values.shape, (values / scale.astype(np.float32)).ravel()
        )
        graph.initializer.append(numpy_helper.from_array(scale, given[1]))
        graph.initializer.append(_zero(f"{base}/zero", TensorProto.FLOAT8E4M3FN, len(scale)))
        decode = helper.make_node("DequantizeLinear", [*given, f"{base}/zero"], [plain], plain, axis=1)
    else:
        coded, blocks, whole = nvfp4(values, given[0], f"{base}/blocks")
        graph.initializer.append(blocks)
        graph.initializer.append(numpy_helper.from_array(np.array(whole, np.float16), f"{base}/whole"))
        graph.node.append(
            helper.make_node("DequantizeLinear", [f"{base}/blocks", f"{base}/whole"], [given[1]], given[1])
        )
        decode = helper.make_node("DequantizeLinear", given, [plain], plain, axis=0, block_size=BLOCK)
    graph.initializer.append(coded)
    graph.node.append(decode)
    return plain


def nvfp4(values: NDArray[np.float32], name: str, blocks: str) -> tuple[onnx.TensorProto, onnx.TensorProto, float]:
    """Codes [in, out] in E2M1, their block scales [in / 16, out] in E4M3, and the scale over all; equation above."""
    rows, columns = values.shape
    whole = float(np.float16(max(float(np.abs(values).max()) / (FP4_MOST * FP8_MOST), 2.0**-14)))
    grouped = values.reshape(rows // BLOCK, BLOCK, columns)
    wanted = np.maximum(np.abs(grouped).max(1) / (FP4_MOST * whole), 2.0**-9)
    scales = helper.make_tensor(blocks, TensorProto.FLOAT8E4M3FN, wanted.shape, wanted.ravel())
    stored = numpy_helper.to_array(scales).astype(np.float32)
    codes = (grouped / (stored[:, None] * whole)).reshape(rows, columns)
    return helper.make_tensor(name, TensorProto.FLOAT4E2M1, values.shape, codes.ravel()), scales, whole


def _zero(name: str, kind: int, length: int | None = None) -> onnx.TensorProto:
    return helper.make_tensor(name, kind, () if length is None else (length,), [0.0] * (length or 1))


def _drop_unused(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    kept = [i for i in graph.initializer if i.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _sort(graph: onnx.GraphProto) -> None:
    """Put the nodes in the order in which they can run; those added last go before their readers."""
    known = {i.name for i in (*graph.initializer, *graph.input)} | {""}
    waiting, ordered = list(graph.node), []
    while waiting:
        ready = [node for node in waiting if all(name in known for name in node.input)]
        assert ready, "a node reads what no node makes"
        ordered += ready
        known.update(name for node in ready for name in node.output)
        waiting = [node for node in waiting if not all(name in known for name in node.output)]
    del graph.node[:]
    graph.node.extend(ordered)
