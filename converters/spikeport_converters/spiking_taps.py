"""Where the spiking layers are in an exported graph, so that parity can look at them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import onnx
from onnx import TensorProto, helper

from spikeport_errors import UnsupportedError

from .fold import Staircase
from .onnx_graph import QDQ
from .stair_bytes import shift_of
from .stair_form import COUNT


@dataclass(frozen=True)
class SpikingTap:
    """One spiking layer of a graph: tensor names of its current, its spike count and fc1's input, and its staircase.

    `input` is None for a neuron that no fc1 of the same block feeds. The tensor `current` is the current plus `shift`.
    A neuron whose steps stand in the graph has no staircase and no `current`: thresholds and increments are empty.
    """

    path: str
    input: str | None
    current: str
    count: str
    thresholds: tuple[float, ...]
    increments: tuple[int, ...]
    steps: int
    levels: int
    shift: float = 0.0

    @property
    def slots(self) -> int:
        """T D, the most spikes that it counts."""
        return self.steps * self.levels

    @property
    def staircase(self) -> Staircase:
        """The neuron's exact staircase."""
        return Staircase(self.thresholds, self.increments, self.steps, self.levels)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the manifest holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SpikingTap:
        """Inverse of to_dict."""
        return cls(**{**values, "thresholds": tuple(values["thresholds"]), "increments": tuple(values["increments"])})


def spiking_taps(graph: onnx.GraphProto, stairs: Mapping[str, Staircase]) -> tuple[SpikingTap, ...]:
    """The taps of every neuron in `stairs` (by module path), in that order."""
    nodes: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        nodes.setdefault(node.name.rpartition("/")[0], []).append(node)
    producer = {name: node for node in graph.node for name in node.output}
    return tuple(_tap(path, stair, nodes, producer) for path, stair in stairs.items())


def count_steps(graph: onnx.GraphProto, path: str, levels: int, rank: int, *, own: str = "") -> SpikingTap | None:
    """Count the spikes of the neuron at `path` whose steps stand in `graph`: adds the sum, which nothing else reads.

        count = sum_t S_t

    of the Scan of a loop, of the compares of single steps (D = 1), or of the steps as they are joined. `rank` is that
    of the count, and `own` the path that its nodes are named by where it is another. None where they are not found.
    """
    prefix = own or path
    nodes = [node for node in graph.node if node.name.rpartition("/")[0] == prefix]
    shapes = {v.name: v.type.tensor_type.shape.dim for v in graph.value_info}
    compares = [node.output[0] for node in nodes if node.op_type == "GreaterOrEqual"]
    joined = next((n.output[-1] for n in nodes[::-1] if n.op_type in ("Scan", "Concat")), None)
    scan = any(node.op_type == "Scan" for node in nodes)
    if not scan and levels == 1 and compares and all(len(shapes.get(name, ())) == rank for name in compares):
        steps, summed = len(compares), compares
    elif joined is not None and len(shapes.get(joined, ())) == rank + 1 and shapes[joined][0].dim_value:
        steps, summed = shapes[joined][0].dim_value, [joined]
    else:
        return None
    place = f"{prefix}/counted"  # no path of a module has a slash, so that bisection takes none of these for its end
    wide = [f"{place}/Cast{i}" for i in range(len(summed))]
    for name, value in zip(wide, summed, strict=True):
        graph.node.append(helper.make_node("Cast", [value], [name], name, to=TensorProto.FLOAT))
    count = f"{place}/Sum"
    if summed is compares:
        graph.node.append(helper.make_node("Sum", wide, [count], count))
    else:
        graph.initializer.append(helper.make_tensor(f"{place}/axis", TensorProto.INT64, [1], [0]))
        graph.node.append(helper.make_node("ReduceSum", [*wide, f"{place}/axis"], [count], count, keepdims=0))
    return SpikingTap(path, None, "", count, (), (), steps, levels)


def ambiguous(path: str, counted: Iterable[str], stepped: Iterable[str]) -> bool:
    """Whether runs of the neuron at `path` are told apart in the graph and not in the reference, or the reverse."""
    later = [{name for name in names if name.rpartition("_")[0] == path} for names in (counted, stepped)]
    return later[0] != later[1]


def _tap(
    path: str, stairs: Staircase, nodes: Mapping[str, list[onnx.NodeProto]], producer: Mapping[str, onnx.NodeProto]
) -> SpikingTap:
    own = nodes.get(path, [])
    compare = next((n for n in own if n.op_type in ("GreaterOrEqual", "HardSigmoid", "QuantizeLinear")), None)
    if compare is None:
        raise UnsupportedError(f"{path}: the exporter left no compare of this neuron in the graph; report this model")
    divide = next((n for n in own if n.op_type == "Div"), None)
    count = divide.input[0] if divide is not None else own[-1].output[0]
    count = f"{path}/{COUNT}" if f"{path}/{COUNT}" in producer else count
    matmul = next((n for n in nodes.get(f"{path.rpartition('.')[0]}.fc1", []) if n.op_type in ("MatMul", "Gemm")), None)
    source = matmul.input[0] if matmul is not None else None
    while source is not None and source in producer and producer[source].op_type in QDQ:
        source = producer[source].input[0]
    shift = shift_of(producer.get(compare.input[0]))
    return SpikingTap(
        path, source, compare.input[0], count, stairs.thresholds, stairs.increments, stairs.steps, stairs.levels, shift
    )
