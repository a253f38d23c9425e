"""The rate of T neuron steps on a constant current, and its exact surrogate derivative, in one pass over the current.

Under `direct` coding every step of a neuron sees the same current x, so its rate r is a function of x alone, and so is
the derivative that backpropagation through its T steps gives. Both come from one forward recursion: with
p_t = dh_t/dx and the surrogate derivative sg,

    h_t = v_{t-1} - (v_{t-1} - vr) / tau + x      (b = 1)    or  v_{t-1} + (x - (v_{t-1} - vr)) / tau    (b = 1/tau)
    S_t = H(h_t - theta),   dS_t = sg(h_t - theta) p_t,            sg(u) = (alpha/2) / (1 + (pi alpha u / 2)^2)
    v_t = S_t vr + (1 - S_t) h_t,   dv_t = (1 - S_t) p_t + (vr - h_t) dS_t      hard reset
    v_t = h_t - S_t theta,          dv_t = p_t - theta dS_t                     soft reset
    p_{t+1} = (1 - 1/tau) dv_t + b
    r = sum_t S_t / (T D),   dr/dx = sum_t dS_t / (T D)

An integer neuron has S = round(clip(h / theta, 0, D)) and sg = 1/theta where 0 <= h/theta <= D. h is computed with
SpikingJelly's own operations in their order, so the spikes are its spikes bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .config import NeuronConfig

ALPHA = 2.0
"""Sharpness of the ATan surrogate."""
_CHUNK = 1 << 15
"""Currents handled at once: small enough that all scratch arrays stay in a core's cache."""


class Rate(torch.autograd.Function):
    """r(x) as above; the derivative is computed with it and kept, so the backward pass is one product."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, config: NeuronConfig) -> Tensor:
        """Rate in [0, 1], of the shape of `current` (float32, CPU)."""
        flat = current.contiguous().view(-1)
        rate = torch.empty_like(flat)
        slope = torch.empty_like(flat) if ctx.needs_input_grad[0] else None
        size = min(len(flat), _CHUNK * torch.get_num_threads())
        scratch = torch.empty(6, size)
        for start in range(0, len(flat), max(size, 1)):
            part = slice(start, start + size)
            _steps(flat[part], rate[part], None if slope is None else slope[part], config, scratch)
        if slope is not None:
            ctx.save_for_backward(slope.view(current.shape))
        return rate.view(current.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """dr/dx times the gradient of the rate."""
        (slope,) = ctx.saved_tensors
        return slope * grads[0], None


def _steps(x: Tensor, rate: Tensor, slope: Tensor | None, config: NeuronConfig, scratch: Tensor) -> None:
    """Fill `rate` and, where given, `slope`."""
    h, v, s, p, d, u = (row[: len(x)] for row in scratch)
    tau, rest = config.tau, config.v_reset or 0.0
    gain = 1 / tau if config.decay_input else 1.0
    for step in range(config.steps):
        first, last = step == 0, step == config.steps - 1
        if first:
            torch.add(torch.div(x, tau, out=h) if config.decay_input else x, rest, out=h)
        elif config.decay_input:
            torch.sub(v, rest, out=u)
            torch.sub(x, u, out=u).div_(tau)
            torch.add(v, u, out=h)
        else:
            torch.div(v if rest == 0 else torch.sub(v, rest, out=u), tau, out=u)
            torch.sub(v, u, out=h).add_(x)
        _spike(h, s, d if slope is not None else None, u, config)
        if first:
            rate.copy_(s)
        else:
            rate.add_(s)
        if slope is not None:
            d.mul_(gain if first else p)
            if first:
                slope.copy_(d)
            else:
                slope.add_(d)
        if last:
            break
        if config.v_reset is None:
            torch.add(h, s, alpha=-config.v_threshold, out=v)
            if slope is not None:
                torch.mul(d, -config.v_threshold, out=u)
                torch.add(u, gain if first else p, out=p)
        else:
            torch.sub(1.0, s, out=u)
            torch.mul(h, u, out=v)
            if rest:
                v.add_(s, alpha=rest)
            if slope is not None:
                torch.mul(u, gain if first else p, out=p)
                if rest:
                    h.sub_(rest)
                p.addcmul_(h, d, value=-1.0)
        if slope is not None:
            p.mul_(1 - 1 / tau).add_(gain)
    rate.div_(config.steps * config.levels)
    if slope is not None:
        slope.div_(config.steps * config.levels)


def _spike(h: Tensor, s: Tensor, d: Tensor | None, u: Tensor, config: NeuronConfig) -> None:
    """Spikes of the membrane `h` into `s`, and the surrogate derivative into `d` where given; `u` is scratch."""
    if config.kind == "ilif":
        torch.div(h, config.v_threshold, out=u)
        torch.clamp(u, 0, config.levels, out=s)
        if d is not None:
            torch.eq(u, s, out=d).div_(config.v_threshold)
        s.round_()
        return
    torch.sub(h, config.v_threshold, out=u)
    torch.ge(u, 0, out=s)
    if d is not None:
        u.mul_(torch.pi * ALPHA / 2)
        torch.mul(u, u, out=d).add_(1.0).reciprocal_().mul_(ALPHA / 2)
