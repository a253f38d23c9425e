"""A Jetson bundle: what was exported computes the same, says so, and runs without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_models import random_patches, small_model
from spikingjelly.activation_based import layer, neuron
from torch import nn

from spikeport_converters.export import check, export
from spikeport_converters.fold import fold_batchnorm
from spikeport_converters.onnx_legal import onnx_faults
from spikeport_converters.plan import plan
from spikeport_errors import InputError, UnsupportedError, UsageError
from spikeport_targets.card import load_card
from spikeport_toolkit.data.patches import channel_from_patches, patches_from_channel, rms

CARD = load_card("jetson-orin-nano")
PRECISIONS = ("fp32", "fp16", "int8")


@pytest.fixture
def copied(bundles, tmp_path):
    return shutil.copytree(bundles["fp16"].folder, tmp_path / "copied")


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "run.py", "--runtime", "onnxruntime", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_export_passes_its_own_check(bundles, precision):
    bundle = bundles[precision]
    assert bundle.parity
    assert check(bundle.folder)
    assert onnx_faults(onnx.load(bundle.folder / "dense/model.onnx")) == []
    assert {"manifest.json", "run.py", "README.md"} <= {p.name for p in bundle.folder.iterdir()}


def test_the_plan_leaves_out_what_forward_does_not_run(nano):
    items = {item.path: item for item in plan(nano, None, CARD).items}
    assert [path for path, item in items.items() if item.rule == "left out"] == ["backbone.decoder"]
    assert items["backbone.blocks.0.ffn.norm"].rule == "fold into fc1"


def test_layers_fed_the_references_input_spike_the_same(bundles):
    rows = {row.name: row for row in bundles["fp32"].parity.rows}
    assert rows["spike counts layer by layer"].value <= rows["spike counts layer by layer"].limit
    assert rows["distance of those from their threshold"].value <= 1e-5


def test_the_golden_spikes_are_those_of_spikingjellys_own_loop(bundles, nano):
    with np.load(bundles["fp32"].folder / "golden/model.npz") as golden:
        fed, spikes = golden["fc1/head.blocks.1.ffn.neuron"], golden["spikes/head.blocks.1.ffn.neuron"]
    ffn = fold_batchnorm(nano).head.blocks[1].ffn
    with torch.no_grad():
        own = ffn.neuron.spikes(ffn.current(torch.from_numpy(fed))).sum(0)
    assert np.array_equal(spikes, own.numpy())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_manifest_says_what_the_bundle_is(bundles, precision):
    manifest = json.loads((bundles[precision].folder / "manifest.json").read_text())
    assert (manifest["schema"], manifest["route"], manifest["time_axis"]) == ("spikeport.bundle/1", "onnx", "direct")
    assert (manifest["precision"], manifest["steps"], manifest["levels"]) == (precision, 4, 1)
    assert manifest["target"] == {"id": CARD.id, "card_sha256": CARD.sha256}
    assert {item["action"] for item in manifest["plan"]} == {"kept", "rewritten"}
    assert len(manifest["dense"]["layers"]) == 7


def test_one_flipped_byte_of_any_file_fails_the_check_and_names_it(copied):
    for path in sorted(p for p in copied.rglob("*") if p.is_file()):
        original = path.read_bytes()
        changed = bytearray(original)
        changed[len(original) // 2] ^= 1
        path.write_bytes(changed)
        report = check(copied)
        assert not report
        assert path.relative_to(copied).as_posix() in [fault.name for fault in report.faults]
        path.write_bytes(original)
    assert check(copied)


def test_a_wrong_artefact_with_right_hashes_fails_parity(bundles, tmp_path):
    wrong = shutil.copytree(bundles["fp32"].folder, tmp_path / "wrong")
    model = onnx.load(wrong / "dense/model.onnx")
    compare = next(node for node in model.graph.node if node.op_type == "HardSigmoid")
    next(a for a in compare.attribute if a.name == "beta").f *= 1.01
    onnx.save(model, wrong / "dense/model.onnx")
    from spikeport_converters.manifest import file_entries, manifest_bytes, read_manifest

    manifest = read_manifest(wrong)
    (wrong / "manifest.json").write_bytes(manifest_bytes({**manifest, "files": file_entries(wrong)}))
    report = check(wrong)
    assert not report.faults
    assert not report
    assert next(row.name for row in report.parity.rows if not row.ok) == "spike counts layer by layer"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_runner_verifies_in_onnxruntime(bundles, precision):
    done = python(bundles[precision].folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok: output NMSE")


def test_the_runner_predicts_the_channel_that_torch_predicts(bundles, nano, tmp_path):
    rng = np.random.default_rng(3)
    channel = (rng.standard_normal((2, 42, 4, 48)) + 1j * rng.standard_normal((2, 42, 4, 48))).astype(np.complex64) * 7
    np.save(tmp_path / "in.npy", channel)
    done = python(bundles["fp32"].folder, "--channel", str(tmp_path / "in.npy"), "--out", str(tmp_path / "out.npy"))
    assert done.returncode == 0, done.stderr
    scale = rms(channel)
    patches = np.concatenate((patches_from_channel(channel / scale), np.zeros((2, 16, 336), np.float32)), 1)
    with torch.no_grad():
        predicted = nano(torch.from_numpy(patches)).numpy()
    expected = channel_from_patches(predicted, antennas=4, blocks=4) * scale
    got = np.load(tmp_path / "out.npy")
    assert got.shape == (2, 14, 4, 48)
    assert np.sum(np.abs(got - expected) ** 2) <= 1e-6 * np.sum(np.abs(expected) ** 2)


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        (np.ones((1, 42, 3, 48), np.complex64), "this model takes"),
        (np.full((1, 42, 4, 48), np.nan, np.complex64), "not finite"),
        (np.ones((1, 42, 4, 48)), "complex"),
        (np.ones((0, 42, 4, 48), np.complex64), "at least one sample"),
    ],
)
def test_the_runner_refuses_a_channel_that_does_not_fit(bundles, tmp_path, channel, message):
    np.save(tmp_path / "in.npy", channel)
    done = python(bundles["fp16"].folder, "--channel", str(tmp_path / "in.npy"), "--out", str(tmp_path / "out.npy"))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_runner_prints_a_trtexec_line(bundles):
    done = python(bundles["int8"].folder, "--trtexec")
    assert "--stronglyTyped" in done.stdout
    assert "--optShapes=patches:8x64x336" in done.stdout


class WithNode(nn.Module):
    """A user's own module: a multi-step SpikingJelly LIF on a repeated token."""

    def __init__(self, node: nn.Module):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.node, self.fc2 = nn.Linear(336, 32), node, layer.Linear(32, 336, step_mode="m")

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.node(self.fc1(patches).unsqueeze(0).repeat(4, 1, 1, 1))).mean(0)


@pytest.mark.parametrize(("node", "rule"), [(neuron.LIFNode, "fold time"), (neuron.QIFNode, "unroll")])
def test_a_users_module_with_a_spikingjelly_node_exports_also_after_a_call(node, rule, folder):
    model = WithNode(node(step_mode="m"))
    patches = random_patches(small_model(), 4)
    model(torch.from_numpy(patches))
    bundle = export(model, CARD, "fp32", folder, patches, trained=True)
    assert bundle.parity
    assert [i["rule"] for i in bundle.manifest["plan"] if i["path"] == "node"] == [rule]


def test_a_layer_without_a_rule_is_refused_with_the_remedy_and_nothing_is_written(folder):
    model = WithNode(nn.LSTM(32, 32))
    assert [item.path for item in plan(model, None, CARD).refused] == ["node"]
    with pytest.raises(UnsupportedError, match=r"cannot run node \(LSTM\).*build it from"):
        export(model, CARD, "fp32", folder, random_patches(small_model(), 2))
    assert list(folder.parent.iterdir()) == []


def test_bad_inputs_are_refused_and_nothing_is_written(folder):
    model = small_model()
    patches = random_patches(model, 2)
    with pytest.raises(UsageError, match="choose one"):
        export(model, CARD, "fp9", folder, patches)
    patches[1, 0, 0] = np.nan
    with pytest.raises(InputError, match="sample 1 of the patches is not finite"):
        export(model, CARD, "fp32", folder, patches)
    with pytest.raises(UnsupportedError, match="takes patches"):
        export(model, CARD, "fp32", folder, patches[0, :, :])
    assert list(folder.parent.iterdir()) == []
