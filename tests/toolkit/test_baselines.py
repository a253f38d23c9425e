"""The baselines do what theory says, and what the published toy figures say."""

import numpy as np
import pytest
from path_sets import random_paths

from spikeport_errors import InputError
from spikeport_toolkit.baselines.last_value import last_value
from spikeport_toolkit.baselines.wiener import delay_covariance, speed_covariance, wiener
from spikeport_toolkit.data.synthesis import channels

SYMBOL = 1 / 28e3
CONTIGUOUS = np.arange(56) * SYMBOL
SPACED = (np.arange(4)[:, None] * 5e-3 + np.arange(14) * SYMBOL).ravel()
FREQUENCIES = np.arange(48) * 30e3


def noisy_channels(times, snr_db, samples=96, seed=0):
    """25 paths of arrivals all around within 0.8 us, U(0.1, 5) m/s, as the toy channel of the published figures."""
    rng = np.random.default_rng(seed)
    paths = random_paths(samples, 25, seed=seed, n_paths=np.full(samples, 25, np.int16))
    for field in ("theta_t", "theta_r"):
        getattr(paths, field)[:] = np.pi / 2
    for field in ("phi_t", "phi_r"):
        getattr(paths, field)[:] = rng.uniform(-np.pi, np.pi, (samples, 25))
    paths.tau[:] = rng.uniform(0, 0.8e-6, (samples, 25))
    paths.a[:] = rng.standard_normal((samples, 25, 2)).astype(np.float32).view(np.complex64)[..., 0]
    speed, heading = rng.uniform(0.1, 5, samples), rng.uniform(0, 2 * np.pi, samples)
    velocity = np.stack([speed * np.cos(heading), speed * np.sin(heading), 0 * speed], 1)
    H = channels(paths, np.arange(samples), times, FREQUENCIES, velocity, align_delays=True)
    H /= np.sqrt((np.abs(H) ** 2).mean((1, 2, 3), keepdims=True))
    noise = rng.standard_normal((*H[:, :42].shape, 2)).astype(np.float32).view(np.complex64)[..., 0]
    return H, H[:, :42] + noise * np.float32(10 ** (-snr_db / 20) / np.sqrt(2))


def nmse_db(predicted, truth):
    error = (np.abs(predicted - truth) ** 2).sum((1, 2, 3)) / (np.abs(truth) ** 2).sum((1, 2, 3))
    return 10 * np.log10(error.mean())


def test_last_value_repeats_the_last_symbol_bit_for_bit():
    _, observed = noisy_channels(CONTIGUOUS, 10, samples=2)
    predicted = last_value(observed, 14)
    assert predicted.shape == (2, 14, 4, 48)
    assert (predicted == observed[:, 41:42]).all()


def test_last_value_errs_by_the_noise_power_when_nothing_moves():
    H, observed = noisy_channels(CONTIGUOUS, -10)
    assert nmse_db(last_value(observed, 14), H[:, 42:]) == pytest.approx(10, abs=0.3)


@pytest.mark.parametrize(("snr_db", "published"), [(-10, -14.0), (0, -20.5), (10, -28.5), (30, -42.5)])
def test_wiener_reaches_the_published_figures_in_contiguous_slots(snr_db, published):
    H, observed = noisy_channels(CONTIGUOUS, snr_db)
    assert nmse_db(wiener(observed, CONTIGUOUS[:42], CONTIGUOUS[42:], snr_db), H[:, 42:]) < published + 2


@pytest.mark.parametrize("times", [CONTIGUOUS, SPACED], ids=["contiguous", "5 ms apart"])
@pytest.mark.parametrize("snr_db", [-10, 10, 30])
def test_wiener_beats_last_value_everywhere(times, snr_db):
    H, observed = noisy_channels(times, snr_db)
    by_filter = nmse_db(wiener(observed, times[:42], times[42:], snr_db), H[:, 42:])
    assert by_filter < nmse_db(last_value(observed, 14), H[:, 42:]) - 1


def test_wiener_is_linear_and_takes_one_snr_for_each_sample():
    _, observed = noisy_channels(CONTIGUOUS, 5, samples=3)
    times = CONTIGUOUS[:42], CONTIGUOUS[42:]
    mixed = wiener(observed, *times, np.array([-5.0, 5.0, 15.0]))
    np.testing.assert_allclose(mixed[1], wiener(observed, *times, 5.0)[1], atol=1e-5)
    np.testing.assert_allclose(wiener(2j * observed, *times, 5.0), 2j * wiener(observed, *times, 5.0), atol=1e-4)


def test_wiener_equals_the_textbook_solution_on_a_small_grid():
    rng = np.random.default_rng(0)
    observed = rng.standard_normal((1, 5, 1, 4, 2)).view(np.complex128)[..., 0].astype(np.complex64)
    times = np.arange(7) * 1e-3
    r_t, r_f = speed_covariance(times, 3.5e9, (0.1, 5.0)), delay_covariance(4, 30e3, 3e-7)
    full = np.kron(r_t, r_f)
    weights = full[20:, :20] @ np.linalg.inv(full[:20, :20] + 0.1 * np.eye(20))
    expected = (weights @ observed.reshape(20)).reshape(1, 2, 1, 4)
    np.testing.assert_allclose(wiener(observed, times[:5], times[5:], 10.0), expected, atol=1e-5)


def test_covariances_are_those_of_the_model():
    rng = np.random.default_rng(0)
    times = np.array([0, 1e-3, 7e-3, 20e-3])
    speed, angle = rng.uniform(0.1, 5, 200_000), rng.uniform(0, 2 * np.pi, 200_000)
    phase = 2 * np.pi * 3.5e9 / 299_792_458 * speed * np.cos(angle)
    drawn = [np.cos(phase * t).mean() for t in times]
    np.testing.assert_allclose(speed_covariance(times, 3.5e9, (0.1, 5.0))[0], drawn, atol=0.01)
    tau = rng.exponential(3e-7, 200_000)
    drawn = [np.exp(-2j * np.pi * k * 30e3 * tau).mean() for k in range(48)]
    np.testing.assert_allclose(delay_covariance(48, 30e3, 3e-7)[:, 0], drawn, atol=0.01)


@pytest.mark.parametrize(
    ("observed", "times", "snr", "message"),
    [
        (np.zeros((2, 42, 48), np.complex64), CONTIGUOUS[:42], 0.0, "wanted .batch, time, antenna, frequency"),
        (np.zeros((2, 42, 4, 48), np.complex64), CONTIGUOUS[:10], 0.0, "one time for each symbol"),
        (np.zeros((2, 42, 4, 48), np.complex64), CONTIGUOUS[:42], np.zeros(3), "snr_db has shape"),
        (np.full((2, 42, 4, 48), np.nan, np.complex64), CONTIGUOUS[:42], 0.0, "NaN"),
    ],
)
def test_wiener_refuses_input_that_does_not_fit(observed, times, snr, message):
    with pytest.raises(InputError, match=message):
        wiener(observed, times, CONTIGUOUS[42:], snr)


def test_last_value_refuses_an_empty_request():
    with pytest.raises(InputError, match="at least one symbol"):
        last_value(np.zeros((2, 42, 4, 48), np.complex64), 0)
