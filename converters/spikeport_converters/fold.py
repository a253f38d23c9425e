"""Folding: BatchNorm into fc1, and T steps on a constant current into an exact staircase of that current."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from spikeport_errors import UnsupportedError
from spikeport_toolkit.models.layers import FeedForward
from spikeport_toolkit.models.neuron import SpikingNeuron

SEARCH_BOUND = 2.0**64
"""Currents beyond +-2^64 are not searched: near the end of float32 the membrane itself overflows."""
_PROBE_ULPS = 8
_RANDOM_PROBES = 4096


@dataclass(frozen=True)
class Staircase:
    """Spike count of T steps on a constant current I:  count(I) = sum_c increments[c] [I >= thresholds[c]].

    `thresholds` are strictly increasing float32 currents, `increments` positive integers, `steps` is T and
    `levels` the most spikes per step D, so that the rate is count / (T D).
    """

    thresholds: tuple[float, ...]
    increments: tuple[int, ...]
    steps: int
    levels: int

    def counts(self, current: NDArray[np.float32]) -> NDArray[np.int64]:
        """Spike counts of float32 currents of any shape."""
        passed = np.searchsorted(np.array(self.thresholds, np.float32), current, side="right")
        return np.concatenate(([0], np.cumsum(self.increments, dtype=np.int64)))[passed]


def fold_batchnorm(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode whose BatchNorms are folded into fc1: the reference of every export.

        W' = diag(g / sqrt(var + eps)) W,   b' = (b - mean) g / sqrt(var + eps) + beta

    computed in float64 and rounded once to float32; all other weights are shared with `model`.
    The folded model, run with SpikingJelly's own loop, is what
    spikes are compared against: folding itself changes currents by rounding. Membrane states that an earlier call
    left in `model` are reset.
    """
    functional.reset_net(model)
    shared = {id(value): value for value in (*model.parameters(), *model.buffers())}
    folded = copy.deepcopy(model, shared).eval()
    for module in folded.modules():
        if isinstance(module, FeedForward) and isinstance(module.norm, nn.BatchNorm1d):
            _fold_into(module.fc1, module.norm)
            module.norm = nn.Identity()
    return folded


def fold_time(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode with every SpikingNeuron replaced by its exact staircase; weights are shared.

    Raises UnsupportedError, naming the module, where a neuron has no staircase.
    """
    shared = {id(value): value for value in (*model.parameters(), *model.buffers())}
    folded = copy.deepcopy(model, shared).eval()
    known: dict[str, Staircase] = {}
    for path, module in list(folded.named_modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, SpikingNeuron):
                key = repr((child.config, [p.tolist() for p in child.parameters()]))
                try:
                    stairs = known.get(key) or staircase(child)
                except UnsupportedError as error:
                    raise UnsupportedError(f"{path}.{name}: {error}") from None
                known[key] = stairs
                setattr(module, name, StaircaseNeuron(stairs))
    return folded


class StaircaseNeuron(nn.Module):
    """Rate of a spiking neuron on a constant current: a few compares instead of T steps.

    r = (1 / (T D)) sum_c d_c [I >= theta_c]
    """

    def __init__(self, stairs: Staircase):
        super().__init__()
        self.stairs = stairs

    def counts(self, current: Tensor) -> Tensor:
        """Spike counts 0..T D in the type and shape of `current`."""
        total: Tensor | None = None
        for threshold, increment in zip(self.stairs.thresholds, self.stairs.increments, strict=True):
            step = (current >= threshold).to(current.dtype)
            step = step if increment == 1 else step * increment
            total = step if total is None else total + step
        return torch.zeros_like(current) if total is None else total

    def forward(self, current: Tensor) -> Tensor:
        """Rate in [0, 1], of the shape of `current`."""
        return self.counts(current) / (self.stairs.steps * self.stairs.levels)

    def extra_repr(self) -> str:
        """T, D and the thresholds."""
        steps = ", ".join(f"{t:.9g}:+{i}" for t, i in zip(self.stairs.thresholds, self.stairs.increments, strict=True))
        return f"T={self.stairs.steps}, D={self.stairs.levels}, {steps}"


def staircase(neuron: SpikingNeuron) -> Staircase:
    """The exact staircase of a SpikingNeuron, found from its own SpikingJelly node; see `node_staircase`."""
    return node_staircase(neuron.node, neuron.config.steps, neuron.config.levels)


def node_staircase(node: Any, steps: int, levels: int = 1) -> Staircase:
    """The exact staircase of any elementwise SpikingJelly node over `steps` steps of a constant current.

    Every threshold is the smallest float32 current that reaches a count, by bisection over the float32 ordinals,
    all counts at once. The result is then probed a few ulps around every threshold and at random currents.
    Raises UnsupportedError where the count is not a rising staircase from 0.
    """
    node = copy.deepcopy(node)
    low, high = _ordinals(np.array([-SEARCH_BOUND, SEARCH_BOUND], np.float32))
    base, top = _counts(node, steps, _floats(np.array([low, high])))
    what = f"{type(node).__name__} over {steps} steps"
    remedy = "keep the neuron unrolled, or use LIF, PLIF, IF or I-LIF"
    if base != 0 or not 0 < top <= steps * levels:
        raise UnsupportedError(f"{what} spikes {base} to {top} times, not 0 to at most {steps * levels}: {remedy}")
    wanted = np.arange(1, top + 1)
    below, reached = np.full(top, low), np.full(top, high)
    while np.any(reached - below > 1):
        middle = (below + reached) // 2
        passed = _counts(node, steps, _floats(middle)) >= wanted
        reached, below = np.where(passed, middle, reached), np.where(passed, below, middle)
    ordinals, increments = np.unique(reached, return_counts=True)
    found = Staircase(tuple(_floats(ordinals).tolist()), tuple(increments.tolist()), steps, levels)
    probes = _probes(ordinals, int(low), int(high))
    wrong = found.counts(probes) != _counts(node, steps, probes)
    if wrong.any():
        raise UnsupportedError(f"{what} is not a rising staircase near a current of {probes[wrong][0]:.9g}: {remedy}")
    return found


def spike_counts(node: Any, steps: int, current: Tensor) -> Tensor:
    """Spike counts of SpikingJelly's own loop from rest, for a constant `current` of any shape."""
    node.reset()
    if node.step_mode == "m":
        total: Tensor = node(current.unsqueeze(0).expand(steps, *current.shape)).sum(0)
    else:
        total = sum((node(current) for _ in range(steps)), torch.zeros_like(current))
    node.reset()
    return total


def _counts(node: Any, steps: int, currents: NDArray[np.float32]) -> NDArray[np.int64]:
    with torch.no_grad():
        return spike_counts(node, steps, torch.from_numpy(currents)).numpy().astype(np.int64)


def _probes(ordinals: NDArray[np.int64], low: int, high: int) -> NDArray[np.float32]:
    near = ordinals[:, None] + np.arange(-_PROBE_ULPS, _PROBE_ULPS + 1)
    rng = np.random.default_rng(0)
    reach = 3 * float(np.abs(_floats(ordinals)).max(initial=1.0))
    anywhere = _floats(rng.integers(low, high, _RANDOM_PROBES))
    likely = rng.uniform(-reach, reach, _RANDOM_PROBES).astype(np.float32)
    return np.concatenate((_floats(near.ravel().clip(low, high)), anywhere, likely))


def _ordinals(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Integers in the order of the floats: neighbours differ by one."""
    bits = values.view(np.int32).astype(np.int64)
    return np.where(bits >= 0, bits, -(2**31) - bits)


def _floats(ordinals: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.where(ordinals >= 0, ordinals, -(2**31) - ordinals).astype(np.int32).view(np.float32)


def _fold_into(linear: nn.Linear, norm: nn.BatchNorm1d) -> None:
    if norm.running_mean is None or norm.running_var is None:
        raise UnsupportedError("a BatchNorm without running statistics cannot be folded: train with them tracked")
    gain = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * gain
    if norm.affine:
        gain, shift = gain * norm.weight.double(), shift * norm.weight.double() + norm.bias.double()
    kind = linear.weight.dtype
    with torch.no_grad():
        bias = linear.bias.double() if linear.bias is not None else torch.zeros_like(shift)
        folded_bias, weight = (bias * gain + shift).to(kind), (linear.weight.double() * gain[:, None]).to(kind)
    linear.weight = nn.Parameter(weight, requires_grad=linear.weight.requires_grad)
    linear.bias = nn.Parameter(folded_bias, requires_grad=False)
