"""`spikeport check --bisect`: the first layer of a bundle's graph that is not what the model computes."""

from __future__ import annotations

import json
import shutil

import onnx
import pytest
from onnx import numpy_helper
from small_models import random_patches, small_model

from spikeport.cli.check import check as command
from spikeport_converters.export import check, export
from spikeport_converters.manifest import file_entries, manifest_bytes, read_manifest
from spikeport_errors import SpikeportError
from spikeport_targets.card import load_card
from spikeport_toolkit.models.checkpoint import save_checkpoint

LAYER = "backbone.blocks.0.ffn.fc2"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A checkpoint of the small model and the bundle of it, which names that checkpoint."""
    root, model = tmp_path_factory.mktemp("bisection"), small_model()
    save_checkpoint(model, root / "checkpoint")
    card, patches = load_card("jetson-orin-nano"), random_patches(model, 4)
    export(model, card, "fp32", root / "bundle", patches, name=str(root / "checkpoint"))
    return root / "bundle"


@pytest.fixture
def bundle(exported, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(exported, tmp_path / "copied")


def sign(folder, name=None):
    manifest = read_manifest(folder)
    manifest["model"]["name"] = name or manifest["model"]["name"]
    (folder / "manifest.json").write_bytes(manifest_bytes({**manifest, "files": file_entries(folder)}))


def test_a_sound_bundle_has_no_diverging_layer(bundle):
    report = check(bundle, bisect=True)
    assert report
    assert not report.divergence
    assert len(report.divergence.rows) > 15
    assert "no layer of" in report.summary()


def test_a_changed_bias_is_named_in_a_graph_that_still_looks_right(bundle, capsys):
    path = bundle / "dense" / "model.onnx"
    model = onnx.load(path)
    bias = next(i for i in model.graph.initializer if i.name == f"{LAYER}.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 0.05, bias.name))
    onnx.save(model, path)
    sign(bundle)
    assert command(bundle, bisect=True) == 1
    assert f"first diverging layer: {LAYER} (Linear)" in capsys.readouterr().out
    found = check(bundle, bisect=True).to_dict()["divergence"]
    assert json.dumps(found, allow_nan=False)
    assert found["first"] == LAYER


def test_a_bundle_whose_model_cannot_be_loaded_says_so(bundle):
    sign(bundle, "spikewfm-nanu")
    with pytest.raises(SpikeportError, match="spikewfm-nanu"):
        check(bundle, bisect=True)
