"""A user's own module: what becomes an island, what stays dense, what is refused, and that the spikes stay the same."""

import json
import subprocess
import sys

import nir
import numpy as np
import pytest
import torch
from own_modules import Chain, OneStep, Sew, Transformer, dyadic, eighths, random_convolution
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import nn

from spikeport_converters import fidelity
from spikeport_converters.export import check, export
from spikeport_converters.module_graph import trace_module
from spikeport_converters.near_threshold import differences
from spikeport_converters.partition import partition
from spikeport_converters.plan import plan
from spikeport_errors import InputError, UnsupportedError
from spikeport_targets.card import load_card
from spikeport_targets.runtime import get_runtime

SIMULATORS = ("spikingjelly", "snntorch", "norse", "sinabs")


def two_layers(fire=lambda: neuron.LIFNode(decay_input=False), **kwargs):
    stack = (layer.Linear(16, 32), fire(), layer.Linear(32, 24), fire(), layer.Linear(24, 8))
    return dyadic(Chain(*stack, example=eighths(64, 16), **kwargs)).eval()


def exported(model, simulator, folder):
    if not get_runtime(simulator).available():
        pytest.skip(get_runtime(simulator).available().reason)
    example = model.example_input.numpy()
    return export(model.eval(), load_card(simulator), "fp32", folder / "bundle", example, trained=True)


def spikes_row(bundle):
    return next(row for row in bundle.parity.rows if row.kind == "spikes")


def edges(model):
    (part,) = partition(trace_module(model.eval())).parts
    return {(source, node.name) for node in part.graph.nodes for source in node.sources}


def refusals(model, simulator="snntorch"):
    return [
        f"{item.what}: {item.reason}: {item.remedy}" for item in plan(model.eval(), None, load_card(simulator)).refused
    ]


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("make", [two_layers, Sew, OneStep], ids=["two layers", "sew", "one step"])
def test_a_network_of_spikes_is_one_graph_and_spikes_as_spikingjelly(make, simulator, tmp_path):
    bundle = exported(make(), simulator, tmp_path)
    assert bundle.parity, bundle.summary()
    assert bundle.manifest["rewriting"]["differ"] == 0
    assert set(bundle.manifest["hybrid"]["segments"]) == {None}
    assert check(bundle.folder)
    with np.load(bundle.folder / "golden/island-00.npz") as run:
        assert 0.02 < run["spikes"].mean() < 0.6


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_random_convolutions_keep_their_spikes_or_differ_at_a_threshold_only(simulator, tmp_path):
    bundle = exported(random_convolution(), simulator, tmp_path)
    (part,) = partition(trace_module(random_convolution())).parts
    with np.load(bundle.folder / "golden/island-00.npz") as golden:
        entering = torch.from_numpy(golden["input"])
    run = part.graph.run(entering)
    got = get_runtime(simulator).run(bundle.folder / "spiking/island-00.nir", {"input": entering.numpy()})
    order = tuple(run.currents)
    found = differences(part.graph, run, torch.from_numpy(got["spikes"]).float(), order)
    assert found.spikes == 4 * 16 * (8 * 64 + 8 * 16 + 32)
    assert (found.differ, found.unexplained) == (0, 0), found.summary()
    assert "0 of" in bundle.manifest["rewriting"]["what"]


def test_a_difference_that_is_no_rounding_is_told_from_one_that_is():
    (part,) = partition(trace_module(two_layers())).parts
    run = part.graph.run(two_layers().example_input)
    other, order = run.spikes.clone(), tuple(run.currents)
    assert differences(part.graph, run, other, order).differ == 0
    other[0, 3, 5] = 1 - other[0, 3, 5]
    margin = abs(float(run.currents[order[0]][0, 3, 5]) - 1.0)
    assert margin > 1e-5
    assert differences(part.graph, run, other, order).unexplained == 1
    with torch.no_grad():
        run.currents[order[0]][0, 3, 5] = 1 + 1e-7
    assert differences(part.graph, run, other, order).unexplained == 0


def test_a_transformer_becomes_an_island_of_tokens_between_dense_segments(tmp_path):
    bundle = exported(Transformer(), "norse", tmp_path)
    (island,) = bundle.manifest["hybrid"]["islands"]
    assert bundle.parity, bundle.summary()
    assert (island["shape"], island["out_shape"], island["input_steps"], island["tokens"]) == ([16], [16], 1, 35)
    assert [segment["file"] for segment in bundle.manifest["hybrid"]["segments"]] == [
        "dense/segment-00.onnx", "dense/segment-01.onnx",
    ]  # fmt: skip
    rules = {item["rule"] for item in bundle.manifest["plan"]}
    assert rules == {"fold-batchnorm", "nir-norse", "dense-segment"}
    done = subprocess.run([sys.executable, "-I", bundle.folder / "run.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "island-00.nir in norse: 0 of" in done.stdout


def test_a_residual_becomes_two_edges_and_one_into_the_output_an_identity(tmp_path):
    bundle = exported(Sew(), "snntorch", tmp_path)
    graph = nir.read(bundle.folder / "spiking/island-00.nir")
    entering = [target for _source, target in graph.edges]
    assert entering.count("output") == 1
    assert ("sum", "output") in graph.edges
    assert entering.count("sum") == 2
    assert (type(graph.nodes["sum"]).__name__, float(graph.nodes["sum"].weight.sum())) == ("Conv2d", 4.0)


def test_the_same_signal_added_to_itself_is_no_double_edge():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.read = two_layers(), layer.Linear(8, 8, step_mode="m")
            self.fire, self.example_input = neuron.LIFNode(decay_input=False, step_mode="m"), eighths(8, 16)

        def forward(self, x):
            spikes = self.fire(self.net.net(x.unsqueeze(0).repeat(4, 1, 1)))
            return self.read(spikes + spikes).mean(0)

    assert {target for source, target in edges(Twice()) if source == "neuron_fire"} == {"same", "affine_read"}


def test_a_grouped_convolution_is_written_in_full_and_sum_pooling_as_it_is(tmp_path):
    stack = (layer.Conv2d(4, 4, 3, groups=4), neuron.LIFNode(decay_input=False), nn.AvgPool2d(2, divisor_override=1),
             layer.Flatten(), layer.Linear(16, 3))  # fmt: skip

    class Folded(Chain):
        def forward(self, x):
            y = self.net[1](self.net[0](x.unsqueeze(0).repeat(4, 1, 1, 1, 1)))
            y = self.net[2](y.flatten(0, 1)).view(4, x.shape[0], 4, 2, 2)
            return self.net[4](self.net[3](y)).mean(0)

    bundle = exported(dyadic(Folded(*stack, example=eighths(8, 4, 6, 6))), "snntorch", tmp_path)
    assert bundle.parity, bundle.summary()
    kinds = {type(node).__name__ for node in nir.read(bundle.folder / "spiking/island-00.nir").nodes.values()}
    assert {"Conv2d", "SumPool2d", "Flatten"} <= kinds


def test_a_dense_operator_before_the_first_neuron_sees_all_steps(tmp_path):
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 4)
            self.fire, self.example_input = neuron.LIFNode(step_mode="m"), 2 * eighths(4, 8, 16)

        def forward(self, x):
            return self.down(self.fire(3 * self.up(self.norm(x)))).mean(0)

    torch.manual_seed(0)
    bundle = exported(Normed(), "norse", tmp_path)
    (island,) = bundle.manifest["hybrid"]["islands"]
    assert bundle.parity, bundle.summary()
    assert (island["input_steps"], island["shape"], island["out_shape"]) == (4, [32], [4])


@pytest.mark.parametrize(
    "read_out",
    [lambda y: y, lambda y: y.sum(0) / 4, lambda y: y.mean(dim=0)],
    ids=["all steps", "sum over T", "mean"],
)
def test_the_mean_over_time_stands_outside_nir_however_it_is_written(read_out, tmp_path):
    bundle = exported(two_layers(read_out=read_out), "norse", tmp_path)
    with np.load(bundle.folder / "golden/model.npz") as run:
        assert run["output"].shape == (64, 8)
    assert bundle.parity
    assert set(bundle.manifest["hybrid"]["segments"]) == {None}


def test_an_ilif_with_one_step_becomes_binary_slots_and_is_refused_where_thresholds_are_shared(tmp_path):
    fire = neuron.ILIFNode(tau=4 / 3, v_threshold=0.5, surrogate_function=surrogate.MultiLevelSpikeCount(3))
    stack = (layer.Linear(16, 32), fire, layer.Linear(32, 8))

    class OneShot(Chain):
        def forward(self, x):
            return self.net(x.unsqueeze(0).repeat(1, 1, 1)).mean(0)

    model = dyadic(OneShot(*stack, example=eighths(64, 16)))
    bundle = exported(model, "norse", tmp_path)
    assert bundle.parity, bundle.summary()
    assert bundle.manifest["levels"] == 3
    with np.load(bundle.folder / "golden/island-00.npz") as run:
        assert run["spikes"].max() == 3
    assert any("one threshold for all neurons" in text for text in refusals(model))


def own_loop():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.fire, self.example_input = nn.Linear(16, 8), neuron.LIFNode(), eighths(8, 16)

        def forward(self, x):
            return torch.stack([self.fire(self.fc(x)) for _ in range(4)]).mean(0)

    return Loop()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: Transformer(spiking_attention=True), "NIR has no softmax"),
        (lambda: two_layers(lambda: neuron.QIFNode()), "QIFNode: this neuron has no exact NIR form"),
        (lambda: two_layers(lambda: neuron.LIFNode(v_reset=None)), "soft reset: snnTorch"),
        (lambda: two_layers(lambda: neuron.LIFNode(v_reset=-0.5)), "v_reset = -0.5"),
        (
            lambda: Chain(
                layer.Conv2d(2, 4, 3), neuron.LIFNode(), layer.MaxPool2d(2), layer.Flatten(), layer.Linear(16, 2),
                example=eighths(8, 2, 6, 6),
            ),
            "max_pool2d: NIR has no maximum: use AvgPool2d",
        ),
        (
            lambda: Chain(layer.Linear(16, 8), neuron.LIFNode(), nn.LayerNorm(8), example=eighths(8, 16)),
            "layer_norm: NIR has no statistics over features: use BatchNorm",
        ),
    ],
    ids=["softmax", "QIF", "soft reset", "v_reset", "max pooling", "LayerNorm"],
)  # fmt: skip
def test_what_cannot_be_expressed_is_refused_with_reason_and_remedy(model, reason, tmp_path):
    made = model()
    assert any(reason in text for text in refusals(made)), refusals(made)
    with pytest.raises(UnsupportedError):
        exported(made, "snntorch", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"example_input": None}, InputError, "give the module an attribute `example_input`"),
        ({"example_input": eighths(8, 16).double()}, InputError, "float32"),
        ({"example_input": eighths(8, 16) * float("nan")}, InputError, "not finite"),
        ({"example_input": eighths(8, 15)}, UnsupportedError, "cannot be traced on its example_input"),
        ({"example_input": eighths(1, 16)}, InputError, "give at least two"),
        ({"steps": None}, UnsupportedError, "give it an attribute `steps`"),
        ({"steps": 0}, InputError, "a whole number from 1"),
    ],
)
def test_an_example_that_cannot_be_used_is_one_clear_error(change, error, message):
    model = OneStep()
    for name, value in change.items():
        setattr(model, name, value)
    with pytest.raises(error, match=message):
        plan(model, None, load_card("norse"))


def test_a_loop_over_time_is_refused_with_both_remedies():
    with pytest.raises(UnsupportedError, match=r"called 4 times in one forward.*`steps`.*multi-step"):
        plan(own_loop(), None, load_card("norse"))


def test_a_module_that_is_not_a_function_of_its_input_is_found_out(tmp_path):
    class Fickle(Chain):
        def forward(self, x):
            return super().forward(x if torch.compiler.is_exporting() else 2 * x)

    model = dyadic(Fickle(layer.Linear(16, 8), neuron.LIFNode(), layer.Linear(8, 4), example=eighths(16, 16)))
    with pytest.raises(UnsupportedError, match="the rewritten module is not the module"):
        exported(model, "norse", tmp_path)


def test_what_a_simulator_was_measured_to_miss_is_approximate_and_needs_leave(tmp_path, monkeypatch):
    row = {"simulator": "norse", "version": "1.1.0", "feature": "several layers", "steps": 4, "spikes": 1000,
           "mismatches": 31, "output_error": 0.1, "verdict": "approximate", "note": ""}  # fmt: skip
    monkeypatch.setattr(fidelity, "_rows", lambda: (row,))
    model, card = two_layers(), load_card("norse")
    made = plan(model, None, card)
    assert "approximate: several layers: 3.10% of spikes differ" in made.summary()
    assert "approximate" in json.dumps(made.to_dict())
    example = model.example_input.numpy()
    with pytest.raises(UnsupportedError, match="--allow-approximate"):
        export(model, card, "fp32", tmp_path / "no", example)
    bundle = export(model, card, "fp32", tmp_path / "yes", example, allow_approximate=True)
    assert all("reported, not gated: the target is approximate" in row.detail for row in bundle.parity.rows)


@pytest.mark.parametrize(
    ("target", "reset", "grade"),
    [("norse", 0.0, "exact"), ("norse", None, "exact with a runtime patch"), ("spikingjelly", 0.0, "exact")],
)
def test_the_plan_says_how_exactly_a_target_runs_a_part(target, reset, grade):
    items = plan(Transformer(reset).eval(), None, load_card(target)).items
    assert {item.fidelity for item in items if item.rule == f"nir-{target}"} == {grade}
