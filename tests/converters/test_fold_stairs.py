"""A staircase written as hard sigmoids counts as SpikingJelly does, on every float32 beside a threshold."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
import torch
from own_modules import eighths
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

from spikeport_converters.fold import node_staircase, spike_counts
from spikeport_converters.jetson import dense_graph
from spikeport_converters.spiking_taps import spiking_taps
from spikeport_converters.stair_form import stair_form
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime

FLOATS_BESIDE = 2000
NODES = [
    *((f"lif {tau:g} {steps} {reset}", lambda t=tau, r=reset: neuron.LIFNode(tau=t, v_reset=r, step_mode="m"), steps, 1)
      for tau, steps, reset in itertools.product((1.25, 2.0, 3.0), (1, 2, 4, 8), (0.0, None))),
    ("if", lambda: neuron.IFNode(step_mode="m"), 4, 1),
    ("ilif", lambda: neuron.ILIFNode(
        tau=4 / 3, v_threshold=0.5, surrogate_function=surrogate.MultiLevelSpikeCount(4), step_mode="m"), 1, 4),
    ("ilif 2", lambda: neuron.ILIFNode(surrogate_function=surrogate.MultiLevelSpikeCount(4), step_mode="m"), 2, 4),
]  # fmt: skip


def beside(thresholds, reach=FLOATS_BESIDE):
    """Every float32 within `reach` floats of a threshold, and some far away."""
    bits = np.array(thresholds, np.float32).view(np.int32)[:, None] + np.arange(-reach, reach + 1, dtype=np.int32)
    far = np.array([-1e30, -1.0, -0.0, 0.0, 1e-30, 1e4, 1e30], np.float32)
    return np.concatenate((bits.view(np.float32).ravel(), far))


@pytest.mark.parametrize(("make", "steps", "levels"), [n[1:] for n in NODES], ids=[n[0] for n in NODES])
def test_a_form_counts_as_the_neuron_does_fused_or_not(make, steps, levels):
    own = make()
    stairs = node_staircase(own, steps, levels)
    currents = beside(stairs.thresholds)
    with torch.no_grad():
        counts = spike_counts(own, steps, torch.from_numpy(currents)).numpy().astype(int)
    form = stair_form(stairs)
    assert np.array_equal(form.counts(currents), counts)
    assert np.array_equal(form.counts(currents, fused=True), counts)


def test_an_ilif_is_one_pass_and_the_default_lif_two():
    lif = node_staircase(neuron.LIFNode(step_mode="m"), 4)
    levels = surrogate.MultiLevelSpikeCount(4)
    ilif = node_staircase(neuron.ILIFNode(tau=4 / 3, v_threshold=0.5, surrogate_function=levels, step_mode="m"), 1, 4)
    assert (len(stair_form(ilif).groups), len(stair_form(lif).groups)) == (1, 2)


class Feed(nn.Module):
    """Currents as they are (W1 = 1), so that every float32 reaches the neuron."""

    def __init__(self, fire, steps):
        super().__init__()
        self.fire, self.steps_, self.down = fire, steps, nn.Linear(8, 4)
        self.down.weight.data, self.down.bias.data = eighths(4, 8), eighths(4)

    def forward(self, x):
        return self.down(self.fire(x.expand(self.steps_, *x.shape)).mean(0))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("index", [4, -2, -3], ids=lambda i: NODES[i][0])
def test_onnxruntime_counts_as_spikingjelly_does_at_every_float_beside_a_threshold(precision, index, tmp_path):
    _, make, steps, levels = NODES[index]
    model = Feed(make(), steps).eval()
    stairs = node_staircase(model.fire, steps, levels)
    currents = beside(stairs.thresholds, 400)
    currents = np.clip(np.resize(currents, (len(currents) // 8 + 1, 8)), -1e4, 1e4).astype(np.float32)
    _, graph = dense_graph(model, currents, precision)
    (tap,) = spiking_taps(graph.graph, {"fire": stairs})
    onnx.save(graph, tmp_path / "model.onnx")
    got = OnnxRuntime().run(tmp_path / "model.onnx", {"patches": currents}, taps=[tap.count]).values
    functional.reset_net(model)
    with torch.no_grad():
        counts = spike_counts(model.fire, steps, torch.from_numpy(currents)).numpy()
        expected = model(torch.from_numpy(currents)).numpy()
    assert np.array_equal(got[tap.count].astype(np.float32), counts)
    if precision == "fp32":
        np.testing.assert_allclose(got["prediction"], expected, rtol=1e-6, atol=1e-6)
    kinds = [node.op_type for node in graph.graph.node if node.name.startswith("fire/")]
    assert "HardSigmoid" in kinds
    assert not {"GreaterOrEqual", "Cast", "Div"} & set(kinds)
    assert ("Round" in kinds) == (precision == "fp32" and stair_form(stairs).rounded)
