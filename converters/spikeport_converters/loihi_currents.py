"""Currents for Loihi: the scale at which a 13-bit bias and an integer threshold spike as the float neuron does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeport_targets.runtimes.loihi_runner import BIAS_HIGH, DECAY_ONE, lif
from spikeport_toolkit.models.config import NeuronConfig

from .fold import Staircase

LOWEST_VTH = 64
_TIE = 1e-6


@dataclass(frozen=True)
class CurrentScale:
    """How a float current becomes a bias mantissa, m = floor(scale I), and which neuron spikes on it.

    `thresholds[c - 1]` is the smallest mantissa that gives c spikes over a token's steps. `distance` is the largest
    relative distance of these from the float neuron's; `exact` says that every float32 current gives the same count.
    Binary neurons have the one offset 0; an integer neuron with T = 1 is as many slots as it has levels, each with
    its own offset, so that all share the threshold `vth`.
    """

    scale: float
    vth: int
    dv: int
    thresholds: tuple[int, ...]
    offsets: tuple[int, ...]
    distance: float
    exact: bool

    def float_thresholds(self) -> NDArray[np.float32]:
        """The smallest float32 current of every threshold: I >= it holds exactly where floor(scale I) >= m_c does."""
        wanted = np.array(self.thresholds, np.float64)
        found = (wanted / self.scale).astype(np.float32)
        for _ in range(2):
            lower = np.nextafter(found, np.float32(-np.inf))
            found = np.where(lower.astype(np.float64) * self.scale >= wanted, lower, found)
            short = found.astype(np.float64) * self.scale < wanted
            found = np.where(short, np.nextafter(found, np.float32(np.inf)), found)
        return np.asarray(found, np.float32)


def aligned_currents(stairs: Staircase, neuron: NeuronConfig) -> CurrentScale:
    """The scale whose integer staircase fits the float one best, over every threshold that the bias can reach.

    A current above the highest threshold spikes in every step however large it is, and one below the lowest never
    does: saturation costs nothing, so all 12 bits serve the thresholds themselves, not the largest current.
    """
    wanted = _wanted(stairs)
    if neuron.kind == "ilif":
        tops = np.arange(BIAS_HIGH // 2, BIAS_HIGH + 1)
        found = np.rint(np.outer(tops / wanted[-1], wanted)).astype(np.int64)
    else:
        vths = np.arange(LOWEST_VTH, BIAS_HIGH)
        found = _integer_thresholds(vths, _dv(neuron), neuron.steps, len(wanted))
        found = found[(found[:, -1] <= BIAS_HIGH) & (found[:, 0] > 0)]
    scales = (found / wanted).max(1)
    distance = np.abs(scales[:, None] * wanted / found - 1).max(1)
    best = int(np.flatnonzero(distance <= distance.min() + _TIE)[-1])
    return _made(neuron, wanted, found[best], float(scales[best]))


def max_currents(stairs: Staircase, neuron: NeuronConfig, largest: float) -> CurrentScale:
    """The plain scale, at which the largest current seen fills the bias: max-scaling, for comparison."""
    wanted = _wanted(stairs)
    scale = BIAS_HIGH / max(largest, float(wanted[-1]))
    if neuron.kind == "ilif":
        return _made(neuron, wanted, np.rint(wanted * scale).astype(np.int64), scale)
    vth = np.array([max(1, round(scale * float(wanted[-1]))) - 1])
    return _made(neuron, wanted, _integer_thresholds(vth, _dv(neuron), neuron.steps, len(wanted))[0], scale)


def _made(neuron: NeuronConfig, wanted: NDArray[np.float64], found: NDArray[np.int64], scale: float) -> CurrentScale:
    below = np.nextafter(wanted.astype(np.float32), np.float32(-np.inf)).astype(np.float64)
    exact = bool((np.floor(wanted * scale) >= found).all() and (np.floor(below * scale) < found).all())
    slots = neuron.kind == "ilif"
    return CurrentScale(
        scale=scale,
        vth=0 if slots else int(found[-1]) - 1,
        dv=DECAY_ONE if slots else _dv(neuron),
        thresholds=tuple(found.tolist()),
        offsets=tuple((1 - found).tolist()) if slots else (0,),
        distance=float(np.abs(scale * wanted / found - 1).max()),
        exact=exact,
    )


def _wanted(stairs: Staircase) -> NDArray[np.float64]:
    """The float currents that give 1, 2, ... spikes."""
    return np.repeat(np.array(stairs.thresholds, np.float64), stairs.increments)


def _dv(neuron: NeuronConfig) -> int:
    return round(DECAY_ONE / neuron.tau)


def _integer_thresholds(vths: NDArray[np.int64], dv: int, steps: int, counts: int) -> NDArray[np.int64]:
    """Smallest mantissa int64 [vth, count] that gives 1, 2, ... spikes, by bisection with the chip's own neuron."""
    wanted = np.arange(1, counts + 1)
    low: NDArray[np.int64] = np.zeros((len(vths), counts), np.int64)
    high: NDArray[np.int64] = np.repeat(vths[:, None] + 1, counts, 1)
    while (high - low > 1).any():
        middle = (low + high) // 2
        silent = np.zeros((steps, *middle.shape), np.int64)
        spikes, _, _ = lif(silent, middle, vth=vths[:, None], dv=dv)
        reached = spikes.sum(0) >= wanted
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return high
