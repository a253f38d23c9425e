"""Takes what a report's raster and histogram need from the first sample that a spiking layer sees."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .detail import Detail, Histogram, Raster, histogram, potentials, raster


class DetailTaker:
    """Told before and after every neuron ran; single-step neurons are put together from their calls."""

    def __init__(self) -> None:
        self._before: dict[Any, Any] = {}
        self._spikes: dict[str, list[Tensor]] = {}
        self._potentials: dict[str, list[Tensor]] = {}
        self._about: dict[str, tuple[int, float]] = {}
        self._closed = False

    def before(self, node: Any) -> None:
        """The neuron is about to run: keep its membrane."""
        if not self._closed:
            self._before[node] = node.v.clone() if isinstance(node.v, Tensor) else node.v

    def after(self, node: Any, path: str, levels: int, current: Tensor, spikes: Tensor, batch: int) -> None:
        """It ran on `batch` samples: keep spikes and potentials of the first, all of them if it cannot be cut out."""
        if self._closed:
            return
        multi = node.step_mode == "m"
        current, spikes = (current, spikes) if multi else (current.unsqueeze(0), spikes.unsqueeze(0))
        count = spikes.shape[1] // batch if spikes.dim() > 2 and spikes.shape[1] % batch == 0 else spikes.shape[1]
        v_before = self._before.pop(node)
        if isinstance(v_before, Tensor):
            v_before = v_before[:count]
        self._about[path] = levels, float(node.v_threshold)
        self._spikes.setdefault(path, []).append(spikes[:, :count].detach().clone())
        if isinstance(node.v_threshold, float) and node.v_threshold > 0:
            self._potentials.setdefault(path, []).append(potentials(node, v_before, current[:, :count]))

    def close(self) -> None:
        """The first batch is over."""
        self._closed = True

    def result(self) -> Detail:
        """Rasters and histograms of all layers."""
        rasters: list[Raster] = []
        membranes: list[Histogram] = []
        for path, parts in self._spikes.items():
            levels, threshold = self._about[path]
            rasters.append(raster(path, torch.cat(parts), levels))
            if path in self._potentials:
                membranes.append(histogram(path, torch.cat(self._potentials[path]), threshold))
        return Detail(0, tuple(rasters), tuple(membranes))
