"""Many steps that do not fold are one loop in the graph, exact to SpikingJelly's own steps, in every precision."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from own_modules import eighths
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

from spikeport_converters.dense_plan import dense_plan
from spikeport_converters.export import check, export
from spikeport_converters.fold_graph import MOST_UNROLLED, fold_graph
from spikeport_converters.loop_form import LoopedNeuron
from spikeport_converters.marked_program import mark_neurons
from spikeport_converters.onnx_graph import INPUT, OUTPUT, onnx_from_model
from spikeport_converters.onnx_legal import onnx_legal
from spikeport_converters.operator_table import operator_faults
from spikeport_errors import UnsupportedError
from spikeport_targets.card import load_card
from spikeport_targets.runtimes import tensorrt_rtx
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime

STEPS = MOST_UNROLLED + 9


def in_onnxruntime(graph, path, inputs):
    onnx.save(graph, path)
    return OnnxRuntime().run(path, {INPUT: inputs.numpy()})[OUTPUT]


class Drive(nn.Module):
    """Neurons on T currents that are all different, [sample, T, feature] -> every neuron's spikes of every step."""

    def __init__(self, *fire: nn.Module):
        super().__init__()
        self.fire = nn.ModuleList(fire)

    def forward(self, x):
        return torch.stack([fire(x.movedim(1, 0)) for fire in self.fire], -1).movedim(0, 1)


def kinds():
    lif, counts = neuron.LIFNode, surrogate.MultiLevelSpikeCount(3)
    yield from (lif(3.0, decay, v_reset=reset, step_mode="m") for decay in (True, False) for reset in (0.0, None))
    yield lif(1.25, v_reset=0.25, step_mode="m")
    yield from (neuron.ParametricLIFNode(3.0, decay, v_reset=None, step_mode="m") for decay in (True, False))
    yield neuron.IFNode(v_reset=None, step_mode="m")
    yield neuron.ILIFNode(4 / 3, v_threshold=0.5, surrogate_function=counts, step_mode="m")


@pytest.fixture(scope="module")
def looped(tmp_path_factory):
    """Every kind of neuron in one module, and the graph of it as onnxruntime opens it."""
    model, x = Drive(*kinds()).eval(), torch.randn(2, STEPS, 8)
    folded = fold_graph(mark_neurons(model, x))
    assert {f.rule for f in folded.foldings} == {"loop"}
    graph = onnx_legal(onnx_from_model(folded.program, x))
    assert Counter(n.op_type for n in graph.graph.node)["Scan"] == len(model.fire)
    path = tmp_path_factory.mktemp("loop") / "m.onnx"
    onnx.save(graph, path)
    return model, path


@settings(max_examples=25, deadline=None)
@given(
    samples=st.integers(1, 5),
    seed=st.integers(0, 2**31),
    scale=st.sampled_from((0.3, 2.0, 50.0)),
    drift=st.floats(-1, 1),
)
def test_a_loop_gives_every_spike_of_every_step_of_every_neuron(looped, samples, seed, scale, drift):
    model, path = looped
    late = drift * torch.arange(STEPS)[:, None]
    x = scale * torch.randn(samples, STEPS, 8, generator=torch.Generator().manual_seed(seed)) + late
    functional.reset_net(model)
    with torch.no_grad():
        want = model(x).numpy()
    assert np.array_equal(OnnxRuntime().run(path, {INPUT: x.numpy()})[OUTPUT], want)


class Late(nn.Module):
    """Two neurons on a current that changes with time, the second driven by the first's spikes."""

    def __init__(self, steps=40):
        super().__init__()
        torch.manual_seed(0)
        self.up, self.fire, self.mix = nn.Linear(8, 32), neuron.LIFNode(step_mode="m"), nn.Linear(32, 32)
        self.again, self.down = neuron.ParametricLIFNode(step_mode="m"), nn.Linear(32, 8)
        self.steps_, self.example_input = steps, torch.randn(6, 5, 8)

    def forward(self, x):
        late = torch.sin(torch.arange(self.steps_) * 0.3)[:, None, None, None]
        spikes = self.fire(3 * self.up(x) + late)
        return x + self.down(self.again(4 * self.mix(spikes)) + spikes).mean(0)


@pytest.mark.parametrize(
    ("target", "precision"),
    [("cpu-onnxruntime", "int8"), ("jetson-orin-nano", "fp16")],
)
def test_the_bundle_of_a_loop_holds_the_whole_ladder(target, precision, tmp_path):
    model = Late().eval()
    bundle = export(
        model, load_card(target), precision, tmp_path / "b", model.example_input.numpy(), trained=True, compilers=True
    )
    assert bundle.ok, bundle.summary()
    assert check(bundle.folder)
    rules = {item["path"]: item["rule"] for item in bundle.manifest["plan"]}
    assert rules["fire"] == rules["again"] == "loop"
    assert "2 spiking layers: their steps are one loop" in (bundle.folder / "README.md").read_text()
    graph = onnx.load(bundle.folder / "dense/model.onnx")
    assert {o.domain for o in graph.opset_import} == {""}
    scans = {node.name: node for node in graph.graph.node if node.op_type == "Scan"}
    assert set(scans) == {"fire/Scan", "again/Scan"}
    names = [n.name for node in scans.values() for n in node.attribute[0].g.node]
    assert all(name.startswith(("fire/Scan/", "again/Scan/")) for name in names)
    assert not {n.op_type for node in scans.values() for n in node.attribute[0].g.node} & {"QuantizeLinear"}
    state = next(v for v in scans["fire/Scan"].attribute[0].g.input if v.name.endswith("v0"))
    assert state.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_bisection_names_a_loop_whose_state_is_wrong(tmp_path):
    from spikeport_converters.divergence import divergence
    from spikeport_converters.jetson import dense_graph
    from spikeport_converters.precision import PRESETS

    model = Late().eval()
    inputs = model.example_input.numpy()
    graph = dense_graph(model, inputs, "fp32")[1]
    assert not divergence(model, graph, inputs, PRESETS["fp32"].gates)
    rest = next(n for n in graph.graph.node if n.op_type == "ConstantOfShape" and n.name.startswith("again/"))
    rest.attribute[0].t.CopyFrom(onnx.helper.make_tensor("rest", onnx.TensorProto.FLOAT, [1], [0.9]))
    found = divergence(model, graph, inputs, PRESETS["fp32"].gates)
    assert found.first.path == "again"
    assert "reset_net" in found.remedy


def test_single_steps_of_a_loop_of_ones_own_become_one_loop(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.fire = nn.Linear(8, 8), neuron.LIFNode()

        def forward(self, x):
            return torch.stack([self.fire(self.up(x) + 0.1 * t) for t in range(20)]).amax(0)

    torch.manual_seed(0)
    model, x = Own().eval(), 2 * eighths(3, 8)
    with torch.no_grad():
        want = model(x).numpy()
    functional.reset_net(model)
    folded = fold_graph(mark_neurons(model, x))
    assert [f.rule for f in folded.foldings] == ["loop"]
    graph = onnx_legal(onnx_from_model(folded.program, x))
    np.testing.assert_array_equal(in_onnxruntime(graph, tmp_path / "m.onnx", x), want)


def test_equal_neurons_share_one_step_and_others_do_not():
    lif = [
        LoopedNeuron(neuron.LIFNode(tau=tau, step_mode=mode)).key for tau, mode in ((2.0, "m"), (2.0, "s"), (4.0, "m"))
    ]
    assert lif[0] == lif[1] != lif[2]


def test_a_neuron_whose_step_is_no_step_of_its_own_is_refused_with_the_reason():
    class Averaged(neuron.LIFNode):
        def single_step_functional_forward(self, inputs, states, **kwargs):
            return super().single_step_functional_forward((inputs[0] - inputs[0].mean(-1, True),), states, **kwargs)

    class Net(Late):
        def __init__(self):
            super().__init__()
            self.fire = Averaged(step_mode="m")

    (refused,) = (item for item in dense_plan(Net().eval()) if item.path == "fire")
    assert "40 steps are more than the 16 that are unrolled" in refused.reason
    assert "not elementwise" in refused.reason
    assert "fewer steps" in refused.remedy
    odd = neuron.LIFNode(step_mode="m")
    odd.register_memory("w", torch.zeros(3))
    with pytest.raises(UnsupportedError, match="no number"):
        LoopedNeuron(odd)


def test_a_loop_over_a_free_number_of_steps_stops_at_the_operator_table():
    model, x = Drive(neuron.LIFNode(step_mode="m")).eval(), torch.randn(2, 20, 4)
    graph = onnx_from_model(fold_graph(mark_neurons(model, x)).program, x)
    scan = next(n for n in graph.graph.node if n.op_type == "Scan")
    current = next(v for v in graph.graph.value_info if v.name == scan.input[-1])
    current.type.tensor_type.shape.dim[0].dim_param = "T"
    (fault,) = operator_faults(graph)
    assert (fault.node, fault.remedy) == ("fire.0/Scan", "export with a fixed number of steps")
    assert "T is dynamic" in fault.what


@pytest.mark.skipif(not tensorrt_rtx.available(), reason=tensorrt_rtx.available().summary())
@pytest.mark.parametrize("capability", tensorrt_rtx.CAPABILITIES)
def test_the_compiler_builds_a_loop_of_many_steps_for_a_free_batch(capability, tmp_path):
    model, x = Drive(neuron.LIFNode(step_mode="m")).eval(), torch.randn(2, 200, 16)
    onnx.save(onnx_from_model(fold_graph(mark_neurons(model, x)).program, x), tmp_path / "m.onnx")
    shapes = {INPUT: [[1, 200, 16], [8, 200, 16], [32, 200, 16]]}
    built = tensorrt_rtx.compile_onnx(tmp_path / "m.onnx", capability, shapes)
    assert built, built.summary()
