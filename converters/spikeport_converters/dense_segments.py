"""The dense part of a hybrid model, cut at its islands into ONNX graphs that run one after the other."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import onnx
import torch
from torch import Tensor, nn

from .islands import Island
from .nir_profiles import Profile
from .onnx_graph import onnx_from_model, subgraph


@dataclass(frozen=True)
class Segment:
    """One dense graph, with the names of the tensors it takes and gives."""

    graph: onnx.ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Hybrid:
    """Segments before, between and after the islands, and the tensors that island k reads and writes.

    Run order: segment 0, island 0, segment 1, ... Tensors keep their names across segments; `[batch, token, width]`
    becomes `[batch * token, width]` for an island.
    """

    segments: tuple[Segment, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


def dense_segments(folded: nn.Module, islands: tuple[Island, ...], patches: Tensor, profile: Profile) -> Hybrid:
    """Cut the graph of the folded model at its islands; the gain of an island of currents goes into its LayerNorm."""
    model = onnx_from_model(_host(folded, islands, profile), patches)
    graph = model.graph
    inside = {node.name: k for node in graph.node for k, i in enumerate(islands) if node.name.startswith(_prefixes(i))}
    stage = {value.name: 0 for value in graph.input}
    reads, writes = [""] * len(islands), [""] * len(islands)
    for node in graph.node:
        stages = [stage[name] for name in node.input if name in stage]
        if not stages:
            continue
        at = max(stages)
        if node.name in inside:
            k = inside[node.name]
            reads[k] = reads[k] or next(name for name in node.input if name in stage)
            writes[k], at = node.output[0], k + 1
        stage |= {name: at for name in node.output if name}
    given = {value.name for value in graph.input}
    wanted = [value.name for value in graph.output]
    segments = []
    for k in reversed(range(len(islands) + 1)):
        ours = [name for name in wanted if stage[name] == k and name not in given and name not in writes]
        outputs = tuple(dict.fromkeys([*ours, *reads[k : k + 1]]))
        inputs = _needed(graph, outputs, stage, k, writes)
        segments.append(Segment(subgraph(model, inputs, outputs), inputs, outputs))
        wanted += inputs
    return Hybrid(tuple(reversed(segments)), tuple(reads), tuple(writes))


def _needed(
    graph: onnx.GraphProto, outputs: tuple[str, ...], stage: dict[str, int], k: int, writes: list[str]
) -> tuple[str, ...]:
    """Tensors of earlier stages, graph inputs and island outputs from which stage `k` computes `outputs`."""
    producer = {name: node for node in graph.node for name in node.output}
    pending, seen, found = list(outputs), set[str](), []
    while pending:
        name = pending.pop()
        if name in seen or not name:
            continue
        seen.add(name)
        if name in stage and (stage[name] < k or name in writes or name not in producer):
            found.append(name)
        elif name in producer:
            pending += producer[name].input
    return tuple(sorted(found))


def _host(folded: nn.Module, islands: tuple[Island, ...], profile: Profile) -> nn.Module:
    """A copy in which every island is a bare fc1 -> fc2, easy to find and cut."""
    host = copy.deepcopy(folded)
    for island in islands:
        ffn = host.get_submodule(island.path)
        ffn.neuron = nn.Identity()
        if island.takes == "currents" and profile.gain(island.neuron) != 1:
            norm = ffn.norm
            assert isinstance(norm, nn.LayerNorm)
            with torch.no_grad():
                norm.weight.mul_(profile.gain(island.neuron))
                norm.bias.mul_(profile.gain(island.neuron))
    return host


def _prefixes(island: Island) -> tuple[str, ...]:
    layers = ("fc1", "fc2") if island.takes == "features" else ("fc2",)
    return tuple(f"{island.path}.{layer}/" for layer in layers)
