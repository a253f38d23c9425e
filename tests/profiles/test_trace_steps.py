"""Counts at each step, by where spikes come from, and the spikes and potentials of one sample, all by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn

from spikeport_profiles.counts import LayerCounts, Trace
from spikeport_profiles.trace import trace, with_rates
from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.layers import Block
from spikeport_toolkit.models.load import load_model

LIF = NeuronConfig("lif", steps=4, tau=2.0)
CURRENTS = (1.0, 0.7, 0.6, 0.4)
"""As in test_trace: 1.0 fires at steps 1, 2, 3, 4; 0.7 at 2, 4; 0.6 at 3; 0.4 never."""


def layer(found: Trace, path: str) -> LayerCounts:
    return next(row for row in found.layers if row.path == path)


def inputs(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def block_of_fixed_spikes() -> Block:
    block = Block(8, 2, 16, "none", LIF)
    with torch.no_grad():
        block.ffn.fc1.weight.zero_()
        block.ffn.fc1.bias.copy_(torch.tensor(CURRENTS).repeat_interleave(4))
        block.ffn.fc2.weight.fill_(0.5)
        block.ffn.fc2.weight[:2, :4] = 0
    return block


def test_every_step_is_counted_by_itself():
    # Four neurons of each current a token, 3 tokens; the four of current 1.0 reach 6 of 8 outputs.
    #   spikes a token  4, 4 + 4, 4 + 4, 4 + 4     SynOps a token  4*6, 4*6 + 4*8, 4*6 + 4*8, 4*6 + 4*8
    found = trace(block_of_fixed_spikes(), [inputs(2, 3, 8)])
    spiking, fc2 = layer(found, "ffn.neuron"), layer(found, "ffn.fc2")
    assert spiking.spikes_per_step == (12, 24, 24, 24)
    assert spiking.rate_per_step == (0.25, 0.5, 0.5, 0.5)
    assert spiking.busiest_per_step == (3, 3, 3, 3)
    assert fc2.synops_per_step == (72, 168, 168, 168)
    assert fc2.busiest_per_step == (24, 56, 56, 56)
    assert (sum(spiking.spikes_per_step), sum(fc2.synops_per_step)) == (spiking.spikes, fc2.synops)
    assert (fc2.weights, fc2.weights_nonzero) == (128, 120)


def test_the_raster_and_the_potentials_of_a_sample_are_its_own():
    # Membrane of current 0.7 at decay 1/2, reset to 0 (v += I - v / 2): 0.7, 1.05*, 0.7, 1.05*; spikes at the stars.
    detail = trace(block_of_fixed_spikes(), [inputs(2, 3, 8)], detail=True).detail
    assert detail is not None
    (raster,), (potentials,) = detail.rasters, detail.membranes
    assert (raster.path, raster.steps, raster.tokens) == ("ffn.neuron", 4, (0, 1, 2))
    assert raster.rows == ("1111" * 3,) * 4 + ("0101" * 3,) * 4 + ("0010" * 3,) * 4 + ("0000" * 3,) * 4
    assert sum(potentials.counts) + potentials.below + potentials.above == 3 * 16 * 4
    fired = sum(n for n, low in zip(potentials.counts, potentials.edges, strict=False) if low >= potentials.threshold)
    assert fired == sum(row.count("1") for row in raster.rows)
    assert Trace.from_dict(trace(block_of_fixed_spikes(), [inputs(2, 3, 8)], detail=True).to_dict()).detail == detail


def test_a_graded_raster_holds_the_number_of_events():
    block = Block(8, 2, 16, "none", NeuronConfig("ilif", 1, 4, tau=4 / 3, v_threshold=0.5, v_reset=None))
    with torch.no_grad():
        block.ffn.fc1.weight.zero_()
        block.ffn.fc1.bias.copy_(torch.tensor(CURRENTS).repeat_interleave(4))
    detail = trace(block, [inputs(1, 2, 8)], detail=True).detail
    assert detail is not None
    assert list(detail.rasters[0].rows[::4]) == ["22", "11", "11", "11"]


def test_rates_over_snr_are_traces_of_their_own():
    model = load_model("spikewfm-nano")
    quiet, loud = inputs(1, 64, 336), 3 * inputs(1, 64, 336)
    found = with_rates(trace(model, [quiet]), model, {-10.0: loud, 30.0: quiet})
    assert [point.snr_db for point in found.over_snr] == [-10.0, 30.0]
    assert found.over_snr[1].spike_rate == found.spike_rate
    assert found.over_snr[0].layers == {
        row.path: row.spike_rate for row in trace(model, [loud]).layers if row.kind == "spiking"
    }
    assert Trace.from_dict(found.to_dict()) == found


class Net(nn.Module):
    """Linear, LIF, Linear of a SpikingJelly user: all T steps at once, one step that is called T times, or a loop."""

    def __init__(self, mode: str, fire: nn.Module | None = None):
        super().__init__()
        torch.manual_seed(0)
        self.mode = mode
        self.up, self.down = nn.Linear(6, 12), nn.Linear(12, 5)
        self.fire = fire or neuron.LIFNode(tau=2.0)
        functional.set_step_mode(self, "m" if mode == "multi" else "s")
        if mode == "single":
            self.steps = 3

    def forward(self, x: Tensor) -> Tensor:
        if self.mode != "loop":
            return self.down(self.fire(self.up(x)))
        return torch.stack([self.down(self.fire(self.up(x))) for _ in range(3)]).mean(0)


def test_multi_step_single_step_and_a_loop_in_forward_count_alike():
    x = 2 * inputs(4, 6)
    multi = trace(Net("multi"), [np.stack([x] * 3)])
    for found in (trace(Net("single"), [x]), trace(Net("loop"), [x])):
        assert (found.samples, found.steps) == (multi.samples, multi.steps) == (4, 3)
        for path in ("up", "fire", "down"):
            mine, theirs = layer(found, path), layer(multi, path)
            for name in ("macs_executed", "spikes", "synops", "neuron_updates", "spikes_per_step", "synops_per_step"):
                assert getattr(mine, name) == getattr(theirs, name), (path, name)
    assert layer(multi, "fire").spikes > 0
    assert layer(multi, "up").macs_executed == 3 * 6 * 12


def test_a_product_of_the_same_input_is_needed_once():
    x = inputs(4, 6)
    for found in (trace(Net("single"), [x]), trace(Net("loop"), [x])):
        assert (layer(found, "up").macs_executed, layer(found, "up").macs_algebraic) == (3 * 72, 72)
        assert layer(found, "down").macs_algebraic == layer(found, "down").macs_executed


def test_a_module_starts_every_batch_at_rest_and_is_left_at_rest():
    model, x = Net("single"), 2 * inputs(4, 6)
    whole, split = trace(model, [x]), trace(model, [x[:1], x[1:]])
    assert split.totals["spikes"] == whole.totals["spikes"]
    assert model.fire.v == 0.0


def test_ternary_spikes_of_either_sign_are_events():
    node = neuron.TernaryIFNode(v_threshold=1.0)
    model = Net("multi", node)
    with torch.no_grad():
        model.up.weight.zero_()
        model.up.bias.copy_(torch.tensor([1.5, -1.5, 0.0]).repeat(4))
    found = trace(model, [inputs(1, 2, 6)], detail=True)
    assert layer(found, "fire").spikes == 8
    assert layer(found, "down").synops == 8 * 5
    assert found.detail is not None
    assert found.detail.rasters[0].rows[:3] == ("1", "-", "0")


def test_graded_spikes_of_a_users_node_are_that_many_events():
    node = neuron.ILIFNode(tau=4 / 3, v_threshold=0.5, surrogate_function=surrogate.MultiLevelSpikeCount(4))
    model = Net("multi", node)
    with torch.no_grad():
        model.up.weight.zero_()
        model.up.bias.copy_(torch.tensor([1.0, 0.7, 0.0]).repeat(4))
    found = trace(model, [inputs(1, 2, 6)])
    assert layer(found, "fire").spikes == 4 * (2 + 1)
    assert (layer(found, "down").synops, layer(found, "down").graded_synops) == (4 * 3 * 5, 4 * 2 * 5)


class Pooled(nn.Module):
    """Spikes through a mean over T, an average pool, a maximum pool or a residual sum, before a linear layer."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how
        self.fire, self.other = neuron.IFNode(step_mode="m"), neuron.IFNode(step_mode="m")
        self.read = nn.Linear(64 if how in ("mean", "sum", "mixed") else 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.fire(x)
        if self.how == "mean":
            return self.read(spikes.mean(0).flatten(1))
        if self.how == "average":
            return self.read(nn.functional.avg_pool2d(spikes.flatten(0, 1), 2).flatten(1))
        if self.how == "maximum":
            return self.read(nn.functional.max_pool2d(spikes.flatten(0, 1), 2).flatten(1))
        other = self.other(x)
        return self.read((spikes + (other * 0.5 if self.how == "mixed" else other)).flatten(2))


@pytest.mark.parametrize(("how", "events"), [("mean", 128), ("average", 128), ("maximum", 32), ("sum", 256)])
def test_spikes_are_followed_to_the_layer_they_reach(how, events):
    # All 64 neurons fire at both of 2 steps: 128 events; 2 x 2 pools keep one of four (maximum) or the sum (average).
    found = trace(Pooled(how), [np.ones((2, 1, 1, 8, 8), np.float32)])
    assert layer(found, "fire").spikes == 128
    assert (layer(found, "read").input, layer(found, "read").synops) == ("spikes", 3 * events)
    assert found.unaccounted == ()


def test_a_sum_of_spikes_of_unequal_worth_is_listed_not_guessed():
    found = trace(Pooled("mixed"), [np.ones((2, 1, 1, 8, 8), np.float32)])
    assert layer(found, "read").synops == 0
    assert found.unaccounted == ("read (SynOps of a sum of spikes and pooled or scaled spikes)",)


@pytest.mark.parametrize("name", ["spikewfm-nano-carry", "spikewfm-nano-slots"])
def test_every_time_axis_is_counted(name):
    found = trace(load_model(name), [2 * inputs(1, 64, 336)], detail=True)
    spiking = [row for row in found.layers if row.kind == "spiking"]
    assert found.unaccounted == ()
    assert (found.steps, len(spiking)) == (4, 7)
    for row in spiking:
        fed = next(other for other in found.layers if other.fed_by == row.path)
        assert fed.synops == row.spikes * 128
        assert sum(fed.synops_per_step) == fed.synops
        assert fed.macs_unrolled == fed.macs_executed
