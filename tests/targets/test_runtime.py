"""Runtimes: found by name, honest about what is missing, and one InputError for any damaged file."""

from importlib.metadata import PackageNotFoundError

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from spikeport.testing import CASES, golden_island
from spikeport_errors import InputError, MissingDependencyError, UsageError
from spikeport_targets import runtime as registry
from spikeport_targets.runtime import Availability, Outputs, get_runtime, runtimes

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def graph(tmp_path):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "z")]
    nodes = [helper.make_node("Add", ["x", "x"], ["y"], "add"), helper.make_node("Neg", ["y"], ["z"], "neg")]
    model = helper.make_graph(nodes, "g", values[:1], values[1:])
    onnx.save(helper.make_model(model, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "g.onnx")
    return tmp_path / "g.onnx"


def test_an_unknown_runtime_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'snntorch'"):
        get_runtime("snntroch")


def test_taps_give_intermediate_tensors_and_leave_the_file_alone(graph):
    before = graph.read_bytes()
    got = get_runtime("onnxruntime").run(graph, {"x": X}, taps=("y",))
    assert np.array_equal(got["y"], 2 * X)
    assert np.array_equal(got["z"], -2 * X)
    assert graph.read_bytes() == before
    with pytest.raises(InputError, match="no tensor 'absent'"):
        get_runtime("onnxruntime").run(graph, {"x": X}, taps=("absent",))


def test_a_nan_never_reaches_onnxruntime(graph):
    with pytest.raises(InputError, match="not finite"):
        get_runtime("onnxruntime").run(graph, {"x": X * np.float32("nan")})


def test_flipped_bytes_run_or_are_one_input_error(tmp_path):
    want = golden_island(CASES["hard reset"], "norse", tmp_path / "a.nir")
    data, rng = bytearray((tmp_path / "a.nir").read_bytes()), np.random.default_rng(0)
    busy = np.flatnonzero(data)
    shapes, refusals = [], []
    for position in rng.choice(busy, 60):
        hostile = bytearray(data)
        hostile[position] ^= 1 << int(rng.integers(8))
        (tmp_path / "b.nir").write_bytes(hostile)
        try:
            shapes.append(get_runtime("reference").run(tmp_path / "b.nir", {"input": want.input})["spikes"].shape)
        except InputError as error:
            refusals.append(str(error))
    assert len(refusals) > 20
    assert all("b.nir" in refusal and "\n" not in refusal for refusal in refusals)
    assert {shape[1:] for shape in shapes} == {want.spikes.shape[1:]}


@pytest.mark.parametrize("name", ["snntorch", "norse"])
def test_a_missing_simulator_names_the_extra(name, monkeypatch, tmp_path):
    def absent(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(registry, "version", absent)
    assert not get_runtime(name).available()
    with pytest.raises(MissingDependencyError, match=r"extra \[sim\]"):
        get_runtime(name).run(tmp_path / "a.nir", {})


class _Third:
    name, route = "third", "nir"

    def available(self):
        return Availability(False, "no chip is connected", "connect one")

    def run(self, artefact, inputs):
        return Outputs({})


def test_another_package_brings_a_runtime_by_entry_point(monkeypatch):
    point = type("Point", (), {"name": "third", "value": "third:Third", "load": lambda self: _Third})()
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    assert get_runtime("third").available().summary() == "no chip is connected; connect one"
    assert set(runtimes()) == {*registry._SHIPPED, "third"}
