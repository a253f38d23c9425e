"""Precisions: what a preset quantises, what a device refuses, ranges, sensitivity, budgets and training for INT8."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import LIF, random_patches, small_model

from spikeport_converters.export import check, export
from spikeport_converters.fold import fold_batchnorm
from spikeport_converters.half import half_model
from spikeport_converters.jetson import TUNED, dense_graph
from spikeport_converters.low_float import low_float
from spikeport_converters.observers import BINS, entropy_range, mse_range
from spikeport_converters.onnx_graph import INPUT, OUTPUT, QDQ, onnx_from_model, with_float_io
from spikeport_converters.operators import module_path
from spikeport_converters.parity import nmse_db
from spikeport_converters.precision import MIXED, PRESETS, assignment, check_precision, group_of, only
from spikeport_converters.quantize import exported, quantised
from spikeport_converters.quantize_aware import quantize_aware
from spikeport_converters.sensitivity import Sensitivity, Trials, sensitivity, within_budget
from spikeport_converters.static_model import static_model
from spikeport_errors import UnsupportedError, UsageError
from spikeport_targets.card import load_card
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime

CARD = load_card("jetson-orin-nano")
THOR = replace(CARD, limits={**CARD.limits, "presets": list(PRESETS), "compute_capability": 11.0})


@pytest.fixture(scope="module")
def model():
    return small_model(replace(LIF))


@pytest.fixture(scope="module")
def patches(model):
    return random_patches(model, 8)


@pytest.fixture(scope="module")
def trials(model, patches):
    inputs = random_patches(model, 12)[8:]
    reference = fold_batchnorm(model)
    with torch.no_grad():
        target = reference(torch.from_numpy(inputs)).numpy() * np.float32(1.1)
    return Trials(static_model(reference, torch.from_numpy(patches[:2])).program, patches, inputs, target)


@pytest.fixture(scope="module")
def half(model, patches):
    """The half-precision graph with T D of its staircases, as FP8 and NVFP4 start from it."""
    static = static_model(fold_batchnorm(model), torch.from_numpy(patches[:2]))
    graph = with_float_io(onnx_from_model(half_model(static.program), torch.from_numpy(patches[:2]).half(), 23))
    return graph, {path: m.stairs.steps * m.stairs.levels for path, m in static.stairs.items()}


def quantised_layers(graph):
    """Module paths whose input is quantised."""
    made = {name for node in graph.node for name in node.output}
    nodes = [n for n in graph.node if n.op_type == QDQ[0] and (n.input[0] in made or n.input[0] == INPUT)]
    return {n.name.rpartition("/")[0] for n in nodes}


def scales(program):
    """Scale of the quantised input of every layer that a converted program quantises, by path."""
    found = {}
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.linear.default and "dequantize" in str(node.args[0].target):
            found[module_path(node)] = float(node.args[0].args[1])
    return found


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("backbone.embed", "embed"), ("backbone.blocks.0.attention.qkv", "attention"), ("head.decoder", "head"),
        ("backbone.blocks.0.attention.out", "attention"), ("head.blocks.1.ffn.fc1", "fc1"),
        ("encoder.0.linear2", "fc2"),
        ("layers.3.self_attn.q_proj", "attention"), ("classifier.1", "head"), ("anything", "other"),
    ],
)  # fmt: skip
def test_a_layers_group_follows_from_its_path(path, group):
    assert group_of(path) == group


def test_what_reads_spike_counts_is_fc2_wherever_it_stands():
    assert group_of("features.7", reads_counts=True) == "fc2"


@pytest.mark.parametrize("name", ["skip.gate", "head.wiener.filter"])
def test_a_wiener_skip_is_never_quantised(name):
    assert not PRESETS["int8"].quantises(name, "other")


def test_int8_safe_quantises_what_reads_counts_and_attentions_projections_only(trials):
    layers = scales(quantised(trials.program, trials.calibration, PRESETS["int8-safe"]))
    assert {group_of(path) for path in layers} == {"fc2", "attention"}
    assert len(layers) == 2 * (1 + 2)


def test_int8_fp16_has_no_float32_constant_and_runs(model, patches):
    _, graph = dense_graph(fold_batchnorm(model), patches, "int8-fp16")
    kinds = {i.data_type for i in graph.graph.initializer if i.dims or i.name.endswith("scale")}
    assert onnx.TensorProto.FLOAT not in kinds
    assert {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT16} <= kinds
    assert graph.opset_import[0].version == 19


@pytest.mark.parametrize(("precision", "limit"), [("fp8", -15.0), ("nvfp4", -8.0)])
def test_fp8_and_nvfp4_compute_nearly_the_same(precision, limit, half, patches, tmp_path):
    given, levels = half
    onnx.save(given, tmp_path / "half.onnx")
    coded = low_float(onnx.ModelProto.FromString(given.SerializeToString()), PRESETS[precision], patches, levels)
    onnx.save(coded, tmp_path / "coded.onnx")
    want, got = (OnnxRuntime().run(tmp_path / f"{n}.onnx", {INPUT: patches})[OUTPUT] for n in ("half", "coded"))
    assert nmse_db(got, want) < limit


def test_nvfp4_has_a_scale_per_sixteen_weights(half, patches):
    given, levels = half
    graph = low_float(onnx.ModelProto.FromString(given.SerializeToString()), PRESETS["nvfp4"], patches, levels)
    kinds = {i.name: i for i in graph.graph.initializer}
    coded, blocks = (kinds[f"head.blocks.0.ffn.fc1/weight/{part}"] for part in ("coded", "blocks"))
    assert (coded.data_type, blocks.data_type) == (onnx.TensorProto.FLOAT4E2M1, onnx.TensorProto.FLOAT8E4M3FN)
    assert [*blocks.dims] == [coded.dims[0] // 16, coded.dims[1]]


@pytest.mark.parametrize("name", ["fp8", "nvfp4"])
def test_an_orin_refuses_what_it_cannot_compute_before_anything_is_made(name, model, patches, tmp_path):
    with pytest.raises(UnsupportedError, match=rf"compute capability 8\.7, and {name.upper()} needs .*take int8-safe"):
        export(model, CARD, name, tmp_path / "bundle", patches)
    assert list(tmp_path.iterdir()) == []
    check_precision(THOR, PRESETS[name])


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'int8-safe'"):
        assignment("int8safe")
    with pytest.raises(UsageError, match="did you mean 'entropy'"):
        assignment("int8", "entropie")


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-3, 1e3))
def test_a_chosen_range_is_never_beyond_the_largest_value(seed, top):
    histogram = np.random.default_rng(seed).exponential(size=BINS) * np.exp(-np.arange(BINS) / 200)
    for choose in (entropy_range, mse_range):
        assert 0 < choose(histogram, top) <= top * (1 + 1e-9)


def test_an_outlier_is_clipped_by_mse_and_entropy_and_kept_by_minmax():
    histogram = np.floor(1e7 * np.exp(-np.arange(BINS) / 30))
    histogram[-1] = 1
    assert mse_range(histogram, 1.0) < 0.2
    assert entropy_range(histogram, 1.0) < 0.2


@pytest.mark.parametrize("method", ["entropy", "mse"])
def test_a_calibration_changes_the_scales_but_not_that_of_counts(method, trials):
    plain, other = (
        scales(quantised(trials.program, trials.calibration, assignment("int8", name))) for name in ("minmax", method)
    )
    counts = [path for path in plain if path.endswith("fc2")]
    assert counts
    assert all(plain[path] == other[path] == 0.25 for path in counts)
    assert all(other[path] <= plain[path] * (1 + 1e-6) for path in plain)
    assert any(other[path] < plain[path] for path in plain)


def test_sensitivity_has_a_row_for_every_group_and_layer(trials):
    groups = sensitivity(trials, PRESETS["int8"])
    assert {row.part for row in groups.rows} == {"embed", "attention", "fc1", "fc2", "head"}
    assert sum(row.macs_share for row in groups.rows) == pytest.approx(1)
    layers = sensitivity(trials, PRESETS["int8"], "layers")
    assert [row.part for row in layers.rows] == [layer.path for layer in trials.layers]
    assert Sensitivity.from_dict(groups.to_dict()) == groups


def test_a_budget_gives_the_cheapest_assignment_that_keeps_it(trials):
    base = PRESETS["int8"]
    chosen, table = within_budget(trials, base, 5.0)
    assert set(chosen.groups) == {row.part for row in table.rows}, "a wide budget takes all"
    losses = sorted(row.task_db for row in table.rows)
    budget = max(losses[-1] * 0.5, 1e-6)
    chosen, table = within_budget(trials, base, budget)
    assert chosen.name == MIXED
    assert table.loss_db <= budget
    assert trials.losses(chosen)[0] == pytest.approx(table.loss_db)
    cheaper = [only(base, groups=(*chosen.groups, row.part)) for row in table.rows if row.part not in chosen.groups]
    assert all(trials.losses(more)[0] > budget for more in cheaper)


def test_a_budget_that_nothing_meets_leaves_all_in_float(trials):
    chosen, table = within_budget(trials, PRESETS["int8"], 1e-9)
    assert table.loss_db <= 1e-9
    if not table.chosen:
        assert chosen.groups == ()


def test_sensitivity_is_for_int8(trials):
    with pytest.raises(UsageError, match="take --precision int8"):
        sensitivity(trials, PRESETS["fp16"])


def test_a_tuned_and_mixed_bundle_says_so_and_is_held_against_what_the_model_was_before(model, patches, tmp_path):
    reference = fold_batchnorm(model)
    target = np.random.default_rng(0).standard_normal((8, 4, 336)).astype(np.float32)
    chosen = only(PRESETS["int8"], layers=["head.blocks.0.ffn.fc2", "backbone.embed"])
    tuned = quantize_aware(reference, chosen, cycle([patches]), 3)
    bundle = export(tuned, CARD, chosen, tmp_path / "bundle", patches, target, original=model)
    with np.load(tmp_path / "bundle/golden/model.npz") as golden, torch.no_grad():
        before = reference(torch.from_numpy(golden["input"])).numpy()
        assert np.array_equal(golden["original"], before)
        detail = f"NMSE {nmse_db(before, golden['target']):.3f} dB in torch"
    assert detail in next(row.detail for row in bundle.parity.rows if row.kind == "task")
    assert TUNED in bundle.manifest["files"]
    assert bundle.manifest["precision"] == MIXED
    assert bundle.manifest["dense"]["assignment"]["layers"] == ["head.blocks.0.ffn.fc2", "backbone.embed"]
    assert quantised_layers(onnx.load(tmp_path / "bundle/dense/model.onnx").graph) == set(chosen.layers)
    assert [rung["name"] for rung in bundle.manifest["ladder"]][:3] == ["device", "onnx.checker", "operator table"]
    assert check(tmp_path / "bundle").ladder


def test_training_for_int8_lowers_its_loss_and_repeats_to_the_bit(model, patches):
    reference = fold_batchnorm(model)
    with torch.no_grad():
        target = reference(torch.from_numpy(patches)).numpy()
    chosen = PRESETS["int8"]

    def loss(tuned):
        static = static_model(tuned, torch.from_numpy(patches[:2])).program
        got = quantised(exported(static, torch.from_numpy(patches)), torch.from_numpy(patches), chosen)
        with torch.no_grad():
            return nmse_db(got(torch.from_numpy(patches))[0].numpy(), target)

    tuned, again = (quantize_aware(reference, chosen, cycle([patches]), 20, 2e-4) for _ in range(2))
    assert loss(tuned) < loss(reference) - 1
    assert all(torch.equal(a, b) for a, b in zip(tuned.state_dict().values(), again.state_dict().values(), strict=True))
    neuron = "head.blocks.0.ffn.fc1.weight"
    assert not torch.equal(tuned.state_dict()[neuron], reference.state_dict()[neuron]), "gradients pass the staircase"


@pytest.mark.parametrize(("steps", "name"), [(0, "int8"), (20_000, "int8")])
def test_steps_of_training_are_bounded(steps, name, model, patches):
    with pytest.raises(UsageError, match="--qat"):
        quantize_aware(fold_batchnorm(model), PRESETS[name], cycle([patches]), steps)


def test_training_is_for_int8(model, patches):
    with pytest.raises(UnsupportedError, match="take --precision int8"):
        quantize_aware(fold_batchnorm(model), PRESETS["fp8"], cycle([patches]), 3)


def test_a_weight_beyond_half_precision_is_refused() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with torch.no_grad():
        model[0].bias[1] = 70_000.0
    with pytest.raises(UnsupportedError, match=r"0.bias holds 7e\+04.*fp32"):
        half_model(model)
