"""The mixture of Wiener filters: what theory says of it, and what it is worth on the embedded cities."""

import numpy as np
import pytest
import torch

from spikeport_toolkit.baselines.registry import BASELINES
from spikeport_toolkit.baselines.wiener import delay_covariance, speed_covariance
from spikeport_toolkit.data.patches import patches_from_channel
from spikeport_toolkit.data.sampler import draw, embedded_split
from spikeport_toolkit.models import wiener_mixture as module
from spikeport_toolkit.models.families import build
from spikeport_toolkit.models.presets import preset
from spikeport_toolkit.models.wiener_mixture import WienerMixture, grid_mixture

GRID = preset("spikewfm-nano").config.grid
TIMES = tuple(np.arange(6) * 1e-3)


def complex_of(parts):
    half = parts.shape[1] // 2
    return (parts[:, :half] + 1j * parts[:, half:]).numpy()


def parts_of(channel):
    return torch.from_numpy(np.concatenate((channel.real, channel.imag), 1).astype(np.float32))


def nmse_db(predicted, truth):
    error = (np.abs(predicted - truth) ** 2).sum((1, 2, 3)) / (np.abs(truth) ** 2).sum((1, 2, 3))
    return 10 * np.log10(error.mean())


def test_with_one_hypothesis_it_is_the_textbook_wiener_filter_and_knows_its_error(monkeypatch):
    monkeypatch.setattr(module, "SPEEDS_M_S", ((1.0, 3.0),))
    monkeypatch.setattr(module, "LINES_HZ", ())
    monkeypatch.setattr(module, "DELAYS_S", (0.3e-6,))
    monkeypatch.setattr(module, "SNRS_DB", (10,))
    mixture = WienerMixture((TIMES,), 2, 1, 4)
    time = speed_covariance(np.array(TIMES), 3.5e9, (1.0, 3.0))
    full = np.kron(time, delay_covariance(4, 30e3, 0.3e-6)) * (10 / 11)
    weights = full[16:, :16] @ np.linalg.inv(full[:16, :16] + np.eye(16) / 11)
    rng = np.random.default_rng(0)
    observed = (rng.standard_normal((3, 4, 1, 4)) + 1j * rng.standard_normal((3, 4, 1, 4))) / np.sqrt(2)
    predicted, error = mixture(parts_of(observed))
    expected = (observed.reshape(3, 16) @ weights.T).reshape(3, 2, 1, 4)
    np.testing.assert_allclose(complex_of(predicted), expected, atol=2e-4)
    left = np.real(np.trace(full[16:, 16:] - weights @ full[:16, 16:])) / 8
    np.testing.assert_allclose(error.numpy(), np.sqrt(left), rtol=1e-3)


@pytest.mark.parametrize("regime", ["R1", "R2"])
@pytest.mark.parametrize("snr_db", [-10.0, 10.0, 30.0])
def test_it_beats_the_wiener_filter_that_is_told_the_snr(regime, snr_db):
    paths = embedded_split("unseen")
    rng = np.random.default_rng(3)
    batch = draw(paths, rng.integers(0, paths.links, 64), GRID, regime, snr_db, rng)
    mixture = nmse_db(BASELINES["wiener-mixture"].predict(batch), batch.target)
    assert mixture < nmse_db(BASELINES["wiener"].predict(batch), batch.target) - 1


def test_it_finds_out_the_slot_spacing_by_itself():
    paths = embedded_split("in-domain")
    rng = np.random.default_rng(4)
    for regime in ("R1", "R2"):
        batch = draw(paths, rng.integers(0, paths.links, 48), GRID, regime, 10.0, rng)
        told = nmse_db(BASELINES["wiener-mixture"].predict(batch) / batch.scale, batch.target / batch.scale)
        with torch.no_grad():
            guess, _ = grid_mixture(GRID)(parts_of(batch.observed / batch.scale))
        assert nmse_db(complex_of(guess), batch.target / batch.scale) < told + 0.5


def test_the_expected_error_is_the_real_one_within_three_decibels():
    paths = embedded_split("unseen")
    rng = np.random.default_rng(5)
    for regime, snr_db in (("R1", 0.0), ("R2", 0.0), ("R2", 20.0)):
        batch = draw(paths, rng.integers(0, paths.links, 96), GRID, regime, snr_db, rng)
        with torch.no_grad():
            guess, error = grid_mixture(GRID)(parts_of(batch.observed / batch.scale))
        real = (np.abs(complex_of(guess) - batch.target / batch.scale) ** 2).mean((1, 2, 3)).mean()
        assert abs(10 * np.log10(real / error.square().mean().item())) < 3


def test_an_untrained_network_with_the_skip_predicts_what_the_mixture_predicts():
    model = build(preset("spikewfm-nano-wiener").config).eval()
    paths = embedded_split("in-domain")
    rng = np.random.default_rng(6)
    batch = draw(paths, rng.integers(0, paths.links, 4), GRID, "R2", 5.0, rng)
    with torch.no_grad():
        patches = model(torch.from_numpy(batch.patches()))
        guess, _ = grid_mixture(GRID)(parts_of(batch.observed / batch.scale))
    np.testing.assert_allclose(patches.numpy(), patches_from_channel(complex_of(guess)), atol=1e-4)


def test_it_is_in_no_checkpoint_and_has_no_weights():
    model = build(preset("spikewfm-nano-wiener").config)
    assert not any("mixture" in key for key in model.state_dict())
    assert not list(model.skip.mixture.parameters())
