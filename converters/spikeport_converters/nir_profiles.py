"""Export profiles: the exact way to write one spiking neuron in NIR for one simulator.

SpikingJelly computes, with vr the reset potential (0 for soft reset) and v = vr at the start,

    h = v + (x - (v - vr)) / tau    (input decay)       h = v - (v - vr) / tau + x    (none)
    spike = h >= v_threshold;       v = vr if spiked (hard),  v = h - v_threshold (soft)

NIR's own LIF is continuous in time, compares with `>`, and knows neither a time step nor soft reset. A profile says
what its simulator reads out of the same node: by how much the input current is scaled, which tau and r are written,
for which dt. Where a simulator compares with `>`, the threshold is the next smaller float32: v > pred(th) is v >= th.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from spikeport_errors import unknown_name
from spikeport_targets.card import Card
from spikeport_toolkit.models.config import NeuronConfig

from .fold import Staircase


@dataclass(frozen=True)
class Profile:
    """How one simulator (or family) reads a LIF node: the step it assumes, the input gain and r it needs."""

    name: str
    dt: float
    gain: Callable[[NeuronConfig], float]
    r: Callable[[NeuronConfig], float]


PROFILES: Mapping[str, Profile] = {
    # snnTorch 1.0.0: mem = (1 - dt/tau) mem + I with dt = 1e-4 whatever the file says; r = tau/dt leaves the threshold.
    "generic": Profile("generic", 1e-4, lambda n: 1 / n.tau if n.decay_input else 1.0, lambda n: n.tau),
    # Norse 1.1.0: v += dt/tau (I + v_leak - v), r is not read. With a power of two, dt/tau is 1/tau to the last bit.
    "norse": Profile("norse", 2.0**-10, lambda n: 1.0 if n.decay_input else n.tau, lambda n: 1.0),
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


def lif_node(profile: Profile, neuron: NeuronConfig, size: int) -> nir.LIF:
    """`size` binary LIF neurons in `profile`; T, dt and the reset, which NIR cannot say, stand in the metadata."""
    rest = neuron.v_reset or 0.0
    return _node(
        tau=_full(size, neuron.tau * profile.dt),
        r=_full(size, profile.r(neuron)),
        rest=_full(size, rest),
        threshold=_full(size, strict_threshold(neuron.v_threshold)),
        metadata=_metadata(profile, neuron, "binary", 1),
    )


def slot_node(profile: Profile, neuron: NeuronConfig, stairs: Staircase, size: int) -> nir.LIF:
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
        threshold=np.repeat(np.array([strict_threshold(t) for t in thresholds], np.float32), size),
        metadata=_metadata(profile, neuron, "slots", slots),
    )


def _node(*, tau: Any, r: Any, rest: Any, threshold: Any, metadata: dict[str, Any]) -> nir.LIF:
    return nir.LIF(tau=tau, r=r, v_leak=rest, v_reset=rest.copy(), v_threshold=threshold, metadata=metadata)


def _metadata(profile: Profile, neuron: NeuronConfig, coding: str, slots: int) -> dict[str, Any]:
    return {
        "profile": profile.name,
        "dt": profile.dt,
        "steps": neuron.steps,
        "coding": coding,
        "slots": slots,
        "reset_mode": "subtract" if neuron.v_reset is None and coding == "binary" else "constant",
        "spike_op": "gt",
        "sj_tau": neuron.tau,
        "sj_decay_input": neuron.decay_input,
        "sj_v_threshold": neuron.v_threshold,
        "sj_v_reset": neuron.v_reset or 0.0,
    }


def _full(size: int, value: float | np.float32) -> NDArray[np.float32]:
    return np.full(size, value, np.float32)
