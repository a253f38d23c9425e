"""The theory of SpikeWFM as runnable checks: what holds, what holds only for fresh noise, what says nothing."""

import numpy as np
import pytest

from spikeport_errors import InputError
from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.theory import (
    NO_LEAK,
    auc_of_gaussians,
    dc_bias,
    detection_auc,
    entropy_bits,
    entropy_bound_bits,
    noise_firing_rate,
    pac_bayes_gap,
    simulated_snr_gain,
    snr_gain,
    spike_trains,
    spikes_of,
)

LIF = NeuronConfig("lif", steps=4)
LIF_DECAY = NeuronConfig("lif", steps=4, decay_input=True)
IF_SOFT = NeuronConfig("lif_soft", steps=4, tau=NO_LEAK, v_reset=None)
DRAWS = 200_000


def test_a_relu_turns_noise_into_a_dc_bias_of_sigma_over_sqrt_two_pi() -> None:
    noise = np.random.default_rng(0).standard_normal(4_000_000)
    for sigma in (0.1, 1.0, 4.0):
        ratio = np.maximum(0, sigma * noise).mean() / sigma
        assert 0.3985 <= ratio <= 0.3993
        assert dc_bias(sigma) / sigma == pytest.approx(0.3989, abs=5e-5)


@pytest.mark.parametrize(
    ("neuron", "sigma", "rate"),
    [(LIF_DECAY, 0.2, 0.0), (LIF_DECAY, 0.5, 0.005), (LIF_DECAY, 1.0, 0.070), (LIF, 1.0, 0.216),
     (LIF_DECAY, 4.0, 0.345), (LIF, 4.0, 0.420)],
)  # fmt: skip
def test_a_neuron_gates_noise_only_far_below_its_threshold(neuron: NeuronConfig, sigma: float, rate: float) -> None:
    assert noise_firing_rate(neuron, sigma) == pytest.approx(rate, abs=1e-3)
    noise = sigma * np.random.default_rng(1).standard_normal(DRAWS)
    assert spikes_of(neuron, noise).mean() == pytest.approx(rate, abs=2e-3)


def test_the_closed_form_of_the_noise_rate_refuses_a_neuron_that_it_does_not_describe() -> None:
    with pytest.raises(InputError, match="hard reset to 0"):
        noise_firing_rate(IF_SOFT, 1.0)


@pytest.mark.parametrize("leak", [1.0, 0.9, 0.75, 0.5, 0.25])
@pytest.mark.parametrize("steps", [1, 4, 16, 64])
def test_repeating_the_same_noise_gains_nothing(leak: float, steps: int) -> None:
    assert snr_gain(steps, leak, correlation=1.0) == pytest.approx(1.0)
    assert simulated_snr_gain(steps, leak, 1.0, 50_000, np.random.default_rng(2)) == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize(("leak", "ceiling"), [(0.5, 3.0), (0.75, 7.0), (0.9, 19.0)])
def test_with_leak_the_gain_of_fresh_noise_saturates(leak: float, ceiling: float) -> None:
    assert snr_gain(512, leak) == pytest.approx(ceiling, rel=1e-6)
    assert snr_gain(64, leak) <= ceiling
    measured = simulated_snr_gain(64, leak, 0.0, 50_000, np.random.default_rng(3))
    assert measured == pytest.approx(snr_gain(64, leak), rel=0.04)


@pytest.mark.parametrize("steps", [1, 4, 16, 64])
def test_without_leak_fresh_noise_gives_the_gain_of_t(steps: int) -> None:
    assert snr_gain(steps, 1.0) == pytest.approx(steps)
    measured = simulated_snr_gain(steps, 1.0, 0.0, 50_000, np.random.default_rng(4))
    assert measured == pytest.approx(steps, rel=0.04)


def test_correlated_noise_leaves_little_of_the_gain() -> None:
    assert snr_gain(4, 1.0, 0.9) == pytest.approx(1.08, abs=5e-3)
    for rho in (0.1, 0.5, 0.9):
        assert snr_gain(16, 1.0, rho) == pytest.approx(16 / (1 + 15 * rho))
        measured = simulated_snr_gain(16, 0.75, rho, 100_000, np.random.default_rng(5))
        assert measured == pytest.approx(snr_gain(16, 0.75, rho), rel=0.04)


def currents(steps: int, signal: float, *, fresh: bool, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((steps, DRAWS) if fresh else DRAWS)
    return signal + noise


def auc(neuron: NeuronConfig, steps: int, *, fresh: bool) -> float:
    neuron = NeuronConfig(**{**vars(neuron), "steps": steps})
    counts = [spikes_of(neuron, currents(steps, s, fresh=fresh, seed=int(10 * s))).sum(0) for s in (0.0, 0.8)]
    return detection_auc(*counts)


def test_counting_spikes_of_repeated_noise_detects_worse_than_the_input_itself() -> None:
    assert auc_of_gaussians(0.8) == pytest.approx(0.713, abs=2e-3)
    raw = detection_auc(*(currents(4, s, fresh=False, seed=int(10 * s)) for s in (0.0, 0.8)))
    assert raw == pytest.approx(auc_of_gaussians(0.8), abs=3e-3)
    assert auc(LIF_DECAY, 4, fresh=False) == pytest.approx(0.631, abs=4e-3)
    assert auc(IF_SOFT, 4, fresh=False) == pytest.approx(0.684, abs=4e-3)


def test_counting_spikes_of_fresh_noise_detects_better_and_still_loses_to_the_mean() -> None:
    mean = auc_of_gaussians(0.8 * np.sqrt(4))
    assert mean == pytest.approx(0.872, abs=2e-3)
    assert auc(LIF_DECAY, 4, fresh=True) == pytest.approx(0.731, abs=4e-3)
    assert auc(IF_SOFT, 4, fresh=True) == pytest.approx(0.837, abs=4e-3)
    assert auc(IF_SOFT, 16, fresh=True) == pytest.approx(0.984, abs=4e-3)


@pytest.mark.parametrize(("steps", "hard", "soft"), [(4, 5, 7), (8, 9, 23)])
@pytest.mark.parametrize("tau", [2.0, NO_LEAK])
def test_a_constant_drive_makes_t_plus_one_spike_trains_or_few_more(
    steps: int, hard: int, soft: int, tau: float
) -> None:
    assert len(spike_trains(NeuronConfig("lif", steps=steps, tau=tau))) == hard == steps + 1
    assert len(spike_trains(NeuronConfig("lif_soft", steps=steps, tau=tau, v_reset=None))) == soft


@pytest.mark.parametrize(("neuron", "entropy", "bound"), [(LIF_DECAY, 0.85, 1.4), (LIF, 1.34, 3.0)])
def test_the_entropy_bound_holds_and_is_loose(neuron: NeuronConfig, entropy: float, bound: float) -> None:
    spikes = spikes_of(neuron, np.random.default_rng(6).standard_normal(DRAWS))
    assert entropy_bits(spikes) == pytest.approx(entropy, abs=0.01)
    assert entropy_bound_bits(spikes.mean(1)) == pytest.approx(bound, abs=0.03)
    assert entropy_bits(spikes) <= np.log2(5) < entropy_bound_bits(np.full(4, 0.5))


def test_the_pac_bayes_gap_of_a_whole_input_is_vacuous() -> None:
    assert pac_bayes_gap(2560, 4, 0.2, 10_500) == pytest.approx(0.49, abs=0.005)
    assert pac_bayes_gap(2560 * 816, 4, 0.2, 10_500) == pytest.approx(14, abs=0.2)
