"""Loihi: the integer model is Lava's, its spikes are SpikingJelly's, its files run in netx, its bundle says so."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeport_converters.bundle import Bundle
from spikeport_converters.deployed import Deployed
from spikeport_converters.export import check, export
from spikeport_converters.fold import fold_batchnorm, fold_time, staircase
from spikeport_converters.loihi import LoihiFeedForward, block_inputs, loihi_island, loihi_model, spiking_blocks
from spikeport_converters.loihi_currents import aligned_currents, max_currents
from spikeport_converters.loihi_netx import write_net
from spikeport_converters.loihi_scaling import quantize_islands
from spikeport_errors import InputError, UnsupportedError, UsageError
from spikeport_targets.card import load_card
from spikeport_targets.environments import python_of
from spikeport_targets.runtime import get_runtime
from spikeport_targets.runtimes.loihi import run_lava
from spikeport_targets.runtimes.loihi_runner import VTH_HIGH, NetIsland, chip_weight, dense, lif, read_island
from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.models.neuron import SpikingNeuron
from spikeport_toolkit.tasks.channel_prediction import example_pairs

LIF = NeuronConfig("lif", steps=4)
ILIF = NeuronConfig("ilif", steps=1, levels=4, tau=4 / 3, v_threshold=0.5, v_reset=None)
LIFS = {
    "T 4": LIF,
    "T 8": NeuronConfig("lif", steps=8),
    "T 1": NeuronConfig("lif", steps=1),
    "tau 10/3": NeuronConfig("lif", steps=4, tau=10 / 3),
    "input decay": NeuronConfig("lif_paper", steps=4, decay_input=True),
    "threshold 1/2": NeuronConfig("lif", steps=4, v_threshold=0.5),
}
LAVA_CASES = [  # dv, du, vth, largest activation: slow and fast leak, saturating v, u that wraps around, no leak at all
    (2048, 4095, 64, 300),
    (1024, 4095, 3000, 3000),
    (0, 4095, VTH_HIGH, 200_000),
    (409, 1000, 60_000, 60_000),
    (4095, -1, 100, 30),
    (777, 0, 5000, 260_000),
]

needs_lava = pytest.mark.skipif(
    python_of("lava") is None, reason="environment lava is not made: spikeport env make lava"
)
needs_netx = pytest.mark.skipif(python_of("lava-dl") is None, reason="environment lava-dl is not made")


@pytest.fixture(scope="module")
def shipped():
    model = load_model("spikewfm-nano")
    return model, fold_batchnorm(model), *example_pairs(model.config, 4, 0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    """Exported without Lava's environments: what netx makes of such files is a test of its own."""
    model = load_model("spikewfm-nano")
    patches, target = example_pairs(model.config, 2, 0)
    folder = tmp_path_factory.mktemp("loihi") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPIKEPORT_ENVS", str(folder.parent / "none"))
        return export(model, load_card("loihi2"), "int8", folder, patches, target, name="spikewfm-nano", trained=True)


def currents(*shape):
    """Float32 currents, many of them next to a threshold."""
    rng = np.random.default_rng(0)
    near = rng.choice([0.25, 0.5, 8 / 15, 2 / 3, 0.75, 1.0, 1.25, 2.0], shape) * (1 + rng.normal(0, 3e-7, shape))
    return np.where(rng.random(shape) < 0.5, near, rng.normal(0.4, 0.6, shape)).astype(np.float32)


@needs_lava
def test_the_integer_neuron_is_lavas_bit_for_bit_with_saturation_and_wrap_around():
    rng = np.random.default_rng(1)
    cases = []
    for dv, du, vth, largest in LAVA_CASES:
        activation, bias = rng.integers(-largest, largest, (24, 32)), rng.integers(-4096, 4096, 32)
        cases.append({"activation": activation, "bias": bias, "vth": vth, "dv": dv, "du": du, "bias_exp": 6})
    most_u = most_v = 0
    for case, real in zip(cases, run_lava("lif", cases), strict=True):
        spikes, u, v = lif(**case)
        assert 0.01 < spikes.mean() < 0.9
        assert np.array_equal(spikes, real["spikes"])
        assert np.array_equal(u, real["u"])
        assert np.array_equal(v, real["v"])
        most_u, most_v = max(most_u, np.abs(u).max()), max(most_v, np.abs(v).max())
    assert most_v == 2**23 - 1, "one case saturates"
    assert most_u > 0.9 * 2**23, "one case comes to the edge of u, where it wraps around"


@needs_lava
def test_dense_synapses_are_lavas_bit_for_bit_with_exponents_fewer_bits_and_graded_payloads():
    rng = np.random.default_rng(2)
    cases = []
    for bits, exponent, message, low, high in (
        (8, 0, 0, -256, 256), (8, -3, 0, -256, 256), (4, 2, 0, -200, 200), (8, 0, 8, 0, 256), (6, -2, 3, -256, 256),
        (8, -1, 0, -256, 0), (5, -1, 0, -255, 0),
    ):  # fmt: skip
        weight, spikes = rng.integers(low, high, (16, 30)), rng.integers(0, 5 if message else 2, (12, 30))
        given = {"weight": weight, "spikes": spikes, "weight_bits": bits, "weight_exp": exponent}
        cases.append({**given, "message_bits": message})
    for case, real in zip(cases, run_lava("dense", cases), strict=True):
        ours = dense(**{key: value for key, value in case.items() if key != "message_bits"})
        assert np.array_equal(ours, real["sums"])


@pytest.mark.parametrize("name", LIFS)
def test_aligned_currents_spike_as_spikingjelly_does_at_every_float32_current(name):
    neuron = SpikingNeuron(LIFS[name])
    found = aligned_currents(staircase(neuron), LIFS[name])
    assert found.exact
    island = NetIsland(np.ones((1, 1), int), found.vth, found.dv, LIFS[name].steps, np.zeros(1, int), found.scale,
                       np.ones(1), np.zeros(1))  # fmt: skip
    given = currents(20_000, 1)
    spikes, _ = island.run(island.mantissas(given))
    assert np.array_equal(spikes, neuron.spikes(torch.from_numpy(given)).numpy())


def test_max_scaling_of_currents_moves_thresholds_that_aligned_ones_keep():
    stairs = staircase(SpikingNeuron(LIF))
    assert max_currents(stairs, LIF, 8.0).distance > 1e-4
    assert aligned_currents(stairs, LIF).distance < 1e-7


def test_an_integer_neuron_is_as_many_slots_as_levels_and_their_sum_is_the_graded_payload():
    neuron = SpikingNeuron(ILIF)
    found = aligned_currents(staircase(neuron), ILIF)
    assert len(found.offsets) == 4
    island = NetIsland(np.ones((1, 4), int), found.vth, found.dv, 1, np.array(found.offsets), found.scale,
                       np.ones(1), np.zeros(1))  # fmt: skip
    given = np.random.default_rng(0).normal(0.8, 0.8, (20_000, 1)).astype(np.float32)
    spikes, accumulators = island.run(island.mantissas(given))
    payload = island.counts(spikes)
    assert np.array_equal(payload, neuron.spikes(torch.from_numpy(given)).numpy())
    assert set(payload.ravel().tolist()) == {0, 1, 2, 3, 4}
    graded = dense(*[np.array([[2]]), payload[0]], weight_exp=-1)
    assert np.array_equal(accumulators, graded), "one graded message carries what its slots carry"


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_netx_units_of_a_weight_lose_nothing(bits, seed):
    rng = np.random.default_rng(seed)
    weight = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (5, 40))
    spikes = rng.integers(0, 2, (7, 40))
    units, exponent = chip_weight(weight)
    assert np.array_equal(dense(units, spikes, weight_exp=exponent), spikes @ weight.T)


def test_every_island_of_the_shipped_nano_spikes_as_in_float_and_its_module_computes_the_chips_integers(shipped):
    _, folded, patches, target = shipped
    islands = quantize_islands(folded, patches, target, scaling="output")
    entering = block_inputs(folded, tuple(i.block for i in islands), torch.from_numpy(patches))
    for island in islands:
        given = entering[island.block.name]
        spikes, accumulators = island.net.run(island.net.mantissas(given.numpy()))
        assert np.array_equal(spikes, island.block.ffn.neuron.spikes(given).numpy())
        module = LoihiFeedForward(island)
        module.ffn.current = lambda x: x
        assert np.array_equal(module(given).numpy(), island.net.outputs(accumulators))
        del module.ffn.current
        assert 0 < np.abs(island.net.weight).max() <= 128


def test_chosen_scales_lose_less_of_the_output_than_max_scaling_at_four_bits(shipped):
    _, folded, patches, target = shipped
    sample = torch.from_numpy(patches)
    with torch.no_grad():
        own = fold_time(folded)(sample)
        lost = {}
        for scaling in ("max", "output"):
            islands = quantize_islands(folded, patches, target, bits=4, scaling=scaling)
            lost[scaling] = float(((loihi_model(folded, islands)(sample) - own) ** 2).sum() / (own**2).sum())
    assert lost["output"] < 0.5 * lost["max"]
    with pytest.raises(UsageError, match="did you mean 'task'"):
        quantize_islands(folded, patches, target, scaling="tasks")


def test_a_scale_that_could_overflow_an_accumulator_is_lowered_until_no_spikes_can(shipped):
    _, folded, _, _ = shipped
    block = spiking_blocks(folded)[0]
    with torch.no_grad():
        kept = block.ffn.fc2.weight.clone()
        block.ffn.fc2.weight.fill_(1.0)
        found = aligned_currents(staircase(block.ffn.neuron), block.ffn.neuron.config)
        island = loihi_island(block, found, np.full(128, 127.0), 8, "max")
        block.ffn.fc2.weight.copy_(kept)
    assert island.net.weight.sum(1).max() * 4 <= VTH_HIGH
    spikes, accumulators = island.net.run(np.full((1, 512), 4095))
    assert spikes.all()
    assert accumulators.max() == island.net.weight.sum(1).max() * 4


def test_the_export_of_nano_is_exact_against_spikingjelly_and_costs_the_task_nothing(bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("SPIKEPORT_ENVS", str(tmp_path))
    assert bundle.parity, bundle.parity.summary()
    rows = bundle.parity.rows
    against = [row for row in rows if "SpikingJelly" in row.detail]
    assert len(against) == 7
    assert all(row.value == 0 and row.limit == 0 for row in against)
    task = next(row for row in rows if row.kind == "task")
    assert abs(task.value) < 0.05
    whole = next(row for row in rows if "host segments in onnxruntime" in row.detail)
    assert whole.value < -60
    assert check(bundle.folder).ok
    assert json.loads((bundle.folder / "mapping.json").read_text())["cores"] == 14


def test_the_bundle_runs_itself_without_spikeport(bundle):
    done = subprocess.run([sys.executable, "-I", bundle.folder / "run.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok  ") == 7


@needs_netx
def test_netx_loads_the_files_and_runs_them_to_the_same_spikes_and_accumulators(tmp_path):
    rng, islands, cases = np.random.default_rng(3), [], []
    for name, neuron in (("binary", LIF), ("integer", ILIF)):
        found = aligned_currents(staircase(SpikingNeuron(neuron)), neuron)
        weight = np.tile(rng.integers(-128, 128, (24, 48)), (1, len(found.offsets)))
        island = NetIsland(weight, found.vth, found.dv, neuron.steps, np.array(found.offsets), found.scale,
                           np.ones(24), np.zeros(24))  # fmt: skip
        write_net(path := tmp_path / f"{name}.net", island)
        assert read_island(path).scale == island.scale
        islands.append(island)
        given = island.mantissas(currents(10, 48))
        cases.append({"net": np.array(str(path)), "steps": np.array(neuron.steps), "mantissas": given})
    for island, case, real in zip(islands, cases, run_lava("netx", cases), strict=True):
        spikes, accumulators = island.run(case["mantissas"])
        assert spikes.any()
        assert np.array_equal(spikes, real["spikes"])
        assert np.array_equal(accumulators, real["accumulators"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("spikewfm-nano-lif_soft", "soft reset"),
        ("spikewfm-nano-relu", "no spiking feed-forward block"),
    ],
)
def test_what_the_chip_cannot_be_is_refused_with_a_remedy(name, says, tmp_path):
    with pytest.raises(UnsupportedError, match=says):
        export(load_model(name), load_card("loihi2"), "int8", tmp_path / "b", np.zeros((2, 64, 336), np.float32))
    assert not (tmp_path / "b").exists()


def test_a_damaged_or_foreign_net_file_gives_one_error(tmp_path):
    runtime, path = get_runtime("loihi-integer"), tmp_path / "a.net"
    good = NetIsland(np.ones((2, 3), int), 10, 2048, 4, np.zeros(1, int), 1.0, np.ones(2), np.zeros(2))
    harms = {
        "is outside 0": lambda f: f["layer/0/neuron/vDecay"].write_direct(np.array(9999)),
        "more than 8 bits": lambda f: f["layer/1/weight"].write_direct(np.full((2, 3), 300, np.int32)),
        "KeyError: 'scale'": lambda f: f.pop("spikeport/scale"),
        "not finite": lambda f: f["spikeport/decode"].write_direct(np.full(2, np.nan)),
        "link out of its group": lambda f: (
            f.pop("layer/1/weight"),
            f.__setitem__("layer/1/weight", h5py.SoftLink("/")),
        ),
    }
    for says, harm in harms.items():
        write_net(path, good)
        with h5py.File(path, "r+") as file:
            harm(file)
        with pytest.raises(InputError, match=says):
            runtime.run(path, {"input": np.ones((1, 3), np.float32)})


def test_the_bundle_predicts_channels_as_a_whole_as_the_integer_model_does(bundle):
    deployed, golden = Deployed(bundle.folder), np.load(bundle.folder / "golden/model.npz")
    predicted = deployed(golden["input"])
    assert np.abs(predicted - golden["integer"]).max() < 1e-2 * np.abs(golden["integer"]).max()
    assert "loihi2" in deployed.name
    with pytest.raises(UsageError, match="runs no islands of the route loihi"):
        Deployed(bundle.folder, islands="reference")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_flipped_byte_or_cut_of_a_net_file_crashes_or_hangs_the_runtime(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.net"
        write_net(path, NetIsland(np.ones((2, 3), int), 10, 2048, 4, np.zeros(1, int), 1.0, np.ones(2), np.zeros(2)))
        raw = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
        tokens, refusal = 1, ""
        try:
            tokens = get_runtime("loihi-integer").run(path, {"input": np.ones((1, 3), np.float32)})["spikes"].shape[1]
        except InputError as error:
            refusal = str(error)
        assert tokens == 1, "what still runs gives spikes of the one token"
        assert "\n" not in refusal
