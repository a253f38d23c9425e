"""SpikeWFM (arXiv 2606.00120) as reconstructed in this project: no public code of it exists."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import InputError

from ..data.patches import patches_from_channel, rms
from .config import PATCH_VALUES, ModelConfig
from .layers import Block

POSITION_TABLES = (16, 64, 16)
"""Rows of the learned position tables: slots, resource blocks, antenna links."""


class SpikeWFM(nn.Module):
    """The pre-training model: patches `[batch, token, 336]` to reconstructed patches of the same shape.

        X0 = LN(P We + be + [E_t || E_f || E_a]);  blocks;  P' = Wd LN(X) + bd

    Masked tokens are replaced by one learned vector before the position is added. The position tables start at
    standard deviation 1, the scale of the content: at 0.02 masked pre-training does not leave the mean.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config, d = config, config.d
        self.embed = nn.Linear(PATCH_VALUES, d)
        self.mask_token = nn.Parameter(torch.randn(d) * 0.02)
        rows_t, rows_f, rows_a = POSITION_TABLES
        self.position_time = nn.Parameter(torch.randn(rows_t, d // 4))
        self.position_frequency = nn.Parameter(torch.randn(rows_f, d // 2))
        self.position_antenna = nn.Parameter(torch.randn(rows_a, d // 4))
        self.norm_in = nn.LayerNorm(d)
        self.blocks = nn.ModuleList(
            Block(d, config.heads, config.d_ff, config.norm, config.neuron) for _ in range(config.layers)
        )
        self.norm_out = nn.LayerNorm(d)
        self.decoder = nn.Linear(d, PATCH_VALUES)

    def positions(self) -> Tensor:
        """Position embedding `[token, d]` in token order (slot, antenna, resource block)."""
        s, a, f = self.config.grid.slots, self.config.grid.antennas, self.config.grid.blocks
        parts = (
            self.position_time[:s, None, None].expand(s, a, f, -1),
            self.position_frequency[None, None, :f].expand(s, a, f, -1),
            self.position_antenna[None, :a, None].expand(s, a, f, -1),
        )
        return torch.cat(parts, -1).flatten(0, 2)

    def encode(self, embedded: Tensor, keep: Tensor | None = None) -> Tensor:
        """Token embeddings `[batch, token, d]` to features of the same shape, after the final norm.

        With `keep` `[batch, token]`, `embedded` holds only these tokens of the grid, in this order.
        """
        positions = self.positions()
        x = self.norm_in(embedded + (positions if keep is None else positions[keep]))
        for block in self.blocks:
            x = block(x)
        return self.norm_out(x)  # type: ignore[no-any-return]

    def forward(self, patches: Tensor, masked: Tensor) -> Tensor:
        """Reconstruct all tokens; `masked` is `[batch, token]` bool, True where the content is hidden."""
        embedded = torch.where(masked.unsqueeze(-1), self.mask_token, self.embed(patches))
        return self.decoder(self.encode(embedded))  # type: ignore[no-any-return]


class PredictionHead(nn.Module):
    """Linear to `d_p`, 1-D sinusoidal positions, spiking encoder layers, LN, linear to patches."""

    positions: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        head, grid = config.head, config.grid
        self.read_out = slice(grid.observed_tokens, grid.tokens)
        if head.read_out == "next":
            predicted = grid.tokens - grid.observed_tokens
            self.read_out = slice(grid.observed_tokens - predicted, grid.observed_tokens)
        self.embed = nn.Linear(config.d, head.d)
        self.register_buffer("positions", sinusoidal(grid.tokens, head.d), persistent=False)
        self.blocks = nn.ModuleList(
            Block(head.d, head.heads, head.d_ff, config.norm, config.neuron) for _ in range(head.layers)
        )
        self.norm_out = nn.LayerNorm(head.d)
        self.decoder = nn.Linear(head.d, PATCH_VALUES)

    def forward(self, features: Tensor) -> Tensor:
        """Features `[batch, token, d]` to predicted patches `[batch, predicted token, 336]`."""
        x = self.embed(features) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.decoder(self.norm_out(x[:, self.read_out]))  # type: ignore[no-any-return]


class ChannelPredictor(nn.Module):
    """Backbone plus prediction head: observed slots in, predicted slots out."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.backbone = SpikeWFM(config)
        self.head = PredictionHead(config)

    def forward(self, patches: Tensor) -> Tensor:
        """Scaled float patches `[batch, token, 336]` to the predicted slots' `[batch, predicted token, 336]`.

        What stands at the predicted tokens of the input is not read: the mask token takes their place.
        """
        grid, backbone = self.config.grid, self.backbone
        if patches.shape[1:] != (grid.tokens, PATCH_VALUES):
            raise InputError(
                f"{self.config.name} takes patches [batch, {grid.tokens}, {PATCH_VALUES}], got {[*patches.shape]}"
            )
        observed = backbone.embed(patches[:, : grid.observed_tokens])
        hidden = backbone.mask_token.expand(patches.shape[0], grid.tokens - grid.observed_tokens, -1)
        return self.head(backbone.encode(torch.cat((observed, hidden), 1)))  # type: ignore[no-any-return]

    def inputs(self, channel: NDArray[np.complex64]) -> Tensor:
        """Patches `[batch, token, 336]` of canonical channels `[batch, time, antenna, frequency]`, at RMS 1."""
        return torch.from_numpy(patches_from_channel(channel / rms(channel)))

    def parameter_counts(self) -> tuple[int, int]:
        """Trainable values of the pre-training model (backbone) and of the head."""
        return _count(self.backbone), _count(self.head)


def sinusoidal(length: int, d: int) -> Tensor:
    """Fixed 1-D sinusoidal positions `[length, d]` (Vaswani et al. 2017, section 3.5)."""
    angle = torch.arange(length).unsqueeze(1) * torch.exp(torch.arange(0, d, 2) * (-math.log(10000.0) / d))
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(1)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
