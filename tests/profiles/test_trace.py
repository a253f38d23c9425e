"""Counts are exact: every number here was worked out by hand, or by another tool where that tool is right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron, op_counter
from torch import Tensor, nn

from spikeport_converters.fold import fold_batchnorm, fold_time
from spikeport_errors import InputError
from spikeport_profiles.counts import LayerCounts, Trace
from spikeport_profiles.trace import trace
from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.layers import Block, FeedForward
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.tasks.channel_prediction import example_patches

LIF = NeuronConfig("lif", steps=4, tau=2.0)
CURRENTS = (1.0, 0.7, 0.6, 0.4)
"""Constant currents and the spikes they give in 4 steps: 1.0 fires at 1, 2, 3, 4; 0.7 at 2, 4; 0.6 at 3; 0.4 never."""


def layer(found: Trace, path: str) -> LayerCounts:
    return next(row for row in found.layers if row.path == path)


def inputs(batch: int, tokens: int, d: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((batch, tokens, d)).astype(np.float32)


def fixed_spikes(ffn: FeedForward) -> None:
    """Currents that do not depend on the input: four neurons of each; the first reach 6 of 8 outputs."""
    with torch.no_grad():
        ffn.fc1.weight.zero_()
        ffn.fc1.bias.copy_(torch.tensor(CURRENTS).repeat_interleave(4))
        ffn.fc2.weight.fill_(0.5)
        ffn.fc2.weight[:2, :4] = 0


def test_every_count_of_a_hybrid_block_is_exact():
    # d = 8, 2 heads, d_ff = 16, N = 3 tokens, T = 4, LIF
    #   qkv       3 * 8 * 24                 =  576 MAC     weights (8 * 24 + 24) * 4 B = 864 B
    #   Q K^T, AV 2 * 3^2 * 8                =  144
    #   out       3 * 8 * 8                  =  192
    #   fc1, fc2  3 * 8 * 16 each            =  384         unrolled over T: 1536 each
    #   spikes a token  4 * (4 + 2 + 1 + 0)  =   28         rate 28 / (16 * 4) = 0.4375
    #   SynOps a token  16 * 6 + 8 * 8 + 4 * 8 = 192        busiest step: 4 * 6 + 4 * 8 = 56
    block = Block(8, 2, 16, "none", LIF)
    fixed_spikes(block.ffn)
    found = trace(block, [inputs(2, 3, 8)])
    assert layer(found, "attention.qkv").macs_executed == 576
    assert layer(found, "attention.qkv").weight_bytes == 864
    assert layer(found, "attention").macs_executed == 144
    assert layer(found, "attention.out").macs_executed == 192
    assert layer(found, "norm1").elements == 24
    for path in ("ffn.fc1", "ffn.fc2"):
        assert (layer(found, path).macs_executed, layer(found, path).macs_unrolled) == (384, 1536)
    spiking, fc2 = layer(found, "ffn.neuron"), layer(found, "ffn.fc2")
    assert (spiking.spikes, spiking.spike_rate) == (3 * 28, 0.4375)
    assert (spiking.neuron_updates, spiking.neurons, spiking.state_bytes) == (3 * 16 * 4, 16, 3 * 16 * 4)
    assert spiking.busiest_unit_per_step == 3
    assert (fc2.input, fc2.fed_by, fc2.synops, fc2.busiest_unit_per_step) == ("spikes", "ffn.neuron", 3 * 192, 56)
    assert layer(found, "ffn.fc1").input == "analog"
    assert found.totals["macs_executed"] == 576 + 144 + 192 + 384 + 384
    assert found.totals["macs_unrolled"] == 576 + 144 + 192 + 1536 + 1536
    assert (found.samples, found.tokens, found.steps, found.levels, found.unaccounted) == (2, 3, 4, 1, ())


class LoopedBlock(nn.Module):
    """nn.MultiheadAttention, then Linear-LIF-Linear run at each of T steps, as a user of SpikingJelly writes it."""

    def __init__(self, d: int, heads: int, d_ff: int, steps: int):
        super().__init__()
        self.steps = steps
        self.mha = nn.MultiheadAttention(d, heads, batch_first=True)
        self.fc1 = nn.Linear(d, d_ff)
        self.lif = neuron.LIFNode(tau=2.0, decay_input=False, v_reset=0.0, step_mode="m")
        self.fc2 = nn.Linear(d_ff, d)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mha(x, x, x, need_weights=False)[0]
        self.lif.reset()
        spikes = self.lif(self.fc1(x.expand(self.steps, *x.shape)))
        return x + self.fc2(spikes).mean(0)


def test_a_fused_multihead_attention_and_an_explicit_time_loop_are_counted_whole():
    # d = 12, 3 heads, d_ff = 20, N = 5 tokens, T = 3
    #   in_proj 5 * 12 * 36 = 2160, products 2 * 5^2 * 12 = 600, out_proj 5 * 12 * 12 = 720
    #   fc1, fc2 run at each step: 3 * 5 * 12 * 20 = 3600 each
    torch.manual_seed(0)
    found = trace(LoopedBlock(12, 3, 20, 3), [inputs(2, 5, 12)])
    assert layer(found, "mha.in_proj").macs_executed == 2160
    assert layer(found, "mha").macs_executed == 600
    assert layer(found, "mha.out_proj").macs_executed == 720
    assert (layer(found, "fc1").macs_executed, layer(found, "fc2").macs_executed) == (3600, 3600)
    assert layer(found, "lif").neuron_updates == 5 * 20 * 3
    assert layer(found, "fc2").synops == 12 * layer(found, "lif").spikes > 0
    assert found.steps == 3


def test_synops_of_binary_spikes_equal_spikingjellys_counter():
    torch.manual_seed(0)
    model, x = LoopedBlock(12, 3, 20, 3).eval(), inputs(2, 5, 12)
    counter = op_counter.SynOpCounter()
    with torch.no_grad(), op_counter.DispatchCounterMode([counter]):
        model(torch.from_numpy(x))
    assert trace(model, [x]).totals["synops"] * 2 == counter.get_total()


def test_the_block_of_the_fact_sheet():
    # d = 64, 4 heads, d_ff = 256, 32 tokens, T = 4: the counts of energy.md, section 3
    found = trace(Block(64, 4, 256, "none", LIF), [inputs(1, 32, 64)])
    assert layer(found, "attention.qkv").macs_executed + layer(found, "attention.out").macs_executed == 524_288
    assert layer(found, "attention").macs_executed == 131_072
    assert layer(found, "ffn.fc1").macs_executed == 524_288
    assert layer(found, "ffn.fc2").macs_unrolled == 2_097_152
    assert layer(found, "ffn.neuron").neuron_updates == 32_768


def test_a_graded_spike_counts_as_that_many_events():
    # I-LIF, D = 4, threshold 0.5, one step: currents 1.0, 0.7, 0.6, 0.4 give round(I / 0.5) = 2, 1, 1, 1
    block = Block(8, 2, 16, "none", NeuronConfig("ilif", 1, 4, tau=4 / 3, v_threshold=0.5, v_reset=None))
    fixed_spikes(block.ffn)
    found = trace(block, [inputs(1, 3, 8)])
    assert layer(found, "ffn.neuron").spikes == 3 * 4 * (2 + 1 + 1 + 1)
    assert layer(found, "ffn.fc2").synops == 3 * 4 * (2 * 6 + 8 + 8 + 8)
    assert layer(found, "ffn.fc2").graded_synops == 3 * 4 * (6 + 8 + 8 + 8)
    assert (found.steps, found.levels) == (1, 4)


def test_spikes_are_known_by_their_source_even_when_there_are_none():
    block = Block(8, 2, 16, "none", LIF)
    with torch.no_grad():
        block.ffn.fc1.weight.zero_()
        block.ffn.fc1.bias.zero_()
    fc2 = layer(trace(block, [inputs(1, 3, 8)]), "ffn.fc2")
    assert (fc2.input, fc2.synops, fc2.macs_executed) == ("spikes", 0, 384)


def test_binary_values_that_no_neuron_emitted_are_analog():
    model = nn.Sequential(nn.Linear(4, 2))
    found = trace(model, [np.ones((1, 3, 4), np.float32)])
    assert (found.layers[0].input, found.layers[0].synops) == ("analog", 0)


def test_a_twins_zeros_are_counted_but_are_no_spikes():
    block = Block(8, 2, 16, "none", NeuronConfig("relu"))
    fixed_spikes(block.ffn)
    with torch.no_grad():
        block.ffn.fc1.bias[8:] = -1.0
    found = trace(block, [inputs(1, 3, 8)])
    assert layer(found, "ffn.neuron").nonzero == 3 * 8
    fc2 = layer(found, "ffn.fc2")
    assert (fc2.input, fc2.synops, fc2.graded_synops) == ("analog", 0, 3 * (4 * 6 + 4 * 8))


class Stranger(nn.Module):
    """A scale and a tensordot without a rule, an einsum and explicit attention with one."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.mix = nn.Parameter(torch.ones(4, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale
        x = torch.einsum("bnd,de->bne", x, self.mix)
        x = (x @ x.transpose(1, 2)).softmax(-1) @ x
        return torch.tensordot(x, x, dims=([1], [1]))


def test_what_has_no_rule_is_listed_and_what_has_one_is_counted():
    found = trace(Stranger(), [inputs(2, 3, 4)])
    assert found.unaccounted == ("Stranger", "Stranger (tensordot)")
    assert layer(found, "mix").macs_executed == 3 * 4 * 5
    assert layer(found, "mix").weight_bytes == 80
    assert found.totals["macs_executed"] == 3 * 4 * 5 + 2 * 3 * 3 * 5


class Attending(nn.Module):
    """The same attention written four ways; every one has 2 N^2 d products and 4 N d^2 in its projections."""

    def __init__(self, how: str, d: int = 12, heads: int = 3):
        super().__init__()
        self.how, self.heads = how, heads
        self.mha = nn.MultiheadAttention(d, heads, batch_first=True) if how == "mha" else None
        self.qkv, self.out = (None, None) if how == "mha" else (nn.Linear(d, 3 * d), nn.Linear(d, d))

    def forward(self, x: Tensor) -> Tensor:
        if self.mha is not None:
            return self.mha(x, x, x, need_weights=False)[0]
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.how == "sdpa":
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        elif self.how == "explicit":
            y = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        else:
            weights = torch.einsum("bhnd,bhmd->bhnm", q, k).softmax(-1)
            y = torch.einsum("...nm,...md->...nd", weights, v)
        return self.out(y.transpose(1, 2).reshape(b, n, d))


@pytest.mark.parametrize("mode", ["train", "eval", "no_grad", "inference_mode"])
@pytest.mark.parametrize("how", ["mha", "sdpa", "explicit", "einsum"])
def test_attention_is_counted_exactly_however_it_is_written_and_in_every_mode(how, mode):
    # N = 5, d = 12: projections 4 * 5 * 12 * 12 = 2880, products 2 * 5^2 * 12 = 600
    model = Attending(how).train(mode == "train")
    with {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}.get(mode, torch.enable_grad)():
        found = trace(model, [inputs(2, 5, 12)])
    assert found.totals["macs_executed"] == 2880 + 600
    assert found.unaccounted == ()


class Hybrid(nn.Module):
    """Attention written in one of four ways, then Linear, LIF, Linear at each of 4 steps on constant currents."""

    def __init__(self, how: str):
        super().__init__()
        self.attention = Attending(how)
        self.fc1, self.fc2 = nn.Linear(12, 16), nn.Linear(16, 12)
        self.lif = neuron.LIFNode(tau=2.0, decay_input=False, v_reset=0.0, step_mode="m")
        with torch.no_grad():
            self.fc1.weight.zero_()
            self.fc1.bias.copy_(torch.tensor(CURRENTS).repeat_interleave(4))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        self.lif.reset()
        return x + self.fc2(self.lif(self.fc1(x.expand(4, *x.shape)))).mean(0)


@pytest.mark.parametrize("mode", ["train", "eval", "no_grad", "inference_mode"])
@pytest.mark.parametrize("how", ["mha", "sdpa", "explicit", "einsum"])
def test_a_whole_hybrid_block_is_counted_exactly_in_every_mode(how, mode):
    # N = 5, d = 12, 16 neurons, T = 4: attention 2880 + 600; fc1, fc2 4 * 5 * 12 * 16 = 3840 each, fc1 on one input
    # repeated, so 960 would do; spikes 5 * 28 = 140, SynOps 12 for each = 1680, updates 5 * 16 * 4 = 320
    model = Hybrid(how).train(mode == "train")
    with {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}.get(mode, torch.enable_grad)():
        found = trace(model, [inputs(2, 5, 12)])
    fc1, lif, fc2 = (layer(found, path) for path in ("fc1", "lif", "fc2"))
    assert found.totals["macs_executed"] == 2880 + 600 + 2 * 3840
    assert (fc1.macs_executed, fc1.macs_algebraic, fc2.macs_algebraic) == (3840, 960, 3840)
    assert (lif.spikes, lif.neuron_updates, lif.spike_rate) == (140, 320, 0.4375)
    assert lif.spikes_per_step == (20, 40, 40, 40)
    assert (fc2.synops, fc2.synops_per_step) == (1680, (240, 480, 480, 480))
    assert (found.steps, found.unaccounted, model.training) == (4, (), mode == "train")


class Convolutional(nn.Module):
    """Conv, IF at each of 3 steps, strided grouped conv over the spikes, read out by a bare F.linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.fire = neuron.IFNode(step_mode="m")
        self.conv2 = nn.Conv2d(4, 2, 3, stride=2, groups=2)
        self.read = nn.Parameter(torch.ones(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        current = self.conv1(x)
        self.fire.reset()
        spikes = self.fire(current.expand(3, *current.shape))
        maps = self.conv2(spikes.flatten(0, 1)).unflatten(0, (3, -1)).mean(0)
        return torch.nn.functional.linear(maps.flatten(1), self.read)


def test_convolutions_and_their_synops_are_exact_to_the_edge():
    # 6 x 6 image of ones, all 3 x 3 kernels 1/4 at the centre only: the current is 1/4 everywhere; threshold 1, T = 3:
    # no spike. With a centre of 1 every one of 4 * 36 neurons fires at each of 3 steps: 432 spikes.
    #   conv1 6 * 6 * 4 outputs * 9 = 1296 MAC;   conv2 2 * 2 * 2 outputs * (2 channels * 9) = 144 a step, 432 in all
    #   a spike at (y, x) reaches as many of the 2 x 2 stride-2 windows as hold it: 4 windows * 9 = 36 for a map,
    #   one output channel a group: 36 * 4 maps * 3 steps = 432 SynOps;  read 8 * 5 = 40 MAC
    model = Convolutional()
    with torch.no_grad():
        model.conv1.weight.zero_()
        model.conv1.weight[..., 1, 1] = 1.0
        model.conv2.weight.fill_(1.0)
    found = trace(model, [np.ones((2, 1, 6, 6), np.float32)])
    assert layer(found, "conv1").macs_executed == 1296
    assert layer(found, "fire").spikes == 432
    assert layer(found, "fire").neurons == 4 * 36
    conv2 = layer(found, "conv2")
    assert (conv2.kind, conv2.input, conv2.fed_by) == ("convolution", "spikes", "fire")
    assert (conv2.macs_executed, conv2.synops, conv2.graded_synops) == (432, 432, 432)
    assert layer(found, "read").macs_executed == 40
    assert found.unaccounted == ()
    with torch.no_grad():
        model.conv2.weight[:, :, 0, 0] = 0.0  # 4 windows * 8
    assert layer(trace(model, [np.ones((2, 1, 6, 6), np.float32)]), "conv2").synops == 32 * 4 * 3


def test_nano_counts_match_its_architecture():
    # embed 48 * 336 * 128; 7 blocks; head embed 64 * 128 * 128; decoder of 16 tokens
    model = load_model("spikewfm-nano")
    found = trace(model, [np.zeros((1, 64, 336), np.float32)])
    block = 64 * 128 * (4 * 128 + 2 * 512) + 2 * 64**2 * 128
    assert found.totals["macs_executed"] == 48 * 336 * 128 + 7 * block + 64 * 128 * 128 + 16 * 128 * 336 == 99_221_504
    assert found.totals["macs_unrolled"] - found.totals["macs_executed"] == 3 * 7 * 2 * 64 * 128 * 512
    unused = 128 * 336 + 336  # the pre-training decoder does not run in a prediction
    assert found.totals["weight_bytes"] == 4 * (889_424 + 658_000 - unused)
    assert found.unaccounted == ()


def test_a_folded_model_has_the_spikes_of_the_model_it_came_from():
    model, x = fold_batchnorm(load_model("spikewfm-nano")), inputs(1, 64, 336)
    whole, folded = trace(model, [x]), trace(fold_time(model), [x])
    for name in ("macs_executed", "macs_unrolled", "synops", "spikes", "spike_rate", "neuron_updates"):
        assert folded.totals[name] == whole.totals[name], name
    assert (folded.steps, folded.unaccounted) == (4, ())


def test_counts_are_means_per_sample_whatever_the_batching():
    model, x = load_model("spikewfm-nano"), inputs(4, 64, 336)
    whole, split = trace(model, [x]), trace(model, iter([x[:1], x[1:]]))
    assert whole.samples == split.samples == 4
    assert whole.totals["macs_executed"] == split.totals["macs_executed"]
    assert split.totals["spikes"] == pytest.approx(whole.totals["spikes"], rel=1e-3)


def test_tracing_leaves_the_model_as_it_was():
    model, x = load_model("spikewfm-nano").train(), torch.from_numpy(inputs(1, 64, 336))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    trace(model, [x.numpy()])
    assert all(m.training for m in model.modules())
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_trace_survives_json():
    found = trace(load_model("spikewfm-nano"), [np.zeros((1, 64, 336), np.float32)])
    assert Trace.from_dict(found.to_dict()) == found
    assert "99,221,504" in found.summary()


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        ([], "no calibration batch"),
        ([np.full((1, 64, 336), np.nan, np.float32)], "not finite"),
        ([np.zeros((0, 64, 336), np.float32)], "shape"),
    ],
)
def test_unusable_inputs_are_named(batches: list[np.ndarray], says: str):
    with pytest.raises(InputError, match=says):
        trace(nn.Identity(), batches)


def test_a_wiener_skip_is_counted_as_what_it_runs():
    model = load_model("spikewfm-nano-wiener")
    counts = trace(model, [example_patches(model.config, 2)])
    row = next(layer for layer in counts.layers if layer.path == "skip.mixture")
    sizes = [spacing.from_time.shape[0] // 2 for spacing in model.skip.mixture.spacings]
    tones, observed, antennas = 48, 42, 4
    vectors = model.skip.mixture.from_frequency.shape[1] // 2
    by_hand = 0
    for k, spacing in zip(sizes, model.skip.mixture.spacings, strict=True):
        by_hand += 2 * k * 2 * observed * antennas * tones  # into the time basis
        by_hand += 2 * k * antennas * 2 * tones * 2 * vectors  # into the delay basis and back again
        by_hand += (2 * observed) ** 2 * antennas * tones + observed * antennas * (2 * tones) ** 2  # projection
        by_hand += 2 * 14 * 2 * k * antennas * tones  # out of the time basis
        by_hand += 2 * spacing.precision.numel()  # scores, and gains
    assert row.macs_executed == by_hand
    assert counts.unaccounted == ()
    assert row.weight_bytes == sum(b.numel() * 4 for b in model.skip.mixture.buffers())
