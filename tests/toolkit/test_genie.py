"""The genie is the exact linear MMSE of what it is told, follows the law it should, and nothing here beats it."""

from dataclasses import replace

import numpy as np
import pytest
from path_sets import random_paths

from spikeport_errors import InputError
from spikeport_toolkit.baselines.genie import genie, genie_error
from spikeport_toolkit.data.impairments import Adc, CarrierOffset, Interference, WifiNoise
from spikeport_toolkit.data.sampler import Batch, draw, embedded_split
from spikeport_toolkit.models.config import GridConfig
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.tasks.channel_prediction import evaluate
from spikeport_toolkit.tasks.evaluation import nmse_of

GRID = GridConfig(slots=4, antennas=4, blocks=4)
SMALL = GridConfig(slots=2, antennas=4, blocks=1)
PHASES_ALONE_DB = 3.02
"""What a non-linear estimate of phases could gain if it were told the amplitudes: half the unknowns."""


def separated(users: int, paths: int, seed: int = 0):
    """Links of equally strong paths, far apart in delay and angle: columns of A nearly orthogonal."""
    rng = np.random.default_rng(seed)
    shape = (users, paths)
    drawn = random_paths(users, paths, seed, n_paths=np.full(users, paths, np.int16))
    drawn.a[:] = np.exp(2j * np.pi * rng.random(shape))
    drawn.tau[:] = 1e-6 + np.arange(paths) * 4e-6 / paths + rng.uniform(0, 0.1e-6, shape)
    for name in ("theta_t", "theta_r"):
        getattr(drawn, name)[:] = np.pi / 2
    return drawn


def dense(batch: Batch, link: int, noise: np.ndarray) -> np.ndarray:
    """The textbook formula on full matrices: C_wo (C_oo + R)^-1 y, columns by the synthesis itself, path by path."""
    known = batch.geometry
    links = known.paths.select(known.users[link : link + 1])
    columns, first = [], links.tau[0, : links.n_paths[0]].min()
    for p in range(links.n_paths[0]):
        alone = replace(links, a=np.where(np.arange(links.a.shape[1]) == p, links.a, 0).astype(np.complex64))
        assert first == alone.tau[0, : links.n_paths[0]].min(), "delays stay aligned to the same first arrival"
        one = replace(known, paths=alone, users=np.array([0]), velocity=known.velocity[link : link + 1])
        columns.append(one.channels(batch.times_s)[0].astype(np.complex128))
    full = np.stack(columns, -1)
    symbols = batch.observed.shape[1]
    seen, wanted = full[:symbols].reshape(-1, len(columns)), full[symbols:].reshape(-1, len(columns))
    weights = wanted @ seen.conj().T @ np.linalg.inv(seen @ seen.conj().T + noise)
    return (weights @ batch.unimpaired[link].ravel()).reshape(batch.target[link].shape)


def test_it_equals_the_textbook_formula_on_full_matrices() -> None:
    batch = draw(random_paths(6, 4), np.arange(3), SMALL, "R2", 5.0, np.random.default_rng(0))
    predicted = genie(batch)
    for link in range(3):
        noise = batch.noise_power[link] * np.eye(batch.observed[link].size)
        np.testing.assert_allclose(predicted[link], dense(batch, link, noise), atol=2e-4)


def test_with_interference_it_equals_the_formula_with_the_interferers_covariance() -> None:
    sinr = Interference(users=2, inr_db=10.0)
    batch = draw(random_paths(9, 3), np.arange(2), SMALL, "R1", 3.0, np.random.default_rng(1), sinr=sinr)
    for link in range(2):
        shape = batch.observed[link].shape
        covariance = np.zeros((*shape, *shape), np.complex128)
        for t, a, f in np.ndindex(*shape):
            for other in batch.interferers:
                for m in range(2):  # the same symbol at both receive antennas of one transmit port
                    covariance[t, a, f, t, 2 * m + a % 2, f] += (
                        other[link, t, a, f] * other[link, t, 2 * m + a % 2, f].conj()
                    )
        size = batch.observed[link].size
        noise = covariance.reshape(size, size) + batch.noise_power[link] * np.eye(size)
        np.testing.assert_allclose(genie(batch)[link], dense(batch, link, noise), atol=2e-3)


@pytest.mark.parametrize("paths", [1, 4, 10])
@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_error_follows_minus_10_log_of_observations_per_path_minus_snr(paths: int, snr_db: float) -> None:
    links = separated(64, paths)
    batch = draw(links, np.arange(64), GRID, "R1", snr_db, np.random.default_rng(0))
    law = -10 * np.log10(batch.observed[0].size / paths) - snr_db
    expected = 10 * np.log10(genie_error(batch).mean())
    assert expected == pytest.approx(law, abs=0.6)
    assert 10 * np.log10(nmse_of(genie(batch), batch.target).mean()) == pytest.approx(law, abs=1.0)


def test_the_measured_error_is_the_expected_one() -> None:
    links = embedded_split("unseen")
    batch = draw(links, np.arange(0, 1500, 5), GRID, "R1", 10.0, np.random.default_rng(0))
    error = np.sum(np.abs(genie(batch) - batch.target) ** 2, axis=(1, 2, 3))
    power = np.sum(np.abs(batch.target) ** 2, axis=(1, 2, 3))
    expected = genie_error(batch)
    assert 10 * np.log10(np.median(error / power)) == pytest.approx(10 * np.log10(np.median(expected)), abs=0.5)


@pytest.mark.parametrize("spoiled", [False, True], ids=["thermal noise", "interference and hardware"])
def test_no_baseline_and_no_network_beats_it_on_any_point(spoiled: bool) -> None:
    import torch

    model = load_model("spikewfm-nano")

    def predict(patches: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(model(torch.from_numpy(patches)).numpy())

    options = {"sinr": Interference(), "impairments": (CarrierOffset(20.0), Adc(6))} if spoiled else {}
    result = evaluate(
        "nano", {"nano": ("model", predict)}, GRID, snrs_db=(-10, 10, 30), links=8 if spoiled else 24, baselines="all",
        **options,
    )  # fmt: skip
    limit = {(c.regime, c.split): c.nmse_db for c in result.curves if c.role == "limit"}
    assert len(limit) == 4
    for curve in result.curves:
        if curve.role != "limit":
            margins = np.subtract(curve.nmse_db, limit[curve.regime, curve.split])
            assert margins.min() > PHASES_ALONE_DB, f"{curve.method} in {curve.regime} {curve.split}"


@pytest.mark.parametrize("regime", ["R1", "R2"])
def test_it_stays_the_limit_where_the_noise_is_nearly_gone(regime: str) -> None:
    links = embedded_split("unseen")
    for snr, at_most in ((60.0, -75.0), (100.0, -100.0)):
        batch = draw(links, np.arange(0, 1500, 40), GRID, regime, snr, np.random.default_rng(0))
        error = np.sum(np.abs(genie(batch) - batch.target) ** 2, axis=(1, 2, 3))
        nmse = np.mean(error / np.sum(np.abs(batch.target) ** 2, axis=(1, 2, 3)))
        assert 10 * np.log10(nmse) < at_most


def test_it_looks_before_the_receivers_hardware() -> None:
    links = embedded_split("train")
    clean, spoiled = (
        draw(links, np.arange(4), GRID, "R1", 10.0, np.random.default_rng(0), impairments=faults)
        for faults in ((), (CarrierOffset(500.0), Adc(3)))
    )
    assert not np.allclose(clean.observed, spoiled.observed, rtol=0.1)
    np.testing.assert_array_equal(genie(clean), genie(spoiled))


def test_it_refuses_channels_without_paths_and_noise_without_covariance() -> None:
    links = embedded_split("train")
    batch = draw(links, np.arange(2), GRID, "R1", 10.0, np.random.default_rng(0))
    with pytest.raises(InputError, match="stored without them"):
        genie(replace(batch, geometry=None))
    noise = WifiNoise(np.ones((5, 2, 60), np.complex64))
    measured = draw(links, np.arange(2), GRID, "R1", 10.0, np.random.default_rng(0), noise=noise)
    with pytest.raises(InputError, match="measured noise"):
        genie(measured)
