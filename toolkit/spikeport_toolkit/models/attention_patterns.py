"""Attention that does not look everywhere: a local or axial pattern over the token grid, and linear attention."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeport_errors import InputError

from .config import Config
from .layers import Attention

__all__ = ["AttentionConfig", "LinearAttention", "PatternAttention", "attention", "pattern"]

MOST_TOKENS = 8192


@dataclass(frozen=True)
class AttentionConfig(Config):
    """`softmax` over all tokens; `window`, over those at most `reach` away along each axis of the grid; `axial`, over
    those that differ along one axis at most; `linear`, over all of them without a token-by-token matrix."""

    kind: str = "softmax"
    reach: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in ("softmax", "window", "axial", "linear"):
            raise InputError(f"attention kind {self.kind!r} is not one of softmax, window, axial, linear")
        if not 1 <= self.reach <= MOST_TOKENS:
            raise InputError(f"attention reach is {self.reach}, outside 1 to {MOST_TOKENS}")

    @property
    def patterned(self) -> bool:
        """Whether each token sees only some others."""
        return self.kind in ("window", "axial")


def pattern(grid: tuple[int, int, int], config: AttentionConfig, *, cls: bool = False) -> Tensor:
    """Which token (column) each token (row) attends to, bool `[token, token]`, in order (time, antenna, frequency).

    window: |t - t'|, |a - a'|, |f - f'| <= reach.   axial: at most one of t, a, f differs.
    With `cls` a first token is there that sees all and is seen by all. InputError for more tokens than 8,192.
    """
    tokens = math.prod(grid)
    if tokens > MOST_TOKENS:
        raise InputError(f"attention {config.kind} over {tokens:,} tokens; {MOST_TOKENS:,} is the limit: use linear")
    axes = [torch.arange(count) for count in grid]
    place = torch.stack([axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")])
    apart = (place[:, :, None] - place[:, None, :]).abs()
    seen = (apart <= config.reach).all(0) if config.kind == "window" else (apart > 0).sum(0) <= 1
    return F.pad(seen, (1, 0, 1, 0), value=True) if cls else seen


class PatternAttention(nn.Module):
    """Softmax attention over the tokens that a pattern allows; the weights are those of layers.Attention.

    The pattern is a mask: what it hides costs nothing on a kernel that skips, and saves nothing on one that does not.
    """

    def __init__(self, d: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        """`[batch, token, d]` to the same shape; `allowed` is bool `[token, token]` or `[batch, token, token]`."""
        q, k, v = _split(self.qkv(x), self.heads)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed if allowed.ndim == 2 else allowed.unsqueeze(1))
        return self.out(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class LinearAttention(nn.Module):
    """y_i = g(q_i) S / (g(q_i) z),   S = sum_j g(k_j)^T v_j,   z = sum_j g(k_j),   g(x) = elu(x) + 1.

    Cost grows with tokens x (d / heads)^2, not with tokens^2 (Katharopoulos et al. 2020).
    """

    def __init__(self, d: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, token, d]` to the same shape."""
        q, k, v = _split(self.qkv(x), self.heads)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        y = (q @ (k.transpose(-1, -2) @ v)) / (q @ k.sum(-2, keepdim=True).transpose(-1, -2))
        return self.out(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def attention(d: int, heads: int, config: AttentionConfig) -> nn.Module:
    """The attention module that `config` names."""
    if config.patterned:
        return PatternAttention(d, heads)
    return LinearAttention(d, heads) if config.kind == "linear" else Attention(d, heads)


def _split(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    b, n, width = qkv.shape
    q, k, v = qkv.view(b, n, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v
