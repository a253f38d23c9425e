"""Where the spiking layers are in an exported graph, so that parity can look at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import onnx

from spikeport_errors import UnsupportedError

from .fold import Staircase
from .onnx_graph import QDQ
from .stair_bytes import shift_of
from .stair_form import COUNT


@dataclass(frozen=True)
class SpikingTap:
    """One spiking layer of a graph: tensor names of its current, its spike count and fc1's input, and its staircase.

    `input` is None for a neuron that no fc1 of the same block feeds. The tensor `current` is the current plus `shift`.
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
