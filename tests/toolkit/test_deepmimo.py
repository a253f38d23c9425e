"""Genuine DeepMIMO scenarios become path sets whose channels are DeepMIMO's own; damaged folders are refused."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from spikeport_errors import InputError, MissingDependencyError, UsageError
from spikeport_targets.environments import python_of
from spikeport_toolkit.data.deepmimo import load_deepmimo
from spikeport_toolkit.data.deepmimo_download import download_deepmimo
from spikeport_toolkit.data.synthesis import SPEED_OF_LIGHT, channels

SUBCARRIERS = 32
FREQUENCIES = np.arange(SUBCARRIERS) * 30e3
TIMES = np.arange(14) / 28e3
MOST_ERROR_DB = -80

V3 = {
    "city_18_denver": "denver_28ghz",
    "city_15_indianapolis": "indianapolis_28ghz",
    "city_19_oklahoma": "oklahoma_28ghz",
}
COUNTS = {
    "deepmimo_v3/city_18_denver": (6970, {1: (1041, 379, 2.555), 2: (1580, 1175, 2.982), 3: (1354, 709, 2.225)}),
    "deepmimo_v3/city_15_indianapolis": (6320, {1: (3401, 1547, 3.573), 2: (3113, 1505, 3.423), 3: (3248, 1647, 4.27)}),
    "deepmimo_v3/city_19_oklahoma": (6150, {1: (3455, 2494, 5.487), 2: (2541, 1198, 4.373), 3: (3170, 1654, 5.285)}),
    "deepmimo_v4/chicago_wi": (4480, {1: (230, 214, 2.422), 2: (891, 776, 2.281), 3: (616, 581, 3.343)}),
}  # fmt: skip
"""Users of the grid; by station: users with a path, of these with line of sight, and their mean number of paths."""


@pytest.fixture
def genuine():
    folder = os.environ.get("SPIKEPORT_DATA")
    if not folder:
        pytest.skip("SPIKEPORT_DATA names no folder of evaluation data (genuine DeepMIMO scenarios)")
    return Path(folder)


@pytest.fixture
def deepmimo_python():
    python = python_of("deepmimo")
    if python is None:
        pytest.skip("DeepMIMO's packages are not installed: spikeport env make deepmimo")
    return python


@pytest.mark.parametrize("scenario", COUNTS)
def test_links_line_of_sight_and_paths_are_the_published_ones(genuine, scenario):
    users, stations = COUNTS[scenario]
    for paths in load_deepmimo(genuine / scenario):
        seen, los, mean_paths = stations[paths.station]
        assert paths.carrier_hz == 3.5e9
        assert (paths.links, (paths.n_paths > 0).sum(), (paths.los == 1).sum()) == (users, seen, los)
        assert paths.n_paths[paths.n_paths > 0].mean() == pytest.approx(mean_paths, abs=5e-4)


@pytest.mark.parametrize(("low", "high"), V3.items())
def test_the_same_row_is_the_same_user_at_28_ghz_and_18_db_weaker(genuine, low, high):
    for below, above in zip(*(load_deepmimo(genuine / "deepmimo_v3" / name) for name in (low, high)), strict=True):
        assert (below.station, above.carrier_hz) == (above.station, 28e9)
        np.testing.assert_array_equal(below.ue, above.ue)
        np.testing.assert_array_equal(below.n_paths, above.n_paths)
        np.testing.assert_array_equal(below.los, above.los)
        seen = below.n_paths > 0
        assert np.median(below.gain_db[seen] - above.gain_db[seen]) == pytest.approx(18, abs=0.5)


def test_denver_at_28_ghz_fills_63_of_64_beams_and_the_commonest_is_one_in_fifteen(genuine):
    (paths,) = load_deepmimo(genuine / "deepmimo_v3/denver_28ghz", stations=[3])
    users = np.flatnonzero(paths.n_paths > 0)
    H = channels(_turned(paths), users, np.zeros(1), FREQUENCIES, np.zeros((len(users), 3)), rx=1, tx=32)[:, 0]
    beams = np.exp(1j * np.pi * np.arange(32)[:, None] * np.sin(np.deg2rad(np.linspace(-90, 90, 64))))
    beams[:, 63] = beams[:, 0]  # -90 and 90 degrees are one vector at half a wavelength
    counts = np.bincount(np.abs(np.einsum("uak,ab->ubk", H, beams).mean(-1)).argmax(1), minlength=64)
    assert (counts > 0).sum() == 63
    assert counts.sum() == 1354
    assert counts.max() == pytest.approx(90, abs=1)  # 6.6 %; one user's two best beams differ by 6e-6


def test_the_channels_lwms_published_code_makes_of_denver_are_ours(genuine):
    golden = np.load(genuine / "lwm/golden.npz")
    (paths,) = load_deepmimo(genuine / "deepmimo_v3/city_18_denver", stations=[3], max_paths=20)
    ours = _ours(_turned(paths), golden["user_index"], np.zeros(1), rx=1, tx=32)[:, 0]
    assert _error_db(ours, golden["channels"]) < MOST_ERROR_DB


@pytest.mark.parametrize("scenario", COUNTS)
def test_line_of_sight_arrives_from_the_station_after_its_distance(genuine, scenario):
    """So a user that walks towards the station sees a positive Doppler shift."""
    for paths in load_deepmimo(genuine / scenario):
        users = np.flatnonzero(paths.los == 1)
        theta, phi = paths.theta_r[users, 0], paths.phi_r[users, 0]
        direction = np.stack((np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)), -1)
        to_station = paths.bs - paths.ue[users]
        distance = np.linalg.norm(to_station, axis=1, keepdims=True)
        np.testing.assert_allclose(direction, to_station / distance, atol=3e-5)
        np.testing.assert_allclose(paths.tau[users, :1] * SPEED_OF_LIGHT, distance, atol=0.07)


def test_v3_channels_are_deepmimos_formula_on_the_raw_file(genuine):
    folder = genuine / "deepmimo_v3/city_18_denver"
    (paths,) = load_deepmimo(folder, stations=[3])
    cells = loadmat(next(folder.glob("BS3_UE_*.mat")))["channels"][0]
    users = np.flatnonzero(paths.n_paths > 0)
    reference = np.stack([_v3_formula(cells[user]["p"][0, 0].astype(np.float64)) for user in users])
    assert _error_db(_ours(paths, users, np.zeros(1))[:, 0], reference) < MOST_ERROR_DB


@pytest.mark.parametrize("station", [1, 2, 3])
def test_v3_channels_are_deepmimo_v3s_own(genuine, deepmimo_python, tmp_path, station):
    folder = genuine / "deepmimo_v3/city_18_denver"
    theirs = _reference(deepmimo_python, "3", folder, station, tmp_path)
    (paths,) = load_deepmimo(folder, stations=[station])
    np.testing.assert_array_equal(paths.los, theirs["los"])
    users = np.flatnonzero(paths.n_paths > 0)
    reference = theirs["channel"].reshape(len(users), 4, SUBCARRIERS)
    assert _error_db(_ours(paths, users, np.zeros(1))[:, 0], reference) < MOST_ERROR_DB


@pytest.mark.parametrize("station", [1, 2, 3])
def test_v4_channels_are_deepmimo_v4s_own_still_and_moving(genuine, deepmimo_python, tmp_path, station):
    folder = genuine / "deepmimo_v4/chicago_wi"
    theirs = _reference(deepmimo_python, "4", folder, station, tmp_path)
    (paths,) = load_deepmimo(folder, stations=[station])
    np.testing.assert_array_equal(paths.los, theirs["los"])
    users, shape = np.flatnonzero(paths.n_paths > 0), (4, SUBCARRIERS)
    still = theirs["channel"].reshape(len(users), *shape)
    assert _error_db(_ours(paths, users, np.zeros(1))[:, 0], still) < MOST_ERROR_DB
    moving = np.moveaxis(theirs["moving"], -1, 1).reshape(len(users), len(TIMES), *shape)
    assert _error_db(_ours(paths, users, TIMES, theirs["velocity"]), moving) < MOST_ERROR_DB
    assert _error_db(_ours(paths, users, TIMES, -theirs["velocity"]), moving) > -40


def test_the_strongest_paths_are_kept(genuine):
    folder = genuine / "deepmimo_v3/city_18_denver"
    (few,), (all_paths,) = (load_deepmimo(folder, stations=[2], max_paths=m, city="denver") for m in (3, 25))
    assert few.a.shape[1] == few.n_paths.max() == 3
    assert (np.diff(np.abs(few.a), axis=1) <= 0).all()
    np.testing.assert_array_equal(few.a, all_paths.a[:, :3])
    np.testing.assert_array_equal(few.los, all_paths.los)
    assert few.city == "denver"


def test_a_v4_folder_made_from_sionna_has_no_carrier_term_to_take_off(tmp_path):
    insite, sionna = (
        load_deepmimo(_v4(tmp_path / name, raytracer=name))[0]
        for name in ("Remcom Wireless Insite", "Sionna Ray Tracing")
    )
    turns = np.exp(2j * np.pi * np.mod(3.5e9 * sionna.tau.astype(np.float64), 1))
    np.testing.assert_allclose(insite.a, sionna.a * turns, atol=1e-9)
    np.testing.assert_allclose(np.angle(sionna.a[0, 0]), np.deg2rad(30), atol=1e-6)


def test_a_made_v3_folder_reads_over_two_files_in_user_order(tmp_path):
    folder = _v3(tmp_path / "made", [[0, 2], [1]])
    (paths,) = load_deepmimo(folder)
    np.testing.assert_array_equal(paths.n_paths, [0, 2, 1])
    np.testing.assert_array_equal(paths.los, [-1, 1, 1])
    np.testing.assert_allclose(paths.gain_db[1:], 10 * np.log10([1e-8 + 1e-9, 1e-8]), atol=1e-4)


BROKEN = {
    "truncated file": (lambda f: _cut(f / "BS1_UE_0-2.mat"), "truncated or corrupt"),
    "empty file": (lambda f: (f / "BS1_UE_0-2.mat").write_bytes(b""), "no npz, MATLAB or HDF5 file"),
    "a part is missing": (lambda f: (f / "BS1_UE_0-2.mat").unlink(), "starts at user 2"),
    "other contents": (lambda f: savemat(f / "BS1_UE_0-2.mat", {"x": 1}), "no DeepMIMO user file"),
    "no carrier": (lambda f: savemat(f / "params.mat", {"version": 2}), "carrier_freq"),
    "no stations": (lambda f: [p.unlink() for p in f.glob("BS*")], "no base station"),
    "no params": (lambda f: (f / "params.mat").unlink(), "neither params.json"),
    "no folder": (lambda f: shutil.rmtree(f), "is no folder"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_damaged_v3_folder_is_refused(tmp_path, case):
    folder = _v3(tmp_path / "made", [[0, 2], [1]])
    damage, message = BROKEN[case]
    damage(folder)
    with pytest.raises(InputError, match=message):
        load_deepmimo(folder)


@pytest.mark.parametrize(
    ("options", "message"), [({"stations": [7]}, "no station 7; it has 1"), ({"max_paths": 0}, "max_paths is 0")]
)
def test_wrong_options_are_refused(tmp_path, options, message):
    folder = _v3(tmp_path / "made", [[1]])
    with pytest.raises(InputError, match=message):
        load_deepmimo(folder, **options)


def test_flipped_bytes_are_refused_or_read_and_never_end_the_process(tmp_path):
    folder = _v3(tmp_path / "made", [[0, 2], [1]])
    file, rng = folder / "BS1_UE_0-2.mat", np.random.default_rng(5)
    whole = file.read_bytes()
    read, refusals = 0, []
    for _ in range(200):
        bytes_ = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            bytes_[place] = rng.integers(256)
        file.write_bytes(bytes_)
        try:
            sets = load_deepmimo(folder)
        except InputError as error:
            refusals.append(str(error))
        else:
            read += 1
            assert all(item.validate().links for item in sets)
    assert len(refusals) > 20
    assert not any("\n" in refusal for refusal in refusals)
    assert read > 0


def test_nan_empty_and_dynamic_scenarios_are_refused(tmp_path):
    with pytest.raises(InputError, match="NaN"):
        load_deepmimo(_v3(tmp_path / "nan", [[1]], power=np.nan))
    with pytest.raises(InputError, match="no user of station 1 is reached"):
        load_deepmimo(_v3(tmp_path / "dark", [[0, 0]]))
    with pytest.raises(InputError, match="dynamic"):
        load_deepmimo(_v4(tmp_path / "moving", scenes=3))
    (tmp_path / "scenes" / "scene_0").mkdir(parents=True)
    with pytest.raises(InputError, match="dynamic"):
        load_deepmimo(tmp_path / "scenes")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "params.json").write_text("{"), "not readable JSON"),
        (lambda f: (f / "params.json").write_text("{}"), "no DeepMIMO v4 scenario"),
        (lambda f: (f / "phase_t001_tx000_r000.npz").unlink(), "is not a file"),
        (lambda f: _cut(f / "phase_t001_tx000_r000.npz"), "truncated or corrupt"),
        (lambda f: np.savez(f / "phase_t001_tx000_r000.npz", other=1), "holds no 'phase' but other"),
        (lambda f: np.savez(f / "phase_t001_tx000_r000.npz", phase=np.zeros((9, 2))), "shape"),
        (lambda f: np.savez(f / "phase_t001_tx000_r000.npz", phase=np.full((3, 2), np.nan)), "phase_deg is NaN"),
        (lambda f: np.savez(f / "rx_pos_t001_tx000_r000.npz", rx_pos=np.zeros((2, 3))), "positions of shape"),
    ],
)
def test_a_damaged_v4_folder_is_refused(tmp_path, damage, message):
    folder = _v4(tmp_path / "made")
    damage(folder)
    with pytest.raises(InputError, match=message):
        load_deepmimo(folder)


def test_a_scenario_that_is_there_is_not_fetched_again(tmp_path):
    folder = _v4(tmp_path / "made")
    assert download_deepmimo("made", tmp_path, python=Path("/nonexistent")) == folder


def test_names_that_are_none_and_a_missing_package_are_refused_before_the_network(tmp_path):
    with pytest.raises(UsageError, match="no DeepMIMO scenario"):
        download_deepmimo("../up", tmp_path)
    with pytest.raises(MissingDependencyError, match="spikeport env make deepmimo"):
        download_deepmimo("asu_campus_3p5", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_an_unreachable_network_is_one_clear_error_that_leaves_nothing(deepmimo_python, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"asu_campus_3p5 was not had \(Download failed.*check the name"):
        download_deepmimo("asu_campus_3p5", tmp_path, python=deepmimo_python)
    assert not list(tmp_path.iterdir())


def test_an_archive_at_hand_is_unpacked_and_loads(deepmimo_python, tmp_path):
    _v4(tmp_path / "source" / "made")
    shutil.make_archive(str(tmp_path / "made_downloaded"), "zip", tmp_path / "source", "made")
    folder = download_deepmimo("made", tmp_path, python=deepmimo_python)
    assert load_deepmimo(folder)[0].links == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made", "made_downloaded.zip", "source"]


def _ours(paths, users, times, velocity=None, rx=2, tx=2):
    """Channels in DeepMIMO's scale and with its array origin: 1/sqrt(K), phases counted from element 0."""
    turns = sum(
        (count - 1)
        / 4
        * np.sin(getattr(paths, f"theta_{end}").astype(np.float64))
        * np.sin(getattr(paths, f"phi_{end}"))
        for end, count in (("r", rx), ("t", tx))
    )
    moved = replace(paths, a=(paths.a * np.exp(2j * np.pi * turns)).astype(np.complex64))
    velocity = np.zeros((len(users), 3)) if velocity is None else velocity
    return channels(moved, users, times, FREQUENCIES, velocity, rx=rx, tx=tx) / np.sqrt(SUBCARRIERS)


def _turned(paths):
    """As LWM's data: the station's array looks to -135 degrees."""
    return replace(paths, phi_t=paths.phi_t.astype(np.float64) + np.deg2rad(135))


def _v3_formula(p):
    """[4, subcarriers]: sum_p sqrt(P/K) e^(j phase) e^(-j 2 pi k tau / (K Ts)) a_rx a_tx, elements 0 and 1 along y."""
    phase, tau, power, doa_phi, doa_theta, dod_phi, dod_theta = p[:7]
    gain = np.sqrt(10 ** (power / 10) / SUBCARRIERS) * np.exp(1j * np.deg2rad(phase))
    delays = np.exp(-2j * np.pi * FREQUENCIES * tau[:, None])
    rx, tx = (
        np.exp(1j * np.pi * np.arange(2) * (np.sin(np.deg2rad(t)) * np.sin(np.deg2rad(f)))[:, None])
        for t, f in ((doa_theta, doa_phi), (dod_theta, dod_phi))
    )
    return np.einsum("p,pr,pt,pk->rtk", gain, rx, tx, delays).reshape(4, -1)


def _error_db(ours, reference):
    return 10 * np.log10((np.abs(ours - reference) ** 2).sum() / (np.abs(reference) ** 2).sum())


def _reference(python, version, folder, station, tmp_path):
    script = Path(__file__).with_name("deepmimo_reference.py")
    subprocess.run(
        [python, "-I", script, version, folder, str(station), tmp_path / "out.npz"], check=True, capture_output=True
    )
    return np.load(tmp_path / "out.npz")


def _cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


def _v3(folder, parts, power=-80.0):
    """A v2/v3 folder of one station; `parts` gives each file's users as their numbers of paths."""
    folder.mkdir(parents=True)
    values = {"version": 2, "carrier_freq": 3.5e9, "transmit_power": 0.0, "num_BS": 1}
    savemat(folder / "params.mat", {k: np.array([[v]]) for k, v in values.items()})
    first = 0
    for counts in parts:
        cells = np.empty((1, len(counts)), object)
        for i, n in enumerate(counts):
            rows = (10.0, 1e-7, power - 10.0 * np.arange(n), 20.0, 90.0, -160.0, 90.0, 1.0)
            p = np.stack([np.broadcast_to(row, n) for row in rows]).astype(np.float32)
            cells[0, i] = np.array([[(p,)]], dtype=[("p", "O")])
        arrays = {"channels": cells, "rx_locs": np.zeros((len(counts), 5)), "tx_loc": np.zeros((1, 3))}
        savemat(folder / f"BS1_UE_{first}-{first + len(counts)}.mat", arrays)
        first += len(counts)
    return folder


def _v4(folder, raytracer="Remcom Wireless Insite", scenes=1):
    """A v4 folder of one station, three users and at most two paths."""
    folder.mkdir(parents=True)
    sets = {
        "txrx_set_0": {"id": 0, "id_orig": 4, "is_tx": False, "is_rx": True},
        "txrx_set_1": {"id": 1, "id_orig": 1, "is_tx": True, "is_rx": True},
    }
    rt = {"frequency": 3.5e9, "raytracer_name": raytracer}
    params = {"version": "4.0.5", "rt_params": rt, "txrx_sets": sets, "scene": {"num_scenes": scenes}}
    (folder / "params.json").write_text(json.dumps(params))
    mask = np.array([[True, True], [True, False], [False, False]])
    values = {"power": -80, "phase": 30, "delay": 1.234e-7, "aoa_az": 20, "aoa_el": 90, "aod_az": -160, "aod_el": 90}
    for field, value in (values | {"inter": 0}).items():
        np.savez(folder / f"{field}_t001_tx000_r000.npz", **{field: np.where(mask, value, np.nan).astype(np.float32)})
    np.savez(folder / "rx_pos_t001_tx000_r000.npz", rx_pos=np.zeros((3, 3), np.float32))
    np.savez(folder / "tx_pos_t001_tx000_r000.npz", tx_pos=np.zeros(3, np.float32))
    return folder
