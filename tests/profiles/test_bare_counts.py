"""A published network is costed from its counts alone: every expected number is worked out here by hand."""

from __future__ import annotations

import pytest

import spikeport
from spikeport import Counts
from spikeport_errors import InputError, UsageError

PILOTNET = Counts(synops=36.58e6, neuron_updates=2.536e6, steps=16, cores=74, latency_s=2.446e-3)
"""PilotNet LIF on one Loihi 2, T = 16: calibration/neuromorphic.csv."""


def test_event_energy_of_a_published_network_is_its_counts_times_the_constants():
    found = spikeport.estimate(PILOTNET, target="loihi1")
    event, system = found.energy.event, found.energy.system
    assert event is not None
    assert event.nominal == pytest.approx(36.58e6 * 24e-12 + 2.536e6 * 72.8e-12)
    assert event.low < 1.094e-3 < event.high  # what a Loihi 2 was measured to take, never used for these constants
    assert system is not None
    assert system.nominal == pytest.approx((0.104 + 0.066) * 2.446e-3)
    assert found.latency is not None
    assert found.latency.low == found.latency.nominal == found.latency.high == 2.446e-3


def test_without_a_measured_latency_it_is_cores_barriers_and_management():
    found = spikeport.estimate(Counts(synops=1e6, neuron_updates=1e5, steps=10, cores=2), target="loihi1",
                               scenario="silicon")  # fmt: skip
    assert found.latency is not None
    assert found.latency.nominal == pytest.approx((1e6 * 3.8e-9 + 1e5 * 9.7e-9) / 2 + 10 * 0.6e-6)


def test_spikes_that_leave_a_neuron_cost_where_their_energy_is_published():
    quiet = spikeport.estimate(Counts(synops=1e6, neuron_updates=1e5), target="loihi1").energy.event
    loud = spikeport.estimate(Counts(synops=1e6, neuron_updates=1e5, spikes=1e4), target="loihi1").energy.event
    assert quiet is not None
    assert loud is not None
    assert loud.nominal - quiet.nominal == pytest.approx(1e4 * 69.3e-12)


def test_a_gpu_takes_macs_kernels_and_bytes():
    found = spikeport.estimate(Counts(macs=1e9, kernels=10, bytes=2e6), target="jetson-orin-nano", precision="fp16")
    assert found.latency is not None
    expected = 193.8e-6 + 10 * 5.161e-6 + 2e9 / (0.3608 * 16.7e12) + 2e6 / (0.6681 * 102.4e9)
    assert found.latency.nominal == pytest.approx(expected)


def test_the_convention_takes_macs_and_synops_and_finds_the_break_even_rate():
    # rate 0.1: 1e6 SynOps at 0.9 pJ against 1e6 MACs of the twin at 4.6 pJ: even at 0.1 * 4.6 / 0.9
    spiking = Counts(synops=1e6, neuron_updates=1e4, spikes=1e3)
    found = spikeport.estimate(spiking, target="cmos45", twin=Counts(macs=1e6))
    assert found.energy.total is not None
    assert found.energy.total.nominal == pytest.approx(0.9e-6)
    assert found.break_even_spike_rate == pytest.approx(0.1 * 4.6 / 0.9)


@pytest.mark.parametrize("target", ["speck2", "akida-akd1000"])
def test_where_no_energy_is_published_the_estimate_is_null_and_says_so(target):
    found = spikeport.estimate(PILOTNET, target=target, twin=PILOTNET)
    assert found.energy.event is None
    assert "not published" in found.verdict


def test_counts_that_are_no_counts_are_one_clear_error():
    for bad in ({"synops": -1.0}, {"macs": float("nan")}, {"cores": 0}, {"steps": "4"}, {"latency_s": -1.0}):
        with pytest.raises(InputError, match=next(iter(bad))):
            Counts(**bad)
    with pytest.raises(InputError, match="synops, neuron_updates"):
        spikeport.estimate(Counts(macs=1e9), target="loihi2")
    with pytest.raises(UsageError, match="host"):
        spikeport.estimate(PILOTNET, target="loihi2", host="jetson-orin-nano")
