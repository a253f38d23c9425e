"""What a task is asked: models, data, noise, labels; and the links and channels that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import InputError, UnsupportedError

from ..data.canonical import Sampling, canonical_batch
from ..data.impairments import awgn
from ..data.patches import Channel
from ..data.sampler import CARRIER_BLOCKS, Batch, embedded_split, move
from ..data.schema import PathSet
from ..data.splits import evaluation_splits
from ..data.store import SPLITS
from ..models.config import GridConfig
from .classification import load_sets

__all__ = ["Place", "Request", "clean_batch", "inputs_of", "noisy"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Place:
    """Links among which a task labels some and tests others: a split of cities, or one base station's."""

    name: str
    paths: PathSet

    def draw(self, links: int, labels: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Links to test and links to label, none of them both; those to test do not depend on how many are labelled."""
        if links < 1:
            raise InputError(f"--links is {links}; at least 1 is needed")
        if links + labels > self.paths.links:
            raise InputError(
                f"{self.name} holds {self.paths.links} links, {links} to test and {labels} to label were asked for: "
                "lower --links or --labels"
            )
        order = np.random.default_rng(seed).permutation(self.paths.links)
        return np.sort(order[:links]), order[links : links + labels]


@dataclass(frozen=True, eq=False)
class Request:
    """One call of a task. The first of `models` is MODEL, the others stand beside it.

    `trained` and `trained_links` are what checkpoints say they were trained on (None: the shipped ones' cities).
    """

    models: Mapping[str, nn.Module]
    snrs_db: tuple[float, ...] = (20.0,)
    labels: tuple[int, ...] = (50, 200)
    adaptation: str = "probe"
    links: int = 100
    seed: int = 0
    seeds: int = 1
    data: Path | None = None
    trained: tuple[str, ...] | None = None
    trained_links: frozenset[bytes] = frozenset()
    progress: Progress = lambda done, total: None

    @property
    def model(self) -> str:
        """MODEL."""
        return next(iter(self.models))

    @property
    def config(self) -> Any:
        """MODEL's configuration; UnsupportedError where the models do not sample channels alike."""
        first, *others = ((name, _sampling(name, network)) for name, network in self.models.items())
        for name, sampling in others:
            if sampling != first[1]:
                raise UnsupportedError(
                    f"{name} samples channels otherwise than {first[0]}: evaluate it by itself, without --compare"
                )
        return getattr(self.models[self.model], "config")  # noqa: B009

    @property
    def source(self) -> str:
        """The data, in words."""
        return "embedded cities (ray-traced)" if self.data is None else str(self.data)

    def role(self, name: str) -> str:
        """model or twin."""
        return "model" if name == self.model else "twin"

    def splits(self) -> list[Place]:
        """In-domain and unseen links, none of which a model was trained on."""
        found = evaluation_splits(self.data, self.trained, self.trained_links)
        if found is None:
            found = {name: embedded_split(name) for name in SPLITS if name != "train"}
        places = [Place(name, paths) for name, paths in found.items() if isinstance(paths, PathSet)]
        if not places:
            raise InputError(
                f"{self.data} holds channels without paths, and this task draws them from paths: give path sets"
            )
        return places

    def sites(self) -> list[Place]:
        """One place a base station, of cities that no model was trained on.

        UnsupportedError where --data holds stored channels, which have no positions; InputError where a place has too
        few links for the labels and the test.
        """
        if self.data is not None and any(self.data.glob("**/channels.json")):
            raise UnsupportedError(f"{self.data} holds channels without user positions: give path sets")
        sets = load_sets(self.data, self.trained, self.trained_links)
        carrier = 3.5e9 if any(item.carrier_hz == 3.5e9 for item in sets) else min(item.carrier_hz for item in sets)
        reached = [item.select(np.flatnonzero(item.n_paths > 0)) for item in sets if item.carrier_hz == carrier]
        places = [Place(f"{item.city}/{item.station}", item) for item in reached if item.links]
        for place in places:
            place.draw(self.links, max(self.labels), self.seed)
        return places


def clean_batch(config: Any, paths: PathSet, users: NDArray[np.intp], rng: np.random.Generator) -> Batch:
    """Channels `[batch, time, antenna, frequency]` of the links `users` as a model samples them, with random motion.

    A SpikeWFM's are contiguous slots in the middle of the carrier; nothing is observed yet.
    """
    grid = getattr(config, "grid", None)
    if isinstance(grid, GridConfig):
        return move(paths, users, grid, "R1", rng, first_block=(CARRIER_BLOCKS - grid.blocks) // 2)
    return canonical_batch(paths, users, config.sampling, 100.0, rng)


def noisy(clean: Channel, snr_db: float | tuple[float, float], rng: np.random.Generator) -> Channel:
    """White noise on channels `[batch, time, antenna, frequency]`, at `snr_db` or U(low, high) a sample."""
    power = np.mean(np.abs(clean) ** 2, axis=(1, 2, 3), dtype=np.float64)
    return awgn(clean, power, rng.uniform(*snr_db, len(clean)) if isinstance(snr_db, tuple) else snr_db, rng)


def inputs_of(network: nn.Module, channel: Channel) -> Tensor:
    """The network's scaled input of channels `[batch, time, antenna, frequency]`."""
    return torch.as_tensor(network.inputs(channel))  # type: ignore[operator]


def _sampling(name: str, network: nn.Module) -> Any:
    config = getattr(network, "config", None)
    grid, sampling = getattr(config, "grid", None), getattr(config, "sampling", None)
    if not hasattr(network, "inputs") or not isinstance(
        grid if isinstance(grid, GridConfig) else sampling, GridConfig | Sampling
    ):
        raise UnsupportedError(
            f"{name} does not say which channels it takes (a `config` with a grid or a sampling, and `inputs`): "
            "tasks need a model of `spikeport models`"
        )
    return grid if isinstance(grid, GridConfig) else sampling
