"""LWM's head for beam prediction: a residual 1-D convolutional network over a sequence of features."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

STAGES = ((32, 2), (64, 3), (128, 4))
"""Channels and residual blocks of each stage."""


class ResidualBlock(nn.Module):
    """y = relu(bn(conv3(relu(bn(conv3(x))))) + s(x)); s is the identity, or a 1x1 convolution where widths differ."""

    def __init__(self, inner: int, outer: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(inner, outer, 3, padding=1), nn.BatchNorm1d(outer), nn.ReLU(),
            nn.Conv1d(outer, outer, 3, padding=1), nn.BatchNorm1d(outer),
        )  # fmt: skip
        self.shortcut = (
            nn.Identity() if inner == outer else nn.Sequential(nn.Conv1d(inner, outer, 1), nn.BatchNorm1d(outer))
        )

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, inner, length]` to `[batch, outer, length]`."""
        return F.relu(self.body(x) + self.shortcut(x))


class Res1DCNN(nn.Module):
    """Features `[batch, token, values]` to class scores `[batch, classes]`.

    conv7/2 to 32, max-pool 3/2, residual stages of 32 x 2, 64 x 3, 128 x 4, mean over the sequence, Linear 128 with
    BatchNorm, dropout 0.5, Linear. With 64 values a token: 497,200 / 503,392 / 528,160 parameters for 16 / 64 / 256
    classes.
    """

    def __init__(self, values: int, classes: int):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(values, STAGES[0][0], 7, stride=2, padding=3), nn.BatchNorm1d(STAGES[0][0]), nn.ReLU(),
            nn.MaxPool1d(3, stride=2, padding=1),
        )  # fmt: skip
        inner, blocks = STAGES[0][0], []
        for outer, count in STAGES:
            blocks += [ResidualBlock(inner if index == 0 else outer, outer) for index in range(count)]
            inner = outer
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.Linear(inner, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scores before the softmax."""
        return self.head(self.blocks(self.stem(x.transpose(1, 2))).mean(-1))  # type: ignore[no-any-return]
