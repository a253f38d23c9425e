"""Weights too large for a graph go into a file beside it, once, and the bundle is the same in every other respect."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from small_models import random_patches, small_model

from spikeport_converters import onnx_graph
from spikeport_converters.export import check, export
from spikeport_converters.onnx_graph import INPUT, OUTPUT, weight_file
from spikeport_targets.card import load_card
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_graph_with_its_weights_in_a_file_computes_the_same(precision, tmp_path, monkeypatch):
    model = small_model()
    patches, card = random_patches(model, 2), load_card("jetson-orin-nano")
    whole = export(model, card, precision, tmp_path / "whole", patches)
    monkeypatch.setattr(onnx_graph, "EXTERNAL_ABOVE", 1000)
    monkeypatch.setattr(onnx_graph, "INLINE", 256)
    parted = export(model, card, precision, tmp_path / "parted", patches)
    assert whole.ok
    assert parted.ok
    path = parted.folder / "dense/model.onnx"
    graph = onnx.load(path, load_external_data=False).graph
    outside = [i for i in graph.initializer if i.data_location == onnx.TensorProto.EXTERNAL]
    assert len(outside) > 5
    assert f"dense/{weight_file(path).name}" in parted.manifest["files"]
    results = [OnnxRuntime().run(b.folder / "dense/model.onnx", {INPUT: patches})[OUTPUT] for b in (whole, parted)]
    np.testing.assert_array_equal(*results)
    assert check(parted.folder)
    with weight_file(path).open("r+b") as file:
        file.write(b"\xff")
    assert not check(parted.folder)
