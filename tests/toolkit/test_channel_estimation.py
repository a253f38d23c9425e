"""Estimation from pilots: each estimator does what it is, and they stand in the order that theory gives."""

import numpy as np
import pytest

from spikeport_errors import InputError
from spikeport_toolkit.data.sampler import Geometry
from spikeport_toolkit.tasks.channel_estimation import ESTIMATORS, PilotBatch, Pilots, evaluate, linear, nearest
from spikeport_toolkit.tasks.evaluation import Evaluation


@pytest.fixture(scope="module")
def result() -> Evaluation:
    return evaluate(snrs_db=(-10, 10, 30), links=48)


def batch_of(clean: np.ndarray, comb: int = 4, symbols: tuple[int, ...] = (2, 11)) -> PilotBatch:
    rows, tones = np.array(symbols), np.arange(0, clean.shape[3], comb)
    level = np.full(len(clean), 100.0)
    geometry: Geometry = None  # type: ignore[assignment]
    observed = clean[:, rows][..., tones]
    return PilotBatch(clean, observed, np.arange(14) / 28e3, rows, tones, level, 1e-10 + 0 * level, 3.5e9, geometry)


def test_least_squares_errs_by_the_noise_at_the_pilots(result: Evaluation) -> None:
    everywhere = evaluate(pilots=Pilots(comb=1, symbols=tuple(range(14))), snrs_db=(-10, 10), links=48)
    for curve in everywhere.curves:
        if curve.method == "ls":
            np.testing.assert_allclose(curve.nmse_db, [10, -10], atol=0.1)


def test_the_order_is_ls_interpolation_wiener_lmmse_genie(result: Evaluation) -> None:
    for split in ("in-domain", "unseen"):
        rows = [next(c for c in result.curves if (c.method, c.split) == (name, split)) for name in ESTIMATORS]
        for better, worse in zip(rows[1:], rows, strict=False):
            assert all(a < b for a, b in zip(better.nmse_db, worse.nmse_db, strict=True)), (better.method, split)
    assert [c.role for c in rows] == ["baseline"] * 4 + ["limit"]
    assert result.task == result.to_dict()["task"] == "channel-estimation"
    assert "every 4th subcarrier of symbols 2, 11" in result.summary()


def test_interpolation_is_exact_on_a_plane_and_the_nearest_pilot_is_copied() -> None:
    t, f = np.arange(14)[:, None, None], np.arange(48)
    plane = np.broadcast_to((1 + 0.3 * t - 0.1j * f + 0.02 * t * f), (2, 14, 4, 48)).astype(np.complex64)
    np.testing.assert_allclose(linear(batch_of(plane)), plane, atol=1e-4)
    steps = nearest(batch_of(plane))
    np.testing.assert_array_equal(steps[:, :6, :, :2], plane[:, 2:3, :, :1].repeat(6, 1).repeat(2, 3))
    one = linear(batch_of(plane, symbols=(5,)))
    np.testing.assert_allclose(one[:, 0], one[:, 13])


def test_a_users_estimator_stands_among_them() -> None:
    def perfect(batch: PilotBatch) -> np.ndarray:
        return (batch.clean * (1 + 1e-3)).astype(np.complex64)

    made = evaluate({"mine": ("model", perfect)}, model="mine", snrs_db=(0,), links=8)
    assert all(c.nmse_db[0] == pytest.approx(-60, abs=0.1) for c in made.curves if c.method == "mine")
    assert {g.method for g in made.gaps} == {"mine"}


def test_bad_patterns_and_estimates_are_refused() -> None:
    for pattern in ({"comb": 0}, {"symbols": ()}, {"symbols": (3, 3)}, {"symbols": (2, 14)}):
        with pytest.raises(InputError, match="give a comb of 1 to 24"):
            Pilots(**pattern)
    with pytest.raises(InputError, match="short estimates"):
        evaluate({"short": ("model", lambda batch: batch.observed)}, snrs_db=(0,), links=4)
    with pytest.raises(InputError, match="not finite"):
        evaluate({"nan": ("model", lambda batch: batch.clean * np.nan)}, snrs_db=(0,), links=4)
    with pytest.raises(InputError, match="name of a baseline"):
        evaluate({"ls": ("model", nearest)}, snrs_db=(0,), links=4)
    with pytest.raises(InputError, match="lower --links"):
        evaluate(snrs_db=(0,), links=10_000)
