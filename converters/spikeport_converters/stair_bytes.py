"""A staircase as quantisers that read the current themselves: what a processor computes in the fewest passes.

    q_j(I')  = min(255, max(0, round(I' / s_j) + z_j)),   I' = I + shift
    count(I) = min(most, q(I'))                           one quantiser, thresholds at equal distances, z = 0
    count(I) = max(0, q_1(I') + q_2(I') - 2 (255) + most) two, each of which saturates at its last threshold

The float currents are read once by each quantiser, and all else is done on bytes. Shift and scales are searched among
neighbouring floats until every step lies where it should: without a shift at the very float32 (`slack` 0), with one at
most one float32 of I' beside it, which is what adding the shift rounds by. The shift goes into the bias in front.
TensorRT takes no zero point and no uint8, so this form is for graphs that onnxruntime runs on a processor; not every
staircase has it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
from numpy.typing import NDArray

from .fold import Staircase

SHIFT = "spikeport.shift"
"""Key of the metadata of a node: what its output has on top of the layer's."""
_TOP = 255
_REACH = 24
"""Floats to either side of the nominal shift and scales that are tried."""
_BELOW = 4
"""Levels below the first threshold that are tried: they bring two quantisers to the same shift."""
_MOST_UNITS = 8

Thresholds = tuple[float, ...]


@dataclass(frozen=True)
class Quantiser:
    """q(I') = min(255, max(0, round(I' / scale) + zero)); a count of 0 is the value `base`."""

    scale: float
    zero: int
    base: int


@dataclass(frozen=True)
class ByteForm:
    """count(I) = min(most, max(0, sum_j q_j(I + shift) - base_j)); each step is at most `slack` floats of I' off."""

    shift: float
    quantisers: tuple[Quantiser, ...]
    most: int
    slack: int

    def counts(self, shifted: NDArray[np.float32]) -> NDArray[np.int64]:
        """Spike counts of float32 I + shift, as a runtime computes them."""
        total = np.zeros(shifted.shape, np.int64)
        for q in self.quantisers:
            scale = np.float32(q.scale)
            with np.errstate(over="ignore"):
                level = np.rint(shifted / scale)
            total += np.clip(level.astype(np.float64) + q.zero, 0, _TOP).astype(np.int64) - q.base
        return np.clip(total, 0, self.most)


@cache
def byte_form(stairs: Staircase) -> ByteForm | None:
    """The form of `stairs` with the fewest quantisers, None where it has none of at most two."""
    units = tuple(itertools.chain.from_iterable(itertools.repeat(t, i) for t, i in zip(
        stairs.thresholds, stairs.increments, strict=True)))  # fmt: skip
    if not 0 < len(units) <= _MOST_UNITS:
        return None
    for shift, sets, below in sorted(_candidates(units), key=lambda c: (len(c[1]), abs(c[0]))):
        for slack, moved in itertools.product((0, 1), _neighbours(shift)):
            found = _with_shift(stairs, float(moved), sets, below, slack)
            if found is not None:
                return found
    return None


def _candidates(units: Thresholds) -> Iterator[tuple[float, tuple[Thresholds, ...], tuple[int, ...]]]:
    """Shift, the thresholds of each quantiser, and the levels that each has below them."""
    if len(units) > 1 and _gap(units):
        yield _gap(units) / 2 - units[0], (units,), (0,)
    for size in range(2, len(units)):
        for chosen in itertools.combinations(range(len(units)), size):
            one = tuple(units[i] for i in chosen)
            other = tuple(units[i] for i in range(len(units)) if i not in chosen)
            if not _gap(one) or (len(other) > 1 and not _gap(other)):
                continue
            for below, under in itertools.product(range(_BELOW), repeat=2):
                shift = (below + 0.5) * _gap(one) - one[0]
                if len(other) == 1 or abs((under + 0.5) * _gap(other) - other[0] - shift) < 1e-6:
                    yield shift, (one, other), (below, under)


def _with_shift(
    stairs: Staircase, shift: float, sets: tuple[Thresholds, ...], below: tuple[int, ...], slack: int
) -> ByteForm | None:
    found = []
    for thresholds, under in zip(sets, below, strict=True):
        first = thresholds[0] + shift
        if first <= 0:
            return None
        nominal = _gap(thresholds) or first / (under + 0.5)
        scale = _scale(np.array([_least(t + shift) for t in thresholds], np.float32), under, nominal, slack)
        if scale is None:
            return None
        top = len(thresholds) + under
        found.append(Quantiser(scale, 0, 0) if len(sets) == 1 else Quantiser(scale, _TOP - top, _TOP - top + under))
    form = ByteForm(shift, tuple(found), sum(stairs.increments), slack)
    return form if form_holds(form, stairs, _probes(form, stairs)) else None


def shift_of(node: onnx.NodeProto | None) -> float:
    """What the output of `node` has on top of what the layer computes, for the quantisers behind it."""
    return next((float(p.value) for p in node.metadata_props if p.key == SHIFT), 0.0) if node is not None else 0.0


def form_holds(form: ByteForm, stairs: Staircase, shifted: NDArray[np.float32]) -> bool:
    """Whether `form` counts as `stairs` does at the real currents I' - shift of all `shifted`, within its slack."""
    low, high = (
        _real_counts(stairs, _moved(shifted, side * form.slack).astype(np.float64) - form.shift) for side in (-1, 1)
    )
    found = form.counts(shifted)
    return bool(np.all((low <= found) & (found <= high)))


def _real_counts(stairs: Staircase, current: NDArray[np.float64]) -> NDArray[np.int64]:
    passed = np.searchsorted(np.array(stairs.thresholds, np.float64), current, side="right")
    return np.concatenate(([0], np.cumsum(stairs.increments, dtype=np.int64)))[passed]


def _scale(above: NDArray[np.float32], below: int, nominal: float, slack: int) -> float | None:
    """The scale whose quantiser steps to its next level at each of `above`, or up to `slack` floats beside it."""
    levels = below + np.arange(len(above))
    low, high = _moved(above, -1 - slack), _moved(above, slack)
    for scale in _neighbours(nominal):
        if np.array_equal(np.rint(low / scale), levels) and np.array_equal(np.rint(high / scale), levels + 1):
            return float(scale)
    return None


def _moved(values: NDArray[np.float32], floats: int) -> NDArray[np.float32]:
    """`values`, each that many floats up."""
    for _ in range(abs(floats)):
        values = np.nextafter(values, np.float32(np.inf if floats > 0 else -np.inf))
    return values


def _probes(form: ByteForm, stairs: Staircase) -> NDArray[np.float32]:
    """Both sides of every threshold and of every level of every quantiser, and both ends."""
    levels = np.arange(-_TOP - 0.5, _TOP + 1)
    edges = [np.array([_least(t + form.shift) for t in stairs.thresholds], np.float32)]
    edges += [(levels * q.scale).astype(np.float32) for q in form.quantisers]
    near = np.concatenate(edges)
    sides = [np.nextafter(near, np.float32(end)) for end in (-np.inf, np.inf)]
    return np.concatenate((near, *sides, np.array([-(2.0**40), -1.0, 0.0, 2.0**40], np.float32)))


def _gap(thresholds: Thresholds) -> float:
    """Distance of neighbours in `thresholds`, 0 where they differ in it or are one."""
    gaps = np.diff(np.array(thresholds))
    even = len(gaps) and gaps.min() > 0 and np.ptp(gaps) <= 4 * np.spacing(np.float32(abs(thresholds[-1])))
    return float(gaps.mean()) if even else 0.0


def _least(value: float) -> np.float32:
    """The least float32 that is at least `value`."""
    near = np.float32(value)
    return near if float(near) >= value else np.nextafter(near, np.float32(np.inf))


def _neighbours(value: float) -> list[np.float32]:
    """0 alone for what is nearly 0, else the floats around `value`, the nearest first."""
    if abs(value) < 1e-6:
        return [np.float32(0)]
    near = np.float32(value)
    return [np.float32(near + np.float32(k) * np.spacing(near)) for k in sorted(range(-_REACH, _REACH + 1), key=abs)]
