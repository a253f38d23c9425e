"""The graph is legal for every TensorRT a Jetson can have, says nothing of the machine, and computes the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from small_models import random_patches, small_model

from spikeport_converters.fold import fold_batchnorm, fold_time
from spikeport_converters.onnx_graph import onnx_from_model, save_onnx, subgraph
from spikeport_converters.onnx_legal import onnx_faults, onnx_legal, operator_table
from spikeport_converters.operator_table import VERSIONS
from spikeport_converters.static_model import static_model
from spikeport_errors import UnsupportedError
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime


@pytest.fixture(scope="module")
def static():
    return fold_time(fold_batchnorm(small_model()))


@pytest.fixture(scope="module")
def graph(static):
    patches = torch.from_numpy(random_patches(static, 2))
    return onnx_from_model(static_model(fold_batchnorm(small_model()), patches).program, patches)


@pytest.fixture(scope="module")
def path(graph, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    save_onnx(graph, path)
    return path


def test_the_graph_is_legal(graph):
    assert onnx_faults(onnx_legal(graph)) == []
    assert "Attention" not in {node.op_type for node in graph.graph.node}
    assert 17 <= graph.opset_import[0].version <= 20
    assert graph.ir_version <= 10


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_any_batch_gives_what_torch_gives(static, path, batch):
    patches = random_patches(static, batch)
    with torch.no_grad():
        expected = static(torch.from_numpy(patches)).numpy()
    got = OnnxRuntime().run(path, {"patches": patches})["prediction"]
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_every_layer_gives_its_path_to_its_nodes(static, graph):
    scopes = {node.name.rpartition("/")[0] for node in graph.graph.node}
    layers = {p for p, m in static.named_modules() if isinstance(m, torch.nn.Linear | torch.nn.LayerNorm)}
    assert layers - {"backbone.decoder"} <= scopes  # the decoder serves pre-training only
    names = [node.name for node in graph.graph.node]
    assert len(set(names)) == len(names)


def test_nothing_of_the_exporting_machine_is_in_the_file(path):
    model = onnx.load(path)
    del model.graph.initializer[:]
    data = model.SerializeToString()
    for trace in (b".py", b"site-packages", b"stack_trace", b"spikeport_toolkit", str(path.home()).encode()):
        assert trace not in data


def test_a_part_can_be_cut_out_and_fed(static, graph, tmp_path):
    neuron = "backbone.blocks.0.ffn.neuron"
    source, current = "backbone.blocks.0.norm2/LayerNormalization", "backbone.blocks.0.ffn.fc1/Add"
    save_onnx(subgraph(graph, [source], [current, f"{neuron}/Div"]), tmp_path / "part.onnx")
    fed = np.random.default_rng(0).standard_normal((2, 12, 16)).astype(np.float32)
    got = OnnxRuntime().run(tmp_path / "part.onnx", {source: fed})
    with torch.no_grad():
        expected = static.backbone.blocks[0].ffn.fc1(torch.from_numpy(fed)).numpy()
    np.testing.assert_allclose(got[current], expected, atol=1e-5)


def made_of(nodes, opset=18, ir=10, constants=()):
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 2]) for n in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def quantised(zero: int, kind: int):
    scale, point = (helper.make_tensor(n, t, [], [v]) for n, t, v in (("s", TensorProto.FLOAT, 0.1), ("z", kind, zero)))
    q = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q")
    return made_of([q, helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "dq")], constants=(scale, point))


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (made_of([helper.make_node("Relu", ["x"], ["y"], "r")], opset=23), "opset 23"),
        (made_of([helper.make_node("Relu", ["x"], ["y"], "r")], ir=11), "IR version 11"),
        (made_of([helper.make_node("Det", ["x"], ["y"], "h")]), "h: operator ai.onnx.Det"),
        (made_of([helper.make_node("Attention", ["x", "x", "x"], ["y"], "a")], opset=20), "opset 20 or lower"),
        (quantised(3, TensorProto.INT8), "non-zero zero point"),
        (quantised(0, TensorProto.UINT8), "INT8 only"),
    ],
    ids=["opset", "ir", "operator", "attention", "zero point", "uint8"],
)
def test_what_a_tensorrt_would_refuse_is_found_and_named(model, fault):
    assert any(fault in text for text in onnx_faults(model))


def test_symmetric_int8_is_legal():
    assert onnx_faults(quantised(0, TensorProto.INT8)) == []


def test_an_illegal_graph_is_refused_with_the_reason():
    with pytest.raises(UnsupportedError, match=r"not legal for TensorRT.*Bernoulli"):
        onnx_legal(made_of([helper.make_node("Bernoulli", ["x"], ["y"], "h")]))


def test_an_invalid_graph_is_refused():
    with pytest.raises(UnsupportedError, match="not valid"):
        onnx_legal(made_of([helper.make_node("Relu", ["nowhere"], ["y"], "r")]))


def test_the_operator_table_names_its_sources():
    table = operator_table()
    assert set(table["sources"]) == set(table["versions"]) == set(VERSIONS)
    assert "96e781103cfc4adf4a6bb557e94bac8e693f6f4c" in table["sources"]["10.3"]
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    assert set(table["operators"]) - known == set()
