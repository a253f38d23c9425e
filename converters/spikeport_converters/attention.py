"""Attention in the operators that every TensorRT from 10.3 on fuses."""

from __future__ import annotations

from torch import Tensor, nn

from spikeport_toolkit.models.layers import Attention


class ExplicitAttention(nn.Module):
    """softmax((s Q) K^T) V with s = 1 / sqrt(d / heads), then the projection; the same weights as `Attention`.

    The scale stands on Q, before the first product: after it, TensorRT does not find its fused kernel. The exporter's
    own form of scaled_dot_product_attention carries a dozen shape operators more per layer.
    """

    def __init__(self, attention: Attention):
        super().__init__()
        self.heads, self.qkv, self.out = attention.heads, attention.qkv, attention.out

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, token, d]` to the same shape."""
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q * (d // self.heads) ** -0.5 @ k.transpose(-1, -2)).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(b, n, d))  # type: ignore[no-any-return]


def make_attention_explicit(model: nn.Module) -> nn.Module:
    """Replace every Attention of `model` in place, weights shared; the model itself."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Attention):
                setattr(module, name, ExplicitAttention(child))
    return model
