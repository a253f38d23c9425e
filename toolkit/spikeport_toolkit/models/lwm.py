"""LWM (arXiv 2411.08872) as its paper and its two published codes have it, and with spiking feed-forward parts."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import InputError

from .layers import FeedForward
from .lwm_config import LWMConfig
from .lwm_tokens import scale_of, tokens_from_channel

CLS_VALUE = 0.2
EPS = 1e-6


class UnbiasedLayerNorm(nn.Module):
    """y = a (x - mean) / (std + eps) + b over the last axis, with std^2 = sum (x - mean)^2 / (n - 1).

    nn.LayerNorm divides by n and adds eps under the root: another function, and ONNX's LayerNormalization is that.
    """

    def __init__(self, d: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))
        self.bias = nn.Parameter(torch.zeros(d))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out."""
        centred = x - x.mean(-1, keepdim=True)
        std = (centred.square().sum(-1, keepdim=True) / (x.shape[-1] - 1)).sqrt()
        return self.weight * centred / (std + EPS) + self.bias


class HeadAttention(nn.Module):
    """Self-attention with `heads` heads of `d` // `heads` dimensions, which need not fill the width.

    softmax(Q K^T / sqrt(d // heads)) V, then a projection back to `d`.
    """

    causal = False
    """While True no token sees a later one; see models/layers.causal."""

    def __init__(self, d: int, heads: int, bias: bool):
        super().__init__()
        self.heads, self.d_head = heads, d // heads
        self.qkv = nn.Linear(d, 3 * heads * self.d_head, bias=bias)
        self.out = nn.Linear(heads * self.d_head, d, bias=bias)

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        b, n, _ = x.shape
        return self.qkv(x).view(b, n, 3, self.heads, self.d_head).permute(2, 0, 3, 1, 4).unbind(0)  # type: ignore[no-any-return]

    def weights(self, x: Tensor) -> Tensor:
        """Attention weights `[batch, head, token, token]`; a row sums to 1."""
        q, k, _ = self._split(x)
        scores: Tensor = q @ k.transpose(-1, -2) / self.d_head**0.5
        return scores.softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, token, d]` to the same shape."""
        q, k, v = self._split(x)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """y = norm(r x + attention(x)); z = y + ffn(y), and norm(z) where both sub-layers have one. r: `residuals`."""

    def __init__(self, config: LWMConfig):
        super().__init__()
        self.residuals = config.residuals
        self.attention = HeadAttention(config.d, config.heads, config.bias)
        self.norm1 = layer_norm(config)
        self.ffn = FeedForward(config.d, config.d_ff, config.ffn_norm, config.neuron)
        self.norm2 = layer_norm(config) if config.placement == "both" else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.spare = nn.ModuleList(layer_norm(config) for _ in range(config.spare_norms))

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, token, d]` to the same shape."""
        attended = self.dropout(self.attention(x))
        y = self.norm1((x if self.residuals == 1 else x + x) + attended)
        return self.norm2(y + self.dropout(self.ffn(y)))  # type: ignore[no-any-return]


class LWM(nn.Module):
    """Tokens `[batch, token, value]` to embeddings `[batch, 1 + token, d]`, [CLS] first.

    X0 = norm([c, P] We + be + E_pos);  layers;  embeddings = X,  reconstruction = head(X)
    """

    cls: Tensor

    def __init__(self, config: LWMConfig):
        super().__init__()
        self.config, d = config, config.d
        self.embed = nn.Linear(config.values, d)
        if config.positions == "learned":
            self.position = nn.Parameter(torch.randn(config.max_tokens, d))
        else:
            self.ramp = nn.Linear(config.values, d)
        if config.cls == "learned":
            self.cls = nn.Parameter(torch.randn(config.values))
        else:
            self.register_buffer("cls", torch.full((config.values,), CLS_VALUE), persistent=False)
        self.norm_in = layer_norm(config) if config.embedding_norm else nn.Identity()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        last = nn.Linear(d, config.values, bias=config.head == "mlp")
        self.decoder = (
            nn.Sequential(nn.Linear(d, d), nn.ReLU(), layer_norm(config), last) if last.bias is not None else last
        )

    @property
    def mask_token(self) -> Tensor:
        """The embedding `[d]` of a patch of [MASK]."""
        return self.embed(torch.full_like(self.cls, self.config.mask_value))  # type: ignore[no-any-return]

    @property
    def token_grid(self) -> tuple[int, int, int]:
        """Tokens as (part, antenna, frequency): where real and imaginary patches are separate they are two "times"."""
        return self.config.grid

    def positions(self, count: int) -> Tensor:
        """Position embeddings `[count, d]`, [CLS] first."""
        if self.config.positions == "learned":
            return self.position[:count]
        index = torch.arange(count, dtype=self.cls.dtype, device=self.cls.device)
        return self.ramp(index[:, None].expand(count, self.config.values))  # type: ignore[no-any-return]

    def start(self, embedded: Tensor, keep: Tensor | None = None) -> Tensor:
        """The first layer's input `[batch, 1 + token, d]` for token embeddings `[batch, token, d]`."""
        count = embedded.shape[1] if keep is None else self.config.tokens
        places = self.positions(1 + count)
        first = (self.embed(self.cls) + places[0]).expand(embedded.shape[0], 1, -1)
        rest = embedded + (places[1:] if keep is None else places[1:][keep])
        return self.norm_in(torch.cat((first, rest), 1))  # type: ignore[no-any-return]

    def _run(self, embedded: Tensor, keep: Tensor | None = None) -> Tensor:
        x = self.start(embedded, keep)
        for layer in self.layers:
            x = layer(x)
        return x

    def encode(self, embedded: Tensor, keep: Tensor | None = None) -> Tensor:
        """Token embeddings `[batch, token, d]` to features of the same shape; [CLS] takes part and is left out.

        With `keep` `[batch, token]`, `embedded` holds only these tokens of the grid, in this order.
        """
        return self._run(embedded, keep)[:, 1:]

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens `[batch, token, value]` to embeddings `[batch, 1 + token, d]`, [CLS] first."""
        if tokens.ndim != 3 or tokens.shape[2] != self.config.values:
            raise InputError(
                f"{self.config.name} takes tokens [batch, token, {self.config.values}], got {[*tokens.shape]}"
            )
        return self._run(self.embed(tokens))

    def cls_features(self, tokens: Tensor) -> Tensor:
        """The [CLS] embedding `[batch, d]` of tokens `[batch, token, value]`."""
        return self(tokens)[:, 0]  # type: ignore[no-any-return]

    def reconstruct(self, tokens: Tensor) -> Tensor:
        """Every token of `[batch, token, value]` as the head gives it back."""
        return self.decoder(self(tokens)[:, 1:])  # type: ignore[no-any-return]

    def attention_maps(self, tokens: Tensor) -> Tensor:
        """Attention weights `[layer, batch, head, 1 + token, 1 + token]`."""
        x, maps = self.start(self.embed(tokens)), []
        for layer in self.layers:
            assert isinstance(layer, Layer)
            maps.append(layer.attention.weights(x))
            x = layer(x)
        return torch.stack(maps)

    def inputs(self, channel: NDArray[np.complex64]) -> Tensor:
        """Scaled tokens `[batch, token, value]` of canonical channels `[batch, 1, antenna, frequency]`."""
        return torch.from_numpy(tokens_from_channel(channel * scale_of(channel, self.config), self.config))

    def parameter_counts(self) -> tuple[int, int]:
        """Registered values, those of norms that are never called included, and 0: tasks bring heads of their own."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad), 0


def layer_norm(config: LWMConfig) -> nn.Module:
    """The layer normalisation of a version."""
    if config.layer_norm == "plain":
        return nn.LayerNorm(config.d, elementwise_affine=False)
    return UnbiasedLayerNorm(config.d)
