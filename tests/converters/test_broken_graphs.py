"""Graphs broken on purpose: each is stopped at the first rung of the ladder that can see it, with layer and remedy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from small_models import random_patches, small_model
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from spikeport_converters.divergence import divergence
from spikeport_converters.fold import fold_batchnorm
from spikeport_converters.jetson import dense_graph
from spikeport_converters.ladder import CHECKER, COMPILE, DEVICE, PARITY, PROFILE, RUNGS, TABLE, batch_profile, climb
from spikeport_converters.onnx_graph import INPUT, OUTPUT, onnx_from_model
from spikeport_converters.parity import ParityReport, gated, nmse_db
from spikeport_converters.precision import PRESETS
from spikeport_targets.card import load_card
from spikeport_targets.runtimes import tensorrt_rtx
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime

CARD, FP32 = load_card("jetson-orin-nano"), PRESETS["fp32"]
LAYER = "blocks.0.ffn.fc1"


@pytest.fixture(scope="module")
def whole():
    """A folded model, its inputs and its sound graph."""
    reference = fold_batchnorm(small_model())
    patches = random_patches(reference, 4)
    return reference, patches, dense_graph(reference, patches, "fp32")[1]


def stopped(model, tmp_path, *, card=CARD, chosen=FP32, shapes=None, reference=None, inputs=None, compilers=False):
    """The rung at which the ladder stops; the ones before it held."""
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    fitting = {v.name: [[d.dim_value or 1 for d in v.type.tensor_type.shape.dim]] * 3 for v in model.graph.input}

    def parity():
        functional.reset_net(reference)
        with torch.no_grad():
            want = reference(torch.from_numpy(inputs)).numpy()
        got = OnnxRuntime().run(path, {INPUT: inputs})[OUTPUT]
        return ParityReport((gated("output", "output", nmse_db(got, want), chosen.gates.output_db, "dB"),))

    found = climb(
        path, card, chosen, shapes=shapes or fitting, compilers=compilers,
        parity=parity if reference is not None else None,
        diverging=lambda: divergence(reference, model, inputs, chosen.gates),
    )  # fmt: skip
    assert all(rung.ok for rung in found.rungs[:-1])
    assert [rung.name for rung in found.rungs] == list(RUNGS[: len(found.rungs)])
    return found.stopped


def made_of(nodes, constants=(), kind=TensorProto.FLOAT, opset=18, shape=(2, 2)):
    x, y = (helper.make_tensor_value_info(name, kind, shape) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], list(constants))
    domains = sorted({"", *(node.domain for node in nodes)})
    opsets = [helper.make_opsetid(domain, opset if not domain else 1) for domain in domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def quantised(zero, kind):
    scale, point = (helper.make_tensor(n, t, [], [v]) for n, t, v in (("s", TensorProto.FLOAT, 0.1), ("z", kind, zero)))
    quantise = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], f"{LAYER}/QuantizeLinear")
    back = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], f"{LAYER}/DequantizeLinear")
    return made_of([quantise, back], (scale, point))


def dynamically_quantised():
    weight = numpy_helper.from_array(np.ones((2, 2), np.uint8), "w")
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], f"{LAYER}/DynamicQuantizeLinear"),
        helper.make_node("MatMulInteger", ["q", "w", "z"], ["i"], f"{LAYER}/MatMulInteger"),
        helper.make_node("Cast", ["i"], ["f"], f"{LAYER}/Cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "s"], ["y"], f"{LAYER}/Mul"),
    ]
    return made_of(nodes, [weight])


def dynamic_steps():
    """A Loop whose number of steps is a size of the input."""
    state = helper.make_tensor_value_info("v", TensorProto.FLOAT, (2, 2))
    count, goes = (
        helper.make_tensor_value_info(n, t, []) for n, t in (("i", TensorProto.INT64), ("c", TensorProto.BOOL))
    )
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Add", ["v", "x"], ["v2"])],
        "body",
        [count, goes, state],
        [
            helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v2", TensorProto.FLOAT, (2, 2)),
        ],
    )
    constants = [
        helper.make_tensor("first", TensorProto.INT64, [], [0]),
        helper.make_tensor("on", TensorProto.BOOL, [], [1]),
    ]
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"], "Shape"),
        helper.make_node("Gather", ["sizes", "first"], ["steps"], "Gather"),
        helper.make_node("Loop", ["steps", "on", "x"], ["y"], "blocks.0.ffn.neuron/Loop", body=body),
    ]
    return made_of(nodes, constants)


def attention(shape=(1, 2, 4, 8)):
    node = helper.make_node("Attention", ["x", "x", "x"], ["y"], "blocks.0.attention/Attention")
    return made_of([node], opset=23, shape=shape)


ILLEGAL = {
    "opset 23 Attention": (attention(), "blocks.0.attention/Attention", "since 10.14", "opset 20 or lower"),
    "uint8 zero points": (quantised(0, TensorProto.UINT8), f"{LAYER}/QuantizeLinear", "UINT8", "zero point 0"),
    "non-zero zero point": (quantised(3, TensorProto.INT8), f"{LAYER}/QuantizeLinear", "non-zero", "symmetrically"),
    "dynamic quantisation": (dynamically_quantised(), f"{LAYER}/DynamicQuantizeLinear", "not in the", "static scales"),
    "unsupported operator": (
        made_of([helper.make_node("Bernoulli", ["x"], ["y"], "dropout/Bernoulli")]),
        "dropout/Bernoulli", "ai.onnx.Bernoulli", "remove it",
    ),
    "custom operator": (
        made_of([helper.make_node("forward", ["x"], ["y"], "neuron/forward", domain="sj_lif")]),
        "neuron/forward", "sj_lif.forward", "operators of the table",
    ),
    "dynamic T": (dynamic_steps(), "blocks.0.ffn.neuron/Loop", "T is dynamic", "fixed number of steps"),
    "float64 weights": (
        made_of([helper.make_node("MatMul", ["x", "w"], ["y"], f"{LAYER}/MatMul")],
                [numpy_helper.from_array(np.eye(2), f"{LAYER}.weight")], TensorProto.DOUBLE),
        f"{LAYER}.weight", "DOUBLE", "float32",
    ),
}  # fmt: skip
ILLEGAL["float64 weights"][0].graph.node[0].input[1] = f"{LAYER}.weight"


@pytest.mark.parametrize("name", ILLEGAL)
def test_what_no_parser_takes_stops_at_the_operator_table(name, tmp_path):
    model, layer_, what, remedy = ILLEGAL[name]
    rung = stopped(model, tmp_path)
    assert rung.name == TABLE
    assert rung.layer in (layer_, "x") if "float64" in name else rung.layer == layer_
    assert what in rung.detail
    assert remedy in rung.remedy


def test_fp8_on_an_orin_stops_at_the_device_before_any_file_is_read(tmp_path):
    rung = climb(tmp_path / "none.onnx", CARD, PRESETS["fp8"], shapes={}).stopped
    assert (rung.name, rung.layer) == (DEVICE, CARD.id)
    assert "FP8 needs 8.9" in rung.detail + rung.remedy
    assert "int8" in rung.remedy


def test_a_node_that_reads_what_nobody_computes_stops_at_the_checker(whole, tmp_path):
    model = onnx.ModelProto.FromString(whole[2].SerializeToString())
    node = next(n for n in model.graph.node if n.op_type == "Softmax")
    node.input[0] = "nowhere"
    rung = stopped(model, tmp_path)
    assert (rung.name, rung.layer) == (CHECKER, node.name)
    assert "nowhere" in rung.detail


@pytest.mark.parametrize(
    ("batches", "fixed", "what", "remedy"),
    [
        ((16, 8, 32), False, "16 at least, 8 at best", "least <= best"),
        ((1, 8, 32), True, "is 4 in the graph", "free batch"),
    ],
    ids=["order", "fixed batch"],
)
def test_a_wrong_batch_profile_stops_before_anything_runs(whole, tmp_path, batches, fixed, what, remedy):
    _, patches, graph = whole
    model = onnx.ModelProto.FromString(graph.SerializeToString())
    if fixed:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 4
        del model.graph.value_info[:]
    rung = stopped(model, tmp_path, shapes=batch_profile(patches.shape, batches))
    assert (rung.name, rung.layer) == (PROFILE, INPUT)
    assert what in rung.detail
    assert remedy in rung.remedy


class Spiking(nn.Module):
    """A user's own module, which keeps the state of an earlier call."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.node = nn.Linear(336, 32), neuron.LIFNode(step_mode="m")
        self.fc2 = layer.Linear(32, 336, step_mode="m")

    def forward(self, patches):
        return self.fc2(self.node(self.fc1(patches).unsqueeze(0).repeat(4, 1, 1, 1))).mean(0)


def test_stale_membrane_state_in_a_graph_stops_at_parity_and_names_the_neuron(tmp_path):
    model = Spiking().eval()
    patches = np.random.default_rng(0).standard_normal((2, 12, 336)).astype(np.float32) * 2
    with torch.no_grad():
        model(torch.from_numpy(patches))
    graph = onnx_from_model(model, torch.from_numpy(patches))
    shapes = batch_profile(patches.shape, (2, 2, 2))
    rung = stopped(graph, tmp_path, reference=model, inputs=patches, shapes=shapes)
    assert (rung.name, rung.layer) == (PARITY, "node")
    assert "reset_net" in rung.remedy


def test_a_changed_weight_stops_at_parity_and_names_its_layer(whole, tmp_path):
    reference, patches, graph = whole
    model = onnx.ModelProto.FromString(graph.SerializeToString())
    node = next(n for n in model.graph.node if n.name == "head.blocks.0.ffn.fc2/MatMul")
    weight = next(i for i in model.graph.initializer if i.name == node.input[1])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.5), weight.name))
    shapes = batch_profile(patches.shape, (1, 4, 8))
    rung = stopped(model, tmp_path, reference=reference, inputs=patches, shapes=shapes)
    assert (rung.name, rung.layer) == (PARITY, "head.blocks.0.ffn.fc2")
    assert "keep this layer in floating point" in rung.remedy


def test_a_sound_graph_passes_every_rung(whole, tmp_path):
    reference, patches, graph = whole
    shapes = batch_profile(patches.shape, (1, 4, 8))
    assert stopped(graph, tmp_path, reference=reference, inputs=patches, shapes=shapes) is None


def test_an_opset_above_that_of_the_card_stops_at_the_operator_table(tmp_path):
    """Attention is in the parsers of 10.16 and 11.4; the card of an Orin ends at opset 20, for JetPack 6."""
    rung = stopped(attention(), tmp_path, chosen=replace(FP32, tensorrt="10.16"))
    assert (rung.name, rung.layer) == (TABLE, "the graph")
    assert f"opset 23 is above 20, the most that {CARD.name} takes" in rung.detail


@pytest.mark.skipif(not tensorrt_rtx.available(), reason=tensorrt_rtx.available().summary())
def test_what_only_the_compiler_sees_stops_there(tmp_path):
    """Attention is in the parsers of 10.16 and 11.4; with float32 heads of 5 the compiler crashes, and we do not."""
    model = attention((1, 2, 4, 5))
    chosen = replace(FP32, tensorrt="10.16")
    rung = stopped(model, tmp_path, card=load_card("jetson-agx-thor"), chosen=chosen, compilers=True)
    assert rung.name == COMPILE[0]
    assert "crashed" in rung.detail or "Attention" in rung.detail
