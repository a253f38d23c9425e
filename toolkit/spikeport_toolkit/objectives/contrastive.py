"""Contrastive learning: two views of one channel are alike, views of different channels are not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeport_errors import InputError

from ..data.patches import Channel
from ..data.sampler import Batch
from . import views
from .distances import DISTANCES, distances
from .encoder import pooled, width_of
from .objective import Objective
from .sharing import gathered, share

VIEWS = ("awgn", "phase", "frequency-roll", "antenna-flip", "subband-drop")
PAIRS = ("augmentation", "csi-cir", "neighbours")
COLDEST = 0.01
"""Smallest temperature, as in CLIP (arXiv 2103.00020, 2.5)."""


def info_nce(a: Tensor, b: Tensor, temperature: Tensor | float) -> Tensor:
    """Symmetric InfoNCE of paired unit vectors `[batch, d]` (CLIP, arXiv 2103.00020; CSI-CLIP):

    L = 1/2 (CE(S, i) + CE(S^T, i)),   S_ij = a_i . b_j / tau
    """
    logits, own = a @ b.T / temperature, torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def nt_xent(a: Tensor, b: Tensor, temperature: Tensor | float) -> Tensor:
    """NT-Xent of paired unit vectors `[batch, d]` (SimCLR, arXiv 2002.05709, eq. 1), mean over all 2 batch views z:

    l_i = -log exp(z_i . z_p(i) / tau) / sum_{k != i} exp(z_i . z_k / tau)
    """
    z = torch.cat((a, b))
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(len(z), device=z.device).roll(len(a))
    return F.cross_entropy(logits, partner)


def neighbour_nce(z: Tensor, neighbour: Tensor, temperature: Tensor | float) -> Tensor:
    """InfoNCE of unit vectors `[batch, d]` with each sample's `neighbour` `[batch]` as its positive:

    l_i = -log exp(z_i . z_n(i) / tau) / sum_{k != i} exp(z_i . z_k / tau)
    """
    return F.cross_entropy((z @ z.T / temperature).fill_diagonal_(-torch.inf), neighbour)


@dataclass(frozen=True)
class Contrastive(Objective):
    """InfoNCE between projections z = g(pool(E(view))) / |.| at a learned temperature tau, from `temperature` on.

    `pairs` says what belongs together: `augmentation`, two draws of `views` of one channel (NT-Xent, as in
    ContraWiMAE, or `form` = info-nce); `csi-cir`, a channel and its impulse response (CSI-CLIP), which the model's
    `cir_tower` reads if it has one, else the model itself, each with its own g, the `views` applied to both;
    `neighbours`, a channel and the nearest of the batch by `distance` csi or position. g is d -> 2d -> `projection`
    (0: d) with a ReLU between. AWGN is at U(`snr_db`) dB, subband-drop zeroes `drop` of the subcarriers.
    """

    name: ClassVar[str] = "contrastive"

    pairs: str = "augmentation"
    form: str = "nt-xent"
    views: tuple[str, ...] = ("awgn",)
    temperature: float = 0.2
    learn_temperature: bool = True
    projection: int = 0
    distance: str = "csi"
    snr_db: tuple[float, float] = (5.0, 40.0)
    drop: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("pairs", PAIRS)
        self._one_of("form", ("nt-xent", "info-nce"))
        self._one_of("distance", DISTANCES)
        if not isinstance(self.views, tuple) or not set(map(str, self.views)) <= set(VIEWS):
            raise self._wrong("views", f"a list of {', '.join(VIEWS)}")
        if self.pairs == "augmentation" and not self.views:
            raise self._wrong("views", "at least one, as two equal views teach nothing")
        self._within("temperature", COLDEST, 100)
        self._within("projection", 0, 16_384)
        self._within("drop", 0, 0.9)
        if self.snr_db is None:
            raise self._wrong("snr_db", "[low, high] in dB")
        self._snr("snr_db")

    @property
    def whole(self) -> bool:
        """Every other sample of the batch is a negative, of whichever process."""
        return True

    @property
    def fewest(self) -> int:
        """A pair and a negative."""
        return 3 if self.pairs == "neighbours" else 2

    def parts(self, model: nn.Module) -> nn.Module:
        """Projections and the logarithm of the temperature."""
        parts = nn.ModuleDict({"project": _projection(width_of(model), self.projection)})
        if self.pairs == "csi-cir":
            tower = getattr(model, "cir_tower", model)
            parts["project_cir"] = _projection(width_of(tower), self.projection or width_of(model))
        log_temperature = torch.full((1,), math.log(self.temperature))
        parts.register_parameter("log_temperature", nn.Parameter(log_temperature, self.learn_temperature))
        return parts

    def view(self, channel: Channel, rng: np.random.Generator) -> Channel:
        """One draw of all views of channels `[batch, time, antenna, frequency]`, in the order given."""
        make = {
            "awgn": partial(views.noisy, snr_db=self.snr_db, rng=rng),
            "phase": partial(views.phase, rng=rng),
            "frequency-roll": partial(views.frequency_roll, rng=rng),
            "antenna-flip": partial(views.antenna_flip, rng=rng),
            "subband-drop": partial(views.subband_drop, share=self.drop, rng=rng),
        }
        for name in self.views:
            channel = make[name](channel)
        return channel

    def loss(self, model: nn.Module, parts: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Mean over the batch, whose other samples are the negatives."""
        clean = batch.clean
        if len(clean) < self.fewest:
            raise InputError(f"objective {self.name}: a batch of {len(clean)} has no negatives; make it larger")
        assert isinstance(parts, nn.ModuleDict)
        temperature = parts.log_temperature.exp().clamp_min(COLDEST)  # type: ignore[operator]
        samples, own = len(clean), share(len(clean))
        a = F.normalize(parts["project"](pooled(model, self.view(clean, rng)[own])), dim=-1)
        if self.pairs == "neighbours":
            a = gathered(a, samples)
            nearest = distances(self.distance, batch, f"objective {self.name}").argmin(1)
            return neighbour_nce(a, torch.from_numpy(nearest).to(a.device), temperature)
        second = self.view(clean, rng)[own]
        if self.pairs == "csi-cir":
            tower = getattr(model, "cir_tower", model)
            b = parts["project_cir"](pooled(tower, views.impulse_response(second)))
        else:
            b = parts["project"](pooled(model, second))
        a, b = gathered(torch.stack((a, F.normalize(b, dim=-1)), 1), samples).unbind(1)
        return info_nce(a, b, temperature) if self.form == "info-nce" else nt_xent(a, b, temperature)


def _projection(d: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, out or d))
