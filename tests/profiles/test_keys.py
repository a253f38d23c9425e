"""The counts by other tools' names, and equal to those tools' own where these are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron, op_counter
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from spikeport_errors import UsageError
from spikeport_profiles.trace import trace
from spikeport_toolkit.models.load import load_model


class Looped(nn.Module):
    """Linear, LIF, Linear at each of 4 steps; a fifth of the second layer's weights are pruned."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1 = nn.Linear(10, 25)
        self.fire = neuron.LIFNode(tau=2.0, step_mode="m")
        self.fc2 = nn.Linear(25, 7)
        with torch.no_grad():
            self.fc2.weight[:, :5] = 0

    def forward(self, x: Tensor) -> Tensor:
        self.fire.reset()
        return self.fc2(self.fire(self.fc1(x.repeat(4, 1, 1)))).mean(0)


X = 2 * np.random.default_rng(0).standard_normal((6, 10)).astype(np.float32)


def test_spikingjellys_names_and_counts():
    model = Looped().eval()
    with torch.no_grad():
        model.fc2.weight.fill_(0.1)  # its counter takes every weight, zero or not
    mac, synop = op_counter.MACCounter(), op_counter.SynOpCounter()
    with torch.no_grad(), op_counter.DispatchCounterMode([mac, synop]):
        model(torch.from_numpy(X))
    found = trace(model, [X]).to_dict(keys="spikingjelly")
    assert found["SynOpCounter"]["Global"] * 6 == synop.get_total() > 0
    assert found["SynOpCounter"]["fc2"] == found["SynOpCounter"]["Global"]
    assert set(found) == {"MACCounter", "SynOpCounter"}
    # Its MAC counter also counts the neuron's arithmetic; the scope of the analog layer is what can be compared.
    assert found["MACCounter"]["fc1"] * 6 == sum(mac.get_counts()["Looped.fc1"].values()) == 6 * 4 * 250


def test_neurobenchs_names_and_counts():
    pytest.importorskip("neurobench", reason="neurobench is not installed (make dev installs it without its pins)")
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.static import ConnectionSparsity
    from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
    from neurobench.models import TorchModel

    class Whole(TorchModel):
        def __call__(self, batch: Tensor) -> Tensor:
            return self.net(batch)

    model = Looped().eval()
    wrapped = Whole(model)
    wrapped.add_activation_module(neuron.LIFNode)
    data = DataLoader(TensorDataset(torch.from_numpy(X), torch.zeros(6)), batch_size=6)
    metrics = [[ConnectionSparsity], [ActivationSparsity, SynapticOperations]]
    theirs = Benchmark(wrapped, data, [], [], metrics).run(quiet=True)
    ours = trace(model, [X]).to_dict(keys="neurobench")
    assert ours["SynapticOperations"] == pytest.approx(theirs["SynapticOperations"])
    assert ours["ActivationSparsity"] == pytest.approx(theirs["ActivationSparsity"])
    assert ours["ConnectionSparsity"] == pytest.approx(theirs["ConnectionSparsity"], abs=5e-5)  # it rounds
    assert theirs["SynapticOperations"]["Effective_ACs"] > 0
    assert {"Footprint", "MembraneUpdates"} < set(ours)


def test_a_graded_model_has_no_activation_sparsity_and_unknown_keys_are_named():
    found = trace(load_model("spikewfm-nano-ilif"), [np.ones((1, 64, 336), np.float32)])
    assert found.to_dict(keys="neurobench")["ActivationSparsity"] is None
    with pytest.raises(UsageError, match="did you mean 'neurobench'"):
        found.to_dict(keys="neurobnch")  # type: ignore[arg-type]
