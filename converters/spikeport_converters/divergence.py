"""Which layer of an exported graph is the first to differ from the model it came from.

Every layer is looked at twice: as it stands in the whole graph, where what came before it has already gone wrong too
(accumulated), and fed with what the reference feeds it (own), which tells whose fault it is.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor, fx, nn

from spikeport_errors import InputError
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime
from spikeport_toolkit.models.neuron import SpikingNeuron

from .onnx_graph import INPUT, QDQ, subgraph
from .operators import module_path
from .parity import nmse_db
from .precision import Gates
from .reference import spiking_neurons
from .stair_bytes import shift_of
from .stair_form import COUNT
from .static_model import static_model

_SAMPLES = 4
Expected = tuple[str, NDArray[np.float32], int]
"""Kind of a layer, what it gives, and of a neuron the unit of that: 1 for a rate or spikes, T D for counts."""
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class LayerError:
    """One layer: NMSE in dB against the reference for layers of values, share of moved spikes for neurons.

    `own` is with the reference's inputs, None where the graph cannot be cut there; `limit` is in the same unit.
    """

    path: str
    what: str
    accumulated: float
    own: float | None
    limit: float
    unit: str

    @property
    def wrong(self) -> bool:
        """Whether the layer itself errs."""
        return self.own is not None and self.own > self.limit

    def summary(self) -> str:
        """One line."""
        unit = "" if self.unit == "1" else f" {self.unit}"
        own = "not known" if self.own is None else f"{self.own:.3g}{unit}"
        return f"{self.path} ({self.what}): own {own}, accumulated {self.accumulated:.3g}{unit}"


@dataclass(frozen=True)
class Divergence:
    """The errors of all layers in the order of the graph; truthy when a layer exceeds what its precision allows."""

    rows: tuple[LayerError, ...]

    @property
    def first(self) -> LayerError | None:
        """The first layer that errs by itself; else, where the last one is off, the first with too large a sum."""
        own = next((row for row in self.rows if row.wrong), None)
        if own is not None or not self.rows or self.rows[-1].accumulated <= self.rows[-1].limit:
            return own
        return next(row for row in self.rows if row.accumulated > row.limit)

    def __bool__(self) -> bool:
        return self.first is not None

    def summary(self) -> str:
        """The first diverging layer and its remedy, then every layer."""
        found = self.first
        if found is None:
            head = f"no layer of {len(self.rows)} diverges"
        else:
            limit = f"{found.limit:g}{'' if found.unit == '1' else f' {found.unit}'}"
            head = f"first diverging layer: {found.summary()}; limit {limit}; {self.remedy}"
        return "\n".join([head, *(f"  {'!' if row is found else ' '} {row.summary()}" for row in self.rows)])

    @property
    def remedy(self) -> str:
        """What to do about the first diverging layer."""
        found = self.first
        if found is None:
            return ""
        if not found.wrong:
            return "no layer errs alone, the error adds up: take a more exact precision, or --max-nmse-loss"
        if found.unit == "1":
            return "its state or thresholds are not the model's: functional.reset_net(model), then export again"
        return "its weights or scales are not the model's: export again, or keep this layer in floating point"

    def to_dict(self) -> dict[str, Any]:
        """Plain values; infinite ones become null."""
        rows = [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(r).items()}
                for r in self.rows]  # fmt: skip
        found = self.first
        return {"first": found.path if found else None, "remedy": self.remedy, "layers": rows}


def divergence(reference: nn.Module, model: onnx.ModelProto, inputs: NDArray[np.float32], gates: Gates) -> Divergence:
    """Compare every layer of `model` with the module of the same path in `reference`, on `inputs` [sample, ...].

    `reference` is the BatchNorm-folded model with its own neurons. Layers are matched by node names, which are module
    paths in what we export. Raises InputError where no layer matches.
    """
    inputs = inputs[:_SAMPLES]
    if not inputs.size or not np.isfinite(inputs).all():
        raise InputError("the golden input holds no sample, or values that are not finite: export again")
    wanted = _reference_outputs(reference, inputs)
    ends = _layer_ends(model.graph)
    for path, neuron in spiking_neurons(reference).items():
        if f"{path}/{COUNT}" in {name for node in model.graph.node for name in node.output} and path in wanted:
            slots = neuron.config.steps * neuron.config.levels
            ends[path] = f"{path}/{COUNT}"
            wanted[path] = (wanted[path][0], wanted[path][1] * np.float32(slots), slots)
    producer = {name: node for node in model.graph.node for name in node.output}
    for path in wanted.keys() & ends.keys():
        if shift := shift_of(producer.get(ends[path])):
            what, value, slots = wanted[path]
            wanted[path] = (what, value + np.float32(shift), slots)
    paths = [path for path in ends if path in wanted]
    if not paths:
        raise InputError("no node of the graph is named by a module path of the model: export it with spikeport")
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "model.onnx"
        onnx.save(model, file)
        whole = OnnxRuntime().run(file, {INPUT: inputs}, taps=list(dict.fromkeys(ends[p] for p in paths))).values
        rows = []
        for index, path in enumerate(paths):
            what, expected, slots = wanted[path]
            fed = {ends[p]: wanted[p][1] for p in paths[:index]} | {INPUT: inputs}
            own = _own(model, file.with_name("part.onnx"), ends[path], fed)
            accumulated = _error(whole[ends[path]], expected, slots)
            if accumulated is None:
                continue
            limit, unit = (gates.spikes, "1") if slots else (gates.output_db, "dB")
            alone = None if own is None else _error(own, expected, slots)
            rows.append(LayerError(path, what, accumulated, alone, limit, unit))
    return Divergence(tuple(rows))


def _own(model: onnx.ModelProto, path: Path, name: str, fed: Arrays) -> NDArray[Any] | None:
    """The tensor `name`, computed from the tensors `fed`; None where the graph does not say their types."""
    graph = model.graph
    needed = _needed(graph, name, set(fed))
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    if name not in types or not needed or any(n not in types for n in needed):
        return None
    try:
        onnx.save(subgraph(model, needed, [name]), path)
        kinds = {TensorProto.FLOAT16: np.float16, TensorProto.INT8: np.int8, TensorProto.UINT8: np.uint8}
        given = {n: fed[n].astype(kinds.get(types[n], np.float32)) for n in needed}
        return OnnxRuntime().run(path, given)[name]
    except InputError:
        return None


def _needed(graph: onnx.GraphProto, name: str, cut: set[str]) -> list[str]:
    """Those tensors of `cut` that `name` is computed from without passing another of them."""
    producer = {output: node for node in graph.node for output in node.output}
    found, pending, seen = [], list(producer[name].input), set()
    while pending:
        each = pending.pop()
        if each in seen:
            continue
        seen.add(each)
        if each in cut:
            found.append(each)
        elif each in producer:
            pending += producer[each].input
    return found


def _layer_ends(graph: onnx.GraphProto) -> dict[str, str]:
    """The last tensor that every module path computes, in the order of the graph."""
    ends: dict[str, str] = {}
    for node in graph.node:
        path = node.name.rpartition("/")[0]
        if path and node.op_type not in QDQ:
            ends.pop(path, None)
            ends[path] = node.output[-1 if node.op_type == "Scan" else 0]  # a Scan gives its last states first
    return ends


def _reference_outputs(reference: nn.Module, inputs: NDArray[np.float32]) -> dict[str, Expected]:
    """What is expected of every layer, by path.

    Neurons step through their own loop in `reference`; what other layers compute is taken from the model without time,
    where attention's scale already stands in its weights as it does in the graph.
    """
    given = torch.from_numpy(inputs)
    found: dict[str, Expected] = {}
    functional.reset_net(reference)
    with _watching_neurons(reference, found), torch.no_grad():
        reference(given)
    functional.reset_net(reference)
    layers = {path: m for path, m in reference.named_modules() if not any(True for _ in m.children())}
    example = given if len(given) > 1 else given.repeat(2, *[1] * (given.ndim - 1))
    with torch.no_grad():
        _Recording(static_model(reference, example).program, layers, found).run(given)
    return found


class _Recording(fx.Interpreter):
    """Runs a traced model and keeps the last value of every layer."""

    def __init__(self, program: fx.GraphModule, layers: Mapping[str, nn.Module], found: dict[str, Expected]):
        super().__init__(program)
        self.layers, self.found, self.spiking = layers, found, set(found)

    def run_node(self, n: fx.Node) -> Any:
        """The value of `n`, kept where it is a layer's."""
        value, path = super().run_node(n), module_path(n)
        if n.op == "call_function" and path in self.layers and path not in self.spiking and isinstance(value, Tensor):
            self.found[path] = (type(self.layers[path]).__name__, value.detach().float().numpy(), 0)
        return value


@contextmanager
def _watching_neurons(reference: nn.Module, found: dict[str, Expected]) -> Iterator[None]:
    handles: list[Any] = []
    inside: tuple[str, ...] = ()
    for path, module in reference.named_modules():
        if (inside and path.startswith(inside)) or not isinstance(module, SpikingNeuron | BaseNode):
            continue
        inside = (*inside, f"{path}.")

        def keep(_: nn.Module, __: Any, out: Tensor, path: str = path) -> None:
            found[path] = (type(reference.get_submodule(path)).__name__, out.detach().float().numpy(), 1)

        handles.append(module.register_forward_hook(keep))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _error(got: NDArray[Any], expected: NDArray[Any], slots: int) -> float | None:
    """NMSE in dB; of a neuron the spikes gained or lost per neuron-step. None where the sizes differ."""
    if got.size != expected.size:
        return None
    values = got.reshape(expected.shape)
    return float(np.abs(values.astype(np.float64) - expected).mean()) / slots if slots else nmse_db(values, expected)
