"""A precision that costs too much: one line that names the layer, the limit and what to take instead, and exit 1."""

from __future__ import annotations

import pytest

from spikeport.cli.app import run
from spikeport_converters.ladder import _milder
from spikeport_converters.precision import PRESETS
from spikeport_targets.card import load_card

NET = """
import torch
from spikingjelly.activation_based import neuron


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.up, self.fire = torch.nn.Linear(16, 32), neuron.LIFNode(step_mode="m")
        self.mid, self.again = torch.nn.Linear(32, 32), neuron.LIFNode(step_mode="m")
        self.down, self.example_input = torch.nn.Linear(32, 4), 3 * torch.randn(4, 16)

    def forward(self, x):
        rate = self.fire(3 * self.up(x).expand(4, *x.shape[:-1], 32)).mean(0)
        return self.down(self.again(3 * self.mid(rate).expand(4, *x.shape[:-1], 32)).mean(0))
"""


def test_int8_that_misses_its_gate_says_so_in_one_line(tmp_path, capsys):
    (tmp_path / "own.py").write_text(NET)
    out = str(tmp_path / "b")
    command = ["export", f"{tmp_path / 'own.py'}:Net", "--target", "jetson-orin-nano", "--out", out]
    assert run([*command, "--precision", "int8"]) == 1
    shown = capsys.readouterr()
    (line,) = (line for line in shown.out.splitlines() if line.startswith("FAIL parity"))
    assert "limit -28" in line
    assert "take --precision int8-safe or fp16" in line
    assert "--qat" in line
    assert "Traceback" not in shown.out + shown.err


@pytest.mark.parametrize(
    ("target", "precision", "takes"),
    [
        ("jetson-orin-nano", "int8-safe", "--precision fp16;"),
        ("cpu-onnxruntime", "int8-fp16", "--precision int8-safe or fp16;"),
        ("jetson-agx-thor", "nvfp4", "--precision fp8 or fp16"),
        ("jetson-agx-thor", "fp8", "--precision fp16"),
        ("jetson-orin-nano", "fp16", "--precision fp32"),
        ("jetson-orin-nano", "fp32", ""),
    ],
)
def test_every_precision_names_the_next_more_exact_one_of_its_card(target, precision, takes):
    remedy = _milder(load_card(target), PRESETS[precision])
    assert takes in remedy if takes else remedy == ""
