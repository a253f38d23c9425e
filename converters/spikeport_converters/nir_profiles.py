"""Export profiles: the exact way to write one spiking neuron in NIR for one simulator.

SpikingJelly computes, with vr the reset potential (0 for soft reset) and v = vr at the start,

    h = v + (x - (v - vr)) / tau    (input decay)       h = v - (v - vr) / tau + x    (none)
    spike = h >= v_threshold;       v = vr if spiked (hard),  v = h - v_threshold (soft)

NIR's own LIF is continuous in time, compares with `>`, and knows neither a time step nor soft reset. A profile says
what its simulator reads out of the same node: by how much the input current is scaled, which tau and r are written,
for which dt. Where a simulator compares with `>`, the threshold is the next smaller float32: v > pred(th) is v >= th.

A neuron without leak (IF) is an LIF with tau = 2^40 steps: 1 - 2^-40 is 1 in float32, so that it integrates in every
simulator, also in those whose importer makes an IF leak.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import nir
import numpy as np
from numpy.typing import NDArray

from spikeport_errors import unknown_name
from spikeport_targets.card import Card

from .fold import Staircase

NO_LEAK = 2.0**40
"""tau in steps of a neuron that does not leak."""


class Neuron(Protocol):
    """What a profile asks of a neuron; `NeuronConfig` and `NodeNeuron` have it."""

    @property
    def kind(self) -> str:
        """lif, if, plif or ilif, or a kind of the toolkit."""

    @property
    def steps(self) -> int:
        """T."""

    @property
    def levels(self) -> int:
        """Most spikes a step, D."""

    @property
    def tau(self) -> float:
        """Membrane time constant in steps."""

    @property
    def decay_input(self) -> bool:
        """Whether the current is divided by tau."""

    @property
    def v_threshold(self) -> float:
        """Threshold."""

    @property
    def v_reset(self) -> float | None:
        """Reset potential, None for soft reset."""


@dataclass(frozen=True)
class Profile:
    """How one simulator (or family) reads a LIF node: the step it assumes, the input gain, tau and r it needs.

    `strict` says that it compares with `>`, `pools` that it has average pooling (else a convolution stands for that),
    `omits` names the datasets of a neuron that its reader does not know.
    """

    name: str
    dt: float
    gain: Callable[[Neuron], float]
    tau: Callable[[Neuron], float]
    r: Callable[[Neuron], float]
    strict: bool = True
    pools: bool = True
    omits: tuple[str, ...] = ()


def _scaled(neuron: Neuron) -> float:
    return 1 / neuron.tau if neuron.decay_input else 1.0


def _in_steps(name: str, dt: float, omits: tuple[str, ...] = ()) -> Profile:
    """v = (1 - dt/tau) v + I, compared with `>`; r = tau/dt says that nothing else scales the current."""
    return Profile(name, dt, _scaled, lambda n: n.tau * dt, lambda n: n.tau, omits=omits)


PROFILES: Mapping[str, Profile] = {
    # snnTorch 1.0.0 has dt = 1e-4 whatever the file says, and divides the threshold by r dt/tau.
    "generic": _in_steps("generic", 1e-4),
    # SpikingJelly 2.0.0's importer: r = 1 is decay_input, r = tau/dt is none; it compares with `>=`.
    "spikingjelly": Profile(
        "spikingjelly",
        1e-4,
        lambda n: 1.0,
        lambda n: n.tau * 1e-4,
        lambda n: 1.0 if n.decay_input else n.tau,
        strict=False,
    ),
    # Norse 1.1.0: v += dt/tau (I + v_leak - v), r is not read. With a power of two, dt/tau is 1/tau to the last bit.
    "norse": Profile(
        "norse",
        2.0**-10,
        lambda n: 1.0 if n.decay_input else n.tau,
        lambda n: n.tau * 2.0**-10,
        lambda n: 1.0,
        pools=False,
    ),
    # sinabs 3.1.3: v = exp(-1/tau) v + I with tau in steps; r is not read; it compares with `>=`.
    "sinabs": Profile(
        "sinabs", 1.0, _scaled, lambda n: -1 / math.log1p(-1 / n.tau), lambda n: 1.0, strict=False, pools=False
    ),
    # These three have no importer; ours reads tau, threshold and reset in SpikingJelly's own numbers (sj_...).
    "brian2": _in_steps("brian2", 1.0),
    "lava": _in_steps("lava", 1.0),
    "sanafe": _in_steps("sanafe", 1.0),
    # nir up to 1.0.4 stops at a dataset it does not know: `got an unexpected keyword argument 'v_reset'`.
    "legacy": _in_steps("legacy", 1e-4, omits=("v_reset",)),
}


def profile_of(card: Card) -> Profile:
    """The profile that the card's limits name; UsageError for one that does not exist."""
    name = str(card.limits.get("profile", ""))
    if name not in PROFILES:
        raise unknown_name(f"NIR profile of {card.id}", name, PROFILES, "set `profile` in [limits] of its card")
    return PROFILES[name]


def strict_threshold(threshold: float) -> np.float32:
    """The largest float32 below `threshold`, so that `v > it` holds exactly where `v >= threshold` does."""
    below: np.float32 = np.nextafter(np.float32(threshold), np.float32(-np.inf))
    return below


def lif_node(profile: Profile, neuron: Neuron, size: int | tuple[int, ...]) -> nir.LIF:
    """Binary LIF neurons of shape `size` in `profile`; T, dt and the reset, which NIR cannot say, are metadata."""
    rest = neuron.v_reset or 0.0
    return _node(
        tau=_full(size, profile.tau(neuron)),
        r=_full(size, profile.r(neuron)),
        rest=_full(size, rest),
        threshold=_full(size, _threshold(profile, neuron.v_threshold)),
        metadata=_metadata(profile, neuron, "binary", 1),
    )


def write_island(path: Path, graph: nir.NIRGraph, profile: Profile) -> None:
    """Write `graph` to `path`, without the datasets that readers of `profile` do not know."""
    buffer = io.BytesIO()  # HDF5 in memory: libhdf5 crashes where a disk is full
    nir.write(buffer, graph)
    if profile.omits:
        with h5py.File(buffer, "r+") as file:
            for node in file["node/nodes"].values():
                for name in profile.omits:
                    if name in node:
                        del node[name]
    path.write_bytes(buffer.getvalue())


def slot_node(profile: Profile, neuron: Neuron, stairs: Staircase, size: int) -> nir.LIF:
    """`size` integer neurons with T = 1 as D slots of binary ones, slot by slot: neuron d * size + n is slot d of n.

    With T = 1 the membrane is the current, so a neuron that emits up to D spikes is D memoryless ones (tau = dt),
    each with one threshold of the exact staircase, and its count is the sum of their spikes.
    """
    thresholds = np.repeat(np.array(stairs.thresholds, np.float32), stairs.increments)
    slots = len(thresholds)
    return _node(
        tau=_full(slots * size, profile.dt),
        r=_full(slots * size, 1.0),
        rest=_full(slots * size, 0.0),
        threshold=np.repeat(np.array([_threshold(profile, t) for t in thresholds], np.float32), size),
        metadata=_metadata(profile, neuron, "slots", slots),
    )


def _node(*, tau: Any, r: Any, rest: Any, threshold: Any, metadata: dict[str, Any]) -> nir.LIF:
    return nir.LIF(tau=tau, r=r, v_leak=rest, v_reset=rest.copy(), v_threshold=threshold, metadata=metadata)


def _threshold(profile: Profile, threshold: float) -> np.float32:
    return strict_threshold(threshold) if profile.strict else np.float32(threshold)


def _metadata(profile: Profile, neuron: Neuron, coding: str, slots: int) -> dict[str, Any]:
    return {
        "profile": profile.name,
        "dt": profile.dt,
        "steps": neuron.steps,
        "coding": coding,
        "slots": slots,
        "reset_mode": "subtract" if neuron.v_reset is None and coding == "binary" else "constant",
        "spike_op": "gt" if profile.strict else "ge",
        "gain": profile.gain(neuron) if coding == "binary" else 1.0,
        "sj_tau": neuron.tau,
        "sj_decay_input": neuron.decay_input,
        "sj_v_threshold": neuron.v_threshold,
        "sj_v_reset": neuron.v_reset or 0.0,
    }


def _full(size: int | tuple[int, ...], value: float | np.float32) -> NDArray[np.float32]:
    return np.full(size, value, np.float32)
