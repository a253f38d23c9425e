"""What every target keeps, run over the registry: a new card or runtime needs no new test."""

import numpy as np
import pytest

from spikeport.testing import CASES, check_card, check_runtime, golden_island
from spikeport_converters.nir_plan import refusal
from spikeport_converters.nir_profiles import profile_of
from spikeport_targets.card import list_cards, load_card
from spikeport_targets.runtime import get_runtime, runtimes

CARDS = {card.id: card for card in list_cards()}
SIMULATORS = [card for card in CARDS.values() if card.route == "nir"]
IN_PROCESS = [card for card in SIMULATORS if "environment" not in card.limits]
"""The others take seconds to start: check_runtime runs them on the same island."""


@pytest.mark.parametrize("name", CARDS)
def test_every_card_is_complete(name):
    assert check_card(CARDS[name].path) == load_card(name)


@pytest.mark.parametrize("name", runtimes())
def test_every_runtime_keeps_the_contract(name):
    slow = any(card.runtime == name and "environment" in card.limits for card in CARDS.values())
    check_runtime(get_runtime(name), every=not slow)


@pytest.mark.parametrize("card", IN_PROCESS, ids=lambda card: card.id)
def test_every_simulator_gives_the_spikes_of_spikingjelly_on_the_same_golden_island(card, tmp_path):
    runtime = get_runtime(card.runtime)
    if not runtime.available():
        pytest.skip(runtime.available().reason)
    want = golden_island(CASES["hard reset"], profile_of(card).name, tmp_path / "a.nir")
    got = runtime.run(tmp_path / "a.nir", {"input": want.input})
    assert 0.05 < want.spikes.mean() < 0.5
    assert np.array_equal(got["spikes"], want.spikes)


@pytest.mark.parametrize("card", SIMULATORS, ids=lambda card: card.id)
def test_every_simulator_runs_or_refuses_each_neuron_with_a_remedy(card):
    answers = {case: refusal(neuron, card) for case, neuron in CASES.items()}
    assert not answers["hard reset"]
    assert all(remedy for _reason, remedy in filter(None, answers.values()))
