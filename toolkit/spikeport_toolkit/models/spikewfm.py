"""SpikeWFM (arXiv 2606.00120) as reconstructed in this project: no public code of it exists."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import InputError

from ..data.patches import patches_from_channel, rms
from .config import PATCH_VALUES, SUBCARRIERS_PER_BLOCK, SYMBOLS_PER_SLOT, ModelConfig
from .layers import Block
from .wiener_mixture import grid_mixture

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
            Block(d, config.heads, config.d_ff, config.norm, config.neuron, config.time_axis)
            for _ in range(config.layers)
        )
        self.norm_out = nn.LayerNorm(d)
        self.decoder: nn.Module = nn.Linear(d, PATCH_VALUES)
        if config.decoder == "lwm":
            self.decoder = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.LayerNorm(d), self.decoder)

    @property
    def token_grid(self) -> tuple[int, int, int]:
        """Tokens over (time, antenna, frequency)."""
        return self.config.grid.slots, self.config.grid.antennas, self.config.grid.blocks

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
        return mean_over_steps(self.stepped(embedded, keep), self.config)

    def stepped(self, embedded: Tensor, keep: Tensor | None = None) -> Tensor:
        """As `encode`, and with the time axis `carry` the features of every step, `[T * batch, token, d]`."""
        if keep is not None and self.config.time_axis == "slots":
            raise InputError(
                f"{self.config.name}: time_axis slots steps through all slots, so no token can be dropped: hide tokens "
                "by the mask token, or take time_axis direct"
            )
        positions = self.positions()
        x = self.norm_in(embedded + (positions if keep is None else positions[keep]))
        x = repeated(x, self.config)
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
        self.config = config
        head, grid = config.head, config.grid
        self.read_out = slice(grid.observed_tokens, grid.tokens)
        if head.read_out == "next":
            predicted = grid.tokens - grid.observed_tokens
            self.read_out = slice(grid.observed_tokens - predicted, grid.observed_tokens)
        self.embed = nn.Linear(config.d, head.d)
        self.register_buffer("positions", sinusoidal(grid.tokens, head.d), persistent=False)
        self.blocks = nn.ModuleList(
            Block(head.d, head.heads, head.d_ff, config.norm, config.neuron, config.time_axis)
            for _ in range(head.layers)
        )
        self.norm_out = nn.LayerNorm(head.d)
        self.decoder = nn.Linear(head.d, PATCH_VALUES)

    def forward(self, features: Tensor) -> Tensor:
        """Features `[batch, token, d]` to predicted patches `[batch, predicted token, 336]`."""
        return self.read(repeated(features, self.config))

    def read(self, stepped: Tensor) -> Tensor:
        """As forward, from the features of every step: `[T * batch, token, d]` with the time axis `carry`."""
        x = self.embed(stepped) + self.positions
        for block in self.blocks:
            x = block(x)
        x = mean_over_steps(self.norm_out(x[:, self.read_out]), self.config)
        return self.decoder(x)  # type: ignore[no-any-return]


class ChannelPredictor(nn.Module):
    """Backbone plus prediction head: observed slots in, predicted slots out."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.backbone = SpikeWFM(config)
        self.head = PredictionHead(config)
        self.skip = WienerSkip(config) if config.skip == "wiener" else None
        if self.skip is not None:  # so that an untrained network is the mixture, and training only ever adds to it
            nn.init.zeros_(self.head.decoder.weight)
            nn.init.zeros_(self.head.decoder.bias)

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
        if self.skip is None:
            return self.head.read(backbone.stepped(torch.cat((observed, hidden), 1)))
        guess, error = self.skip(patches[:, : grid.observed_tokens])
        tokens = torch.cat((observed, hidden + self.skip.embed(guess)), 1) + self.skip.level(error.log10())
        return guess + error * self.head.read(backbone.stepped(tokens))  # type: ignore[no-any-return]

    def inputs(self, channel: NDArray[np.complex64]) -> Tensor:
        """Patches `[batch, token, 336]` of canonical channels `[batch, time, antenna, frequency]`, at RMS 1."""
        return torch.from_numpy(patches_from_channel(channel / rms(channel)))

    def parameter_counts(self) -> tuple[int, int]:
        """Trainable values of the pre-training model (backbone) and of the head."""
        return _count(self.backbone), _count(self.head) + (0 if self.skip is None else _count(self.skip))


class WienerSkip(nn.Module):
    """What joins a mixture of Wiener filters to the network: P' = P_w + e net(tokens).

    The mixture's prediction P_w is added to the mask tokens of the predicted slots, its expected error e (log10) to
    every token, and the network predicts the rest in units of e: so it neither has to learn what physics gives, nor
    can its own error floor show at high SNR.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.grid = config.grid
        self.mixture = grid_mixture(config.grid)
        self.embed = nn.Linear(PATCH_VALUES, config.d)
        self.level = nn.Linear(1, config.d)

    def forward(self, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Observed patches `[batch, token, 336]` to P_w `[batch, predicted token, 336]` and e `[batch, 1, 1]`."""
        a, blocks = self.grid.antennas, self.grid.blocks
        cells = (2, SYMBOLS_PER_SLOT, SUBCARRIERS_PER_BLOCK)
        y = observed.unflatten(2, cells).unflatten(1, (-1, a, blocks)).permute(0, 4, 1, 5, 2, 3, 6)
        predicted, error = self.mixture(y.flatten(5).flatten(1, 3))  # [batch, re/im x slot x symbol, antenna, tone]
        p = predicted.unflatten(3, (blocks, -1)).unflatten(1, (2, -1, SYMBOLS_PER_SLOT)).permute(0, 2, 4, 5, 1, 3, 6)
        return p.flatten(4).flatten(1, 3), error.view(-1, 1, 1)


def repeated(x: Tensor, config: ModelConfig) -> Tensor:
    """`x` `[batch, ...]` T times over, `[T * batch, ...]`, where the steps run through the whole net (`carry`)."""
    return x.repeat(config.neuron.steps, *[1] * (x.ndim - 1)) if config.time_axis == "carry" else x


def mean_over_steps(x: Tensor, config: ModelConfig) -> Tensor:
    """The read-out of `repeated`: the mean over T of `[T * batch, ...]`, or `x` itself."""
    return x.unflatten(0, (config.neuron.steps, -1)).mean(0) if config.time_axis == "carry" else x


def sinusoidal(length: int, d: int) -> Tensor:
    """Fixed 1-D sinusoidal positions `[length, d]` (Vaswani et al. 2017, section 3.5)."""
    angle = torch.arange(length).unsqueeze(1) * torch.exp(torch.arange(0, d, 2) * (-math.log(10000.0) / d))
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(1)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
