"""The cheapest exact form of a staircase in a graph: hard sigmoids, which are one pass over the currents each.

    step    [I >= theta]             = HS(2^p I - 2^p pred(theta)),  HS(x) = min(1, max(0, x)), pred the float below
    ramp    sum_j [I >= theta_j]     = round(n HS(a I + b)),         n thresholds at equal distances
    count   sum_g m_g s_g            = round(m sum_g s_g)            where every group counts the same m

A step is exact in any float32 arithmetic: 2^p I has no rounding, and the difference is exact wherever it lies between 0
and 1. A ramp's a and b are searched among neighbouring floats until both sides of every threshold give the right count,
with a fused multiply-add as well as without; as every operation is monotone, all other currents then do too. Where no
such pair is found there are steps. A QuantizeLinear behind rounds by itself: with scale 1/m it gives the count.
For a processor there is a form of fewer passes, `stair_bytes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo

from .fold import Staircase
from .stair_bytes import SHIFT, ByteForm, byte_form

COUNT = "count"
"""`<module path>/count` is the tensor of a neuron's spike counts."""
_REACH = 48
"""Floats to either side of the nominal a and b that are tried."""


@dataclass(frozen=True)
class Group:
    """m HS(slope I + shift); `rounded` says that it passes through values between its counts."""

    slope: float
    shift: float
    most: int
    rounded: bool


@dataclass(frozen=True)
class StairForm:
    """count(I) = round(sum of its groups); the round is needed only where a group is a ramp."""

    groups: tuple[Group, ...]

    @property
    def rounded(self) -> bool:
        """Whether what the groups give has to be rounded."""
        return any(group.rounded for group in self.groups)

    @property
    def factor(self) -> int:
        """m, what a full group counts, of the group that counts least."""
        return min(group.most for group in self.groups)

    def sums(self, current: NDArray[np.float32], *, fused: bool = False) -> NDArray[np.float32]:
        """sum_g s_g m_g / m in float32, one rounding after every operation (or a fused multiply-add)."""
        total: NDArray[np.float32] | None = None
        for group in self.groups:
            slope, shift = np.float32(group.slope), np.float32(group.shift)
            if fused:
                line = (current.astype(np.float64) * float(slope) + float(shift)).astype(np.float32)
            else:
                line = current * slope + shift
            part = np.clip(line, np.float32(0), np.float32(1)) * np.float32(group.most // self.factor)
            total = part if total is None else total + part
        assert total is not None
        return total

    def counts(self, current: NDArray[np.float32], *, fused: bool = False) -> NDArray[np.int64]:
        """Spike counts, as the graph computes them."""
        with np.errstate(over="ignore"):
            counts: NDArray[np.int64] = np.rint(self.sums(current, fused=fused) * np.float32(self.factor)).astype(
                np.int64
            )
        return counts


@cache
def stair_form(stairs: Staircase) -> StairForm:
    """The form of `stairs` with the fewest groups that is exact."""
    steps = tuple(_step(t, i) for t, i in zip(stairs.thresholds, stairs.increments, strict=True))
    found, at = [], 0
    for length in _runs(stairs):
        ramp = _ramp(stairs.thresholds[at : at + length]) if length > 1 else None
        found += [ramp] if ramp is not None else list(steps[at : at + length])
        at += length
    best = StairForm(tuple(found))
    uneven = any(group.most % best.factor for group in best.groups)
    return best if not uneven and _exact(best, stairs) else StairForm(steps)


def write_stairs(
    model: onnx.ModelProto,
    stairs: Mapping[str, Staircase],
    folder: Path | None = None,
    *,
    processor: bool = False,
    slack: int = 0,
) -> dict[str, str]:
    """Put the cheapest form in place of the compares of every neuron in `stairs` (by module path), in place.

    Gives the name of the tensor that holds each one's spike count. A quantiser behind a neuron takes over its rounding;
    a division by a power of two goes into the weights of the linear layer behind, where that alone reads it:
    in its file in `folder`, where the weights are not in the graph. With `processor` a neuron is written in bytes,
    where its staircase has that form with at most `slack` and the shift of that a bias in front; the node of that bias
    says it (shift_of).
    """
    forms = {path: byte_form(stair) if processor else None for path, stair in stairs.items()}
    kept = {path: form if form is not None and form.slack <= slack else None for path, form in forms.items()}
    return {path: _Rewriting(model.graph, path, stair, folder).run(kept[path]) for path, stair in stairs.items()}


class _Rewriting:
    def __init__(self, graph: onnx.GraphProto, path: str, stairs: Staircase, folder: Path | None):
        self.graph, self.path, self.stairs, self.folder = graph, path, stairs, folder
        self.form, self.nodes = stair_form(stairs), list[onnx.NodeProto]()
        own = [node for node in graph.node if node.name.rpartition("/")[0] == path]
        kinds = [node.op_type for node in own]
        self.slots = stairs.steps * stairs.levels
        first = kinds.index("GreaterOrEqual")
        if self.slots > 1:  # x / 1 is no operator
            last = kinds.index("Div", first)
        elif len(stairs.thresholds) > 1:
            last = [i for i in range(first, len(kinds)) if kinds[i] == "Add"][len(stairs.thresholds) - 2]
        else:
            last = kinds.index("Mul" if stairs.increments[0] > 1 else "Cast", first)
        own = own[first : last + 1]
        self.current, self.rate = str(own[0].input[0]), str(own[-1].output[0])
        self.own = {node.name for node in own}
        self.gone = {name for node in own for name in node.output}

    def run(self, form: ByteForm | None) -> str:
        shifted = None if form is None else self._shifted(form.shift)
        count = self._float_count() if form is None or shifted is None else self._byte_count(form, shifted)
        self._replace()
        self._describe()
        return self._called(count, f"{self.path}/{COUNT}")

    def _float_count(self) -> str:
        total = self._sum()
        readers = [node for node in self.graph.node if self.rate in node.input]
        quantisers = [node for node in readers if node.op_type == "QuantizeLinear"]
        factor = self.form.factor
        if len(quantisers) == len(readers) == 1 and self._scale(quantisers[0]) == 1 / self.slots and _binary(factor):
            quantisers[0].input[0] = total
            quantisers[0].input[1] = self._constant("scale", np.float32(1 / factor))
            return str(quantisers[0].output[0])
        count = self._count(total)
        self._read(count, readers)
        return count

    def _shifted(self, shift: float) -> str | None:
        """The current plus `shift`, which goes into a bias; None where there is no bias in front."""
        if not shift:
            return self.current
        constants = {i.name: i for i in self.graph.initializer}
        maker = next((node for node in self.graph.node if self.current in node.output), None)
        alone = all(node.name in self.own for node in self.graph.node if self.current in node.input)
        if maker is None or not alone or self.current in {value.name for value in self.graph.output}:
            return None
        places: tuple[int, ...] = {"Add": (0, 1), "Gemm": (2,)}.get(maker.op_type, ())
        place = next((k for k in places if k < len(maker.input) and maker.input[k] in constants), None)
        if place is None or any(a.name == "beta" and a.f != 1 for a in maker.attribute):
            return None
        bias = numpy_helper.to_array(constants[maker.input[place]], str(self.folder or "")).astype(np.float64)
        maker.input[place] = f"{self.path}/bias"
        self.graph.initializer.append(numpy_helper.from_array((bias + shift).astype(np.float32), maker.input[place]))
        maker.metadata_props.add(key=SHIFT, value=repr(shift))
        return self.current

    def _byte_count(self, form: ByteForm, shifted: str) -> str:
        """The count in uint8, for the quantisers behind to hand on as it is, and as a rate for all who read floats."""
        parts = []
        for k, q in enumerate(form.quantisers):
            scale = self._constant(f"scale_{k}", np.float32(q.scale))
            parts.append(self._add("QuantizeLinear", [shifted, scale, self._zero(q.zero)]))
        one = self._constant("one", np.float32(1))
        if len(parts) == 1:
            count = self._add("Min", [parts[0], self._zero(form.most)])
        else:
            counts = [
                self._add("DequantizeLinear", [part, one, self._zero(q.base)])
                for part, q in zip(parts, form.quantisers, strict=True)
            ]
            count = self._add("QuantizeLinear", [self._add("Add", counts), one, self._zero(0)])
        readers = [node for node in self.graph.node if self.rate in node.input]
        users = {node.name: [n for n in self.graph.node if node.output[0] in n.input] for node in readers}
        for node in readers:
            exact = node.op_type == "QuantizeLinear" and self._scale(node) == float(np.float32(1 / self.slots))
            if exact and all(user.op_type == "DequantizeLinear" for user in users[node.name]):
                for user in users[node.name]:
                    user.input[:] = [count, user.input[1], self._zero(0)]
                self.own.add(node.name)
                self.gone.update(node.output)
        kept = [node for node in readers if node.name not in self.own]
        if kept or any(value.name == self.rate for value in self.graph.output):
            step = self._constant("slot", np.float32(1 / self.slots))
            self.nodes.append(
                helper.make_node(
                    "DequantizeLinear", [count, step, self._zero(0)], [self.rate], f"{self.path}/DequantizeLinear_rate"
                )
            )
        return count

    def _zero(self, value: int) -> str:
        """A constant uint8."""
        name = f"{self.path}/byte_{value}"
        if name not in {i.name for i in self.graph.initializer}:
            self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.uint8), name))
        return name

    def _sum(self) -> str:
        parts = []
        for group in self.form.groups:
            part = self._add("HardSigmoid", [self.current], alpha=group.slope, beta=group.shift)
            times = group.most // self.form.factor
            parts.append(part if times == 1 else self._add("Mul", [part, self._constant("times", np.float32(times))]))
        total = parts[0]
        for part in parts[1:]:
            total = self._add("Add", [total, part])
        return total

    def _count(self, total: str) -> str:
        if self.form.factor > 1:
            total = self._add("Mul", [total, self._constant("most", np.float32(self.form.factor))])
        return self._add("Round", [total]) if self.form.rounded else total

    def _read(self, count: str, readers: list[onnx.NodeProto]) -> None:
        """Hand the count on as a rate."""
        constants = {i.name: i for i in self.graph.initializer}
        reader = readers[0] if len(readers) == 1 else None
        weight = constants.get(reader.input[1]) if reader is not None and reader.op_type in ("MatMul", "Gemm") else None
        once = weight is not None and sum(weight.name in node.input for node in self.graph.node) == 1
        if reader is not None and weight is not None and once and reader.input[0] == self.rate and _binary(self.slots):
            self._divide(weight)
            reader.input[0] = count
            return
        rate = self._add("Div", [count, self._constant("slots", np.float32(self.slots))]) if self.slots > 1 else count
        for node in readers:
            node.input[:] = [rate if name == self.rate else name for name in node.input]
        for value in self.graph.output:
            if value.name == self.rate:
                self.nodes.append(helper.make_node("Identity", [rate], [self.rate], f"{self.path}/Identity"))

    def _divide(self, weight: onnx.TensorProto) -> None:
        value = numpy_helper.to_array(weight, str(self.folder or "")) / np.float32(self.slots)
        if weight.data_location != onnx.TensorProto.EXTERNAL:
            weight.CopyFrom(numpy_helper.from_array(value, weight.name))
            return
        assert self.folder is not None, "a graph whose weights are in a file comes with its folder"
        place = ExternalDataInfo(weight)
        with (self.folder / place.location).open("r+b") as file:
            file.seek(place.offset or 0)
            file.write(value.tobytes())

    def _replace(self) -> None:
        """Put the new nodes where the old ones were, and drop those nobody reads."""
        places = [index for index, node in enumerate(self.graph.node) if node.name in self.own]
        at = places[0]
        for index in reversed(places):
            del self.graph.node[index]
        for offset, node in enumerate(self.nodes):
            self.graph.node.insert(at + offset, node)
        gone = self.gone - {v.name for v in self.graph.output}
        kept = [v for v in self.graph.value_info if v.name not in gone]
        del self.graph.value_info[:]
        self.graph.value_info.extend(kept)
        read = {name for node in self.graph.node for name in node.input}
        for constant in [i for i in self.graph.initializer if i.name not in read]:
            self.graph.initializer.remove(constant)

    def _describe(self) -> None:
        """Shapes and types of what is new: those of the current, or bytes."""
        known = next(v for v in (*self.graph.value_info, *self.graph.input) if v.name == self.current)
        for node in self.nodes:
            value = self.graph.value_info.add()
            value.CopyFrom(known)
            value.name = node.output[0]
            if node.op_type in ("QuantizeLinear", "Min"):
                value.type.tensor_type.elem_type = onnx.TensorProto.UINT8

    def _called(self, old: str, new: str) -> str:
        for node in self.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
        for value in self.graph.value_info:
            value.name = new if value.name == old else value.name
        return new

    def _add(self, kind: str, inputs: list[str], **attributes: float) -> str:
        taken = {n.name for n in self.graph.node} - self.own | {n.name for n in self.nodes}
        name = next(
            n for k in range(1, len(taken) + 2) if (n := f"{self.path}/{kind}" + f"_{k}" * (k > 1)) not in taken
        )
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def _constant(self, what: str, value: np.float32) -> str:
        name = f"{self.path}/{what}_{value:g}"
        if name not in {i.name for i in self.graph.initializer}:
            self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def _scale(self, quantiser: onnx.NodeProto) -> float:
        found = next((i for i in self.graph.initializer if i.name == quantiser.input[1]), None)
        return float(numpy_helper.to_array(found)) if found is not None and not found.dims else 0.0


def _runs(stairs: Staircase) -> Iterator[int]:
    """Lengths of the runs of thresholds at equal distances that count one each, the longest from the left."""
    thresholds, ones = stairs.thresholds, [i == 1 for i in stairs.increments]
    at = 0
    while at < len(thresholds):
        end = at + 1
        while ones[at] and end < len(thresholds) and ones[end] and _even(thresholds[at : end + 1]):
            end += 1
        yield end - at
        at = end


def _even(thresholds: tuple[float, ...]) -> bool:
    gaps = np.diff(np.array(thresholds))
    return bool(np.ptp(gaps) <= 4 * np.spacing(np.float32(abs(thresholds[-1]))))


def _step(threshold: float, increment: int) -> Group:
    below = np.nextafter(np.float32(threshold), np.float32(-np.inf))
    power = 2.0 ** -np.floor(np.log2(float(np.float32(threshold) - below)))
    return Group(float(power), float(-below * np.float32(power)), increment, False)


def _ramp(thresholds: tuple[float, ...]) -> Group | None:
    """The ramp that counts `thresholds`, None where no neighbouring floats do."""
    above = np.array(thresholds, np.float32)
    below = np.nextafter(above, np.float32(-np.inf))
    middle, count = (above.astype(np.float64) + below) / 2, len(above)
    slope = (count - 1) / count / (middle[-1] - middle[0])
    for move in sorted(range(-_REACH, _REACH + 1), key=abs):
        tried = _neighbour(np.float32(slope), move)
        nominal = np.float32(np.mean((np.arange(count) + 0.5) / count - float(tried) * middle))
        for other in sorted(range(-_REACH, _REACH + 1), key=abs):
            group = Group(float(tried), float(_neighbour(nominal, other)), count, True)
            form = StairForm((group,))
            if all(
                np.array_equal(form.counts(side, fused=fused), np.arange(count) + up)
                for fused in (False, True)
                for up, side in ((0, below), (1, above))
            ):
                return group
    return None


def _exact(form: StairForm, stairs: Staircase) -> bool:
    """Whether `form` counts as `stairs` does on both sides of every threshold, and at both ends."""
    above = np.array(stairs.thresholds, np.float32)
    ends = np.array([-(2.0**64), 2.0**64], np.float32)
    probes = np.concatenate((above, np.nextafter(above, np.float32(-np.inf)), ends))
    return all(np.array_equal(form.counts(probes, fused=fused), stairs.counts(probes)) for fused in (False, True))


def _neighbour(value: np.float32, steps: int) -> np.float32:
    return np.float32(value + np.float32(steps) * np.spacing(value))


def _binary(value: int) -> bool:
    return value & (value - 1) == 0
