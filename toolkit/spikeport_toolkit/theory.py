"""What the theory of SpikeWFM (arXiv 2606.00120, equations 3 to 6) says of one neuron, as functions that can be run."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from spikeport_errors import InputError

from .models.config import NeuronConfig
from .models.neuron import SpikingNeuron, SteppedNeuron

__all__ = [
    "NO_LEAK",
    "auc_of_gaussians",
    "dc_bias",
    "detection_auc",
    "entropy_bits",
    "entropy_bound_bits",
    "noise_firing_rate",
    "pac_bayes_gap",
    "simulated_snr_gain",
    "snr_gain",
    "spike_trains",
    "spikes_of",
]

Array = NDArray[np.float64]
Spikes = NDArray[np.uint8]

NO_LEAK = 1e6
"""tau of a neuron that keeps its membrane: the longest a configuration takes."""


def dc_bias(sigma: float) -> float:
    """Mean of a ReLU under pure noise, equation 3:  E[max(0, n)] = sigma / sqrt(2 pi),  n ~ N(0, sigma^2)."""
    return sigma / math.sqrt(2 * math.pi)


def noise_firing_rate(neuron: NeuronConfig, sigma: float) -> float:
    """Spikes per step of a binary neuron with hard reset to 0 under a constant current I ~ N(0, sigma^2).

        rate = (1/T) sum_{c=1}^{T} P(I >= theta_c),   theta_c = V_th / g_k,   k = floor(T / c)

    where g_k is the membrane after k steps of I = 1: 1 - lambda^k with input decay, (1 - lambda^k) / (1 - lambda)
    without, lambda = 1 - 1/tau: c spikes in T steps need one in the first k. InputError for another neuron.
    """
    if neuron.levels != 1 or neuron.v_reset != 0 or neuron.kind == "ilif":
        raise InputError("the closed form is that of a binary neuron with hard reset to 0: use spikes_of for others")
    leak, rate = 1 - 1 / neuron.tau, 0.0
    for count in range(1, neuron.steps + 1):
        gain = 1 - leak ** (neuron.steps // count)
        theta = neuron.v_threshold / (gain if neuron.decay_input else gain * neuron.tau)
        rate += _tail(theta / sigma) / neuron.steps
    return rate


def snr_gain(steps: int, leak: float, correlation: float = 0.0) -> float:
    """SNR of the membrane after T steps over that of one step, equation 5 with leak lambda and correlated noise.

        gain = (sum_k lambda^k)^2 / ((1 - rho) sum_k lambda^2k + rho (sum_k lambda^k)^2),   k = 0..T-1

    `correlation` rho is that of the noise of any two steps: 0 for fresh noise (T without leak, at most
    (1 + lambda) / (1 - lambda) with it), 1 for direct coding, where the noise is repeated and the gain is 1.
    """
    weights = leak ** np.arange(steps, dtype=np.float64)
    signal = float(weights.sum() ** 2)
    return signal / ((1 - correlation) * float((weights**2).sum()) + correlation * signal)


def simulated_snr_gain(
    steps: int, leak: float, correlation: float, draws: int, rng: np.random.Generator, signal: float = 1.0
) -> float:
    """The gain of `snr_gain` measured on `draws` membranes  v_t = lambda v_{t-1} + s + n_t  with unit noise."""
    shared = math.sqrt(correlation) * rng.standard_normal(draws)
    membrane: Array = np.zeros(draws)
    for _ in range(steps):
        membrane = leak * membrane + signal + shared + math.sqrt(1 - correlation) * rng.standard_normal(draws)
    return float(membrane.mean() ** 2 / membrane.var() / signal**2)


def spikes_of(neuron: NeuronConfig, currents: Array) -> Spikes:
    """Spikes `[T, n]` of SpikingJelly's neuron: constant `currents` `[n]`, or one of each step, `[T, n]`."""
    given = torch.from_numpy(currents.astype(np.float32))
    with torch.no_grad():
        if given.ndim == 1:
            return SpikingNeuron(neuron).spikes(given).to(torch.uint8).numpy()
        stepped = SteppedNeuron(replace(neuron, steps=len(given)), "carry")
        return stepped.spikes(given).squeeze(1).to(torch.uint8).numpy()


def detection_auc(without: NDArray[np.generic], with_signal: NDArray[np.generic]) -> float:
    """Area under the ROC curve: P(with > without) + P(equal) / 2, from two samples of one statistic."""
    values, index = np.unique(np.concatenate((without, with_signal)), return_inverse=True)
    counts = [np.bincount(part, minlength=len(values)) for part in (index[: len(without)], index[len(without) :])]
    none, some = (count / count.sum() for count in counts)
    return float(np.sum(some * (np.cumsum(none) - none / 2)))


def auc_of_gaussians(distance: float) -> float:
    """AUC of two unit-variance Gaussians whose means are `distance` apart: Phi(distance / sqrt 2)."""
    return 1 - _tail(distance / math.sqrt(2))


def spike_trains(neuron: NeuronConfig, *, highest: float = 6.0, points: int = 100_001) -> Spikes:
    """The distinct spike trains `[train, T]` of a constant current, over a grid of currents in [0, highest] V_th.

    T + 1 with hard reset, since the first spike's time fixes the rest; somewhat more with soft reset. 2^T only exist
    for currents that change.
    """
    grid: Array = np.linspace(0, highest * neuron.v_threshold, points, dtype=np.float64)
    found: Spikes = np.unique(spikes_of(neuron, grid).T, axis=0)
    return found


def entropy_bits(spikes: Spikes) -> float:
    """Entropy of the spike trains `[T, n]`, bits: -sum_i p_i log2 p_i over the distinct columns."""
    _, counts = np.unique(spikes.T, axis=0, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())


def entropy_bound_bits(probabilities: Array) -> float:
    """The bound of equation 6, bits:  sum_t h_b(p_t),  h_b(p) = -p log2 p - (1 - p) log2(1 - p)."""
    p = np.asarray(probabilities, np.float64)
    both = np.stack((p, 1 - p))
    return float(-np.sum(both * np.log2(both, out=np.zeros_like(both), where=both > 0)))


def pac_bayes_gap(neurons: int, steps: int, probability: float, samples: int) -> float:
    """The generalisation gap that the bound gives for a loss in [0, 1]:  sqrt(I / 2n),  I = neurons T h_b(p) nats.

    A value of 1 or more says nothing: it is vacuous.
    """
    information = neurons * steps * entropy_bound_bits(np.array([probability])) * math.log(2)
    return math.sqrt(information / (2 * samples))


def _tail(z: float) -> float:
    """P(N(0, 1) >= z)."""
    return 0.5 * math.erfc(z / math.sqrt(2))
