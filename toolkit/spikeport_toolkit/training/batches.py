"""Where a stage's batches come from: drawn anew at every step, or passes over a set of samples; validation beside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from ..data.canonical import canonical_batch
from ..data.loader import Loader, in_order
from ..data.path_store import PathStore
from ..data.sampler import CARRIER_BLOCKS, Batch, Geometry, observe, random_velocity, symbol_times, window_frequencies
from ..data.schema import PathSet
from ..models.config import Config, GridConfig
from .recipe import Stage

Links = PathSet | PathStore
Seed = tuple[int, int]
"""Seed of the recipe, number of the stage."""
HOLD_OUT = 5
"""Every fifth training link is for validation where a recipe validates."""
SET, ORDER, VALIDATION = 1, 2, 3


def hold_out(links: Links) -> tuple[Links, Links]:
    """Links to train on and to validate on. The in-domain test links are in neither: no model is chosen by them."""
    held = np.arange(links.links) % HOLD_OUT == HOLD_OUT - 1
    if not held.any():
        raise InputError(f"{links.links} training links are too few to keep some for validation: drop validation")
    return _chosen(links, np.flatnonzero(~held)), _chosen(links, np.flatnonzero(held))


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches of `links` for a model of configuration `config`: batch `step` follows from (`seed`, `step`) alone.

    With `stage.samples`, sample i is a link and, on SpikeWFM's grid, a velocity, drawn once by `seed`; a link occurs
    again where the set is larger than the links. Every epoch passes over whole batches of them in a new order, with
    new noise; resource blocks and slot spacing vary by batch where the grid and the regimes leave a choice. Other
    families draw the motion anew.
    """

    links: Links
    config: Config
    stage: Stage
    seed: Seed

    def at(self, step: int) -> tuple[Batch, np.random.Generator]:
        """The batch of `step`, and the step's generator as the drawing left it (for the mask)."""
        stage, rng = self.stage, np.random.default_rng((*self.seed, step))
        if stage.samples:
            epoch, place = divmod(step, stage.steps_an_epoch)
            order = np.random.default_rng((*self.seed, epoch, 0, ORDER)).permutation(stage.samples)
            return self._of(order[place * stage.batch : (place + 1) * stage.batch], rng), rng
        if isinstance(self._grid, GridConfig):
            return Loader(self.links, self._grid, stage.batch, stage.regimes, stage.snr_db, self.seed).at(step)
        users = rng.integers(0, self.links.links, stage.batch)
        return canonical_batch(self.links, users, self._sampling, stage.snr_db, rng), rng

    def steps(self, first: int, end: int, workers: int) -> Iterator[tuple[int, Batch, np.random.Generator]]:
        """(step, batch, generator) for `first` <= step < `end`, up to `workers` + 1 of them made ahead."""
        steps = range(first, end)
        for step, (batch, rng) in zip(steps, in_order(self.at, steps, workers), strict=True):
            yield step, batch, rng

    def once(self) -> Iterator[tuple[int, Batch, np.random.Generator]]:
        """The whole set of samples once, in about equal batches, the same at every call: for validation."""
        count = max(1, self.stage.samples // self.stage.batch)
        for number, chosen in enumerate(np.array_split(np.arange(self.stage.samples), count)):
            rng = np.random.default_rng((*self.seed, number, 0, VALIDATION))
            yield number, self._of(chosen, rng), rng

    def _of(self, chosen: NDArray[np.intp], rng: np.random.Generator) -> Batch:
        users, velocity = self._set
        links, users = self.links, users[chosen]
        if not isinstance(self._grid, GridConfig):
            return canonical_batch(links, users, self._sampling, self.stage.snr_db, rng)
        regime = str(rng.choice(self.stage.regimes))
        first_block = int(rng.integers(0, CARRIER_BLOCKS - self._grid.blocks + 1))
        paths = links.take(users) if isinstance(links, PathStore) else links
        users = np.arange(len(chosen)) if isinstance(links, PathStore) else users
        geometry = Geometry(paths, users, velocity[chosen], window_frequencies(self._grid, first_block))
        times = symbol_times(self._grid, regime)
        clean = geometry.channels(times)
        batch = Batch(clean, clean[:, :0], times, np.zeros(len(users)), paths.carrier_hz, geometry=geometry)
        return observe(batch, self.stage.snr_db, self._grid, rng)

    @property
    def _grid(self) -> Any:
        return getattr(self.config, "grid", None)

    @property
    def _sampling(self) -> Any:
        if not hasattr(self.config, "sampling"):
            raise InputError(
                f"{type(self.config).__name__} has neither a grid nor a sampling, so no channels can be drawn for it: "
                "train it in a program of your own"
            )
        return self.config.sampling

    @cached_property
    def _set(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Links and velocities of the set of samples."""
        rng = np.random.default_rng((*self.seed, 0, 0, SET))
        users = np.resize(rng.permutation(self.links.links), self.stage.samples)
        return users, random_velocity(rng, self.stage.samples, self.links.speed_m_s)


def validation_batches(links: Links, config: Config, stage: Stage, seed: Seed) -> Batches:
    """The validation set of a stage, as `Batches.once` reads it."""
    whole = replace(stage, samples=stage.validation, batch=min(stage.batch, stage.validation), accumulation=1)
    return Batches(links, config, whole, seed)


def _chosen(links: Links, which: NDArray[np.intp]) -> Links:
    if isinstance(links, PathStore):
        return replace(links, rows=which if links.rows is None else links.rows[which])
    return links.select(which)
