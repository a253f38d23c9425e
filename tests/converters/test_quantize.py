"""INT8 is symmetric, spike counts pass it exactly, and half precision moves no decision of a staircase."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from small_models import LIF, random_patches, small_model

from spikeport_converters.fold import StaircaseNeuron, fold_batchnorm, fold_time, staircase
from spikeport_converters.half import half_model
from spikeport_converters.onnx_graph import QDQ, onnx_from_model
from spikeport_converters.onnx_legal import onnx_legal
from spikeport_converters.quantize import int8_model
from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.neuron import SpikingNeuron

ILIF = NeuronConfig("ilif", steps=2, levels=4, tau=4 / 3, v_threshold=0.5, v_reset=None)
RELU = NeuronConfig("relu")
NEURON = StaircaseNeuron(staircase(SpikingNeuron(LIF)))


@pytest.fixture(scope="module", params=[ILIF, RELU], ids=lambda c: c.kind)
def graph(request):
    static = fold_time(fold_batchnorm(small_model(request.param)))
    patches = torch.from_numpy(random_patches(static, 8))
    return request.param, onnx_legal(onnx_from_model(int8_model(static, patches), patches[:2])).graph


def scales(graph: onnx.GraphProto, layer: str) -> list[np.ndarray]:
    """Scales of QuantizeLinear nodes of a layer, which quantise its input (its weights are stored quantised)."""
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    return [constants[n.input[1]] for n in graph.node if n.op_type == QDQ[0] and n.name.startswith(f"{layer}/")]


def test_spike_counts_have_an_exact_scale(graph):
    config, model = graph
    (scale,) = scales(model, "backbone.blocks.0.ffn.fc2")
    if config.spiking:
        assert float(scale) == np.float32(1 / (config.steps * config.levels))
    else:
        assert float(scale) != np.float32(1 / 4)


def test_every_linear_layer_has_one_quantised_input_and_int8_weights(graph):
    _, model = graph
    for layer in ("backbone.embed", "backbone.blocks.0.attention.qkv", "backbone.blocks.0.ffn.fc1", "head.decoder"):
        assert len(scales(model, layer)) == 1
    weights = [i for i in model.initializer if i.data_type == onnx.TensorProto.INT8 and len(i.dims) == 2]
    attention_products = 4
    assert len(weights) == sum(node.op_type == "MatMul" for node in model.node) - attention_products


def test_what_carries_the_accuracy_stays_in_float(graph):
    _, model = graph
    made = {name: node.op_type for node in model.node for name in node.output}
    for node in model.node:
        if node.op_type in ("LayerNormalization", "Softmax", "GreaterOrEqual"):
            assert made.get(node.input[0]) not in QDQ
        if node.op_type == QDQ[0]:
            assert node.input[0] in made or node.input[0] == "patches"
            assert not node.name.startswith(("backbone.blocks.0.attention/", "backbone.blocks.0.ffn.neuron/"))


@settings(max_examples=200, deadline=None)
@given(st.floats(-4, 4, width=16))
def test_a_half_precision_current_gives_the_count_of_the_same_float_current(current):
    half = half_model(NEURON)
    assert half(torch.tensor([current]).half()).float() == NEURON(torch.tensor([current]))
