"""The dense part of a partitioned module: one torch graph before, between and after the islands, and its ONNX."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import onnx
import torch
from torch import Tensor, fx

from spikeport_errors import UnsupportedError

from .onnx_graph import OPSET, strip_origin
from .operators import activations, shape
from .partition import Partition


@dataclass(frozen=True)
class ModuleSegment:
    """One dense graph, with the names of the tensors it takes and gives; batch size is that of the example input."""

    graph: fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def run(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """What it computes in torch, by name."""
        with torch.no_grad():
            return dict(zip(self.outputs, self.graph(*(tensors[name] for name in self.inputs)), strict=True))


def module_segments(split: Partition) -> tuple[tuple[ModuleSegment | None, ...], str]:
    """The segments in running order (segment 0, island 0, segment 1, ...; None where one is empty), and the output.

    Raises UnsupportedError for a module that does not return one tensor.
    """
    program = split.traced.program
    result = next(node for node in program.graph.nodes if node.op == "output").args[0]
    while isinstance(result, tuple | list) and len(result) == 1:
        (result,) = result
    if not isinstance(result, fx.Node):
        raise UnsupportedError(f"{type(split.traced.module).__name__} returns no single tensor: return one")
    written = {part.writes: k + 1 for k, part in enumerate(split.parts)}
    stage = {split.traced.input: 0, **written}
    for node in split.dense:
        stages = [stage[a] for a in activations(node) if a in stage]
        if stages:
            stage[node] = max(stages)
    dense = [node for node in split.dense if node in stage]
    read = {part.reads for part in split.parts} | {result}
    segments: list[ModuleSegment | None] = []
    for k in range(len(split.parts) + 1):
        ours = [node for node in dense if stage[node] == k]
        outputs = [n for n in ours if n in read or any(u in stage and stage[u] > k for u in n.users if u in dense)]
        segments.append(_segment(program, ours, outputs) if outputs else None)
    return tuple(segments), result.name


def onnx_from_segment(segment: ModuleSegment) -> onnx.ModelProto:
    """The segment as an ONNX graph for the example's batch size; UnsupportedError where torch cannot write it."""
    example = tuple(torch.zeros(size) for size in segment.shapes)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                segment.graph,
                example,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(segment.inputs),
                output_names=list(segment.outputs),
                verbose=False,
                external_data=False,
            )
    except Exception as error:  # torch's exporter raises many kinds
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UnsupportedError(f"a dense segment cannot be written as ONNX ({reason}): simplify it") from None
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    strip_origin(model)
    return model


def _segment(program: fx.GraphModule, ours: list[fx.Node], outputs: list[fx.Node]) -> ModuleSegment:
    needed = _needed(ours, outputs)
    inputs = list(dict.fromkeys(a for n in ours if n in needed for a in activations(n) if a not in needed))
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    for node in program.graph.nodes:
        if node in needed:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in outputs))
    names = tuple(n.name for n in inputs), tuple(n.name for n in outputs)
    return ModuleSegment(fx.GraphModule(program, graph), *names, tuple(shape(n) for n in inputs))


def _needed(ours: list[fx.Node], outputs: list[fx.Node]) -> set[fx.Node]:
    """What computes `outputs`: operators of `ours`, the weights they read, and what is made of weights alone."""
    mine, needed, pending = set(ours), set[fx.Node](), list(outputs)
    while pending:
        node = pending.pop()
        if node in needed:
            continue
        needed.add(node)
        pending += [a for a in node.all_input_nodes if a in mine or _constant(a)]
    return needed


def _constant(node: fx.Node) -> bool:
    return node.op == "get_attr" or (node.op == "call_function" and all(_constant(a) for a in node.all_input_nodes))
