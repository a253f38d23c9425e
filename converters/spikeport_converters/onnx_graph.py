"""ONNX graphs from torch models: exported, stripped of what a machine leaves behind, and named by module path."""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, fx, nn

from .loop_form import TRANSLATIONS, write_loops

OPSET = 18
INPUT, OUTPUT = "patches", "prediction"
EXTERNAL_ABOVE = 100_000_000
"""Weights go to a file beside the graph above this many bytes: written one by one, they need no second copy."""
INLINE = 1 << 16
"""Constants up to this many bytes stay in the graph all the same."""
QDQ = ("QuantizeLinear", "DequantizeLinear")
_SCOPES = "pkg.torch.onnx.name_scopes"


def onnx_from_model(
    model: nn.Module, patches: Tensor, opset: int = OPSET, *, weights: Path | None = None
) -> onnx.ModelProto:
    """The graph of `model` for `patches` [batch, ...], input `patches`, output `prediction`.

    The batch is dynamic, or what `free_dimensions` says. Every node is called `<module path>/<operator>` and so is what
    it computes; stack traces, paths and other traces of the exporting machine are gone. `model` holds no neuron state:
    fold time first. Weights of more than 100 MB go into the file `weights`, where one is given, and the graph names
    their places in it.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (patches,),
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=free_dimensions(model, patches),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
            external_data=False,
            custom_translation_table=TRANSLATIONS,
        )
    assert program is not None
    if weights is not None and _weight_bytes(program.model) > EXTERNAL_ABOVE:
        import onnx_ir

        onnx_ir.external_data.unload_from_model(
            program.model, weights.parent, weights.name, size_threshold_bytes=INLINE
        )
    graph: onnx.ModelProto = program.model_proto
    _forget(program.model.graph)
    _name_by_path(graph.graph)
    write_loops(graph)
    _name_dimensions(graph.graph)
    strip_origin(graph)
    return graph


def _forget(graph: Any) -> None:
    """Drop the weights of an exported `graph` that has been written.

    onnxscript's rewriter keeps the last graph it saw for good, and that counts its former inputs: the weights.
    """
    for value in graph.initializers.values():
        value.const_value = None
    for counter in vars(graph.inputs).values():
        if isinstance(counter, Counter):
            counter.clear()


def free_dimensions(model: nn.Module, example: Tensor) -> tuple[dict[int, Any]]:
    """`dynamic_shapes` of an export: the batch, or of a traced graph every dimension that its trace left free."""
    return ({d: torch.export.Dim.AUTO for d in _free(model) if example.shape[d] > 1},)


def few_samples(model: nn.Module, samples: Tensor) -> Tensor:
    """What of `samples` an export of `model` runs on: two of them, or all where a traced graph fixes their number."""
    if 0 not in _free(model):
        return samples
    return samples[:2] if len(samples) > 1 else samples.repeat(2, *[1] * (samples.ndim - 1))


def _free(model: nn.Module) -> list[int]:
    if isinstance(model, fx.GraphModule):
        given = next(node for node in model.graph.nodes if node.op == "placeholder").meta.get("val")
        if isinstance(given, Tensor):
            return [d for d, size in enumerate(given.shape) if is_free(size)]
    return [0]


def is_free(size: Any) -> bool:
    """Whether a size of a traced graph may change: it is a symbol, and its range is more than one value."""
    if isinstance(size, int):
        return False
    bounds = size.node.shape_env.bound_sympy(size.node.expr)
    return bool(bounds.lower != bounds.upper)


def weight_file(path: Path) -> Path:
    """Where the weights of the graph at `path` go that are too large for it."""
    return path.with_name(f"{path.name}.data")


def save_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Write `model`; weights stay inside up to 100 MB; above, they go to `weight_file` and out of `model`."""
    inside = [i for i in model.graph.initializer if i.data_location != TensorProto.EXTERNAL]
    external = sum(_tensor_bytes(i) for i in inside) > EXTERNAL_ABOVE
    place = weight_file(path).name if external else None
    onnx.save(model, path, save_as_external_data=external, location=place, size_threshold=INLINE)


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    return int(math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _weight_bytes(model: Any) -> int:
    held = (value.const_value for value in model.graph.initializers.values())
    return sum(int(tensor.nbytes) for tensor in held if tensor is not None)


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


def _name_dimensions(graph: onnx.GraphProto) -> None:
    """Call the dynamic dimensions of the input `batch` and `tokens`, and their like everywhere else."""
    free = [dim.dim_param for dim in graph.input[0].type.tensor_type.shape.dim if dim.dim_param]
    named = dict(zip(free, ("batch", "tokens", *(f"size_{place}" for place in range(len(free)))), strict=False))
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in named:
                dim.dim_param = named[dim.dim_param]


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
