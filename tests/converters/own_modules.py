"""Modules as a user writes them: SpikingJelly layers and neurons, an `example_input`, nothing of the toolkit."""

import numpy as np
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn


def dyadic(net, seed=0):
    """Weights that are multiples of 1/8: sums are exact in any order."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.from_numpy(rng.integers(-4, 5, parameter.shape).astype(np.float32) / 8))
    return net


def eighths(*shape):
    return torch.from_numpy(np.random.default_rng(1).integers(-8, 9, shape).astype(np.float32) / 8)


class Chain(nn.Module):
    """`stack` of SpikingJelly layers in multi-step mode, on an input that is repeated T = 4 times."""

    def __init__(self, *stack, example, read_out=lambda y: y.mean(0)):
        super().__init__()
        self.net, self.read_out, self.example_input = nn.Sequential(*stack), read_out, example
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.read_out(self.net(x.unsqueeze(0).repeat(4, *[1] * x.ndim)))


class Sew(nn.Module):
    """Two residual adds of spikes, the second of which leaves the network; another input at every step."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layer.Conv2d(2, 4, 3, padding=1), layer.Conv2d(4, 4, 3, padding=1, bias=False)
        self.fire, self.again = (neuron.LIFNode(decay_input=False) for _ in range(2))
        functional.set_step_mode(dyadic(self), "m")
        self.example_input = eighths(4, 6, 2, 6, 6)

    def forward(self, x):
        spikes = self.fire(self.first(x))
        return (spikes + self.again(self.second(spikes))).mean(0)


class OneStep(nn.Module):
    """One step of a network; the framework calls it `steps` times."""

    steps = 5

    def __init__(self):
        super().__init__()
        lif = neuron.LIFNode(decay_input=False)
        self.net = dyadic(nn.Sequential(nn.Linear(16, 32), lif, nn.Linear(32, 8), neuron.LIFNode(tau=4.0)))
        self.example_input = eighths(64, 16)

    def forward(self, x):
        return self.net(x)


class Transformer(nn.Module):
    """Softmax attention and LayerNorm around a spiking feed-forward part with BatchNorm, per token."""

    def __init__(self, reset=0.0, spiking_attention=False):
        super().__init__()
        torch.manual_seed(0)
        self.attend, self.norm = nn.MultiheadAttention(16, 2, batch_first=True), nn.LayerNorm(16)
        self.up, self.bn, self.down = nn.Linear(16, 48), nn.BatchNorm1d(48), nn.Linear(48, 16)
        self.fire = neuron.LIFNode(decay_input=False, v_reset=reset, step_mode="m")
        self.head, self.spiking_attention = nn.Linear(16, 3), spiking_attention
        self.example_input = torch.randn(7, 5, 16)

    def forward(self, x):
        batch, tokens, _ = x.shape
        x = x + self.attend(x, x, x, need_weights=False)[0]
        current = self.bn(self.up(self.norm(x)).view(batch * tokens, -1)).view(batch, tokens, -1)
        spikes = self.fire(current.unsqueeze(0).expand(4, *current.shape))
        if self.spiking_attention:
            spikes = spikes * spikes.softmax(-1)
        return self.head(x + self.down(spikes).mean(0)).mean(1)


def random_convolution():
    """Random weights, BatchNorm with statistics, a parametric LIF, an IF and input decay."""
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(2, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), neuron.ParametricLIFNode(init_tau=3.0),
        layer.AvgPool2d(2, 2), layer.Conv2d(8, 8, 3, padding=1), neuron.IFNode(), layer.Dropout(0.5),
        layer.Flatten(), layer.Linear(128, 32), neuron.LIFNode(tau=4.0), layer.Linear(32, 4),
    )  # fmt: skip
    functional.set_step_mode(net, "m")
    net[1].running_mean.uniform_(-0.2, 0.2)
    net[1].running_var.uniform_(0.5, 2.0)
    net.example_input = 4 * torch.rand(4, 16, 2, 8, 8)
    return net.eval()
