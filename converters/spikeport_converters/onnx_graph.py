"""ONNX graphs from torch models: exported, stripped of what a machine leaves behind, and named by module path."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

OPSET = 18
INPUT, OUTPUT = "patches", "prediction"
EXTERNAL_ABOVE = 1_500_000_000
"""Weights go to a file beside the graph above this many bytes: protobuf ends at 2 GiB."""
MAX_BATCH = 1024
QDQ = ("QuantizeLinear", "DequantizeLinear")
_SCOPES = "pkg.torch.onnx.name_scopes"


def onnx_from_model(model: nn.Module, patches: Tensor, opset: int = OPSET) -> onnx.ModelProto:
    """The graph of `model` for `patches` [batch, token, 336], batch dynamic, input `patches`, output `prediction`.

    Every node is called `<module path>/<operator>` and so is what it computes; stack traces, paths and other
    traces of the exporting machine are gone. `model` holds no neuron state: fold time first.
    """
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (patches,),
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=({0: batch},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
            external_data=False,
        )
    assert program is not None
    graph: onnx.ModelProto = program.model_proto
    _name_by_path(graph.graph)
    strip_origin(graph)
    return graph


def save_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Write `model`; weights stay inside unless it exceeds 1.5 GB, then they go to `<name>.data` beside it."""
    external = model.ByteSize() > EXTERNAL_ABOVE
    onnx.save(model, path, save_as_external_data=external, location=f"{path.name}.data" if external else None)


def with_float_io(model: onnx.ModelProto) -> onnx.ModelProto:
    """Put a half-precision graph behind float32 input and output, in place."""
    graph = model.graph
    rename = {INPUT: f"{INPUT}/Half", OUTPUT: f"{OUTPUT}/Half"}
    for node in graph.node:
        node.input[:] = [rename.get(name, name) for name in node.input]
        node.output[:] = [rename.get(name, name) for name in node.output]
    graph.node.insert(0, helper.make_node("Cast", [INPUT], [rename[INPUT]], "input/Cast", to=TensorProto.FLOAT16))
    graph.node.append(helper.make_node("Cast", [rename[OUTPUT]], [OUTPUT], "output/Cast", to=TensorProto.FLOAT))
    for value in (*graph.input, *graph.output):
        half = graph.value_info.add()
        half.CopyFrom(value)
        half.name = rename[value.name]
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    return model


def subgraph(model: onnx.ModelProto, inputs: Iterable[str], outputs: Iterable[str]) -> onnx.ModelProto:
    """The part of `model` that computes the tensors `outputs` from the tensors `inputs`, given as new graph inputs."""
    graph, cut, wanted = model.graph, set(inputs), list(outputs)
    producer = {name: node for node in graph.node for name in node.output}
    needed: set[str] = set()
    pending = list(wanted)
    while pending:
        name = pending.pop()
        if name in needed or name in cut or name not in producer:
            needed.add(name)
            continue
        node = producer[name]
        needed.update(node.output)
        pending += [i for i in node.input if i]
    known = {v.name: v for v in (*graph.value_info, *graph.input, *graph.output)}
    part = helper.make_graph(
        [n for n in graph.node if n.output[0] in needed and n.output[0] not in cut],
        "part",
        [known[name] for name in dict.fromkeys(cut)],
        [known[name] for name in dict.fromkeys(wanted)],
        [i for i in graph.initializer if i.name in needed],
    )
    return helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)


def _name_by_path(graph: onnx.GraphProto) -> None:
    kept = {v.name for v in (*graph.input, *graph.output)} | {i.name for i in graph.initializer}
    seen: Counter[str] = Counter()
    renamed: dict[str, str] = {}
    scopes = _scopes(graph)
    for node in graph.node:
        name = f"{scopes[node.output[0]]}/{node.op_type}".lstrip("/")
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
        for index, output in enumerate(node.output):
            if output and output not in kept:
                renamed[output] = node.name if index == 0 else f"{node.name}:{index}"
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in graph.value_info:
        value.name = renamed.get(value.name, value.name)


def _scopes(graph: onnx.GraphProto) -> dict[str, str]:
    """Module path of every node by its first output; quantisation belongs to the layer that reads it."""
    scopes: dict[str, str] = {}
    reader: dict[str, str] = {}
    for node in reversed(graph.node):
        output = node.output[0]
        scope = reader.get(output, "") if node.op_type in QDQ else _scope(node)
        scopes[output] = scope
        reader.update(dict.fromkeys(node.input, scope))
    return scopes


def _scope(node: onnx.NodeProto) -> str:
    """Path of the innermost module that made `node`; empty at the root or where the exporter does not know."""
    text = next((p.value for p in node.metadata_props if p.key == _SCOPES), "[]")
    scopes: list[str] = json.loads(text.replace("'", '"'))
    return next((s for s in reversed(scopes[:-1]) if not s.startswith("_empty_nn_module")), "")


def strip_origin(model: onnx.ModelProto) -> None:
    """Remove what the exporting machine left in `model`: producer, stack traces, paths."""
    graph = model.graph
    model.producer_name, model.producer_version, model.doc_string = "spikeport", "", ""
    graph.name, graph.doc_string = "model", ""
    parts = (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in parts:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
