"""The baselines do what theory says, and what the published toy figures say."""

import numpy as np
import pytest
from path_sets import random_paths

from spikeport_errors import InputError, UsageError
from spikeport_toolkit.baselines.ar import ar, yule_walker
from spikeport_toolkit.baselines.kalman import ar_model, kalman
from spikeport_toolkit.baselines.last_value import last_value
from spikeport_toolkit.baselines.lmmse import lmmse, path_covariance
from spikeport_toolkit.baselines.prony import linear_prediction, prony
from spikeport_toolkit.baselines.recurrent import RecurrentPredictor, load_recurrent, recurrent, train_recurrent
from spikeport_toolkit.baselines.registry import BASELINES
from spikeport_toolkit.baselines.separable import separable_lmmse
from spikeport_toolkit.baselines.slot_mean import slot_mean
from spikeport_toolkit.baselines.steps import even_steps, stable
from spikeport_toolkit.baselines.wiener import delay_covariance, speed_covariance, wiener
from spikeport_toolkit.baselines.wiener_2x1d import wiener_2x1d
from spikeport_toolkit.baselines.wiener_threshold import wiener_threshold
from spikeport_toolkit.data.sampler import draw, embedded_split
from spikeport_toolkit.data.synthesis import channels
from spikeport_toolkit.models.config import GridConfig

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


def gaussian_channels(r_t, r_f, samples=400, antennas=2, seed=0):
    """Channels of covariance r_t (x) I (x) r_f: the filters' own prior."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((samples, len(r_t), antennas, len(r_f), 2)).view(np.complex128)[..., 0] / np.sqrt(2)

    def root(r):
        values, vectors = np.linalg.eigh(r)
        return vectors * np.sqrt(values.clip(0))

    H = np.einsum("st,btaf,gf->bsag", root(r_t), white, root(r_f), optimize=True)
    noise = rng.standard_normal((*H.shape, 2)).view(np.complex128)[..., 0] / np.sqrt(2)
    return H, noise


@pytest.mark.parametrize("snr_db", [-5.0, 15.0])
def test_wiener_errs_by_its_own_posterior_under_its_own_prior_and_nothing_else_does_better(snr_db):
    times, tones = np.arange(20) * 1e-3, 8
    r_t, r_f = speed_covariance(times, 3.5e9, (0.1, 5.0)), delay_covariance(tones, 30e3, 3e-7)
    H, noise = gaussian_channels(r_t, r_f)
    observed = (H[:, :16] + 10 ** (-snr_db / 20) * noise[:, :16]).astype(np.complex64)
    full = np.kron(r_t, r_f)
    n = 16 * tones
    weights = full[n:, :n] @ np.linalg.inv(full[:n, :n] + 10 ** (-snr_db / 10) * np.eye(n))
    expected = np.trace(full[n:, n:] - weights @ full[:n, n:]).real / (4 * tones)

    def error(predicted):
        return np.mean(np.abs(predicted - H[:, 16:]) ** 2)

    args = observed, times[:16], times[16:], snr_db
    best = error(wiener(*args))
    assert best == pytest.approx(expected, rel=0.1)
    others = [wiener_2x1d(*args), wiener_threshold(*args), kalman(*args), ar(*args), prony(*args)]
    others += [wiener(*args, mean_delay_s=1e-6), wiener(*args, speeds=(4.0, 5.0)), last_value(observed, 4)]
    assert all(error(other) > best for other in others)


def test_yule_walker_recovers_the_coefficients_of_an_autoregression():
    rng = np.random.default_rng(0)
    wanted = np.array([1.5 * np.exp(0.2j), -0.7 * np.exp(0.4j)])
    x = np.zeros((2, 3000, 20), np.complex128)
    shocks = rng.standard_normal((*x.shape, 2)).view(np.complex128)[..., 0]
    for t in range(2, x.shape[1]):
        x[:, t] = wanted[0] * x[:, t - 1] + wanted[1] * x[:, t - 2] + shocks[:, t]
    np.testing.assert_allclose(yule_walker(x[:, 500:], 2), [wanted, wanted], atol=0.02)


@pytest.mark.parametrize("times", [CONTIGUOUS, SPACED], ids=["contiguous", "5 ms apart"])
def test_vector_prony_is_exact_for_one_path_without_noise(times):
    paths = random_paths(8, 1, seed=3)
    velocity = np.tile([3.0, 1.0, 0.0], (8, 1))
    # A slot mean stands for the whole slot where slots are apart: exact but for the turn within a slot.
    floor = -90 if times is CONTIGUOUS else -20
    H = channels(paths, np.arange(8), times, FREQUENCIES, velocity)
    assert nmse_db(prony(H[:, :42], times[:42], times[42:], 120.0), H[:, 42:]) < floor


def test_linear_prediction_finds_the_phasors_and_keeps_them_from_growing():
    turn = np.exp(1j * np.array([0.3, -0.5]))
    series = (turn ** np.arange(12)[:, None]).sum(1)[None].astype(np.complex128)
    roots = np.roots(np.concatenate(([1], -linear_prediction(series, 2)[0])))
    np.testing.assert_allclose(np.sort_complex(roots), np.sort_complex(turn), atol=1e-3)
    grown = (1.2 ** np.arange(12))[None].astype(np.complex128)
    assert abs(linear_prediction(grown, 1)[0, 0]) == pytest.approx(1)
    inside = np.array([[0.5, -0.2 + 0.1j]])
    np.testing.assert_allclose(stable(inside), inside, atol=1e-12)


@pytest.mark.parametrize("snr_db", [-5.0, 20.0])
def test_kalman_is_the_wiener_filter_on_a_first_order_autoregression(snr_db):
    a, times = 0.95, np.arange(20) * 1e-3
    r_t = a ** np.abs(np.subtract.outer(np.arange(20), np.arange(20)))
    r_f = delay_covariance(6, 30e3, 3e-7)
    H, noise = gaussian_channels(r_t, r_f, samples=3)
    observed = (H[:, :16] + 10 ** (-snr_db / 20) * noise[:, :16]).astype(np.complex64)
    white = np.eye(2)
    by_filter = separable_lmmse(observed, snr_db, (r_t[:16, :16], r_t[16:, :16]), (white, white), (r_f, r_f))
    by_recursion = kalman(observed, times[:16], times[16:], snr_db, correlation=np.array([1.0, a]))
    np.testing.assert_allclose(by_recursion, by_filter, atol=2e-5)


def test_ar_model_matches_the_correlation_it_is_given():
    coefficients, driving = ar_model(np.array([1.0, 0.9]))
    assert coefficients[0] == pytest.approx(0.9)
    assert driving == pytest.approx(1 - 0.81)


def test_lmmse_statistics_are_those_of_drawn_channels():
    paths = embedded_split("train")
    known = path_covariance(paths, 48)
    rng = np.random.default_rng(0)
    users = rng.permutation(paths.links)[:1500]
    speed, heading = rng.uniform(0.1, 5, len(users)), rng.uniform(0, 2 * np.pi, len(users))
    velocity = np.stack([speed * np.cos(heading), speed * np.sin(heading), 0 * speed], 1)
    times = np.array([0, 2e-3, 10e-3])
    H = channels(paths, users, times, np.arange(48) * 30e3, velocity, align_delays=True).astype(np.complex128)
    H /= np.sqrt((np.abs(H) ** 2).mean((1, 2, 3), keepdims=True))
    drawn = [np.einsum("btaf,bsaf->ts", H, H.conj()), np.einsum("btaf,btcf->ac", H, H.conj())]
    drawn = [r / np.trace(r) * len(r) for r in drawn]
    np.testing.assert_allclose(drawn[0], known.time(times, 3.5e9), atol=0.05)
    np.testing.assert_allclose(drawn[1], known.antenna, atol=0.05)
    r_f = np.einsum("btaf,btag->fg", H, H.conj())
    np.testing.assert_allclose(r_f / np.trace(r_f) * 48, known.frequency, atol=0.05)
    np.testing.assert_allclose(np.diag(known.frequency), 1, atol=1e-5)


def test_slot_mean_averages_the_last_slot():
    _, observed = noisy_channels(CONTIGUOUS, 0, samples=2)
    np.testing.assert_allclose(slot_mean(observed, 3)[:, 2], observed[:, 28:42].mean(1), atol=1e-5)


def test_steps_are_symbols_or_slot_means_and_nothing_uneven():
    _, observed = noisy_channels(CONTIGUOUS, 0, samples=2)
    assert even_steps(observed, CONTIGUOUS[:42], CONTIGUOUS[42:]).values.shape[1] == 42
    spaced = even_steps(observed, SPACED[:42], SPACED[42:])
    assert (spaced.values.shape[1], spaced.ahead, spaced.averaged) == (3, 1, 14)
    uneven = np.concatenate((SPACED[:42], SPACED[42:] + 1e-3))
    with pytest.raises(InputError, match="cannot step over them"):
        ar(observed, uneven[:42], uneven[42:], 0.0)


@pytest.mark.parametrize("blocks", [4, 6])
@pytest.mark.parametrize("name", list(BASELINES))
def test_every_baseline_runs_in_one_call_form(name, blocks):
    grid = GridConfig(slots=4, antennas=4, blocks=blocks)
    for regime in ("R1", "R2"):
        batch = draw(embedded_split("unseen"), np.arange(3), grid, regime, 10.0, np.random.default_rng(0))
        predicted = BASELINES[name].predict(batch)
        assert predicted.shape == batch.target.shape
        assert predicted.dtype == np.complex64
        assert np.isfinite(predicted).all()


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_recurrent_networks_are_small_trained_and_scale_free(kind):
    batch = draw(embedded_split("unseen"), np.arange(64), GridConfig(4, 4, 4), "R1", 0.0, np.random.default_rng(0))
    assert sum(p.numel() for p in load_recurrent(kind).parameters()) < 100_000
    assert nmse_db(recurrent(kind, batch), batch.target) < nmse_db(slot_mean(batch.observed, 14), batch.target)


def test_training_a_recurrent_network_is_deterministic_and_names_are_checked():
    import torch

    first, second = (train_recurrent("gru", steps=2, batch=4).state_dict() for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)
    with pytest.raises(UsageError, match="did you mean 'gru'"):
        RecurrentPredictor("grus")


def test_lmmse_takes_any_grid_and_refuses_what_does_not_fit():
    rng = np.random.default_rng(0)
    observed = rng.standard_normal((2, 42, 3, 20, 2)).astype(np.float32).view(np.complex64)[..., 0]
    assert lmmse(observed, CONTIGUOUS[:42], CONTIGUOUS[42:], 0.0).shape == (2, 14, 3, 20)
    with pytest.raises(InputError, match="one time for each symbol"):
        lmmse(observed, CONTIGUOUS[:40], CONTIGUOUS[42:], 0.0)
