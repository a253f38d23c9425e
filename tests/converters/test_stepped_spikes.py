"""Spikes of neurons whose steps stand in the graph are compared, and what a verdict leaves open is said."""

import json

import numpy as np
import onnx
import pytest
import torch
from own_modules import OneStep
from spikingjelly.activation_based import neuron
from torch import nn

from spikeport_converters.export import export
from spikeport_converters.manifest import manifest_bytes
from spikeport_converters.onnx_parity import onnx_parity
from spikeport_errors import InputError
from spikeport_targets.card import load_card

CPU = load_card("cpu-onnxruntime")


class Late(nn.Module):
    """A neuron on a drive that changes with time, beside a residual that is far larger than what it adds."""

    def __init__(self, steps):
        super().__init__()
        torch.manual_seed(0)
        self.up, self.fire, self.down = nn.Linear(8, 16), neuron.LIFNode(step_mode="m"), nn.Linear(16, 8)
        self.steps_, self.example_input = steps, torch.randn(4, 5, 8)

    def forward(self, x):
        late = 0.1 * torch.arange(self.steps_)[:, None, None, None]
        return 1e5 * x + self.down(self.fire(self.up(x) + late)).mean(0)


class Feedback(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.up, self.back, self.fire = nn.Linear(8, 8), nn.Linear(8, 8), neuron.LIFNode()
        self.example_input = 3 * torch.randn(4, 8)

    def forward(self, x):
        current, spikes, total = self.up(x), torch.zeros_like(x), 0
        for _ in range(5):
            spikes = self.fire(current + self.back(spikes))
            total = total + spikes
        return total / 5


def exported(model, folder):
    return export(model, CPU, "fp32", folder, model.example_input.numpy(), trained=True)


@pytest.mark.parametrize(("model", "steps"), [(Late(20), 20), (Late(4), 4), (Feedback(), 5)])
def test_spikes_of_stepped_neurons_are_gated(model, steps, tmp_path):
    bundle = exported(model, tmp_path / "b")
    (layer,) = bundle.manifest["dense"]["layers"]
    assert (layer["path"], layer["steps"], layer["levels"]) == ("fire", steps, 1)
    assert bundle.manifest["dense"]["uncompared"] == []
    assert [row.name for row in bundle.parity.rows] == ["spikes end to end", "output"]
    assert bundle.ok
    assert np.load(bundle.folder / "golden/model.npz")["spikes/fire"].any()


def test_a_loop_that_runs_backwards_fails_by_its_spikes_alone(tmp_path):
    bundle = exported(Late(20), tmp_path / "b")
    path = bundle.folder / "dense/model.onnx"
    graph = onnx.load(path)
    scan = next(node for node in graph.graph.node if node.op_type == "Scan")
    scan.attribute.append(onnx.helper.make_attribute("scan_input_directions", [1]))
    onnx.save(graph, path)
    spikes, output = onnx_parity(bundle.folder, bundle.manifest).rows
    assert output.ok
    assert not spikes.ok


def test_golden_arrays_that_say_nothing_fail_or_are_noted(tmp_path):
    bundle = exported(Late(4), tmp_path / "b")
    path = bundle.folder / "golden/model.npz"
    arrays = dict(np.load(path))
    np.savez(path, **{name: value[:0] for name, value in arrays.items()})
    report = onnx_parity(bundle.folder, bundle.manifest)
    assert not report
    assert "holds no sample" in report.summary()
    silent = Late(4)
    with torch.no_grad():
        silent.up.weight.zero_(), silent.up.bias.fill_(-9)
    assert "no neuron spikes on the golden inputs" in exported(silent, tmp_path / "s").summary()


@pytest.mark.parametrize("steps", [2.5, 0, -1, True, "4"])
def test_steps_are_a_whole_number(steps, tmp_path):
    model = OneStep()
    model.steps = steps
    with pytest.raises(InputError, match=r"OneStep\.steps is .*: give a whole number from 1"):
        exported(model, tmp_path / "b")


def test_one_sample_and_another_type_are_refused_by_name(tmp_path):
    model = Late(4)
    model.example_input = model.example_input[:1]
    with pytest.raises(InputError, match="holds one sample: give at least two"):
        exported(model, tmp_path / "b")
    from spikeport_converters.module_graph import example_input

    model.example_input = torch.ones(2, 5, 8, dtype=torch.float64)
    with pytest.raises(InputError, match="float64"):
        example_input(model)


def test_the_runner_names_a_damaged_manifest(tmp_path):
    import subprocess
    import sys

    bundle = exported(Late(4), tmp_path / "b")
    run = [sys.executable, str(bundle.folder / "run.py"), "--runtime", "onnxruntime"]
    fine = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (fine.returncode, "of the spikes differ" in fine.stdout) == (0, True)
    manifest = json.loads((bundle.folder / "manifest.json").read_text())
    manifest["dense"]["profile"] = {}
    (bundle.folder / "manifest.json").write_bytes(manifest_bytes(manifest))
    found = subprocess.run(run, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "is no bundle with one ONNX graph" in found.stderr
