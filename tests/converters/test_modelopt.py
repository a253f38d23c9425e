"""nvidia-modelopt's own INT8 of our graph climbs our ladder, in its own environment."""

from __future__ import annotations

import onnx
import pytest
from small_models import random_patches, small_model

from spikeport_converters.ladder import PARITY
from spikeport_converters.modelopt import modelopt_int8
from spikeport_converters.onnx_graph import QDQ
from spikeport_errors import MissingDependencyError, UsageError
from spikeport_targets.card import load_card
from spikeport_targets.environments import python_of

CARD = load_card("jetson-orin-nano")


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.mark.skipif(python_of("modelopt") is None, reason="needs `spikeport env make modelopt`, some gigabytes")
def test_its_graph_is_int8_and_our_ladder_judges_it(model, tmp_path):
    found = modelopt_int8(model, random_patches(model, 8), CARD, tmp_path / "int8.onnx", trained=False)
    assert QDQ[0] in {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}
    assert found, found.summary()
    assert PARITY in {rung.name for rung in found.rungs}


def test_where_the_environment_is_absent_it_says_how_to_make_it(model, tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKEPORT_ENVS", str(tmp_path / "none"))
    with pytest.raises(MissingDependencyError, match="spikeport env make modelopt"):
        modelopt_int8(model, random_patches(model, 2), CARD, tmp_path / "int8.onnx")
    assert not (tmp_path / "int8.onnx").exists()


@pytest.mark.parametrize(("name", "method", "says"), [("a.onnx", "maxx", "did you mean 'max'"), ("a", "max", ".onnx")])
def test_a_wrong_method_or_name_is_refused(model, tmp_path, name, method, says):
    with pytest.raises(UsageError, match=says):
        modelopt_int8(model, random_patches(model, 2), CARD, tmp_path / name, method=method)
