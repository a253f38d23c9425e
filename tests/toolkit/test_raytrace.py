"""The generator reproduces what is stored, agrees with Sionna's own channels, and says what it lacks."""

import os
import subprocess
import sys
from importlib.util import find_spec
from xml.etree import ElementTree

import numpy as np
import pytest

from spikeport_errors import MissingDependencyError, UsageError
from spikeport_toolkit.data.raytrace import generate, llvm, trace
from spikeport_toolkit.data.raytrace.procedural import PLANS, procedural_city
from spikeport_toolkit.data.schema import PATH_FIELDS
from spikeport_toolkit.data.store import load_embedded, load_paths
from spikeport_toolkit.data.synthesis import channels


def _lacking() -> str:
    if find_spec("sionna") is None:
        return "sionna-rt is not installed: pip install 'spikeport[rt]'"
    try:
        llvm.find_llvm()
    except MissingDependencyError as error:
        return str(error)
    return ""


needs_ray_tracing = pytest.mark.skipif(bool(_lacking()), reason=_lacking() or "ray tracing is available")


@pytest.mark.llvm
@needs_ray_tracing
def test_a_city_traced_again_gives_its_stored_paths(tmp_path):
    users = 20
    file = generate(["munich"], tmp_path, users=users)
    stored = [s for s in load_embedded() if s.city == "munich"]
    again = load_paths(file)
    assert len(again) == len(stored) == 4
    for new, old in zip(again, stored, strict=True):
        first, width = old.select(np.arange(new.links)), new.a.shape[1]
        assert 0 < new.links <= users
        np.testing.assert_allclose(new.bs, first.bs)
        np.testing.assert_array_equal(new.ue, first.ue)
        np.testing.assert_array_equal(new.los, first.los)
        np.testing.assert_allclose(new.gain_db, first.gain_db, atol=1.0)
        # The same CPU gives the same bits; on another, rounding may decide whether a faint path is found.
        same = new.n_paths == first.n_paths
        for field in PATH_FIELDS:
            value, stored_value = getattr(new, field), getattr(first, field)[:, :width]
            same &= np.isclose(value, stored_value, rtol=1e-3, atol=1e-5 * np.abs(stored_value).max()).all(1)
        assert same.mean() >= 0.9


@pytest.mark.llvm
@needs_ray_tracing
def test_synthesis_equals_sionnas_own_channel_with_motion_and_arrays(monkeypatch):
    limits = {"_WEAKEST_PATH_DB": -300, "_WEAKEST_LINK_DB": -300, "MAX_PATHS": 10_000, "_MOST_COMPARED": 0}
    for limit, value in limits.items():
        monkeypatch.setattr(trace, limit, value)
    rt, mi = llvm.import_sionna_rt()
    scene, rng = trace.load_city("munich"), np.random.default_rng(5)
    bs = trace.place_stations(scene, 1, rng)[0]
    users = trace.place_users(scene, bs, trace.GROUP, rng)
    paths = trace.trace_paths(scene, "munich", 0, bs, users, 3.5e9, seed=1)
    velocity = np.column_stack([rng.uniform(-5, 5, (trace.GROUP, 2)), np.zeros(trace.GROUP)])
    for receiver, moving in zip(scene.receivers.values(), velocity.tolist(), strict=True):
        receiver.velocity = mi.Vector3f(*moving)
    scene.tx_array = scene.rx_array = rt.PlanarArray(
        num_rows=1, num_cols=2, horizontal_spacing=0.5, pattern="iso", polarization="V"
    )
    reference = rt.PathSolver(deterministic=True)(scene, seed=1, **trace.SOLVER).cfr(
        frequencies=rt.subcarrier_frequencies(48, 30e3), sampling_frequency=28e3, num_time_steps=14,
        normalize_delays=False, out_type="numpy",
    )  # fmt: skip
    frequencies = np.asarray(rt.subcarrier_frequencies(48, 30e3), dtype=np.float64)
    ours = channels(paths, np.arange(trace.GROUP), np.arange(14) / 28e3, frequencies, velocity)
    theirs = np.moveaxis(reference[:, :, 0], (1, 2, 3, 4), (2, 3, 1, 4)).reshape(ours.shape)
    assert (paths.n_paths > 0).sum() > 30
    error_db = 10 * np.log10((np.abs(ours - theirs) ** 2).sum() / (np.abs(theirs) ** 2).sum())
    assert error_db < -70


@pytest.mark.llvm
@needs_ray_tracing
def test_a_finished_city_is_not_traced_again(tmp_path, monkeypatch):
    first = generate(["proc1"], tmp_path, users=5, stations=1, carriers=(3.5e9,)).read_bytes()
    monkeypatch.setattr(trace, "load_city", lambda city: pytest.fail(f"{city} was traced again"))
    assert generate(["proc1"], tmp_path, users=5, stations=1, carriers=(3.5e9,)).read_bytes() == first


def test_without_llvm_the_error_is_one_clear_line_and_no_abort():
    code = "from spikeport_toolkit.data.raytrace import generate; generate(['munich'])"
    environment = os.environ | {"DRJIT_LIBLLVM_PATH": "/nonexistent.so", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert "MissingDependencyError: DRJIT_LIBLLVM_PATH is /nonexistent.so" in last
    assert "libllvm19" in last


@pytest.mark.parametrize("name", ["libLLVM-15.so.1", "libLLVM.so.16.0", "libLLVM-14.so"])
def test_an_llvm_that_would_abort_is_refused_by_version(tmp_path, monkeypatch, name):
    (tmp_path / name).touch()
    monkeypatch.setenv("DRJIT_LIBLLVM_PATH", str(tmp_path / name))
    with pytest.raises(MissingDependencyError, match=r"LLVM 1[456], and ray tracing needs LLVM 17 or newer"):
        llvm.find_llvm()


def test_an_old_llvm_alone_is_refused_and_the_newest_is_chosen(tmp_path, monkeypatch):
    monkeypatch.delenv("DRJIT_LIBLLVM_PATH", raising=False)
    old, new = tmp_path / "libLLVM-15.so.1", tmp_path / "libLLVM.so.19.1"
    monkeypatch.setattr(llvm, "_candidates", lambda: {old})
    with pytest.raises(MissingDependencyError, match=r"found only 15.*libllvm19"):
        llvm.find_llvm()
    monkeypatch.setattr(llvm, "_candidates", lambda: {old, new})
    assert llvm.find_llvm() == new


@pytest.mark.parametrize("index", range(6))
def test_a_procedural_city_is_the_same_every_time_and_legal_at_28_ghz(index):
    scene = procedural_city(index)
    assert scene == procedural_city(index) != procedural_city(index + len(PLANS))
    root = ElementTree.fromstring(scene)
    kinds = {m.find("string").get("value") for m in root.iter("bsdf")}
    assert kinds <= {"concrete", "brick", "marble", "glass", "metal"}
    assert len(root.findall("shape[@type='cube']")) > 80


def test_an_unknown_city_suggests_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'munich'"):
        generate(["munch"], tmp_path)


@pytest.mark.parametrize("change", [{"users": 0}, {"stations": 0}, {"carriers": ()}, {"carriers": (90e9,)}])
def test_an_impossible_request_writes_nothing(tmp_path, change):
    with pytest.raises(UsageError, match="at least one"):
        generate(["munich"], tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()
