"""Measured files of every kind become one set; sanitised Wi-Fi frames leave noise; what does not fit is named."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from spikeport_errors import InputError, UsageError
from spikeport_toolkit.data.array_files import read_arrays
from spikeport_toolkit.data.measured import captures, load_measured, residual_noise, sanitised

SHAPE = (3, 20, 4, 24)


def user_arrays(**changes):
    rng = np.random.default_rng(0)
    values = {
        "h": (rng.standard_normal(SHAPE) + 1j * rng.standard_normal(SHAPE)).astype(np.complex64),
        "times_s": np.arange(20) * 1e-3,
        "carrier_hz": 3.5e9,
        "subcarrier_spacing_hz": 30e3,
        "tx": 2,
        "los": np.array([1, 0, -1], np.int8),
    }
    return {k: v for k, v in (values | changes).items() if v is not None}


def save_hdf5(path, arrays, matlab=False):
    with h5py.File(path, "w", userblock_size=512 if matlab else 0) as file:
        for name, value in arrays.items():
            value = np.atleast_2d(value).T if matlab else np.asarray(value)
            if matlab and value.dtype.kind == "c":
                pair = np.empty(value.shape, [("real", "f4"), ("imag", "f4")])
                pair["real"], pair["imag"] = value.real, value.imag
                value = pair
            file[name] = value
    if matlab:
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(128))


WRITERS = {
    "set.npz": lambda path, arrays: np.savez(path, **arrays),
    "set5.mat": savemat,
    "set73.mat": lambda path, arrays: save_hdf5(path, arrays, matlab=True),
    "set.h5": save_hdf5,
}


@pytest.mark.parametrize("name", WRITERS)
def test_npz_mat_and_hdf5_give_the_same_set(tmp_path, name):
    arrays = user_arrays()
    WRITERS[name](tmp_path / name, arrays)
    item = load_measured(tmp_path / name)
    np.testing.assert_array_equal(item.h, arrays["h"])
    np.testing.assert_array_equal(item.times_s, arrays["times_s"])
    np.testing.assert_array_equal(item.los, arrays["los"])
    assert (item.carrier_hz, item.subcarrier_spacing_hz, item.rx, item.tx) == (3.5e9, 30e3, 2, 2)
    assert item.kind == "measured"
    assert captures(tmp_path / name) == ()


def test_one_link_may_leave_its_axis_out_and_unknown_line_of_sight_is_minus_one(tmp_path):
    np.savez(tmp_path / "one.npz", **user_arrays(h=user_arrays()["h"][0], los=None, tx=None))
    item = load_measured(tmp_path / "one.npz")
    assert item.h.shape == (1, *SHAPE[1:])
    assert (item.rx, item.tx, item.los.tolist()) == (4, 1, [-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"h": None, "csi": np.zeros(3)}, r"lacks h; it holds .*csi \[3\]"),
        ({"carrier_hz": None, "times_s": None}, "lacks times_s, carrier_hz"),
        ({"h": np.zeros(SHAPE)}, "wanted complex"),
        ({"h": np.zeros((2, 2), np.complex64)}, "wanted complex"),
        ({"h": np.full(SHAPE, np.nan, np.complex64)}, "holds NaN"),
        ({"carrier_hz": np.array([1.0, 2.0])}, "single numbers"),
        ({"carrier_hz": -1.0}, "carrier_hz is -1"),
        ({"times_s": np.zeros(20)}, "growing times"),
        ({"times_s": np.arange(19.0)}, "20 growing times"),
        ({"tx": 3}, "1 x 3 antennas"),
        ({"los": np.zeros(2)}, "los must be 3 flags"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    np.savez(tmp_path / "set.npz", **user_arrays(**change))
    with pytest.raises(InputError, match=message):
        load_measured(tmp_path / "set.npz")


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("keep", [0, 40, 0.5, 0.9])
def test_a_truncated_file_is_named(tmp_path, name, keep):
    path = tmp_path / name
    WRITERS[name](path, user_arrays())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match=rf"{name} (is|lacks)"):
        load_measured(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_5_files_read_as_scipy_reads_them(tmp_path, compressed):
    rng = np.random.default_rng(0)
    numbers = {t: (rng.standard_normal((2, 3)) * 50).astype(t) for t in ("f4", "f8", "i2", "u1", "i8", "c16", "bool")}
    cells = np.empty((2, 2), object)
    cells[:] = [[np.arange(3), "text"], [{"a": 1.5, "b": np.eye(2)}, np.zeros((0, 4))]]
    savemat(tmp_path / "a.mat", numbers | {"cells": cells, "word": "two words"}, do_compression=compressed)
    read = read_arrays(tmp_path / "a.mat")
    expected = loadmat(tmp_path / "a.mat")
    for name in numbers:
        np.testing.assert_array_equal(read[name], expected[name])
    assert str(read["word"]) == "two words"
    np.testing.assert_array_equal(read["cells"][0, 0], [[0, 1, 2]])
    assert str(read["cells"][0, 1]) == "text"
    np.testing.assert_array_equal(read["cells"][1, 0][0, 0]["b"], np.eye(2))
    assert read["cells"][1, 1].shape == (0, 4)


def test_a_missing_file_a_pickle_and_a_text_are_refused(tmp_path):
    with pytest.raises(InputError, match="is not a file"):
        load_measured(tmp_path / "none.npz")
    np.savez(tmp_path / "pickle.npz", h=np.array([{}], object))
    with pytest.raises(InputError, match="truncated or corrupt"):
        load_measured(tmp_path / "pickle.npz")
    (tmp_path / "text.csv").write_text("1,2,3")
    with pytest.raises(InputError, match="no npz, MATLAB or HDF5"):
        load_measured(tmp_path / "text.csv")


def frames_with(noise, count=200, seed=0):
    """A still channel [2, 56] through a Wi-Fi receiver: gain, phase and timing of each frame and antenna at random."""
    rng = np.random.default_rng(seed)
    delays = np.exp(-2j * np.pi * np.arange(56)[:, None] * rng.uniform(0, 0.05, 3))
    channel = (delays @ (rng.standard_normal((3, 2)) + 1j * rng.standard_normal((3, 2)))).T
    channel /= np.sqrt(np.mean(np.abs(channel) ** 2))
    white = rng.standard_normal((2, count, 2, 56)) * np.sqrt(noise / 2)
    turn = rng.uniform(-np.pi, np.pi, (count, 2, 1)) + rng.uniform(-0.3, 0.3, (count, 2, 1)) * np.arange(56)
    gain = rng.uniform(10, 200, (count, 1, 1))
    return (gain * (channel + white[0] + 1j * white[1]) * np.exp(1j * turn)).astype(np.complex64)


def test_sanitising_takes_phase_slope_and_gain_off():
    clean = sanitised(frames_with(noise=0))
    np.testing.assert_allclose(clean, np.broadcast_to(clean[:1], clean.shape), atol=2e-3)
    np.testing.assert_allclose(np.mean(np.abs(clean) ** 2, axis=(1, 2)), 1, atol=1e-5)
    noisy = sanitised(frames_with(noise=0.01))
    assert 10 * np.log10(np.mean(np.abs(noisy - noisy.mean(0)) ** 2)) == pytest.approx(-20, abs=0.5)


def test_residuals_are_the_noise_and_of_unit_power(tmp_path):
    frames = frames_with(noise=1e-3)
    frames[:, :, 40:] *= np.where(np.random.default_rng(1).random((200, 1, 16)) < 0.5, 1.1, 0.9)
    np.savez(tmp_path / "wifi.npz", walk=frames.transpose(0, 2, 1), walk_t_s=np.arange(200) * 1e-3)
    noise = residual_noise(tmp_path / "wifi.npz")
    assert noise.shape == (192, 2, 56)
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(1, abs=1e-5)
    assert np.mean(np.abs(noise[..., 40:]) ** 2) > 5 * np.mean(np.abs(noise[..., :40]) ** 2)


def test_guard_tones_empty_frames_and_the_shorter_recording_are_left_out(tmp_path):
    frames = frames_with(noise=0.01).transpose(0, 2, 1).copy()
    frames[:, :3], frames[:, 55] = 0, 1e6
    frames[100] = 0
    times = np.concatenate([np.arange(50), np.arange(150)]) * 1e-3
    np.savez(tmp_path / "wifi.npz", walk=frames, walk_t_s=times)
    item = load_measured(tmp_path / "wifi.npz")
    assert item.h.shape == (1, 149, 2, 52)
    assert np.isfinite(item.h).all()


def test_captures_are_chosen_by_name_and_too_few_or_equal_frames_refused(tmp_path):
    frames = frames_with(noise=0.01).transpose(0, 2, 1)
    still = np.ones((50, 56), np.complex64)
    np.savez(tmp_path / "wifi.npz", long=frames, short=frames[:5], still=still, still_t_us=np.arange(50))
    assert captures(tmp_path / "wifi.npz") == ("long", "still", "short")
    assert load_measured(tmp_path / "wifi.npz", capture="still").times_s[-1] == pytest.approx(49e-6)
    with pytest.raises(UsageError, match="did you mean 'short'"):
        load_measured(tmp_path / "wifi.npz", capture="shor")
    with pytest.raises(InputError, match="at least 9"):
        residual_noise(tmp_path / "wifi.npz", capture="short")
    with pytest.raises(InputError, match="no noise"):
        residual_noise(tmp_path / "wifi.npz", capture="still")


# Frames and tones that are left, and the least correlation of following frames that sanitising must reach.
GENUINE = {
    "los_5_iwl5300": (879, 3, 30, 0.99),
    "los_100_iwl5300": (1290, 3, 30, 0.98),
    "ax200_a": (885, 2, 52, 0.97),
    "ax200_b": (1348, 2, 52, 0.97),
    "ax210_80": (28, 2, 996, 0.99),
    "nexmon_43455c0": (566, 1, 106, 0.5),
}


@pytest.mark.parametrize("name", GENUINE)
def test_genuine_captures_are_alike_from_frame_to_frame_once_sanitised(name):
    folder = os.environ.get("SPIKEPORT_DATA")
    if not folder:
        pytest.skip("SPIKEPORT_DATA names no folder of evaluation data (measured Wi-Fi captures)")
    file = Path(folder) / "measured" / "measured_wifi_csi.npz"
    *shape, alike = GENUINE[name]
    before, after = (load_measured(file, capture=name, sanitise=flag).h[0] for flag in (False, True))
    assert list(after.shape) == shape
    assert _correlation(after) > alike > _correlation(before)
    noise = residual_noise(file, capture=name)
    assert noise.shape == (shape[0] - 8, *shape[1:])
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(1, abs=1e-3)


def _correlation(frames):
    products = np.sum(frames[1:] * frames[:-1].conj(), axis=(1, 2)).real
    powers = np.sum(np.abs(frames) ** 2, axis=(1, 2))
    return np.median(products / np.sqrt(powers[1:] * powers[:-1]))
