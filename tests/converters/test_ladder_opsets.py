"""Opset and IR version of every precision: as old as its types allow, and never above what the target's card says."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
import torch
from torch import nn

from spikeport_converters.export import export
from spikeport_converters.ladder import TABLE, climb
from spikeport_converters.operator_table import operator_table
from spikeport_converters.precision import PRESETS
from spikeport_converters.precision_graph import IR_VERSIONS, opset_of
from spikeport_targets.card import list_cards, load_card

CARDS = [card for card in list_cards() if card.route == "onnx"]


def test_no_precision_of_a_card_needs_more_than_the_card_allows():
    assert {"jetson-orin-nano", "jetson-agx-thor", "cuda-gpu", "cpu-onnxruntime"} <= {card.id for card in CARDS}
    for card in CARDS:
        for name in card.limits["presets"]:
            chosen = PRESETS[name]
            assert card.limits["opset_min"] <= opset_of(chosen) <= card.limits["opset_max"], (card.id, name)
            assert IR_VERSIONS.get(chosen.kind, 10) <= card.limits["ir_max"], (card.id, name)
            if name != "nvfp4":
                assert opset_of(chosen) <= 20, (card.id, name)
        oldest = operator_table()["versions"][card.limits.get("tensorrt", ["10.13" if "nvfp4" in name else "10.3"])[0]]
        assert card.limits["opset_max"] <= oldest["opset_last"]
        assert card.limits["ir_max"] <= oldest["ir_last"]


@pytest.mark.parametrize(("precision", "opset", "ir"), [("fp16", 18, 10), ("int8-fp16", 19, 10), ("nvfp4", 23, 11)])
def test_the_graph_itself_has_the_opset_and_ir_of_its_precision(precision, opset, ir, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 16)).eval()
    model.example_input = torch.randn(4, 32)
    card = load_card("jetson-agx-thor")
    bundle = export(model, card, precision, tmp_path / "b", model.example_input.numpy(), trained=True)
    assert bundle.ok, bundle.summary()
    path = bundle.folder / "dense/model.onnx"
    graph = onnx.load(path)
    assert (graph.opset_import[0].version, graph.ir_version) == (opset, ir)
    assert bundle.manifest["dense"]["opset"] == opset <= card.limits["opset_max"]
    if precision == "nvfp4":  # a graph for Thor on a device that has FP4 but an older parser
        old = replace(card, limits={**card.limits, "opset_max": 20})
        rung = climb(path, old, PRESETS[precision], shapes=bundle.manifest["dense"]["profile"], compilers=False).stopped
        assert rung.name == TABLE
        assert "opset 23 is above 20" in rung.detail
