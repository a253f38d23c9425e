"""Spiking activations on SpikingJelly's neurons, and their ANN twins, behind one call: current in, mean rate out."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # "Triton not available" on every import, on CPU

from spikingjelly.activation_based import neuron, surrogate  # noqa: E402

from .config import NeuronConfig  # noqa: E402
from .rate import ALPHA, Rate  # noqa: E402


class SpikingNeuron(nn.Module):
    """T steps of a SpikingJelly neuron on a constant current (time axis `direct`), read out as a rate.

        r = (1 / (T D)) sum_t S_t,   S_t in {0, ..., D}

    The membrane starts at rest in every call and nothing is left behind after it, so no state can leak
    from one sample into the next or into an export.
    """

    def __init__(self, config: NeuronConfig):
        super().__init__()
        self.config = config
        self.node: Any = _node(config)

    def spikes(self, current: Tensor) -> Tensor:
        """Spikes `[T, *current.shape]` with values 0..D for a constant `current` of any shape."""
        self.node.reset()
        spikes: Tensor = self.node(current.unsqueeze(0).expand(self.config.steps, *current.shape))
        self.node.reset()
        return spikes

    def forward(self, current: Tensor) -> Tensor:
        """Rate in [0, 1], of the shape of `current`; for a gradient on the CPU through `Rate`, the same bit for bit."""
        if torch.is_grad_enabled() and current.requires_grad and current.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                return Rate.apply(current.float(), self.config)  # type: ignore[no-any-return]
        return self.spikes(current).sum(0) / (self.config.steps * self.config.levels)

    def extra_repr(self) -> str:
        """Kind, T and D."""
        return f"{self.config.kind}, T={self.config.steps}, D={self.config.levels}"


class SteppedNeuron(nn.Module):
    """A SpikingJelly neuron whose T steps see T different currents (time axes `carry` and `slots`).

        S_t = node(I_t, v_{t-1}),   y_t = S_t / D,   v_0 at rest

    One current in, one value out for every step: no rate, and no staircase of one current. The steps lie within the
    first axis (`carry`: [T * batch, token, d_ff]) or within the second (`slots`: [batch, T * place, d_ff], tokens
    in grid order). The membrane starts at rest in every call and nothing is left behind after it.
    """

    def __init__(self, config: NeuronConfig, time_axis: str):
        super().__init__()
        self.config, self.time_axis = config, time_axis
        self.node: Any = _node(config)

    def spikes(self, current: Tensor) -> Tensor:
        """Spikes `[T, batch, token or place, d_ff]`, values 0..D, of a current `[T * batch or batch, token, d_ff]`."""
        axis = 0 if self.time_axis == "carry" else 1
        self.node.reset()
        spikes: Tensor = self.node(current.unflatten(axis, (self.config.steps, -1)).movedim(axis, 0).contiguous())
        self.node.reset()
        return spikes

    def forward(self, current: Tensor) -> Tensor:
        """Values in [0, 1], of the shape and token order of `current`."""
        spikes = self.spikes(current)
        return spikes.movedim(0, 0 if self.time_axis == "carry" else 1).reshape(current.shape) / self.config.levels

    def extra_repr(self) -> str:
        """Kind, T, D and the time axis."""
        return f"{self.config.kind}, T={self.config.steps}, D={self.config.levels}, time axis {self.time_axis}"


class QuantReLU(nn.Module):
    """Quantised ReLU, the QANN twin: y = s round(clip(x / s, 0, levels)), straight-through inside the range.

    With s = 0.5 and 4 levels it is the static function that an I-LIF with T = 1 and D = 4 computes, times 2.
    """

    def __init__(self, step: float, levels: int):
        super().__init__()
        self.step, self.levels = step, levels

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise; any shape."""
        clipped = torch.clamp(x / self.step, 0, self.levels)
        return self.step * (clipped + (torch.round(clipped) - clipped).detach())


def activation(config: NeuronConfig, time_axis: str = "direct") -> nn.Module:
    """The activation module that `config` names, on the time axis of its model."""
    if config.spiking and time_axis != "direct":
        return SteppedNeuron(config, time_axis)
    if config.spiking:
        return SpikingNeuron(config)
    if config.kind == "qrelu":
        return QuantReLU(config.v_threshold, config.levels)
    return nn.ReLU() if config.kind == "relu" else nn.GELU()


def _node(config: NeuronConfig) -> neuron.BaseNode:
    if config.kind == "ilif":
        return neuron.ILIFNode(
            tau=config.tau,
            v_threshold=config.v_threshold,
            surrogate_function=surrogate.MultiLevelSpikeCount(config.levels),
            step_mode="m",
        )
    return neuron.LIFNode(
        tau=config.tau,
        decay_input=config.decay_input,
        v_threshold=config.v_threshold,
        v_reset=config.v_reset,
        surrogate_function=surrogate.ATan(ALPHA),
        step_mode="m",
    )
