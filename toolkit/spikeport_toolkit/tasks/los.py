"""Line-of-sight detection: is there an unobstructed path between the base station and the user?"""

from __future__ import annotations

import numpy as np
from torch import nn

from ..data.schema import PathSet
from .probe import Labels

__all__ = ["CLASSES", "Fcn", "labels"]

CLASSES = 2


def labels(paths: PathSet) -> Labels:
    """1 with a line of sight, 0 without, for the links of `paths` (each with a path)."""
    return np.asarray(paths.los == 1, np.intp)


class Fcn(nn.Sequential):
    """LWM's classifier of features `[batch, ...]`: Linear 512, 256, 128, each with BatchNorm, ReLU and dropout 0.1."""

    def __init__(self, shape: tuple[int, ...], classes: int):
        layers: list[nn.Module] = [nn.Flatten()]
        inner = int(np.prod(shape))
        for outer in (512, 256, 128):
            layers += [nn.Linear(inner, outer), nn.BatchNorm1d(outer), nn.ReLU(), nn.Dropout(0.1)]
            inner = outer
        super().__init__(*layers, nn.Linear(inner, classes))
