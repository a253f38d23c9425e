"""The embedded data: ten cities, two stations, two carriers, and geometry that adds up."""

from collections import Counter

import numpy as np
import pytest

from spikeport_toolkit.data.store import TRAIN_CITIES, UNSEEN_CITIES, load_embedded
from spikeport_toolkit.data.synthesis import SPEED_OF_LIGHT

SETS = load_embedded()
NAMES = [f"{s.city}-{s.station}-{s.carrier_hz / 1e9:g}" for s in SETS]
each_set = pytest.mark.parametrize("paths", SETS, ids=NAMES)


def test_seven_cities_train_and_three_are_unseen():
    assert len(TRAIN_CITIES) == 7
    assert len(UNSEEN_CITIES) == 3
    assert {s.city for s in SETS} == {*TRAIN_CITIES, *UNSEEN_CITIES}
    assert not set(TRAIN_CITIES) & set(UNSEEN_CITIES)


def test_every_city_has_two_stations_at_both_carriers():
    assert Counter(s.city for s in SETS) == dict.fromkeys([*TRAIN_CITIES, *UNSEEN_CITIES], 4)
    assert {(s.station, s.carrier_hz) for s in SETS} == {(0, 3.5e9), (1, 3.5e9), (0, 28e9), (1, 28e9)}


@pytest.mark.parametrize("cities", [TRAIN_CITIES, UNSEEN_CITIES])
@pytest.mark.parametrize("carrier", [3.5e9, 28e9])
def test_there_are_enough_links_to_train_and_to_test(cities, carrier):
    links = sum(s.links for s in SETS if s.city in cities and s.carrier_hz == carrier)
    assert links >= (3500 if cities == TRAIN_CITIES else 1500)


@each_set
def test_every_link_has_paths_a_label_and_a_plausible_gain(paths):
    assert 150 <= paths.links <= 400
    assert paths.n_paths.min() >= 1
    assert paths.n_paths.max() <= 25
    assert set(np.unique(paths.los)) == {0, 1}
    assert 0.15 < (paths.los == 1).mean() < 0.95
    assert paths.gain_db.min() >= -140
    assert paths.gain_db.max() < -45


@each_set
def test_paths_come_strongest_first_and_within_40_db(paths):
    power = np.abs(paths.a) ** 2
    assert (np.diff(power, axis=1) <= 0).all()
    last = np.take_along_axis(power, paths.n_paths[:, None].astype(int) - 1, axis=1)[:, 0]
    assert (last > 0.99e-4 * power[:, 0]).all()


@each_set
def test_a_line_of_sight_takes_the_straight_way_there(paths):
    seen = paths.los == 1
    offset = (paths.bs - paths.ue)[seen]
    distance = np.linalg.norm(offset, axis=1)
    first = np.where(paths.a[seen] != 0, paths.tau[seen], np.inf).argmin(1)[:, None]
    delay = np.take_along_axis(paths.tau[seen], first, 1)[:, 0]
    theta, phi = (np.take_along_axis(getattr(paths, k)[seen], first, 1)[:, 0] for k in ("theta_r", "phi_r"))
    np.testing.assert_allclose(delay * SPEED_OF_LIGHT, distance, rtol=1e-4)
    towards = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], 1)
    np.testing.assert_allclose(towards, offset / distance[:, None], atol=1e-3)


@each_set
def test_no_path_is_faster_than_light(paths):
    distance = np.linalg.norm(paths.bs - paths.ue, axis=1)
    first = np.where(paths.a != 0, paths.tau, np.inf).min(1)
    assert (first * SPEED_OF_LIGHT > distance * (1 - 1e-4)).all()


def test_28_ghz_is_18_db_weaker_on_the_same_line_of_sight_links():
    by_key = {(s.city, s.station, s.carrier_hz): s for s in SETS}
    for (city, station, carrier), low in by_key.items():
        if carrier == 3.5e9:
            high = by_key[city, station, 28e9]
            place = {tuple(ue): gain for ue, gain in zip(low.ue, low.gain_db, strict=True)}
            drop = [place[tuple(u)] - g for u, g in zip(high.ue, high.gain_db, strict=True) if tuple(u) in place]
            assert np.median(drop) == pytest.approx(18, abs=3)


@each_set
def test_no_path_is_counted_twice(paths):
    """sionna-rt's solver can return one path several times; the generator keeps one (1 cm, 1 mrad)."""
    valid = np.arange(paths.a.shape[1]) < paths.n_paths[:, None]
    scaled = [
        paths.tau * SPEED_OF_LIGHT / 0.01,
        *(getattr(paths, f"{k}_{e}") / 1e-3 for k in ("theta", "phi") for e in "tr"),
    ]
    key = np.stack(scaled, -1)
    same = (np.abs(key[:, :, None] - key[:, None]) < 1).all(-1) & valid[:, :, None] & valid[:, None]
    assert not np.triu(same.any(0), 1).any()
