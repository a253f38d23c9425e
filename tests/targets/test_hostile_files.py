"""Truncated, hostile and random files: no crash, no hang, nothing opened outside the folder, one clear error."""

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeport.cli.app import run
from spikeport_converters.conformance_features import FEATURES
from spikeport_converters.manifest import manifest_bytes, read_manifest
from spikeport_converters.nir_profiles import PROFILES, write_island
from spikeport_converters.spiking_graph import nir_from_graph
from spikeport_errors import InputError
from spikeport_targets.runtime import get_runtime
from spikeport_targets.runtimes import nir_runner
from spikeport_targets.runtimes.nir_file import read_graph

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
CASES, MANIFESTS = 10_000, 100

recorders: list[list[str]] = []


def _audit(event, args):
    if recorders and event == "open" and isinstance(args[0], str | Path):
        recorders[-1].append(str(args[0]))


@pytest.fixture
def opened():
    """Every path that Python opens during the test."""
    recorders.append([])
    yield recorders[-1]
    recorders.pop()


sys.addaudithook(_audit)


def _benchmark(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fuzz = _benchmark("fuzz_nir")


@pytest.fixture
def fuzzer(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "secret.nir").write_bytes(b"\x89HDF\r\n\x1a\n")
    return fuzz.Fuzzer(tmp_path / "work")


def outside(opened):
    """Those of the `opened` files that only a hostile path leads to."""
    return [name for name in opened if "secret" in name or name == "/etc/passwd" or ".." in Path(name).parts]


def test_ten_thousand_hostile_files_run_or_are_one_clear_error(fuzzer, opened):
    fuzzer.all(CASES)
    assert sum(fuzzer.counts.values()) >= CASES
    refused = sum(count for (_, outcome), count in fuzzer.counts.items() if outcome == "refused")
    assert refused > CASES // 2, "most damage is noticed"
    assert outside(opened) == []


@pytest.mark.parametrize("name", fuzz.DAMAGES)
def test_a_structure_that_nir_never_writes_is_refused(name, fuzzer, opened):
    tree = {**fuzzer.tree, "edges": np.array(fuzzer.tree["edges"], dtype=object)}
    fuzz.write_tree(fuzzer.island, tree)
    nir_runner.read_island(fuzzer.island)
    fuzz.write_tree(fuzzer.island, tree, fuzz.DAMAGES[name])
    opened.clear()
    with pytest.raises(nir_runner.IslandError, match="not a readable island"):
        nir_runner.read_island(fuzzer.island)
    assert opened == [str(fuzzer.island)]


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=2048), head=st.booleans())
def test_any_bytes_are_one_value_error(data, head, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.nir"
    path.write_bytes((b"\x89HDF\r\n\x1a\n" if head else b"") + data)
    with pytest.raises(ValueError, match=r".") as error:
        read_graph(path)
    assert "\n" not in str(error.value)


def test_every_prefix_of_a_file_is_refused(fuzzer):
    data = fuzzer.sound[0]
    for length in range(0, len(data), 97):
        fuzzer.island.write_bytes(data[:length])
        with pytest.raises(InputError, match="may be truncated"):
            fuzzer.run()


def test_an_npz_that_unfolds_a_thousandfold_is_refused(tmp_path):
    fuzz.zip_bomb(tmp_path / "bomb.npz", 5 << 24)
    with pytest.raises(nir_runner.IslandError, match="not a readable npz"):
        nir_runner.read_arrays(tmp_path / "bomb.npz", ("input",))


def test_a_thousand_nodes_in_the_worst_order_do_not_hang(fuzzer):
    names = [f"n{999 - i:03}" for i in range(900)]
    nodes = {name: {"type": "Linear", "weight": np.ones((1, 1), np.float32)} for name in names}
    tree = {
        "type": "NIRGraph",
        "nodes": {
            "input": {"type": "Input", "shape": np.array([1])},
            "output": {"type": "Output", "shape": np.array([1])},
            **nodes,
        },
        "edges": np.array(list(pairwise(["input", *names, "output"])), dtype=object),
    }
    fuzz.write_tree(fuzzer.island, tree)
    fuzzer.case("long", fuzzer.run)
    assert fuzzer.counts == {("long", "refused"): 1}, "it has no spiking node"


def same(first, second):
    if isinstance(first, dict):
        return set(first) == set(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second)
    return first == second and type(first) is type(second)


@pytest.mark.parametrize("profile", ["generic", "legacy"])
@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_sound_file_reads_as_nir_itself_reads_it(feature, profile, tmp_path):
    graph, _ = feature.build(1, 1)
    write_island(tmp_path / "a.nir", nir_from_graph(graph, PROFILES[profile]), PROFILES[profile])
    ours, theirs = read_graph(tmp_path / "a.nir"), nir.read(tmp_path / "a.nir")
    assert same(ours.to_dict(), theirs.to_dict())
    assert ours.edges == theirs.edges


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "bundle"
    (folder.parent / "secret.nir").write_bytes(b"\x89HDF\r\n\x1a\n")
    return fuzz.sound_bundle(folder)


def test_hostile_manifests_are_one_clear_error_and_lead_nowhere(bundle, fuzzer, opened):
    fuzzer.manifests(bundle, range(MANIFESTS))
    assert sum(fuzzer.counts.values()) == MANIFESTS
    assert outside(opened) == []


@pytest.mark.parametrize("name", fuzz.PATHS)
def test_check_answers_a_path_out_of_the_folder_with_one_line_and_code_2(name, bundle, capsys, opened):
    sound = read_manifest(bundle)
    hostile = read_manifest(bundle)
    hostile["hybrid"]["islands"][0]["file"] = name
    (bundle / "manifest.json").write_bytes(manifest_bytes(hostile))
    opened.clear()
    try:
        assert run(["check", str(bundle)]) == 2
    finally:
        (bundle / "manifest.json").write_bytes(manifest_bytes(sound))
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert outside(opened) == []


def test_check_names_the_changed_file_of_a_bundle_and_exits_1(bundle, capsys):
    path = next(bundle.glob("spiking/*.nir"))
    sound = path.read_bytes()
    try:
        path.write_bytes(fuzz.mutant(sound, np.random.default_rng(3)))
        assert run(["check", str(bundle)]) == 1
    finally:
        path.write_bytes(sound)
    assert capsys.readouterr().out == f"FAIL file   spiking/{path.name} (changed)\n"


def test_a_link_in_a_bundle_is_not_followed(bundle, capsys, opened):
    path = next(bundle.glob("spiking/*.nir"))
    sound = path.read_bytes()
    path.unlink()
    path.symlink_to("../../secret.nir")
    opened.clear()
    try:
        assert run(["check", str(bundle)]) == 1
    finally:
        path.unlink()
        path.write_bytes(sound)
    assert "(a link)" in capsys.readouterr().out
    assert outside(opened) == []


def test_every_simulator_refuses_the_same_damage(fuzzer):
    fuzzer.island.write_bytes(fuzzer.sound[0][:-9])
    for name in ("snntorch", "norse", "sinabs", "spikingjelly"):
        if get_runtime(name).available():
            with pytest.raises(InputError, match="may be truncated"):
                get_runtime(name).run(fuzzer.island, {"input": fuzzer.input})
