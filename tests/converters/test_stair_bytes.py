"""A staircase in bytes counts as SpikingJelly does, to the last float of the current that the quantisers read."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from own_modules import eighths
from spikingjelly.activation_based import neuron, surrogate
from torch import nn

from spikeport_converters.divergence import divergence
from spikeport_converters.export import export
from spikeport_converters.fold import node_staircase
from spikeport_converters.jetson import dense_graph
from spikeport_converters.onnx_legal import onnx_faults
from spikeport_converters.precision import gates_of
from spikeport_converters.spiking_taps import spiking_taps
from spikeport_converters.stair_bytes import byte_form, form_holds
from spikeport_targets.card import load_card
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime

BIAS = 0.125
NODES = {
    "lif": (lambda: neuron.LIFNode(step_mode="m"), 4, 1),
    "half-threshold lif": (lambda: neuron.LIFNode(v_threshold=0.5, step_mode="m"), 4, 1),
    "lif of two steps": (lambda: neuron.LIFNode(tau=3.0, step_mode="m"), 2, 1),
    "ilif": (lambda: neuron.ILIFNode(
        tau=4 / 3, v_threshold=0.5, surrogate_function=surrogate.MultiLevelSpikeCount(4), step_mode="m"), 1, 4),
}  # fmt: skip


def stairs_of(name):
    make, steps, levels = NODES[name]
    return node_staircase(make(), steps, levels)


def beside(values, reach):
    """Every float32 within `reach` floats of `values`, and some far away."""
    bits = np.array(values, np.float32).view(np.int32)[:, None] + np.arange(-reach, reach + 1, dtype=np.int32)
    far = np.array([-1e30, -300.0, -1.0, -0.0, 0.0, 0.3, 0.9, 1.7, 300.0, 1e30], np.float32)
    return np.concatenate((bits.view(np.float32).ravel(), far))


@pytest.mark.parametrize("name", NODES)
def test_every_float_of_the_shifted_current_counts_as_the_neuron_does(name):
    stairs = stairs_of(name)
    form = byte_form(stairs)
    assert form_holds(form, stairs, beside([t + form.shift for t in stairs.thresholds], 2000))
    anywhere = np.random.default_rng(0).uniform(-9, 9, 20_000).astype(np.float32)
    assert form_holds(form, stairs, anywhere)


def test_an_ilif_needs_no_shift_and_the_default_lif_two_quantisers():
    ilif, lif = byte_form(stairs_of("ilif")), byte_form(stairs_of("lif"))
    assert (ilif.shift, ilif.slack, len(ilif.quantisers)) == (0.0, 0, 1)
    assert (len(lif.quantisers), lif.slack) == (2, 1)
    assert lif.shift == pytest.approx(1 / 3, abs=1e-6)


def test_a_staircase_that_two_quantisers_cannot_make_has_no_such_form():
    assert byte_form(node_staircase(neuron.LIFNode(step_mode="m"), 8)) is None


class Net(nn.Module):
    """W1 = 1, so that the current is the input and a bias."""

    def __init__(self, fire, steps, bias=True):
        super().__init__()
        self.steps_, self.fc1, self.fire, self.fc2 = steps, nn.Linear(8, 8, bias=bias), fire, nn.Linear(8, 4)
        self.fc1.weight.data = torch.eye(8)
        if bias:
            self.fc1.bias.data = torch.full((8,), BIAS)
        self.fc2.weight.data, self.fc2.bias.data = eighths(4, 8), eighths(4)

    def forward(self, x):
        current = self.fc1(x)
        return self.fc2(self.fire(current.expand(self.steps_, *current.shape)).mean(0))


def graph_of(name, precision, bias=True):
    make, steps, _ = NODES[name]
    model, stairs = Net(make(), steps, bias).eval(), stairs_of(name)
    currents = beside([t - BIAS for t in stairs.thresholds], 200)
    currents = np.clip(np.resize(currents, (len(currents) // 8 + 1, 8)), -40, 40).astype(np.float32)
    return model, stairs, currents, dense_graph(model, currents, precision, processor=True)[1]


@pytest.mark.parametrize(("name", "precision"), [*((name, "int8") for name in NODES), ("ilif", "fp32")])
def test_onnxruntime_counts_in_bytes_what_the_current_says(name, precision, tmp_path):
    model, stairs, currents, graph = graph_of(name, precision)
    (tap,) = spiking_taps(graph.graph, {"fire": stairs})
    onnx.save(graph, tmp_path / "model.onnx")
    got = OnnxRuntime().run(tmp_path / "model.onnx", {"patches": currents}, taps=[tap.count, tap.current]).values
    current = got[tap.current].astype(np.float64) - tap.shift
    reach = 4 * np.spacing(np.float32(np.abs(current) + 1)).astype(np.float64)
    low, high = (stairs.counts((current + side * reach).astype(np.float32)) for side in (-1, 1))
    assert np.all((low <= got[tap.count]) & (got[tap.count] <= high))
    assert np.mean(got[tap.count] != stairs.counts(current.astype(np.float32))) < 0.05
    assert tap.shift == byte_form(stairs).shift
    if precision == "fp32":
        with torch.no_grad():
            wanted = model.fc2(torch.from_numpy(got[tap.count].astype(np.float32)) / stairs.steps)
        np.testing.assert_allclose(got["prediction"], wanted.numpy(), rtol=1e-6, atol=1e-6)
    kinds = [node.op_type for node in graph.graph.node if node.name.startswith("fire/")]
    assert not {"HardSigmoid", "GreaterOrEqual", "Div", "Round"} & set(kinds)


def test_without_a_bias_in_front_there_are_hard_sigmoids_and_with_bytes_no_tensorrt():
    assert any("uint8" in fault.lower() for fault in onnx_faults(graph_of("lif", "int8")[3]))
    kinds = [node.op_type for node in graph_of("lif", "int8", bias=False)[3].graph.node]
    assert "HardSigmoid" in kinds


def test_in_float32_no_step_moves_so_that_a_shifted_form_is_not_taken():
    _, stairs, _, graph = graph_of("lif", "fp32")
    (tap,) = spiking_taps(graph.graph, {"fire": stairs})
    assert tap.shift == 0
    assert "HardSigmoid" in [node.op_type for node in graph.graph.node]


def test_a_shifted_bias_is_no_divergence():
    model, _, currents, graph = graph_of("lif", "int8")
    found = divergence(model, graph, currents, gates_of("int8"))
    (row,) = (row for row in found.rows if row.path == "fc1")
    assert not row.wrong, found.summary()
    assert row.accumulated < -45  # the shift left in would be near -30


def test_an_export_for_the_cpu_is_in_bytes_and_climbs_its_ladder(tmp_path):
    make, steps, _ = NODES["lif"]
    torch.manual_seed(0)
    model = Net(make(), steps).eval()
    model.example_input = torch.randn(16, 8)
    bundle = export(model, load_card("cpu-onnxruntime"), "int8", tmp_path / "b", model.example_input.numpy())
    assert bundle.ok, bundle.summary()
    (table,) = (rung for rung in bundle.manifest["ladder"] if rung["name"] == "operator table")
    assert "onnxruntime" in table["detail"]
    (layer,) = bundle.manifest["dense"]["layers"]
    assert layer["shift"] == byte_form(stairs_of("lif")).shift
