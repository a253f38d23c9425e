"""Export profiles: each simulator reads its own numbers, and a file for old readers holds nothing they do not know."""

import math

import h5py
import nir
import numpy as np
import pytest

from spikeport.testing import CASES, SHAPES, golden_graph, golden_island, shape_graph
from spikeport_converters.nir_profiles import NO_LEAK, PROFILES, lif_node, strict_threshold
from spikeport_converters.spiking_graph import NodeNeuron
from spikeport_targets.card import list_cards
from spikeport_targets.runtime import get_runtime
from spikeport_toolkit.models.config import NeuronConfig

DECAY = NeuronConfig("lif", steps=4, tau=4.0, decay_input=True)
PLAIN = NeuronConfig("lif", steps=4, tau=4.0)


def test_every_nir_card_has_a_profile_and_every_profile_a_card():
    used = {card.limits["profile"] for card in list_cards() if card.route == "nir"}
    assert used == set(PROFILES)


@pytest.mark.parametrize(("neuron", "plain", "norse"), [(DECAY, 0.25, 1.0), (PLAIN, 1.0, 4.0)])
def test_the_input_gain_is_what_the_simulator_leaves_out(neuron, plain, norse):
    gains = {name: profile.gain(neuron) for name, profile in PROFILES.items()}
    assert gains == {**dict.fromkeys(PROFILES, plain), "norse": norse, "spikingjelly": 1.0}
    assert all(lif_node(PROFILES[name], neuron, 1).metadata["gain"] == gain for name, gain in gains.items())


@pytest.mark.parametrize("name", ["sinabs", "spikingjelly"])
def test_a_simulator_that_compares_with_greater_or_equal_gets_the_threshold_itself(name):
    node = lif_node(PROFILES[name], PLAIN, 1)
    assert (node.v_threshold[0], node.metadata["spike_op"]) == (1.0, "ge")
    assert lif_node(PROFILES["generic"], PLAIN, 1).v_threshold[0] == strict_threshold(1.0)


def test_sinabs_leaks_by_an_exponential_of_its_tau():
    assert math.exp(-1 / PROFILES["sinabs"].tau(PLAIN)) == pytest.approx(1 - 1 / PLAIN.tau, rel=1e-15)


def test_a_neuron_without_leak_keeps_its_membrane_to_the_last_bit_in_every_profile():
    neuron = NodeNeuron("if", 4, 1, NO_LEAK, False, 1.0, 0.0)
    for name, profile in PROFILES.items():
        node = lif_node(profile, neuron, 1)
        leak = np.float32(1) - np.float32(profile.dt) / node.tau[0]
        assert leak == np.float32(math.exp(-1 / node.tau[0]) if name == "sinabs" else 1), name
        assert leak == 1


def test_a_legacy_file_has_no_v_reset_and_the_same_spikes(tmp_path):
    want = golden_island(CASES["hard reset"], "legacy", tmp_path / "a.nir")
    golden_island(CASES["hard reset"], "generic", tmp_path / "b.nir")
    with h5py.File(tmp_path / "a.nir") as old, h5py.File(tmp_path / "b.nir") as new:
        assert set(new["node/nodes/lif"]) - set(old["node/nodes/lif"]) == {"v_reset"}
    assert nir.read(tmp_path / "a.nir").nodes["lif"].v_reset[0] == 0
    got = get_runtime("reference").run(tmp_path / "a.nir", {"input": want.input})
    assert np.array_equal(got["spikes"], want.spikes)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("profile", PROFILES)
def test_the_reference_spikes_as_spikingjelly_on_every_shape_in_every_profile(profile, shape, tmp_path):
    graph, entering = shape_graph(shape)
    want = golden_graph(graph, entering, profile, tmp_path / "a.nir")
    got = get_runtime("reference").run(tmp_path / "a.nir", {"input": want.input})
    assert np.array_equal(got["spikes"], want.spikes)
    assert np.abs(got["output"] - want.output).max() < 1e-6


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("profile", PROFILES)
def test_the_reference_spikes_as_spikingjelly_on_every_neuron_in_every_profile(profile, case, tmp_path):
    want = golden_island(CASES[case], profile, tmp_path / "a.nir")
    if profile == "legacy" and CASES[case].v_reset:
        return  # such a file cannot say it, and the card refuses it
    got = get_runtime("reference").run(tmp_path / "a.nir", {"input": want.input})
    assert np.array_equal(got["spikes"], want.spikes)


def test_norse_and_sinabs_get_average_pooling_as_a_convolution(tmp_path):
    graph, entering = shape_graph("pooling")
    kinds = {}
    for profile in ("generic", "norse", "sinabs"):
        golden_graph(graph, entering, profile, tmp_path / "a.nir")
        kinds[profile] = {type(node).__name__ for node in nir.read(tmp_path / "a.nir").nodes.values()}
    assert "AvgPool2d" in kinds["generic"]
    assert "AvgPool2d" not in kinds["norse"] | kinds["sinabs"]
