"""Whatever a user's own module does, it is one error of ours, and stdout stays free."""

import subprocess
import sys
from pathlib import Path

import pytest

import spikeport

MODULES = """
import torch
from torch import nn
from spikingjelly.activation_based import neuron

class Net(nn.Module):
    def __init__(self, tau=2.0, fail=None, talk=False):
        super().__init__()
        self.fc1, self.lif, self.fc2 = nn.Linear(4, 6), neuron.LIFNode(tau=2.0, step_mode="m"), nn.Linear(6, 2)
        self.lif.tau, self.fail, self.talk = tau, fail, talk
        self.example_input = torch.ones(3, 4)

    def forward(self, x):
        if self.talk:
            print("hello")
        y = self.fc2(self.lif(self.fc1(x).unsqueeze(0).expand(4, -1, -1))).mean(0)
        return {"y": y} if self.fail == "dict" else y

good, half, nan = Net, lambda: Net(tau=0.5), lambda: Net(tau=float("nan"))
dictionary, talks = lambda: Net(fail="dict"), lambda: Net(talk=True)
lazy = lambda: nn.LazyLinear(3)
def broken():
    raise ValueError("first line\\nsecond line")
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(MODULES)
    return tmp_path / "own.py"


@pytest.mark.parametrize("name", ["half", "nan", "dictionary", "lazy", "broken"])
def test_a_module_that_no_conversion_foresees_is_one_line(name, module, tmp_path):
    with pytest.raises(spikeport.SpikeportError) as caught:
        spikeport.export(f"{module}:{name}", target="snntorch", out=tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir() if p.name not in ("own.py", "__pycache__")] == []


def test_what_a_module_prints_does_not_reach_stdout(module, tmp_path, capsys):
    assert spikeport.export(f"{module}:talks", target="snntorch", out=tmp_path / "out").parity
    assert "hello" not in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="needs the file-size limit of Linux")
def test_a_disk_that_is_full_is_one_error_and_leaves_nothing(module, tmp_path):
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from spikeport.cli import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); main()"
    )
    command = [sys.executable, "-c", code, "export", f"{module}:good", "--target", "snntorch", "--out", "out"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert result.returncode == 2, result.stderr
    assert "free space" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert [p.name for p in tmp_path.iterdir() if p.name not in ("own.py", "__pycache__")] == []
