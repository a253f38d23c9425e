from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from spikingjelly.activation_based import neuron
from torch import nn

from spikeport_errors import CardError, InputError, UsageError
from spikeport_profiles.counts import LayerCounts, Trace
from spikeport_profiles.estimate import estimate
from spikeport_profiles.event import islands
from spikeport_profiles.profile import profile
from spikeport_profiles.trace import trace
from spikeport_targets.card import load_card
from spikeport_toolkit.models.load import load_model

TOKENS, T, D_FF, WIDTH = 10, 4, 100, 20
DENSE = TOKENS * D_FF * WIDTH


def spiking(rate: float) -> Trace:
    """A hybrid network of one host layer and one island, firing at `rate`."""
    spikes = rate * D_FF * TOKENS * T
    return Trace(
        1, TOKENS, T, 1, "bare counts",
        (
            LayerCounts("fc1", "linear", macs_executed=DENSE, macs_algebraic=DENSE, outputs=D_FF, weights=D_FF * WIDTH),
            LayerCounts("neuron", "spiking", spikes=spikes, spike_rate=rate, neuron_updates=D_FF * TOKENS * T,
                        neurons=D_FF, outputs=D_FF),
            LayerCounts("fc2", "linear", input="spikes", fed_by="neuron", macs_executed=DENSE, outputs=WIDTH,
                        weights=D_FF * WIDTH, synops=spikes * WIDTH, graded_synops=spikes * WIDTH),
        ),
    )  # fmt: skip


def twin(nonzero: float = 0.5) -> Trace:
    sent = nonzero * D_FF * TOKENS
    return Trace(
        1, TOKENS, 1, 1, "bare counts",
        (
            LayerCounts("fc1", "linear", macs_executed=DENSE, macs_algebraic=DENSE, outputs=D_FF, weights=D_FF * WIDTH),
            LayerCounts("neuron", "activation", elements=D_FF * TOKENS, nonzero=sent, outputs=D_FF),
            LayerCounts("fc2", "linear", fed_by="neuron", macs_executed=DENSE, macs_algebraic=DENSE, outputs=WIDTH,
                        weights=D_FF * WIDTH, graded_synops=sent * WIDTH),
        ),
    )  # fmt: skip


def nominal(quantity: object) -> float:
    value = getattr(quantity, "nominal", None)
    assert isinstance(value, float)
    return value


def test_the_convention_is_macs_and_accumulates_and_says_it_is_no_device():
    # fc1 20,000 MAC at 4.6 pJ; 0.1 * 100 * 10 * 4 = 400 spikes * 20 = 8,000 AC at 0.9 pJ; twin 40,000 MAC
    found = estimate(spiking(0.1), load_card("cmos45"), twin_trace=twin())
    assert nominal(found.energy.total) == pytest.approx(20_000 * 4.6e-12 + 8_000 * 0.9e-12)
    assert found.twin is not None
    assert nominal(found.twin.energy.total) == pytest.approx(40_000 * 4.6e-12)
    assert found.latency is None
    assert found.break_even_spike_rate == pytest.approx(4.6 / 0.9 / T)
    assert any("not a device" in note for note in found.notes)
    assert "does not follow" in found.verdict


def single_step() -> nn.Module:
    """12 inputs, 5 neurons that fire at every step, 3 outputs: 60 + 15 MAC a step."""
    made = nn.Sequential(nn.Linear(12, 5), neuron.LIFNode(tau=2.0), nn.Linear(5, 3))
    nn.init.zeros_(made[0].weight)
    nn.init.constant_(made[0].bias, 10.0)
    made.steps = 4
    return made


def test_the_convention_charges_a_product_of_a_repeated_input_once():
    # 60 MAC at 4.6 pJ, and 5 neurons * 4 steps * 3 outputs = 60 AC at 0.9 pJ
    found = estimate(trace(single_step(), [np.ones((1, 12), np.float32)]), load_card("cmos45"))
    assert nominal(found.energy.total) == pytest.approx(60 * 4.6e-12 + 60 * 0.9e-12)
    assert any("W1 acts once" in note for note in found.notes)
    dense = trace(nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)), [np.ones((1, 12), np.float32)])
    assert len(estimate(dense, load_card("cmos45")).notes) == 1


def test_notes_speak_only_of_what_the_model_has():
    dense = trace(nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)), [np.ones((1, 12), np.float32)])
    for work in (dense, trace(single_step(), [np.ones((1, 12), np.float32)])):
        said = " ".join(estimate(work, load_card("loihi2")).notes)
        assert not any(word in said for word in ("attention", "LayerNorm", "oken", "twin"))
        assert ("W1" in said) == work.spiking
    whole = trace(load_model("spikewfm-nano"), [np.zeros((1, 64, 336), np.float32)])
    assert "attention, LayerNorm" in estimate(whole, load_card("loihi2")).notes[0]


def test_int8_on_the_convention_uses_int8_operations():
    found = estimate(spiking(0.1), load_card("cmos45"), precision="int8")
    assert nominal(found.energy.total) == pytest.approx(20_000 * 0.23e-12 + 8_000 * 0.03e-12)


def test_event_energy_is_synops_and_neuron_updates_of_the_islands_only():
    # 8,000 SynOps; (100 + 20) neurons * 10 tokens * 4 steps = 4,800 updates; W1 is on the host
    found = estimate(spiking(0.1), load_card("loihi2"), twin_trace=twin())
    assert nominal(found.energy.event) == pytest.approx(8_000 * 24.5e-12 + 4_800 * 73e-12)
    assert found.twin is not None
    assert nominal(found.twin.energy.event) == pytest.approx(10_000 * 24.5e-12 + 1_200 * 73e-12)
    assert found.energy.host is found.energy.total is None
    assert any("No host was given" in note for note in found.notes)


def test_event_latency_is_core_time_barriers_management_and_messages():
    # one core, 10 tokens * (4 + 1) steps of 1 us barrier; 120 messages a token over the link
    found = estimate(spiking(0.1), load_card("loihi2"), scenario="silicon")
    expected = 8_000 * 0.66e-9 + 4_800 * 4e-9 + 50 * 1e-6 + 1_200 / 67e6
    assert nominal(found.latency) == pytest.approx(expected)
    assert nominal(found.energy.system) == pytest.approx(0.25 * expected)
    managed = estimate(spiking(0.1), load_card("loihi2"), scenario="embedded")
    assert nominal(managed.latency) == pytest.approx(expected + 50 * 60e-6)


def test_at_the_break_even_rate_the_event_energies_are_equal():
    card = load_card("loihi2")
    rate = estimate(spiking(0.1), card, twin_trace=twin()).break_even_spike_rate
    assert rate is not None
    at = estimate(spiking(rate), card, twin_trace=twin())
    assert at.twin is not None
    assert nominal(at.energy.event) == pytest.approx(nominal(at.twin.energy.event))


def test_the_verdict_says_plainly_when_spiking_does_not_pay():
    assert "does not pay" in estimate(spiking(0.9), load_card("loihi2"), twin_trace=twin()).verdict
    fc1, neuron, fc2 = spiking(0.1).layers
    once = replace(neuron, neuron_updates=D_FF * TOKENS), replace(fc2, graded_synops=0.5 * DENSE)
    graded = replace(spiking(0.1), steps=1, levels=4, layers=(fc1, *once))
    assert "makes no difference" in estimate(graded, load_card("loihi2"), twin_trace=twin()).verdict
    gpu = estimate(spiking(0.0), load_card("jetson-orin-nano"), twin_trace=twin())
    assert "does not pay" in gpu.verdict
    assert gpu.break_even_spike_rate is None
    assert "open" in estimate(spiking(0.1), load_card("loihi2")).verdict


def test_a_gpu_gives_no_credit_for_sparse_spikes():
    card = load_card("jetson-orin-nano")
    assert estimate(spiking(0.01), card).latency == estimate(spiking(0.99), card).latency


def test_a_host_card_completes_the_bill_and_says_it_is_unvalidated():
    found = estimate(spiking(0.1), load_card("loihi2"), host=load_card("jetson-orin-nano"))
    parts = found.energy.event, found.energy.system, found.energy.host
    assert nominal(found.energy.total) == pytest.approx(sum(map(nominal, parts)))
    assert any("composed, unvalidated" in note for note in found.notes)
    assert any(c.name == "host.t_kernel" for c in found.constants)


def test_a_host_that_waits_for_the_chip_draws_its_idle_power():
    chip, host = load_card("loihi2"), load_card("jetson-orin-nano")
    found, alone = estimate(spiking(0.1), chip, host=host), estimate(spiking(0.1), chip)
    assert nominal(found.energy.host) > 6.21 * nominal(alone.latency)
    assert any("idle power while it waits" in note for note in found.notes)
    other = estimate(spiking(0.1), chip, host=load_card("jetson-orin-nx"))
    assert any("lower bounds" in note for note in other.notes)


def test_cores_follow_from_the_weights_and_the_neurons():
    (island,) = islands(spiking(0.1), load_card("loihi2"))
    assert (island.cores, island.steps, island.messages) == (1, 50, 1_200)
    big = spiking(0.1)
    layers = (*big.layers[:2], replace(big.layers[2], weights=640 * 2560))
    assert islands(replace(big, layers=layers), load_card("loihi2"))[0].cores == 13


def test_every_interval_is_ordered_and_every_number_has_unit_kind_and_source():
    for card in map(load_card, ("jetson-orin-nano", "loihi2", "cmos45")):
        found = estimate(spiking(0.1), card, twin_trace=twin()).to_dict()
        quantities = [q for q in (*found["energy"].values(), found["latency"]) if q is not None]
        assert quantities
        for q in quantities:
            assert q["low"] <= q["nominal"] <= q["high"]
            assert q["unit"] in ("J", "s")
            assert q["kind"] == "estimated"
            assert q["source"]
        assert all(c["source"] and c["basis"] for c in found["constants"])


def test_what_was_not_counted_makes_the_figures_a_lower_bound():
    found = estimate(replace(spiking(0.1), unaccounted=("conv",)), load_card("cmos45"))
    assert any("conv" in note and "lower bound" in note for note in found.notes)


def test_unknown_names_and_targets_without_costs_are_refused():
    card = load_card("loihi2")
    with pytest.raises(UsageError, match="precision"):
        estimate(spiking(0.1), card, precision="fp64")
    with pytest.raises(UsageError, match="silicon"):
        estimate(spiking(0.1), card, scenario="silicone")
    with pytest.raises(UsageError, match="host"):
        estimate(spiking(0.1), card, host=load_card("cmos45"))
    with pytest.raises(InputError, match="simulator"):
        estimate(spiking(0.1), load_card("norse"))
    with pytest.raises(CardError, match="weights_per_core"):
        estimate(spiking(0.1), replace(card, limits={}))


def test_a_profile_is_the_json_of_the_contract_and_reads_as_text():
    model, other = load_model("spikewfm-nano"), load_model("spikewfm-nano-qrelu")
    cards = [load_card(i) for i in ("jetson-orin-nano", "loihi2", "cmos45")]
    patches = np.random.default_rng(0).standard_normal((2, 64, 336)).astype(np.float32)
    found = profile(model, other, cards, [patches], precision="int8", scenario="host_streamed", source="noise")
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["schema"] == "spikeport.profile/1"
    assert data["model"]["name"] == "spikewfm-nano"
    assert (data["model"]["parameters"], data["model"]["head_parameters"]) == (889_424, 658_000)
    assert data["twin"]["name"] == "spikewfm-nano-qrelu"
    assert data["trace"]["kind"] == "measured"
    assert [t["precision"] for t in data["targets"]] == ["int8", "int8", "int8"]
    assert [t["scenario"] for t in data["targets"]] == ["maxn_super", "host_streamed", "arithmetic"]
    assert all(t["twin"] is not None and t["verdict"] for t in data["targets"])
    assert "NVIDIA Jetson Orin Nano" in found.summary()


def test_a_profile_refuses_an_option_that_no_target_knows():
    patches = np.zeros((1, 64, 336), np.float32)
    with pytest.raises(UsageError, match="warp"):
        profile(load_model("spikewfm-nano"), None, [load_card("loihi2")], [patches], scenario="warp")
