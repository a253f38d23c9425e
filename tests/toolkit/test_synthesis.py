"""Channels obey the physics of their paths."""

from dataclasses import replace

import numpy as np
import pytest
from path_sets import random_paths

from spikeport_toolkit.data.synthesis import SPEED_OF_LIGHT, channels

TIMES = np.arange(6) / 28e3
FREQUENCIES = (np.arange(24) - 12) * 30e3
STILL = np.zeros((1, 3))


def one_path(gain=1.0, tau=3e-7, theta_t=np.pi / 2, phi_t=0.0, theta_r=np.pi / 2, phi_r=0.0):
    values = {"tau": tau, "theta_t": theta_t, "phi_t": phi_t, "theta_r": theta_r, "phi_r": phi_r}
    arrays = {k: np.array([[v]], np.float32) for k, v in values.items()}
    return random_paths(1, 1, **arrays, a=np.array([[gain]], np.complex64))


def synthesise(paths, velocity=STILL, users=None, **options):
    users = np.arange(paths.links) if users is None else users
    return channels(paths, users, TIMES, FREQUENCIES, np.broadcast_to(velocity, (len(users), 3)), **options)


def test_a_single_path_is_a_rotating_delay_phasor():
    paths = one_path(gain=0.5 - 0.25j)
    tau = float(paths.tau[0, 0])
    H = synthesise(paths, rx=1, tx=1)[0, :, 0]
    expected = (0.5 - 0.25j) * np.exp(-2j * np.pi * (paths.carrier_hz + FREQUENCIES) * tau)
    np.testing.assert_allclose(H, np.broadcast_to(expected, H.shape), atol=1e-5)


@pytest.mark.parametrize(("speed", "sign"), [(4.0, 1), (-4.0, -1)])
def test_moving_towards_the_arrival_raises_the_frequency(speed, sign):
    H = synthesise(one_path(), velocity=np.array([[speed, 0, 0]]), rx=1, tx=1)[0, :, 0, 0]
    turn = np.angle(H[1:] / H[:-1]) / (2 * np.pi) * 28e3
    np.testing.assert_allclose(turn, sign * 4.0 * 3.5e9 / SPEED_OF_LIGHT, rtol=1e-3)


def test_moving_across_the_arrival_changes_nothing():
    H = synthesise(one_path(), velocity=np.array([[0, 5.0, 2.0]]))
    np.testing.assert_allclose(H, np.broadcast_to(H[:, :1], H.shape), atol=1e-5)


@pytest.mark.parametrize(("end", "pairs"), [("r", [(0, 2), (1, 3)]), ("t", [(0, 1), (2, 3)])])
def test_half_a_wavelength_along_y_turns_the_phase_by_pi_sin_sin(end, pairs):
    theta, phi = 1.1, 0.7
    H = synthesise(one_path(**{f"theta_{end}": theta, f"phi_{end}": phi}))[0, 0, :, 0]
    for first, second in pairs:
        turned = np.angle(H[second] / H[first])
        assert turned == pytest.approx(np.pi * np.sin(theta) * np.sin(phi), abs=1e-4)


def test_arrays_are_centred():
    alone = synthesise(one_path(phi_r=0.4, phi_t=-0.9), rx=1, tx=1)
    three = synthesise(one_path(phi_r=0.4, phi_t=-0.9), rx=3, tx=3)
    np.testing.assert_allclose(three[:, :, 4], alone[:, :, 0], atol=1e-5)


def test_paths_add_up():
    paths = random_paths(4, 3)
    parts = [
        synthesise(replace(paths, a=np.where(np.arange(3) == p, paths.a, 0)), velocity=np.array([[1, 2, 0]]))
        for p in range(3)
    ]
    np.testing.assert_allclose(sum(parts), synthesise(paths, velocity=np.array([[1, 2, 0]])), atol=1e-4)


def test_padding_beyond_n_paths_is_ignored():
    paths = random_paths(4, 3)
    junk = np.arange(3) >= paths.n_paths[:, None]
    np.testing.assert_array_equal(synthesise(replace(paths, a=np.where(junk, 7, paths.a))), synthesise(paths))


def test_the_same_links_give_the_same_bits_alone_or_in_a_batch():
    paths = random_paths(8)
    whole = synthesise(paths)
    np.testing.assert_array_equal(whole, synthesise(paths))
    np.testing.assert_allclose(synthesise(paths, users=np.array([5])), whole[5:6], atol=1e-5)


@pytest.mark.parametrize("carrier", [3.5e9, 28e9])
def test_aligned_delays_start_at_zero_and_keep_the_carrier_phase(carrier):
    paths = random_paths(8, carrier_hz=carrier)
    first = np.where(paths.a != 0, paths.tau, np.inf).min(1).astype(np.float64)
    slope = np.exp(2j * np.pi * FREQUENCIES * first[:, None])[:, None, None, :]
    np.testing.assert_allclose(synthesise(paths, align_delays=True), synthesise(paths) * slope, atol=1e-4)


def test_a_link_without_a_path_is_silent():
    paths = random_paths(3)
    paths = replace(paths, n_paths=np.array([5, 0, 2], np.int16), los=np.array([1, -1, 0], np.int8))
    for align in (False, True):
        assert not synthesise(paths, align_delays=align)[1].any()


def test_canonical_shape_and_type():
    H = synthesise(random_paths(3), rx=2, tx=4)
    assert H.shape == (3, 6, 8, 24)
    assert H.dtype == np.complex64
