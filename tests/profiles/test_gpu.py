from __future__ import annotations

import csv
from importlib.resources import files

import numpy as np
import pytest

from spikeport_profiles.counts import LayerCounts
from spikeport_profiles.estimate import estimate
from spikeport_profiles.gpu import gpu_costs
from spikeport_profiles.latency_fit import NAMES, bootstrap, fit, held_out, latency_points, within
from spikeport_profiles.montecarlo import Draws
from spikeport_profiles.trace import trace
from spikeport_targets.card import load_card
from spikeport_toolkit.models.load import load_model

LAYERS = [LayerCounts("fc", "linear", macs_executed=1e9, weight_bytes=4_000_000, activation_bytes=400_000)]


def orin(scenario: str = "maxn_super") -> Draws:
    return Draws(load_card("jetson-orin-nano"), scenario)


def test_a_point_left_out_is_predicted_within_a_factor_two():
    points = latency_points()
    assert len(points) == 40
    assert within(held_out(points, lambda p: p.id), 2) >= 0.95


def test_the_cards_hold_what_the_fit_gives():
    constants, spread = fit(latency_points()), bootstrap(latency_points())
    for card in map(load_card, ("jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin")):
        for name in NAMES:
            held = card.constants[name]
            assert held.nominal == pytest.approx(constants[name], rel=2e-3), name
            assert (held.low, held.high) == pytest.approx(spread[name], rel=2e-3), name
            assert held.basis == "derived"


def test_latency_is_launch_plus_kernels_plus_compute_plus_bytes():
    # one linear layer in fp16: 193.8 us + 5.161 us + 2 GFLOP / (0.3608 * 16.7 T) + 2.2 MB / (0.6681 * 102.4 GB/s)
    costs = gpu_costs(LAYERS, orin(), "fp16")
    assert costs.latency is not None
    assert costs.latency[0] == pytest.approx(
        193.8e-6 + 5.161e-6 + 2e9 / (0.3608 * 16.7e12) + 2.2e6 / (0.6681 * 102.4e9)
    )


def test_energy_is_measured_module_power_over_the_time_and_is_not_split():
    costs = gpu_costs(LAYERS, orin(), "int8")
    assert costs.total is not None
    assert costs.latency is not None
    assert costs.total[0] == pytest.approx(12.49 * costs.latency[0])
    assert costs.event is costs.system is None
    assert any("measured on other networks" in note for note in costs.energy_notes)


def test_a_power_mode_without_published_power_has_latency_and_no_energy():
    fast, slow = gpu_costs(LAYERS, orin(), "fp16"), gpu_costs(LAYERS, orin("original_15w"), "fp16")
    assert slow.total is None
    assert slow.latency is not None
    assert fast.latency is not None
    assert slow.latency[0] > fast.latency[0]
    assert slow.unknown[0].name == "p_active_fp16"


def test_lower_precision_is_never_slower():
    times = [gpu_costs(LAYERS, orin(), p).latency for p in ("int8", "fp16", "fp32")]
    assert [t[0] for t in times if t is not None] == sorted(t[0] for t in times if t is not None)


def test_base_power_and_operations_reproduce_the_wall_measurements():
    card = load_card("jetson-agx-orin")
    base, each = card.constant("p_base", "maxn").nominal, card.constants["e_flop_int8"].nominal
    assert base is not None
    assert each is not None
    table = (files("spikeport_profiles") / "calibration" / "gpu_energy.csv").read_text().splitlines()
    for row in csv.DictReader(table):
        power = base + each * 2 * float(row["macs"]) * float(row["ips"])
        assert power == pytest.approx(float(row["power_w"]), rel=0.15), row["id"]
    costs = gpu_costs(LAYERS, Draws(card, "maxn"), "int8")
    assert costs.event is not None
    assert costs.system is not None
    assert costs.latency is not None
    assert costs.event[0] == pytest.approx(0.97e-12 * 2e9)
    assert costs.system[0] == pytest.approx(29.9 * costs.latency[0])
    assert gpu_costs(LAYERS, Draws(card, "maxn"), "fp16").total is None


def test_time_is_called_folded_only_where_the_current_is_constant():
    patches = np.zeros((1, 64, 336), np.float32)
    said = {
        name: estimate(trace(load_model(name), [patches]), load_card("jetson-orin-nano")).notes[0]
        for name in ("spikewfm-nano", "spikewfm-nano-carry", "spikewfm-nano-relu")
    }
    assert said["spikewfm-nano"].startswith("Time is folded")
    assert said["spikewfm-nano-carry"].startswith("The T steps are costed as they ran here")
    assert said["spikewfm-nano-relu"].startswith("No measurement of this model family")
