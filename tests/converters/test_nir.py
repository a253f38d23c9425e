"""The NIR route: the same spikes in the real simulators, and why each detail of a profile is there."""

import subprocess
import sys
from dataclasses import replace

import nir
import numpy as np
import pytest
import torch

from spikeport.testing import CASES, golden_island
from spikeport_converters.export import check, export
from spikeport_converters.fold import fold_batchnorm
from spikeport_converters.islands import find_islands, golden, nir_from_island, record
from spikeport_converters.nir import nir_plan
from spikeport_converters.nir_profiles import PROFILES, lif_node, strict_threshold
from spikeport_errors import InputError, UnsupportedError
from spikeport_targets.card import load_card
from spikeport_targets.runtime import get_runtime
from spikeport_targets.runtimes.nir_runner import IslandError, read_island, run_island
from spikeport_toolkit.models.config import GridConfig, HeadConfig, ModelConfig, NeuronConfig
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.models.spikewfm import ChannelPredictor

HARD = NeuronConfig("lif", steps=4)


def tiny(neuron=HARD, norm="bn"):
    torch.manual_seed(0)
    grid, head = GridConfig(4, 2, 2), HeadConfig(32, 2, 64, layers=1)
    return ChannelPredictor(ModelConfig("tiny", 32, 1, 2, 64, norm, neuron, grid, head)).eval()


def patches(samples, tokens):
    return np.random.default_rng(0).standard_normal((samples, tokens, 336), dtype=np.float32)


def mismatches(model, simulator, samples, tmp_path):
    """Wrong spikes, spikes and tokens of every island of `model` in `simulator`."""
    folded, card = fold_batchnorm(model), load_card(simulator)
    islands, profile = find_islands(folded), PROFILES[card.limits["profile"]]
    entering, _ = record(folded, islands, torch.from_numpy(patches(samples, model.config.grid.tokens)))
    rows = []
    for island in islands:
        want = golden(island, entering[island.name], profile)
        nir.write(tmp_path / "island.nir", nir_from_island(island, profile))
        got = get_runtime(simulator).run(tmp_path / "island.nir", {"input": want.input})
        assert np.abs(got["output"] - want.output).max() <= 1e-5 * np.abs(want.output).max()
        rows.append((int((got["spikes"] != want.spikes).sum()), int(want.spikes.sum()), len(want.input)))
    return rows


@pytest.mark.parametrize(
    ("model", "simulator"),
    [
        ("spikewfm-nano", "snntorch"),
        ("spikewfm-nano", "norse"),
        ("spikewfm-nano", "spikingjelly"),
        ("spikewfm-nano", "sinabs"),
        ("spikewfm-nano-lif_soft", "sinabs"),
        ("spikewfm-nano-lif_soft", "norse"),
        ("spikewfm-nano-ilif", "norse"),
    ],
)
def test_no_spike_of_nano_differs_over_a_thousand_tokens(model, simulator, tmp_path):
    rows = mismatches(load_model(model), simulator, 16, tmp_path)
    assert len(rows) == 7
    for wrong, spikes, tokens in rows:
        assert (wrong, tokens) == (0, 1024)
        assert spikes > 1000


@pytest.mark.parametrize("simulator", ["snntorch", "norse"])
@pytest.mark.parametrize("neuron", [HARD, CASES["hard reset, input decay"], NeuronConfig("lif", steps=4, tau=10 / 3)])
def test_an_island_behind_a_layernorm_takes_currents(simulator, neuron, tmp_path):
    assert all(wrong == 0 for wrong, _, _ in mismatches(tiny(neuron, "ln"), simulator, 64, tmp_path))


@pytest.mark.parametrize("name", ["lif_soft", "ilif"])
def test_snntorch_refuses_what_it_cannot_reproduce_and_names_the_remedy(name, tmp_path):
    model = load_model(f"spikewfm-nano-{name}")
    with pytest.raises(UnsupportedError, match=r"use a binary neuron with hard reset.*--target norse"):
        export(model, load_card("snntorch"), "fp32", tmp_path / "out", patches(1, 64))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("neuron", "simulator", "reason"),
    [
        (NeuronConfig("lif", steps=4, v_reset=-0.2), "snntorch", "v_reset = -0.2"),
        (NeuronConfig("ilif", steps=2, levels=4, tau=4 / 3, v_reset=None), "norse", "T = 2"),
        (NeuronConfig("relu"), "norse", "no spiking neuron"),
    ],
)
def test_the_plan_refuses_with_reason_and_remedy(neuron, simulator, reason):
    refused = [item for item in nir_plan(tiny(neuron), load_card(simulator)) if item.action == "refused"]
    assert reason in refused[0].reason
    assert "--target" in refused[0].remedy


def test_the_plan_covers_every_part_and_keeps_attention_out_of_nir():
    actions = {item.path: (item.action, item.rule) for item in nir_plan(tiny(), load_card("norse"))}
    assert actions["backbone.blocks.0.ffn"] == ("rewritten", "nir-norse")
    assert actions["backbone.blocks.0.ffn.norm"] == ("rewritten", "fold-batchnorm")
    assert actions["backbone.blocks.0.attention"] == ("kept", "dense-segment")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nir") / "bundle"
    return export(tiny(), load_card("norse"), "fp32", folder, patches(64, 16), trained=True)


def test_a_bundle_holds_in_the_simulator_island_by_island_and_as_a_whole(bundle):
    assert bundle.parity
    spikes = [row for row in bundle.parity.rows if row.kind == "spikes" and row.name.endswith(".ffn")]
    assert [row.value for row in spikes] == [0.0, 0.0]
    assert bundle.parity.rows[-1].name == "model"
    assert bundle.parity.rows[-1].value < -60
    assert check(bundle.folder)


def test_the_bundles_own_runner_needs_nothing_of_spikeport(bundle):
    done = subprocess.run([sys.executable, "-I", bundle.folder / "run.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "island-01.nir in norse: 0 of" in done.stdout
    assert "spikeport" not in (bundle.folder / "run.py").read_text().split("from __future__")[1]


def test_a_hybrid_with_layernorms_carries_the_gain_in_their_scale_and_shift(tmp_path):
    made = export(tiny(norm="ln"), load_card("norse"), "fp32", tmp_path / "out", patches(4, 16), trained=True)
    assert made.parity
    assert made.manifest["hybrid"]["islands"][0]["takes"] == "currents"


def test_golden_files_have_the_documented_shapes(bundle):
    with np.load(bundle.folder / "golden/island-00.npz") as run:
        shapes = {name: (str(run[name].dtype), run[name].shape) for name in run.files}
    tokens = 16 * 32
    assert shapes == {
        "input": ("float32", (tokens, 32)), "spikes": ("uint8", (4, tokens, 64)), "output": ("float32", (tokens, 32)),
    }  # fmt: skip


def test_the_lif_node_says_what_nir_cannot(bundle):
    island = read_island(bundle.folder / "spiking/island-00.nir")
    (neuron,) = island.neurons
    assert (island.profile, island.steps, neuron.reset_mode, neuron.slots) == ("norse", 4, "constant", 1)
    assert neuron.node.metadata["spike_op"] == "gt"
    assert np.array_equal(neuron.node.v_leak, neuron.node.v_reset)


def test_a_second_edge_into_the_output_is_refused_because_importers_drop_it_silently(tmp_path):
    golden_island(HARD, "norse", tmp_path / "a.nir")
    graph = nir.read(tmp_path / "a.nir")
    assert graph.edges == [("input", "fc1"), ("fc1", "lif"), ("lif", "fc2"), ("fc2", "output")]
    graph.edges.append(("input", "output"))
    nir.write(tmp_path / "b.nir", graph)
    with pytest.raises(InputError, match="exactly one edge may enter `output`"):
        get_runtime("norse").run(tmp_path / "b.nir", {"input": np.zeros((1, 16), np.float32)})


def test_a_graph_of_another_dt_is_refused_because_snntorch_would_rescale_its_threshold(tmp_path):
    want = golden_island(HARD, "generic", tmp_path / "a.nir")
    island = read_island(tmp_path / "a.nir")
    with pytest.raises(IslandError, match=r"assumes dt 0\.0001"):
        run_island(replace(island, dt=1e-3), want.input, "snntorch")
    node = island.neurons[0].node
    node.tau = node.tau * 10
    with pytest.raises(IslandError, match="imports a LIF neuron differently"):
        run_island(island, want.input, "snntorch")


def test_norse_does_not_read_r_so_its_profile_scales_the_weights(tmp_path):
    want = golden_island(HARD, "generic", tmp_path / "a.nir")
    island = read_island(tmp_path / "a.nir")
    assert island.neurons[0].node.r[0] == 2.0
    with pytest.raises(InputError, match="profile `norse`"):
        get_runtime("norse").run(tmp_path / "a.nir", {"input": want.input})
    wrong = run_island(replace(island, profile="norse"), want.input, "norse")["spikes"] != want.spikes
    assert wrong.mean() > 0.01


@pytest.mark.parametrize(("profile", "simulator"), [("generic", "snntorch"), ("norse", "norse")])
def test_a_membrane_at_its_threshold_fires_only_with_the_next_smaller_float(profile, simulator, tmp_path):
    want = golden_island(HARD, profile, tmp_path / "a.nir")
    island = read_island(tmp_path / "a.nir")
    assert np.array_equal(run_island(island, want.input, simulator)["spikes"], want.spikes)
    node = island.neurons[0].node
    node.v_threshold = np.full_like(node.v_threshold, HARD.v_threshold)
    assert (run_island(island, want.input, simulator)["spikes"] != want.spikes).any()


@pytest.mark.parametrize("threshold", [1.0, 0.5, 1 / 3, 1e-30])
def test_a_strict_compare_with_the_strict_threshold_is_greater_or_equal(threshold):
    exact = np.float32(threshold)
    near = np.array([np.nextafter(exact, np.float32(-9)), exact, np.nextafter(exact, np.float32(9))], np.float32)
    assert np.array_equal(near > strict_threshold(threshold), near >= exact)


@pytest.mark.parametrize("tau", [2.0, 4.0, 4 / 3, 10 / 3, 1.5])
def test_norse_reads_exactly_one_over_tau(tau):
    node = lif_node(PROFILES["norse"], NeuronConfig("lif", steps=4, tau=tau), 1)
    assert np.float32(PROFILES["norse"].dt) * (np.float32(1) / node.tau[0]) == pytest.approx(1 / tau, rel=1e-7)


@pytest.mark.parametrize(
    "name", ["spiking/island-00.nir", "golden/island-00.npz", "golden/model.npz", "dense/segment-01.onnx"]
)
def test_a_truncated_file_of_a_bundle_is_named(bundle, name):
    path = bundle.folder / name
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: len(whole) // 2])
        assert [fault.name for fault in check(bundle.folder).faults] == [name]
        from spikeport_converters.nir import nir_parity

        with pytest.raises(InputError, match=path.name):
            nir_parity(bundle.folder, bundle.manifest)
    finally:
        path.write_bytes(whole)
