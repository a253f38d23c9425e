"""Modules that take [T, batch, ...] climb the ladder: the batch varies on the second axis, time does not."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

from spikeport_converters.export import check, export
from spikeport_targets.card import load_card


class Convolutions(nn.Module):
    """Frames of a video through a spiking convolution, [T, batch, 2, 6, 6] to the mean rates of 3 classes."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps
        self.conv = layer.Conv2d(2, 4, 3, padding=1, step_mode="m")
        self.fire = neuron.LIFNode(tau=2.0, v_threshold=0.25, step_mode="m")
        self.read = nn.Linear(4 * 36, 3)
        self.example_input = torch.rand(steps, 4, 2, 6, 6)

    def forward(self, x):
        return self.read(self.fire(self.conv(x)).flatten(2)).mean(0)


@pytest.mark.parametrize(("steps", "target"), [(4, "jetson-orin-nano"), (20, "cpu-onnxruntime")])
def test_a_module_that_takes_time_first_is_exported_and_checked(steps, target, tmp_path):
    torch.manual_seed(0)
    model = Convolutions(steps).eval()
    bundle = export(model, load_card(target), "fp32", tmp_path / "b", model.example_input.numpy())
    assert bundle.ok, bundle.summary()
    assert check(tmp_path / "b")
    (profile,) = (rung for rung in bundle.manifest["ladder"] if rung["name"] == "batch profile")
    assert f"{steps}x1x2x6x6" in profile["detail"]
