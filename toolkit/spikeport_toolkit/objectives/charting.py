"""Channel charting: a map of a few dimensions in which near users are near."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import InputError

from ..data.patches import Channel
from ..data.sampler import Batch
from .distances import distances
from .encoder import pooled, width_of
from .objective import Objective
from .sharing import gathered, share

NEARNESS = ("csi", "position", "time")


@dataclass(frozen=True)
class Charting(Objective):
    """Triplets of anchor a, near p and far n on the chart c = g(pool(E(H))) in R^`dimensions`:

        L = mean max(0, |c_a - c_p| - |c_a - c_n| + margin)

    (Ferrand et al., arXiv 2005.12242.) Near `by` csi or position: the nearest sample of the batch
    (objectives/distances.py); by time: the same moving user `later_s` later, for channels made from paths. Far is
    another sample of the batch, drawn at random. g is d -> d -> `dimensions` with a ReLU between.
    objectives/chart_metrics.py judges the chart.
    """

    name: ClassVar[str] = "charting"

    by: str = "csi"
    margin: float = 1.0
    dimensions: int = 2
    later_s: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("by", NEARNESS)
        self._within("margin", 1e-6, 1e6)
        self._within("dimensions", 1, 64)
        self._within("later_s", 0, 60)

    def parts(self, model: nn.Module) -> nn.Module:
        """The chart's head g."""
        d = width_of(model)
        chart = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, self.dimensions, bias=False))
        return nn.ModuleDict({"chart": chart})

    @property
    def whole(self) -> bool:
        """Near and far samples are those of the whole batch."""
        return True

    @property
    def fewest(self) -> int:
        """A triplet."""
        return 3

    def chart(self, model: nn.Module, parts: nn.Module, channel: Channel) -> Tensor:
        """Coordinates `[batch, dimensions]` of channels `[batch, time, antenna, frequency]`."""
        assert isinstance(parts, nn.ModuleDict)
        return parts["chart"](pooled(model, channel))  # type: ignore[no-any-return]

    def loss(self, model: nn.Module, parts: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Mean over the batch's samples, each an anchor once."""
        samples = len(batch.clean)
        if samples < self.fewest:
            raise InputError(f"objective {self.name}: a batch of {samples} has no triplets; make it 3 or more")
        own = share(samples)
        anchor = gathered(self.chart(model, parts, batch.clean[own]), samples)
        if self.by == "time":
            near_index = np.arange(samples)
            near = gathered(self.chart(model, parts, self._later(batch)[own]), samples)
        else:
            near_index = distances(self.by, batch, f"objective {self.name}").argmin(1)
            near = anchor[torch.from_numpy(near_index).to(anchor.device)]
        far = anchor[torch.from_numpy(_others(near_index, rng)).to(anchor.device)]
        gap = (anchor - near).norm(dim=1) - (anchor - far).norm(dim=1)
        loss: Tensor = (gap + self.margin).clamp_min(0).mean()
        return loss

    def _later(self, batch: Batch) -> Channel:
        if batch.geometry is None:
            raise InputError(
                f"objective {self.name} by time: this batch has no geometry to move its users along; "
                "take by = csi, or train on a path store"
            )
        return batch.geometry.channels(batch.times_s + self.later_s)


def _others(near: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """For each sample i another one that is neither i nor `near`[i]."""
    own = np.arange(len(near))
    allowed = (own[:, None] != own) & (near[:, None] != own)
    chosen: NDArray[np.intp] = np.where(allowed, rng.random(allowed.shape), -1).argmax(1)
    return chosen
