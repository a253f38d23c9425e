"""A module of the user's, and a model of any family, is profiled like a preset."""

from __future__ import annotations

import pytest

import spikeport
from spikeport.cli.app import run
from spikeport_errors import UnsupportedError

FILE = """
import torch
from spikingjelly.activation_based import functional, layer, neuron


class Net(torch.nn.Module):
    def __init__(self, mode):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fire, self.pool = layer.Conv2d(2, 8, 3, padding=1), neuron.LIFNode(), layer.AvgPool2d(2, 2)
        self.flatten, self.read = layer.Flatten(), layer.Linear(8 * 4 * 4, 10)
        functional.set_step_mode(self, mode)
        self.example_input = 3 * torch.rand(4, 16, 2, 8, 8)
        if mode == "s":
            self.example_input, self.steps = self.example_input[0], 4

    def forward(self, x):
        return self.read(self.flatten(self.pool(self.fire(self.conv(x)))))


def multi():
    return Net("m")


def single():
    return Net("s")


def plain():
    made = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 4))
    made.example_input = torch.randn(6, 16)
    return made


def mute():
    return torch.nn.Linear(4, 4)
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("own") / "own_nets.py"
    path.write_text(FILE)
    return str(path)


@pytest.mark.parametrize("factory", ["multi", "single"])
def test_a_spiking_module_is_traced_on_its_example(file, factory):
    # conv 8 * 8 * 8 outputs * 18 weights at 4 steps, read 128 * 10 at 4 steps; 8 * 64 neurons
    found = spikeport.trace(f"{file}:{factory}", detail=True)
    conv, fire, read = (next(r for r in found.layers if r.path == path) for path in ("conv", "fire", "read"))
    assert (found.samples, found.steps, found.unaccounted) == (16, 4, ())
    assert (conv.macs_executed, read.macs_executed) == (4 * 512 * 18, 4 * 1280)
    assert (fire.neurons, fire.neuron_updates, len(fire.rate_per_step)) == (512, 4 * 512, 4)
    assert read.synops == 10 * fire.spikes > 0
    assert found.source == "the module's own example_input"
    assert found.detail is not None


@pytest.mark.parametrize("factory", ["multi", "plain"])
def test_it_is_costed_on_every_class_of_target(file, factory):
    found = spikeport.profile(f"{file}:{factory}", targets=["jetson-orin-nano", "loihi2", "cmos45"])
    jetson, loihi, convention = found.targets
    assert jetson.latency is not None
    assert loihi.energy.event is not None
    assert convention.energy.total is not None
    assert ("does not spike" in loihi.verdict) == (factory == "plain")
    assert found.twin is None


def test_a_module_that_says_nothing_about_its_input_is_refused_with_the_remedy(file, capsys):
    with pytest.raises(UnsupportedError, match="example_input"):
        spikeport.trace(f"{file}:mute")
    assert run(["profile", f"{file}:plain", "--target", "cmos45", "--rates-snr", "0"]) == 2
    assert "no SNR" in capsys.readouterr().err


def test_a_model_of_another_family_is_traced_on_real_channels():
    found = spikeport.profile("lwm-1.0-spiking", targets=["loihi2"], samples=2, rates_snr="0:20:20")
    assert found.trace.spiking
    assert [point.snr_db for point in found.trace.over_snr] == [0.0, 20.0]
    assert "ray-traced" in found.trace.source
    assert found.trace.unaccounted == ()
    assert found.model["config"]["name"] == "lwm-1.0-spiking"
