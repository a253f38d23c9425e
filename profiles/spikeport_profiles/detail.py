"""Spikes and membrane potentials of one sample, small enough for a report: a raster and a histogram per layer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

TOKENS, NEURONS = 16, 48
"""Most tokens and neurons in a raster, evenly spread over the layer's."""
BINS = 40
SPAN = (-2.0, 3.0)
"""Range of a histogram, in thresholds."""
OUT_OF_REACH = 1e30
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Raster:
    """Spikes of `neurons` (indices) on `tokens` (indices) of one sample over `steps`.

    `rows` is one string a neuron; column position * steps + step holds the events as a base-36 digit (z: 35 or more),
    `-` for a negative spike.
    """

    path: str
    steps: int
    levels: int
    tokens: tuple[int, ...]
    neurons: tuple[int, ...]
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Histogram:
    """Membrane potentials just before the spike, over all neurons, tokens and steps of one sample, model units.

    `counts` falls into the bins between `edges`, `below` and `above` outside of them.
    """

    path: str
    threshold: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    below: int
    above: int


@dataclass(frozen=True)
class Detail:
    """What every spiking layer did on sample `sample` of the first batch."""

    sample: int
    rasters: tuple[Raster, ...]
    membranes: tuple[Histogram, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "sample": self.sample,
            "rasters": [_plain(each) for each in self.rasters],
            "membranes": [_plain(each) for each in self.membranes],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of to_dict."""
        return cls(
            values["sample"],
            tuple(Raster(**_tuples(each)) for each in values["rasters"]),
            tuple(Histogram(**_tuples(each)) for each in values["membranes"]),
        )


def raster(path: str, spikes: Tensor, levels: int) -> Raster:
    """The raster of one sample's `spikes` `[step, ..., neuron]`, whatever stands between counting as tokens."""
    flat = spikes.reshape(len(spikes), -1, spikes.shape[-1]) if spikes.dim() > 1 else spikes.reshape(len(spikes), 1, 1)
    tokens, neurons = _spread(flat.shape[1], TOKENS), _spread(flat.shape[2], NEURONS)
    chosen = flat[:, tokens][:, :, neurons].round().int().permute(2, 1, 0).flatten(1)
    rows = tuple("".join("-" if v < 0 else DIGITS[min(v, 35)] for v in row) for row in chosen.tolist())
    return Raster(path, len(spikes), levels, tuple(tokens), tuple(neurons), rows)


def histogram(path: str, potentials: Tensor, threshold: float) -> Histogram:
    """Counts of `potentials` of any shape between -2 and 3 thresholds."""
    low, high = SPAN[0] * threshold, SPAN[1] * threshold
    values = potentials.double().flatten()
    counts = torch.histc(values, BINS, low, high)
    edges = tuple(round(low + (high - low) * k / BINS, 6) for k in range(BINS + 1))
    below, above = int((values < low).sum()), int((values > high).sum())
    return Histogram(path, float(threshold), edges, tuple(map(int, counts.tolist())), below, above)


def potentials(node: Any, v_before: Any, current: Tensor) -> Tensor:
    """Membrane before each spike `[step, ...]` of a copy of SpikingJelly `node` that starts at `v_before`.

    `current` is `[step, ...]`. Each step is taken twice: with a threshold out of reach, which leaves the charged
    membrane, and as the node takes it.
    """
    alone, charged = _copied(node), _copied(node)
    alone.v, charged.v_threshold = v_before, OUT_OF_REACH
    seen = []
    for at_step in current:
        charged.v = alone.v
        charged.single_step_forward(at_step)
        seen.append(charged.v)
        alone.single_step_forward(at_step)
    return torch.stack(seen)


def _copied(node: Any) -> Any:
    """The node with its own memories; its weights stay shared."""
    alone = copy.copy(node)
    alone.__dict__["_memories"] = dict(node._memories)
    return alone


def _spread(count: int, most: int) -> list[int]:
    return torch.linspace(0, count - 1, min(count, most)).round().long().tolist()


def _plain(item: Any) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(item).items()}


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
