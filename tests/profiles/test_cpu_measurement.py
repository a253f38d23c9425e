"""One column of a report is measured: on this machine's CPU, model and twin in turns."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from tiny_model import tiny
from torch import nn

from spikeport_errors import InputError
from spikeport_profiles import measured
from spikeport_profiles.estimate import estimate
from spikeport_profiles.measured import Counter, Timings, _quantity, _verdict, measure
from spikeport_profiles.trace import trace
from spikeport_targets.card import load_card

CARD = load_card("cpu-onnxruntime")
MODEL, TWIN = tiny("lif", steps=4), tiny("qrelu", levels=4)
PATCHES = np.random.default_rng(0).standard_normal((2, MODEL.config.grid.tokens, 336)).astype(np.float32)


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    monkeypatch.setattr(measured, "BLOCK_S", 0.0)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_latency_of_model_and_twin_is_measured_and_says_on_what(precision, tmp_path):
    found = measure(MODEL, TWIN, CARD, PATCHES, precision, powercap=tmp_path)
    for quantity in (found.latency, found.twin.latency):
        assert 0 < quantity.low <= quantity.nominal <= quantity.high
        assert (quantity.unit, quantity.kind) == ("s", "measured")
        assert "onnxruntime" in quantity.source[0]
    assert found.energy.total is None
    assert any("cannot be read" in note for note in found.notes)
    assert "Measured here" in found.verdict


def test_a_multi_step_module_is_measured_on_one_sample_of_all_its_steps(tmp_path):
    module = nn.Sequential(layer.Linear(6, 10), neuron.IFNode(), layer.Linear(10, 3))
    functional.set_step_mode(module, "m")
    module.example_input = torch.rand(4, 2, 6)
    found = measure(module, None, CARD, module.example_input.numpy(), "fp32", powercap=tmp_path)
    assert found.latency.nominal > 0
    assert not any("folded" in note for note in found.notes)


def timed(seconds: list[float]) -> Timings:
    return Timings(seconds=seconds, medians=seconds)


@pytest.mark.parametrize(
    ("mine", "twin", "words"),
    [
        ([1.0, 2.0, 3.0] * 4, [3.0, 2.0, 1.0] * 4, "no difference can be told"),
        ([1.0, 2.0, 3.0] * 4, [1.2, 2.4, 3.6] * 4, "saves time"),
        ([5.0, 6.0] * 5, [1.0, 2.0] * 5, "costs time"),
    ],
)
def test_a_difference_is_claimed_only_where_intervals_or_paired_blocks_separate(mine, twin, words):
    both = [timed(mine), timed(twin)]
    assert words in _verdict([_quantity(t.seconds, "s", "here") for t in both], both)


def test_without_a_twin_there_is_no_comparison(tmp_path):
    found = measure(MODEL, None, CARD, PATCHES, "fp32", powercap=tmp_path)
    assert found.twin is None
    assert "no twin" in found.verdict


def rapl(folder, now: int):
    zone = folder / "intel-rapl:0"
    zone.mkdir(exist_ok=True)
    (zone / "max_energy_range_uj").write_text("999999\n")
    (zone / "energy_uj").write_text(f"{now}\n")


def test_the_energy_counter_is_read_in_joules_and_may_wrap_once(tmp_path):
    rapl(tmp_path, 900_000)
    counter = Counter(tmp_path)
    start = counter.read()
    rapl(tmp_path, 950_000)
    assert counter.since(start) == pytest.approx(0.05)
    rapl(tmp_path, 100_000)
    assert counter.since(start) == pytest.approx(0.2)


def test_energy_is_measured_where_the_counter_can_be_read(tmp_path):
    rapl(tmp_path, 5)
    found = measure(MODEL, None, CARD, PATCHES, "fp32", powercap=tmp_path)
    assert found.energy.total is not None
    assert (found.energy.total.nominal, found.energy.total.kind) == (0.0, "measured")


def test_counts_alone_cannot_be_measured():
    with pytest.raises(InputError, match="spikeport profile"):
        estimate(trace(MODEL, [PATCHES]), CARD)


def test_the_machine_and_the_number_of_runs_are_named_and_the_core_is_given_back(tmp_path):
    before = os.sched_getaffinity(0)
    found = measure(MODEL, None, CARD, PATCHES, "fp32", powercap=tmp_path)
    assert os.sched_getaffinity(0) == before
    runs = measured.BLOCKS * measured.LEAST_RUNS
    assert found.latency.source[0].startswith(f"{runs} samples on ")
    assert "one thread" in found.latency.source[0]
    assert f"median of {runs} runs at batch 1" in found.notes[0]
