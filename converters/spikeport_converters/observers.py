"""How the range of a symmetric INT8 tensor is found: its largest value, least divergence, or least squared error.

    q = clip(round(x / s), -127, 127),   s = a / 127

The range a is max |x| (minmax), or the a that minimises over a histogram of |x| either the Kullback-Leibler divergence
between x and its clipped and quantised self (entropy, as TensorRT's own calibrator did) or sum (x - s q)^2 (mse).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver

LIMIT = 127
BINS = 2048
_STEP, _TINY = 16, 1e-9
_SHRINK = 40
"""Ranges tried for a weight row: max |w| times 1, 1 - 1/80, ... down to one half."""


class RangeObserver(MinMaxObserver):
    """Per-tensor observer that keeps a histogram of |x| and chooses the range by `method` (entropy or mse)."""

    def __init__(self, method: str = "mse", **settings: Any):
        super().__init__(**settings)
        self.method = method
        self.histogram: NDArray[np.float64] = np.zeros(BINS)
        self.top = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Count |x|; the histogram grows by halving its resolution, so the order of batches does not matter much."""
        super().forward(x)
        magnitude = x.detach().float().abs()
        highest = float(magnitude.max()) if magnitude.numel() else 0.0
        if highest <= 0 or not np.isfinite(highest):
            return x
        self.top = self.top or highest
        while highest > self.top:
            self.histogram = np.concatenate((self.histogram.reshape(-1, 2).sum(1), np.zeros(BINS // 2)))
            self.top *= 2
        self.histogram += torch.histc(magnitude, BINS, 0.0, self.top).double().numpy()
        return x

    def calculate_qparams(self) -> Any:
        """Scale and zero point of the chosen range."""
        largest = float(max(-self.min_val, self.max_val))
        if not self.histogram.any():
            return super().calculate_qparams()
        chosen = {"entropy": entropy_range, "mse": mse_range}[self.method](self.histogram, self.top)
        value = torch.tensor(min(chosen, largest), dtype=self.min_val.dtype)
        return self._calculate_qparams(-value, value)


class RowObserver(PerChannelMinMaxObserver):
    """Per-channel observer for weights: the range of least squared error between half of max |w| and max |w|."""

    def forward(self, x: Tensor) -> Tensor:
        """Search every row of `x` [out, ...] on axis 0."""
        rows = x.detach().float().flatten(1)
        most = rows.abs().amax(1, keepdim=True).clamp_min(1e-12)
        best, least = most.clone(), torch.full_like(most, torch.inf)
        for index in range(_SHRINK + 1):
            scale = most * (1 - index / (2 * _SHRINK)) / LIMIT
            error = ((rows / scale).round().clamp(-LIMIT, LIMIT) * scale - rows).square().sum(1, keepdim=True)
            best, least = torch.where(error < least, scale * LIMIT, best), torch.minimum(error, least)
        self.min_val, self.max_val = (-best[:, 0]).to(x.dtype), best[:, 0].to(x.dtype)
        return x


def mse_range(histogram: NDArray[np.float64], top: float) -> float:
    """The range of least squared error over a histogram of |x| on [0, top]."""
    centres = (np.arange(BINS) + 0.5) * (top / BINS)
    ranges = np.arange(_STEP, BINS + 1, _STEP) * (top / BINS)
    scales = (ranges / LIMIT)[:, None]
    quantised = np.minimum(np.round(centres / scales), LIMIT) * scales
    return float(ranges[np.argmin(((quantised - centres) ** 2) @ histogram)])


def entropy_range(histogram: NDArray[np.float64], top: float) -> float:
    """The range whose 128 levels keep most of the distribution: least KL(P || Q), clipped mass on P's last bin."""
    best, least = top, np.inf
    for used in range(LIMIT + 1, BINS + 1, _STEP):
        kept = histogram[:used]
        reference = kept.copy()
        reference[-1] += histogram[used:].sum()
        level = np.arange(used) * (LIMIT + 1) // used
        filled = reference > 0
        mass, places = (np.bincount(level, w, LIMIT + 1) for w in (kept, filled.astype(float)))
        quantised = np.where(filled, np.maximum((mass / np.maximum(places, 1))[level], _TINY), 0.0)
        p, q = reference[filled] / reference.sum(), quantised[filled] / quantised.sum()
        divergence = float((p * np.log(p / q)).sum())
        if divergence < least:
            best, least = used * top / BINS, divergence
    return float(best)
