"""The fast numpy reference: SpikingJelly's spikes to the last bit, whichever way it computes them."""

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron as sj

from spikeport.testing import CASES, golden_island
from spikeport_converters.nir_profiles import PROFILES, lif_node
from spikeport_targets.runtime import get_runtime
from spikeport_targets.runtimes.nir_runner import read_island
from spikeport_targets.simulators.reference import Neuron, distance, node_spikes, simulate, trains, walk
from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.neuron import SpikingNeuron

BINARY = {case: neuron for case, neuron in CASES.items() if neuron.kind != "ilif"}
WRITTEN = [name for name in PROFILES if name != "legacy"]
floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def spikingjelly(neuron: Neuron, current, steps):
    """Spikes of SpikingJelly's own LIFNode for currents [1 or steps, ...]."""
    node = sj.LIFNode(
        tau=neuron.tau, decay_input=neuron.decay_input, v_threshold=neuron.threshold,
        v_reset=None if neuron.soft else neuron.rest, step_mode="m",
    )  # fmt: skip
    with torch.no_grad():
        return node(torch.from_numpy(np.repeat(current, steps // len(current), axis=0))).numpy().astype(bool)


@st.composite
def neurons(draw):
    soft = draw(st.booleans())
    return Neuron(
        tau=draw(st.sampled_from([2.0, 4 / 3, 10 / 3, 5.0]) | st.floats(1.01, 50)),
        decay_input=draw(st.booleans()),
        threshold=draw(st.sampled_from([1.0, 0.5, 1 / 3]) | st.floats(0.1, 4)),
        rest=0.0 if soft else draw(st.sampled_from([0.0, -0.5, 0.05])),
        soft=soft,
    )


@settings(max_examples=80, deadline=None)
@given(neurons(), st.sampled_from([1, 2, 3, 4, 8, 16]), st.lists(floats32, min_size=1, max_size=20), st.integers(0, 99))
def test_step_functions_of_the_current_are_spikingjellys_spike_trains(neuron, steps, some, seed):
    around = np.random.default_rng(seed).normal(0, 2 * neuron.threshold, 2000).astype(np.float32)
    known = trains(neuron, steps)
    bounds = np.array(known.bounds if known else [], np.float32)
    close = [np.nextafter(bounds, np.float32(side)) for side in (-np.inf, np.inf)]
    current = np.concatenate((np.float32(some), around, bounds, *close))
    want = spikingjelly(neuron, current[None], steps)
    with np.errstate(all="ignore"):
        assert np.array_equal(neuron.spikes(current[None], steps), want)
    assert known is None or np.array_equal(known.spikes(current), want)


@settings(max_examples=40, deadline=None)
@given(neurons(), st.integers(1, 16), st.integers(0, 99))
def test_currents_that_change_at_every_step_take_spikingjellys_loop(neuron, steps, seed):
    current = np.random.default_rng(seed).normal(0, 2, (steps, 500)).astype(np.float32)
    assert np.array_equal(neuron.spikes(current, steps), spikingjelly(neuron, current, steps))


@pytest.mark.parametrize("steps", [4, 8, 16])
@pytest.mark.parametrize("case", BINARY)
def test_the_neurons_of_every_case_have_few_spike_trains(case, steps):
    c = CASES[case]
    known = trains(Neuron(c.tau, c.decay_input, c.v_threshold, c.v_reset or 0.0, c.v_reset is None), steps)
    assert known is not None
    assert 0 < len(known.bounds) <= 256


def test_nanos_neuron_is_four_compares():
    known = trains(Neuron(2.0, False, 1.0, 0.0, False), 4)
    assert known.bounds == pytest.approx((8 / 15, 4 / 7, 2 / 3, 1), rel=1e-6)
    assert known.flips == ((3,), (2, 3), (1, 2, 3), (0, 2))


def test_too_many_spike_trains_are_stepped_through():
    neuron = Neuron(10 / 3, False, 1.0, 0.0, True)
    assert trains(neuron, 32) is None
    current = np.random.default_rng(0).normal(0, 2, (1, 500)).astype(np.float32)
    assert np.array_equal(neuron.spikes(current, 32), spikingjelly(neuron, current, 32))


@pytest.mark.parametrize("profile", WRITTEN)
@pytest.mark.parametrize("case", BINARY)
def test_the_gain_of_every_profile_is_taken_off_before_the_neuron(case, profile, tmp_path):
    config = CASES[case]
    golden_island(config, profile, tmp_path / "a.nir")
    (node,) = read_island(tmp_path / "a.nir").neurons
    current = np.random.default_rng(1).integers(-32, 33, (2000, 48)).astype(np.float32) / 8
    given_ = current * np.float32(PROFILES[profile].gain(config))
    want = SpikingNeuron(config).spikes(torch.from_numpy(current)).detach().numpy()
    assert np.array_equal(node_spikes(node, given_[None], config.steps), want)


@pytest.mark.parametrize("profile", WRITTEN)
@pytest.mark.parametrize("case", CASES)
def test_an_island_gives_the_golden_run_of_spikingjelly(case, profile, tmp_path):
    want = golden_island(CASES[case], profile, tmp_path / "a.nir")
    got = get_runtime("reference").run(tmp_path / "a.nir", {"input": want.input})
    assert got["spikes"].dtype == np.uint8
    assert np.array_equal(got["spikes"], want.spikes)
    assert np.abs(got["output"] - want.output).max() <= 1e-6


def residual_network():
    """Convolution, pooling, two spiking layers and a residual around the second, in SpikingJelly and in NIR."""
    rng = np.random.default_rng(3)

    def eighths(*shape):
        return (rng.integers(-4, 5, shape) / 8).astype(np.float32)

    config, profile = NeuronConfig("lif", steps=5), PROFILES["spikingjelly"]
    kernel, shift, weight, bias = eighths(4, 2, 3, 3), eighths(4), eighths(64, 64), eighths(64)
    nodes = {
        "input": nir.Input(np.array([2, 8, 8])),
        "conv": nir.Conv2d((8, 8), kernel, 1, 1, 1, 1, shift),
        "pool": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "lif0": lif_node(profile, config, (4, 4, 4)),
        "flat": nir.Flatten(np.array([4, 4, 4]), 0, -1),
        "fc": nir.Affine(weight, bias),
        "lif1": lif_node(profile, config, 64),
        "out": nir.Affine(np.eye(64, dtype=np.float32), np.zeros(64, np.float32)),
        "output": nir.Output(np.array([64])),
    }
    edges = [("input", "conv"), ("conv", "pool"), ("pool", "lif0"), ("lif0", "flat"), ("flat", "fc"), ("fc", "lif1"),
             ("lif1", "out"), ("flat", "out"), ("out", "output")]  # fmt: skip

    def by_hand(x):
        lif0, lif1 = (SpikingNeuron(config).node for _ in range(2))
        first = torch.nn.functional.conv2d(
            x.flatten(0, 1), torch.from_numpy(kernel), torch.from_numpy(shift), padding=1
        )
        pooled = 4 * torch.nn.functional.avg_pool2d(first, 2)
        s0 = lif0(pooled.view(*x.shape[:2], 4, 4, 4)).flatten(2)
        s1 = lif1(s0 @ torch.from_numpy(weight).T + torch.from_numpy(bias))
        return torch.cat((s0, s1), -1).detach().numpy(), (s0 + s1).mean(0).detach().numpy()

    return nir.NIRGraph(nodes, edges), by_hand


@pytest.mark.parametrize("per_step", [False, True])
def test_a_graph_of_convolution_pool_and_residual_spikes_as_by_hand(per_step, tmp_path):
    graph, by_hand = residual_network()
    nir.write(tmp_path / "a.nir", graph)
    x = (np.random.default_rng(0).integers(-8, 9, (5 if per_step else 1, 7, 2, 8, 8)) / 8).astype(np.float32)
    spikes, output = by_hand(torch.from_numpy(np.repeat(x, 5 // len(x), axis=0)))
    got = get_runtime("reference").run(tmp_path / "a.nir", {"input": x if per_step else x[0]})
    assert spikes.any()
    assert np.array_equal(got["spikes"], spikes)
    assert np.allclose(got["output"], output, atol=1e-6)


def test_the_distance_of_a_spike_from_its_threshold_is_relative_to_it(tmp_path):
    want = golden_island(CASES["hard reset"], "norse", tmp_path / "a.nir")
    island = read_island(tmp_path / "a.nir")
    (current,), _, _ = walk(island, want.input)
    wrong = np.zeros(want.spikes.shape, bool)
    wrong[0, 5, 7] = True
    x = current[0, 5, 7] / PROFILES["norse"].gain(CASES["hard reset"])
    assert distance(island.neurons[0], current, 4, wrong) == pytest.approx(abs(x - 1.0), rel=1e-6)


def test_the_reference_needs_no_torch():
    source = simulate.__globals__["__doc__"]
    assert "torch" not in simulate.__globals__
    assert "Numpy only" in source
