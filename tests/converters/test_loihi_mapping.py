"""Mapping onto Loihi cores: what limits, what does not fit, by how much, and what would make it fit."""

import re
from dataclasses import replace

import pytest
import torch

from spikeport_converters.loihi_mapping import loihi_mapping
from spikeport_converters.plan import plan
from spikeport_errors import CardError
from spikeport_targets.card import load_card
from spikeport_toolkit.models.presets import preset
from spikeport_toolkit.models.spikewfm import ChannelPredictor

CARD = load_card("loihi2")


def model(name):
    with torch.device("meta"):
        return ChannelPredictor(preset(name).config)


@pytest.mark.parametrize(
    ("name", "cores", "chips"),
    [("spikewfm-nano", 14, 1), ("spikewfm-3.5m", 21, 1), ("spikewfm-20m", 97, 1), ("spikewfm-80m", 361, 4)],
)
def test_shipped_sizes_take_so_many_cores(name, cores, chips):
    found = loihi_mapping(model(name), CARD)
    assert (found.cores, found.chips) == (cores, chips)
    assert bool(found.misfits) == (chips > 1)


def test_a_layer_of_3_5m_takes_two_cores_because_of_synaptic_memory():
    island = loihi_mapping(model("spikewfm-3.5m"), CARD).islands[0]
    assert island.weights == 640 * 320 > CARD.limits["weights_per_core"]
    assert (island.weight_cores, island.neuron_cores, island.messages) == (2, 1, 2)
    assert "204,800 8-bit weights on 2 cores (limit: synaptic memory, 78 % full)" in island.summary()


def test_what_does_not_fit_says_by_how_much_and_each_remedy_is_true():
    big = model("spikewfm-80m")
    text = " ".join(loihi_mapping(big, CARD).misfits)
    assert "19 islands need 361 cores; one loihi2 holds 120, 241 too few" in text
    assert "1,638,400 weights; one core of loihi2 holds 131,072" in text
    for bits in (4, 2):
        claimed = int(re.search(rf"{bits}-bit weights \((\d+) cores", text)[1])
        assert loihi_mapping(big, CARD, weight_bits=bits).cores == claimed
    share = int(re.search(r"every d_ff to (\d+)%", text)[1]) / 100
    config = big.config
    narrow = replace(config, d_ff=int(config.d_ff * share), head=replace(config.head, d_ff=int(1024 * share)))
    with torch.device("meta"):
        assert loihi_mapping(ChannelPredictor(narrow), CARD).chips == 1


def test_wide_layers_meet_the_axons():
    island = loihi_mapping(model("spikewfm-80m"), CARD).islands[0]
    assert island.neuron_cores * CARD.limits["output_axons_per_core"] >= island.neurons * island.messages
    assert island.neurons_by == "output axons"
    few = replace(CARD, limits={**CARD.limits, "input_axons_per_core": 1024})
    split = loihi_mapping(model("spikewfm-80m"), few).islands[0]
    assert split.groups == 3
    assert split.weights_by == "input axons"


def test_a_chip_without_graded_spikes_needs_a_neuron_per_level():
    graded = loihi_mapping(model("spikewfm-nano-ilif"), CARD).islands[0]
    binary = loihi_mapping(
        model("spikewfm-nano-ilif"), replace(CARD, limits={**CARD.limits, "graded_spikes": False})
    ).islands[0]
    assert (graded.neurons, binary.neurons) == (512, 2048)
    assert binary.weights == 4 * graded.weights


def test_the_plan_shows_the_mapping_and_refuses_an_island_larger_than_the_chip():
    text = plan(model("spikewfm-nano"), None, CARD).summary()
    assert "14 cores of 120: 1 chip" in text
    assert "65,536 8-bit weights on 1 core (limit: synaptic memory, 50 % full)" in text
    small = replace(CARD, limits={**CARD.limits, "cores_per_chip": 1})
    refused = plan(model("spikewfm-nano"), None, small).refused
    assert refused
    assert "1 too few" in refused[0].reason
    assert refused[0].remedy


def test_a_card_without_the_limits_is_named():
    limits = {key: value for key, value in CARD.limits.items() if key != "input_axons_per_core"}
    with pytest.raises(CardError, match="input_axons_per_core is missing"):
        loihi_mapping(model("spikewfm-nano"), replace(CARD, limits=limits))
