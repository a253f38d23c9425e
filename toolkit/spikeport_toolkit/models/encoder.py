"""The channel transformer behind every system but SpikeWFM and LWM: one encoder, configured."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import InputError

from .attention_patterns import attention, pattern
from .encoder_config import EncoderConfig, TaskConfig
from .layers import FeedForward
from .positions import Positioned
from .tokenizers import ImageTokens

__all__ = ["ChannelEncoder", "Decoder", "EncoderBlock", "TaskModel", "encoder_model"]


class EncoderBlock(nn.Module):
    """pre: x += attention(LN x), x += ffn(LN x).   post: x = LN(x + attention x), x = LN(x + ffn x)."""

    def __init__(self, config: EncoderConfig, d: int, heads: int, d_ff: int):
        super().__init__()
        self.pre = config.order == "pre"
        self.norm1 = nn.LayerNorm(d)
        self.attention = attention(d, heads, config.attention)
        self.norm2 = nn.LayerNorm(d)
        self.ffn = FeedForward(d, d_ff, config.norm, config.neuron)

    def forward(self, x: Tensor, allowed: Tensor | None = None) -> Tensor:
        """`[batch, token, d]` to the same shape; `allowed` is the pattern of an attention that has one."""
        y = self.norm1(x) if self.pre else x
        x = x + (self.attention(y) if allowed is None else self.attention(y, allowed))
        if self.pre:
            return x + self.ffn(self.norm2(x))  # type: ignore[no-any-return]
        x = self.norm1(x)
        return self.norm2(x + self.ffn(x))  # type: ignore[no-any-return]


class Decoder(Positioned):
    """Features of all tokens `[batch, token, d]` to reconstructed tokens `[batch, token, value]`.

    Dropped tokens come as the mask token: X0 = X Wp + bp + E,  blocks,  P' = LN(X) Wd + bd.
    """

    def __init__(self, config: EncoderConfig):
        own = config.decoder
        assert own is not None
        super().__init__(config.positions, config.grid, own.d)
        self.project = nn.Linear(config.d, own.d) if own.projection else nn.Identity()
        self.blocks = nn.ModuleList(EncoderBlock(config, own.d, own.heads, own.d_ff) for _ in range(own.layers))
        self.norm_out = nn.LayerNorm(own.d) if own.norm_out else nn.Identity()
        self.out = nn.Linear(own.d, config.tokens.values)
        _keep_pattern(self, config, cls=False)

    def forward(self, features: Tensor) -> Tensor:
        """`[batch, token, d]` to `[batch, token, value]`."""
        x = self.project(features) + self.positions()
        for block in self.blocks:
            x = block(x, self.allowed)
        return self.out(self.norm_out(x))  # type: ignore[no-any-return]


class ChannelEncoder(Positioned):
    """Tokens `[batch, token, value]` to features `[batch, token, d]`, and reconstructed.

    X0 = [c, P We + be + E] (normalised where `norm_in`);  blocks;  P' = decoder(LN(X))
    """

    allowed: Tensor | None

    def __init__(self, config: EncoderConfig):
        super().__init__(config.positions, config.grid, config.d, cls=config.cls)
        self.config, d = config, config.d
        self.embed = nn.Linear(config.tokens.values, d)
        self.mask_token = nn.Parameter(torch.randn(d) * 0.02)
        self.cls = nn.Parameter(torch.randn(d) * 0.02) if config.cls else None
        self.norm_in = nn.LayerNorm(d) if config.norm_in else nn.Identity()
        self.blocks = nn.ModuleList(EncoderBlock(config, d, config.heads, config.d_ff) for _ in range(config.layers))
        self.norm_out = nn.LayerNorm(d) if config.norm_out else nn.Identity()
        self.decoder: nn.Module = Decoder(config) if config.decoder else nn.Linear(d, config.tokens.values)
        _keep_pattern(self, config, cls=config.cls)

    @property
    def token_grid(self) -> tuple[int, int, int]:
        """Counts of tokens along (time, antenna, frequency); their order is the same."""
        return self.config.grid

    def features(self, embedded: Tensor, keep: Tensor | None = None) -> Tensor:
        """As `encode`, with the [CLS] feature first where there is one."""
        places = self.positions()
        x, allowed = embedded + (places if keep is None else places[keep]), self.allowed
        first = int(self.cls is not None)
        if self.cls is not None:
            x = torch.cat(((self.cls + self.position_cls).expand(x.shape[0], 1, -1), x), 1)
        if allowed is not None and keep is not None:
            kept = torch.cat((torch.zeros_like(keep[:, :first]), keep + first), 1)
            allowed = allowed[kept.unsqueeze(2), kept.unsqueeze(1)]
        x = self.norm_in(x)
        for block in self.blocks:
            x = block(x, allowed)
        return self.norm_out(x)  # type: ignore[no-any-return]

    def encode(self, embedded: Tensor, keep: Tensor | None = None) -> Tensor:
        """Token embeddings `[batch, token, d]` to features of the same shape; [CLS] takes part and is left out.

        With `keep` `[batch, token]`, `embedded` holds only these tokens of the grid, in this order.
        """
        x = self.features(embedded, keep)
        return x if self.cls is None else x[:, 1:]

    def cls_features(self, tokens: Tensor) -> Tensor:
        """One feature vector `[batch, d]` of tokens `[batch, token, value]`: [CLS], or the mean where there is none."""
        x = self.features(self.embed(tokens))
        return x.mean(1) if self.cls is None else x[:, 0]

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens `[batch, token, value]` to their reconstruction of the same shape."""
        wanted = (prod(self.token_grid), self.config.tokens.values)
        if tokens.shape[1:] != wanted:
            raise InputError(
                f"{self.config.name} takes tokens [batch, {wanted[0]}, {wanted[1]}], got {[*tokens.shape]}"
            )
        return self.decoder(self.encode(self.embed(tokens)))  # type: ignore[no-any-return]

    def inputs(self, channel: NDArray[np.complex64]) -> Tensor:
        """Tokens `[batch, token, value]` of canonical channels `[batch, time, antenna, frequency]` of its sampling."""
        if channel.shape[1:] != self.config.sampling.shape:
            raise InputError(
                f"{self.config.name} takes channels [batch, time, antenna, frequency] = "
                f"[batch, {', '.join(map(str, self.config.sampling.shape))}], got {[*channel.shape]}"
            )
        return torch.from_numpy(self.config.tokens.tokens(channel))

    def parameter_counts(self) -> tuple[int, int]:
        """Trainable values, those of the decoder included, and 0: there is no head."""
        return _count(self), 0


class TaskModel(nn.Module):
    """An encoder and a head: classes or values of a sample `[batch, output]`, or of each pixel of an image."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        assert config.task is not None
        self.config, self.task = config, config.task
        self.backbone = ChannelEncoder(config)
        self.head = _head(config, config.task)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens `[batch, token, value]` to `[batch, output]`, or `[batch, output, height, width]` for `segment`."""
        image = self.config.tokens
        if self.task.kind == "segment" and isinstance(image, ImageTokens):
            rows, columns, p = image.height // image.patch, image.width // image.patch, image.patch
            pixels = self.head(self.backbone.encode(self.backbone.embed(tokens)))
            split = pixels.view(tokens.shape[0], rows, columns, self.task.outputs, p, p)
            return split.permute(0, 3, 1, 4, 2, 5).reshape(tokens.shape[0], -1, image.height, image.width)  # type: ignore[no-any-return]
        y = self.head(self.backbone.cls_features(tokens))
        return y.tanh() if self.task.bounded else y  # type: ignore[no-any-return]

    def inputs(self, channel: NDArray[np.complex64]) -> Tensor:
        """Tokens `[batch, token, value]` of canonical channels `[batch, time, antenna, frequency]` of its sampling."""
        return self.backbone.inputs(channel)

    def parameter_counts(self) -> tuple[int, int]:
        """Trainable values of the encoder with its reconstruction, and of the head."""
        return _count(self.backbone), _count(self.head)


def encoder_model(config: EncoderConfig) -> nn.Module:
    """The network of a configuration: an encoder that reconstructs, or one with a task's head."""
    return TaskModel(config) if config.task else ChannelEncoder(config)


def _head(config: EncoderConfig, task: TaskConfig) -> nn.Module:
    pixels = config.tokens.patch**2 if task.kind == "segment" and isinstance(config.tokens, ImageTokens) else 1
    hidden = [layer for _ in range(task.layers - 1) for layer in (nn.Linear(config.d, config.d), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(config.d, task.outputs * pixels))


def _keep_pattern(module: nn.Module, config: EncoderConfig, *, cls: bool) -> None:
    seen = pattern(config.grid, config.attention, cls=cls) if config.attention.patterned else None
    module.register_buffer("allowed", seen, persistent=False)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
