"""SANA-FE gives simulated energy and latency of the islands, and says what it leaves out."""

from __future__ import annotations

import numpy as np
import pytest

from spikeport_errors import InputError, UnsupportedError
from spikeport_profiles.estimate import estimate
from spikeport_profiles.simulated import simulate
from spikeport_profiles.trace import trace
from spikeport_targets.card import load_card
from spikeport_targets.runtime import get_runtime
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.tasks.channel_prediction import example_patches

CARD = load_card("sanafe")
needs_sanafe = pytest.mark.skipif(
    not get_runtime("sanafe").available(), reason="`spikeport env make sanafe` was not run"
)


@needs_sanafe
def test_the_islands_energy_is_simulated_and_its_interval_meets_the_one_estimated_from_published_constants():
    model = load_model("spikewfm-nano")
    patches = example_patches(model.config, 2)
    found = simulate(model, CARD, patches, tokens=8)
    energy, latency = found.energy.event, found.latency
    assert (energy.kind, energy.unit, latency.kind, latency.unit) == ("simulated", "J", "simulated", "s")
    assert energy.low < energy.nominal < energy.high
    assert any("0 of 114,688 neuron-steps differ" in note for note in found.notes)
    assert found.energy.system is found.energy.host is found.energy.total is None
    estimated = estimate(trace(model, [patches]), load_card("loihi1")).energy.event
    assert energy.low < estimated.high
    assert estimated.low < energy.high


def test_a_model_without_spikes_is_refused_with_the_remedy():
    model = load_model("spikewfm-nano-relu")
    with pytest.raises(UnsupportedError, match="spikewfm-nano"):
        simulate(model, CARD, example_patches(model.config, 1))


def test_counts_alone_cannot_be_simulated():
    patches = np.zeros((1, 64, 336), np.float32)
    with pytest.raises(InputError, match="spikeport profile"):
        estimate(trace(load_model("spikewfm-nano"), [patches]), CARD)
