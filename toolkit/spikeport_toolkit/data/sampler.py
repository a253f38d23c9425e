"""Channels on the fly: links of a city split, random motion, two slot spacings, noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from ..models.config import SUBCARRIERS_PER_BLOCK, SYMBOLS_PER_SLOT, GridConfig
from .patches import Channel, Patches, patches_from_channel, rms
from .schema import PATH_FIELDS, PathSet
from .store import TRAIN_CITIES, UNSEEN_CITIES, load_embedded, load_paths
from .synthesis import channels

SUBCARRIER_SPACING_HZ = 30e3
SYMBOL_S = 1 / 28e3
CARRIER_BLOCKS = 51
"""Resource blocks of the 20 MHz carrier; a smaller grid is a window of it."""
SPEED_M_S = (0.1, 5.0)
HOLD_OUT = 5
"""Every fifth link of a training city is kept for in-domain tests."""

Regime = Literal["R1", "R2"]
SLOT_START_S: dict[str, float] = {"R1": SYMBOLS_PER_SLOT * SYMBOL_S, "R2": 5e-3}
"""Time from slot start to slot start: R1 contiguous slots, R2 slots 5 ms apart."""
SPLITS = ("train", "in-domain", "unseen")


@dataclass(frozen=True, eq=False)
class Batch:
    """Clean channel `[batch, time, antenna, frequency]`, its noisy observed slots, the times of all symbols in s."""

    clean: Channel
    observed: Channel
    times_s: NDArray[np.float64]
    snr_db: NDArray[np.float64]

    @property
    def target(self) -> Channel:
        """The clean slots that are not observed."""
        return self.clean[:, self.observed.shape[1] :]

    @property
    def scale(self) -> NDArray[np.float32]:
        """RMS of the observed part, `[batch, 1, 1, 1]`."""
        return rms(self.observed)

    def patches(self) -> Patches:
        """Scaled patches `[batch, token, 336]`; the tokens to predict are zero."""
        full = np.zeros_like(self.clean)
        full[:, : self.observed.shape[1]] = self.observed / self.scale
        return patches_from_channel(full)

    def target_patches(self) -> Patches:
        """The clean target, scaled like the input, `[batch, predicted token, 336]`."""
        return patches_from_channel(self.target / self.scale)


@cache
def embedded_split(split: str, carrier_hz: float = 3.5e9) -> PathSet:
    """All links of a split of the embedded cities at one carrier: train, in-domain (held-out users) or unseen."""
    return split_links(load_embedded(), split, carrier_hz)


def split_links(paths: Sequence[PathSet], split: str, carrier_hz: float = 3.5e9) -> PathSet:
    """Merge the links of one split. No city is in two of train+in-domain and unseen; no link is in two splits."""
    if split not in SPLITS:
        raise InputError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    cities = UNSEEN_CITIES if split == "unseen" else TRAIN_CITIES
    chosen = []
    for item in paths:
        if item.city not in cities or item.carrier_hz != carrier_hz:
            continue
        links = np.flatnonzero(item.n_paths > 0)
        held_out = np.arange(len(links)) % HOLD_OUT == HOLD_OUT - 1
        chosen.append(
            item.select(links if split == "unseen" else links[held_out if split == "in-domain" else ~held_out])
        )
    if not chosen:
        raise InputError(f"no city of split {split!r} has links at {carrier_hz / 1e9:g} GHz: check the data folder")
    return merge(chosen)


def folder_sets(folder: Path) -> list[PathSet]:
    """All path sets of a folder's npz files; InputError where there is none."""
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise InputError(f"{folder} holds no path sets (*.npz): `spikeport data make embedded --out DIR` writes one")
    return [item for file in files for item in load_paths(file)]


def folder_splits(folder: Path) -> dict[str, PathSet]:
    """Links of a folder of path sets (`spikeport data make`) by split, at 3.5 GHz if that is there.

    Cities of the embedded set keep their split, so that none a checkpoint was trained on is called unseen; all
    other cities are unseen. InputError for a folder without path sets.
    """
    sets = folder_sets(folder)
    carriers = {item.carrier_hz for item in sets}
    carrier = 3.5e9 if 3.5e9 in carriers else min(carriers)
    named = [item if item.city in TRAIN_CITIES else replace(item, city=UNSEEN_CITIES[0]) for item in sets]
    known = {item.city in TRAIN_CITIES for item in named if item.carrier_hz == carrier}
    splits = [split for split, is_train in (("in-domain", True), ("unseen", False)) if is_train in known]
    return {split: split_links(named, split, carrier) for split in splits}


def symbol_times(grid: GridConfig, regime: str) -> NDArray[np.float64]:
    """Start times of all symbols of the grid, s, `[slots * 14]`."""
    starts = np.arange(grid.slots) * SLOT_START_S[regime]
    times: NDArray[np.float64] = (starts[:, None] + np.arange(SYMBOLS_PER_SLOT) * SYMBOL_S).ravel()
    return times


def window_frequencies(grid: GridConfig, first_block: int) -> NDArray[np.float64]:
    """Baseband frequencies of a window of the 612-subcarrier carrier, Hz, `[subcarriers]`."""
    first = first_block * SUBCARRIERS_PER_BLOCK - CARRIER_BLOCKS * SUBCARRIERS_PER_BLOCK // 2
    return np.asarray((first + np.arange(grid.subcarriers)) * SUBCARRIER_SPACING_HZ, np.float64)


def random_velocity(rng: np.random.Generator, batch: int) -> NDArray[np.float64]:
    """Horizontal velocities `[batch, 3]` m/s: speed U(0.1, 5), heading U(0, 2 pi)."""
    speed, heading = rng.uniform(*SPEED_M_S, batch), rng.uniform(0, 2 * np.pi, batch)
    return np.stack((speed * np.cos(heading), speed * np.sin(heading), np.zeros(batch)), -1)


def draw(
    links: PathSet,
    users: NDArray[np.intp],
    grid: GridConfig,
    regime: str,
    snr_db: float | tuple[float, float],
    rng: np.random.Generator,
    *,
    first_block: int | None = None,
) -> Batch:
    """One batch of channels of the links `users`, random velocities, noise at `snr_db` (or U(low, high) per sample).

    The window of resource blocks is drawn too unless `first_block` fixes it. SNR is the clean sample's mean power
    over the noise power.
    """
    if first_block is None:
        first_block = int(rng.integers(0, CARRIER_BLOCKS - grid.blocks + 1))
    times = symbol_times(grid, regime)
    clean = channels(
        links, users, times, window_frequencies(grid, first_block), random_velocity(rng, len(users)), align_delays=True
    )
    snr = np.broadcast_to(rng.uniform(*snr_db, len(users)) if isinstance(snr_db, tuple) else snr_db, len(users))
    power = np.mean(np.abs(clean) ** 2, axis=(1, 2, 3))
    sigma = np.sqrt(power * 10 ** (-snr / 10) / 2).astype(np.float32)[:, None, None, None]
    shape = (len(users), (grid.slots - grid.predicted_slots) * SYMBOLS_PER_SLOT, *clean.shape[2:])
    noise = rng.standard_normal(shape, np.float32) + 1j * rng.standard_normal(shape, np.float32)
    return Batch(clean, clean[:, : shape[1]] + sigma * noise, times, snr.astype(np.float64))


def merge(sets: Sequence[PathSet]) -> PathSet:
    """One PathSet of all links of `sets`, which share a carrier; users are numbered through, stations mixed."""
    width = max(item.a.shape[1] for item in sets)

    def stack(name: str) -> NDArray[np.generic]:
        parts = [getattr(item, name) for item in sets]
        if name in PATH_FIELDS:
            parts = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts]
        return np.concatenate(parts)

    fields = {name: stack(name) for name in (*PATH_FIELDS, "n_paths", "los", "ue")}
    cities = "+".join(dict.fromkeys(item.city for item in sets))
    return replace(sets[0], **fields, city=cities, station=-1)  # type: ignore[arg-type]
