"""The blocks of a hybrid spiking transformer: softmax attention and a spiking feed-forward part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .config import NeuronConfig
from .neuron import activation


class Attention(nn.Module):
    """Multi-head self-attention with biases: softmax(Q K^T / sqrt(d / heads)) V, then a projection."""

    causal = False
    """While True no token sees a later one of the sequence; see `causal`."""

    def __init__(self, d: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, token, d]` to the same shape."""
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(b, n, d))  # type: ignore[no-any-return]


@contextmanager
def causal(network: nn.Module) -> Iterator[None]:
    """Within it, every attention of `network` that has a switch `causal` has it on."""
    switched: list[Any] = [module for module in network.modules() if getattr(module, "causal", None) is False]
    for module in switched:
        module.causal = True
    try:
        yield
    finally:
        for module in switched:
            module.causal = False


class TokenBatchNorm(nn.BatchNorm1d):
    """BatchNorm over the features of `[batch, token, feature]`, statistics over batch and tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out."""
        return super().forward(x.flatten(0, -2)).view(x.shape)


class FeedForward(nn.Module):
    """y = W2 r + b2 with r = neuron(norm(W1 x + b1)).

    On the time axis `direct`, W1 acts once and W2 acts on the rate, not on each of T steps: the read-out is linear
    over time, so mean_t (W2 S_t + b2) = W2 mean_t S_t + b2. On `carry` and `slots` r_t = S_t / D of every step.
    """

    def __init__(self, d: int, d_ff: int, norm: str, neuron: NeuronConfig, time_axis: str = "direct"):
        super().__init__()
        self.fc1 = nn.Linear(d, d_ff)
        self.norm: nn.Module = (
            {"bn": TokenBatchNorm, "ln": nn.LayerNorm}[norm](d_ff) if norm != "none" else nn.Identity()
        )
        self.neuron = activation(neuron, time_axis)
        self.fc2 = nn.Linear(d_ff, d)

    def current(self, x: Tensor) -> Tensor:
        """Input current of the neurons `[..., d_ff]`."""
        return self.norm(self.fc1(x))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, token, d]` to the same shape."""
        return self.fc2(self.neuron(self.current(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm encoder layer: x += attention(LN(x)); x += ffn(LN(x))."""

    def __init__(self, d: int, heads: int, d_ff: int, norm: str, neuron: NeuronConfig, time_axis: str = "direct"):
        super().__init__()
        self.norm1 = nn.LayerNorm(d)
        self.attention = Attention(d, heads)
        self.norm2 = nn.LayerNorm(d)
        self.ffn = FeedForward(d, d_ff, norm, neuron, time_axis)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, token, d]` to the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.ffn(self.norm2(x))  # type: ignore[no-any-return]
