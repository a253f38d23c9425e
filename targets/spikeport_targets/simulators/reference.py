"""SpikingJelly's neurons in float32 numpy, bit for bit, over any island; the matrix products are numpy's. Numpy only.

Over T steps of a constant current a neuron has few spike trains, and its train is a step function of the current. Its
bounds are found once, by bisection over the float32 numbers from the neuron itself; after that the spikes of all tokens
are a few compares and exclusive ors, and what follows the last spiking layer, linear over time, runs once on the mean.
Currents that change from step to step take the plain loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

PROFILES = ("generic", "spikingjelly", "norse", "sinabs", "brian2", "lava", "sanafe", "legacy")
MOST_STEPS, MOST_BOUNDS = 64, 256
"""Beyond these the plain loop is as fast as compares with every bound."""
_GRID, _NEAR = 1025, 2048
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Neuron:
    """One neuron as SpikingJelly computes it, from `v = rest`; an IF neuron is one with tau infinite.

    h = v + (x - (v - rest)) / tau   (input decay)     h = v - (v - rest) / tau + x   (none)
    spike = h >= threshold;          v = rest where it spiked (hard),   v = h - threshold (soft)
    """

    tau: float
    decay_input: bool
    threshold: float
    rest: float
    soft: bool

    def spikes(self, current: Array, steps: int) -> Array:
        """Spikes bool `[steps, ...]` for float32 currents `[1 or steps, ...]`; one is the same at every step."""
        spikes = np.empty((steps, *current.shape[1:]), np.bool_)
        for step, h in enumerate(self._steps(current, steps)):
            np.greater_equal(h, np.float32(self.threshold), out=spikes[step])
        return spikes

    def membranes(self, current: Array, steps: int) -> Array:
        """h float32 `[steps, ...]`, what is compared with the threshold."""
        return np.stack([h.copy() for h in self._steps(current, steps)])

    def _steps(self, current: Array, steps: int) -> Iterator[Array]:
        """h of every step, in a buffer that the next step overwrites."""
        v, h = np.full(current.shape[1:], self.rest, np.float32), np.empty(current.shape[1:], np.float32)
        for step in range(steps):
            self._charge(v, current[step % len(current)], h)
            yield h
            fired = h >= np.float32(self.threshold)
            if self.soft:
                np.subtract(h, np.float32(self.threshold), out=h, where=fired)
            else:
                np.copyto(h, np.float32(self.rest), where=fired)
            v, h = h, v

    def _charge(self, v: Array, x: Array, h: Array) -> None:
        np.subtract(v, np.float32(self.rest), out=h)
        if self.decay_input:
            np.subtract(x, h, out=h)
            np.divide(h, np.float32(self.tau), out=h)
            np.add(v, h, out=h)
        else:
            np.divide(h, np.float32(self.tau), out=h)
            np.subtract(v, h, out=h)
            np.add(h, x, out=h)


@dataclass(frozen=True)
class Trains:
    """Spike trains over T steps as a step function of a constant current I.

    S_t(I) = first_t xor (b_1 <= I) xor (b_2 <= I) ...    over the bounds b at which step t flips
    """

    first: tuple[bool, ...]
    bounds: tuple[float, ...]
    flips: tuple[tuple[int, ...], ...]

    def spikes(self, current: Array) -> Array:
        """Spikes bool `[T, ...]` of float32 currents `[...]`."""
        flat = np.ascontiguousarray(current).reshape(-1)
        spikes = np.empty((len(self.first), flat.size), np.bool_)
        spikes[:] = np.array(self.first)[:, None]
        for start in range(0, flat.size, _CHUNK):  # a chunk stays in the cache over all compares
            part, rows = flat[start : start + _CHUNK], spikes[:, start : start + _CHUNK]
            for bound, steps in zip(self.bounds, self.flips, strict=True):
                above = part >= np.float32(bound)
                for step in steps:
                    np.logical_xor(rows[step], above, out=rows[step])
        return spikes.reshape(len(self.first), *current.shape)


@lru_cache(maxsize=64)
@np.errstate(all="ignore")  # currents near the end of float32 overflow, as in SpikingJelly
def trains(neuron: Neuron, steps: int) -> Trains | None:
    """The spike trains of `neuron`, or None where it has too many, or they do not follow the current in order.

    A grid over all float32 numbers is refined by bisection wherever two neighbours differ, down to neighbouring
    floats. Then the neuron itself is run on the floats around every bound, where rounding could break the order.
    """
    if steps > MOST_STEPS:
        return None
    low, high = _ordinals(np.array([-1, 1], np.float32) * np.finfo(np.float32).max)
    points = np.unique(np.linspace(low, high, _GRID).astype(np.int64))
    found = neuron.spikes(_floats(points)[None], steps)
    while True:
        apart = np.flatnonzero((found[:, 1:] != found[:, :-1]).any(0) & (np.diff(points) > 1))
        if not len(apart):
            break
        if len(apart) > MOST_BOUNDS:
            return None
        middle = (points[apart] + points[apart + 1]) // 2
        new = neuron.spikes(_floats(middle)[None], steps)
        points, found = np.insert(points, apart + 1, middle), np.insert(found, apart + 1, new, axis=1)
    at = np.flatnonzero((found[:, 1:] != found[:, :-1]).any(0)) + 1
    flips = tuple(tuple(np.flatnonzero(found[:, k] != found[:, k - 1]).tolist()) for k in at)
    made = Trains(tuple(found[:, 0].tolist()), tuple(_floats(points[at]).tolist()), flips)
    near = _floats(np.unique(np.clip(points[at][:, None] + np.arange(-_NEAR, _NEAR), low, high)))
    return made if np.array_equal(made.spikes(near), neuron.spikes(near[None], steps)) else None


def simulate(island: Any, values: Array) -> tuple[Array, Array]:
    """Spikes uint8 `[steps, batch, neurons]` and output float32 `[batch, *out]` of an island of any profile."""
    _, fired, output = walk(island, values)
    spikes = [layer.view(np.uint8).reshape(*layer.shape[:2], -1) for layer in fired]
    return spikes[0] if len(spikes) == 1 else np.concatenate(spikes, -1), output


@np.errstate(all="ignore")
def walk(island: Any, values: Array) -> tuple[list[Array], list[Array], Array]:
    """What enters every spiking node `[1 or steps, batch, ...]`, its spikes bool `[steps, batch, ...]`, the output.

    A signal is `[1, batch, ...]` where it is the same at every step, else `[steps, batch, ...]`. What leads to no
    spiking node is linear over time from there on and gets the mean.
    """
    neurons = {neuron.name: neuron for neuron in island.neurons}
    feeding: set[str] = set()
    for name in reversed(island.order):
        if name in neurons or name in feeding:
            feeding.update(island.sources[name])
    signals = {"input": island.steps_of(values)}
    currents, fired = [], []
    for name in island.order:
        current = island.entering(name, signals)
        if name not in neurons:
            signals[name] = island.dense(name, current if name in feeding else _mean(current))
            continue
        spikes = node_spikes(neurons[name], current, island.steps)
        currents.append(current)
        fired.append(spikes)
        signals[name] = spikes.astype(np.float32) if name in feeding else _rate(spikes)
    return currents, fired, _mean(island.entering("output", signals))[0]


def distance(neuron: Any, current: Array, steps: int, wrong: Array) -> float:
    """How far from their threshold the neurons of `wrong` are at most, relative to it, in their first wrong step.

        |h - threshold| / |threshold|

    `current` is what enters the node, as in `walk`; `wrong` bool `[steps, batch, neurons]`, slots counted as one.
    """
    size = wrong.shape[-1]
    per_neuron = current.reshape(*current.shape[:2], -1, size).swapaxes(2, 3)[:, wrong.any(0)]
    if neuron.coding == "slots":
        thresholds = neuron.node.v_threshold.reshape(-1, size).T[np.nonzero(wrong.any(0))[1]]
        return float((np.abs(per_neuron[0] - thresholds) / np.abs(thresholds)).min(-1).max())
    own = own_neuron(neuron)
    membranes = own.membranes(per_neuron[..., 0] / np.float32(gain_of(neuron)), steps)
    first = wrong[:, wrong.any(0)].argmax(0)
    return float(np.abs(membranes[first, np.arange(len(first))] - own.threshold).max() / abs(own.threshold))


def node_spikes(neuron: Any, current: Array, steps: int) -> Array:
    """Spikes bool `[steps, batch, ...]` of a LIF or IF node for what enters it, `[1 or steps, batch, ...]`.

    The gain that the profile put on the current is taken off first. The thresholds of slots are per neuron.
    """
    if neuron.coding == "slots":
        threshold = neuron.node.v_threshold
        fired: Array = current >= threshold if neuron.node.metadata["spike_op"] == "ge" else current > threshold
        return np.repeat(fired, steps // len(fired), axis=0)
    own, gain = own_neuron(neuron), gain_of(neuron)
    current = current if gain == 1 else current / np.float32(gain)
    known = trains(own, steps) if len(current) == 1 else None
    return own.spikes(current, steps) if known is None else known.spikes(current[0])


def own_neuron(neuron: Any) -> Neuron:
    """The neuron that a node's metadata describe."""
    return Neuron(neuron.tau, neuron.decay_input, neuron.v_threshold, neuron.rest, neuron.soft)


def gain_of(neuron: Any) -> float:
    """What the profile multiplied the current of a node by."""
    return float(neuron.node.metadata["gain"])


def _mean(signal: Array) -> Array:
    return signal if len(signal) == 1 else signal.mean(0, dtype=np.float32, keepdims=True)


def _rate(spikes: Array) -> Array:
    counts = np.add.reduce(spikes.view(np.uint8), axis=0, dtype=np.uint8 if len(spikes) < 256 else np.uint16)
    rate: Array = counts.astype(np.float32) / np.float32(len(spikes))
    return rate[None]


def _ordinals(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Position of each float32 in their order: neighbours differ by 1, both zeros are 0."""
    bits = values.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _floats(ordinals: NDArray[np.int64]) -> NDArray[np.float32]:
    bits = np.where(ordinals < 0, -ordinals | 0x80000000, ordinals)
    return bits.astype(np.uint32).view(np.float32)
