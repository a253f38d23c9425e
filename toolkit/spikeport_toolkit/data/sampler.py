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
from .channel_set import ChannelSet
from .impairments import Impairment, Interference, WifiNoise, awgn, impair, scrambled
from .patches import Channel, Patches, patches_from_channel, rms
from .path_store import open_store
from .schema import PATH_FIELDS, SPEED_M_S, PathSet
from .store import HOLD_OUT, SPLITS, TRAIN_CITIES, UNSEEN_CITIES, load_embedded
from .synthesis import channels

SUBCARRIER_SPACING_HZ = 30e3
SYMBOL_S = 1 / 28e3
CARRIER_BLOCKS = 51
"""Resource blocks of the 20 MHz carrier; a smaller grid is a window of it."""

Regime = Literal["R1", "R2"]
SLOT_START_S: dict[str, float] = {"R1": SYMBOLS_PER_SLOT * SYMBOL_S, "R2": 5e-3}
"""Time from slot start to slot start: R1 contiguous slots, R2 slots 5 ms apart."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """What made a batch of channels, for a genie: links `users` of `paths`, their motion, the frequencies in Hz.

    `rx` and `tx` are the antennas of the two linear arrays; the benchmark's have two each. `align_delays`: whether the
    first arrival's delay is taken off.
    """

    paths: PathSet
    users: NDArray[np.intp]
    velocity: NDArray[np.float64]
    frequencies_hz: NDArray[np.float64]
    rx: int = 2
    tx: int = 2
    align_delays: bool = True

    @property
    def first_delay_s(self) -> NDArray[np.float64]:
        """Delay of every link's first arrival, s, `[batch]`; 0 without a path."""
        tau, count = self.paths.tau[self.users].astype(np.float64), self.paths.n_paths[self.users]
        first = np.where(np.arange(tau.shape[1]) < count[:, None], tau, np.inf).min(axis=1)
        return np.where(count > 0, first, 0.0)

    def channels(self, times_s: NDArray[np.float64]) -> Channel:
        """Their channels at `times_s`, `[batch, time, antenna, frequency]`."""
        return channels(
            self.paths, self.users, times_s, self.frequencies_hz, self.velocity,
            rx=self.rx, tx=self.tx, align_delays=self.align_delays,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Batch:
    """Clean channel `[batch, time, antenna, frequency]`, its noisy observed slots, the times of all symbols in s.

    `snr_db` is the SINR where `interferers` are there: their channels `[batch, time, antenna, frequency]` before
    scrambling, one array a user, at the power they arrive with. `unimpaired` is the observation before the receiver's
    hardware. `white` says whether the noise is Gaussian and white, `geometry` is known for channels made from paths.
    """

    clean: Channel
    observed: Channel
    times_s: NDArray[np.float64]
    snr_db: NDArray[np.float64]
    carrier_hz: float = 3.5e9
    spacing_hz: float = SUBCARRIER_SPACING_HZ
    geometry: Geometry | None = None
    unimpaired: Channel | None = None
    interferers: tuple[Channel, ...] = ()
    noise_power: NDArray[np.float64] | None = None
    white: bool = True

    @property
    def times_observed(self) -> NDArray[np.float64]:
        """Times of the observed symbols, s."""
        return self.times_s[: self.observed.shape[1]]

    @property
    def times_predicted(self) -> NDArray[np.float64]:
        """Times of the symbols to predict, s."""
        return self.times_s[self.observed.shape[1] :]

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
    """The path sets of a store or of a folder's npz files, at most 5,000 links of each."""
    return list(open_store(folder).sets(most=5000))


def symbol_times(grid: GridConfig, regime: str) -> NDArray[np.float64]:
    """Start times of all symbols of the grid, s, `[slots * 14]`."""
    starts = np.arange(grid.slots) * SLOT_START_S[regime]
    times: NDArray[np.float64] = (starts[:, None] + np.arange(SYMBOLS_PER_SLOT) * SYMBOL_S).ravel()
    return times


def window_frequencies(grid: GridConfig, first_block: int) -> NDArray[np.float64]:
    """Baseband frequencies of a window of the 612-subcarrier carrier, Hz, `[subcarriers]`."""
    first = first_block * SUBCARRIERS_PER_BLOCK - CARRIER_BLOCKS * SUBCARRIERS_PER_BLOCK // 2
    return np.asarray((first + np.arange(grid.subcarriers)) * SUBCARRIER_SPACING_HZ, np.float64)


def random_velocity(
    rng: np.random.Generator, batch: int, speed_m_s: tuple[float, float] = SPEED_M_S
) -> NDArray[np.float64]:
    """Horizontal velocities `[batch, 3]` m/s: speed U(`speed_m_s`), heading U(0, 2 pi)."""
    speed, heading = rng.uniform(*speed_m_s, batch), rng.uniform(0, 2 * np.pi, batch)
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
    sinr: Interference | None = None,
    impairments: Sequence[Impairment] = (),
    noise: WifiNoise | None = None,
) -> Batch:
    """One batch of channels of the links `users`, random velocities, noise at `snr_db` (or U(low, high) per sample).

    The window of resource blocks is drawn too unless `first_block` fixes it. SNR is the clean sample's mean power
    over the noise power; with `sinr`, `snr_db` is the SINR, and other links of `links` interfere. `noise` replaces
    Gaussian noise by measured one; `impairments` are the receiver's, see data/impairments.py.
    """
    batch = move(links, users, grid, regime, rng, first_block=first_block, sinr=sinr)
    return observe(batch, snr_db, grid, rng, sinr=sinr, impairments=impairments, noise=noise)


def move(
    links: PathSet,
    users: NDArray[np.intp],
    grid: GridConfig,
    regime: str,
    rng: np.random.Generator,
    *,
    first_block: int | None = None,
    sinr: Interference | None = None,
) -> Batch:
    """The first half of draw: channels with motion, and those of interferers, nothing observed yet."""
    if first_block is None:
        first_block = int(rng.integers(0, CARRIER_BLOCKS - grid.blocks + 1))
    times = symbol_times(grid, regime)
    frequencies = window_frequencies(grid, first_block)

    def moving(who: NDArray[np.intp]) -> Geometry:
        return Geometry(links, who, random_velocity(rng, len(users), links.speed_m_s), frequencies)

    geometry = moving(users)
    others = tuple(moving(_others(users, links, rng)).channels(times) for _ in range(sinr.users if sinr else 0))
    clean = geometry.channels(times)
    nothing = clean[:, :0]
    return Batch(clean, nothing, times, np.zeros(len(users)), links.carrier_hz, geometry=geometry, interferers=others)


def observe(
    batch: Batch,
    snr_db: float | tuple[float, float],
    grid: GridConfig,
    rng: np.random.Generator,
    *,
    sinr: Interference | None = None,
    impairments: Sequence[Impairment] = (),
    noise: WifiNoise | None = None,
) -> Batch:
    """The second half of draw: the slots of `batch` that are not to be predicted, with noise and impairments."""
    samples = len(batch.clean)
    snr = np.broadcast_to(rng.uniform(*snr_db, samples) if isinstance(snr_db, tuple) else snr_db, samples)
    snr = snr.astype(np.float64)
    symbols = (grid.slots - grid.predicted_slots) * SYMBOLS_PER_SLOT
    power = np.mean(np.abs(batch.clean) ** 2, axis=(1, 2, 3))
    disturbance = power * 10 ** (-snr / 10)
    thermal = disturbance / (1 + 10 ** (sinr.inr_db / 10)) if sinr else disturbance
    observed = batch.clean[:, :symbols]
    arriving = []
    for other in batch.interferers if sinr else ():
        wanted = (disturbance - thermal) / len(batch.interferers)
        gain = np.sqrt(wanted / np.mean(np.abs(other) ** 2, axis=(1, 2, 3))).astype(np.float32)
        arriving.append(other[:, :symbols] * gain[:, None, None, None])
        observed = observed + scrambled(arriving[-1], _transmitters(grid.antennas), rng)
    if noise is None:
        received = awgn(observed, thermal, 0.0, rng)
    else:
        amplitude = np.sqrt(thermal).astype(np.float32)[:, None, None, None]
        received = observed + amplitude * noise.draw(observed.shape, rng)
    spoiled = impair(received, batch.times_s[:symbols], impairments, rng, spacing_hz=batch.spacing_hz)
    return replace(
        batch, observed=spoiled, snr_db=snr, unimpaired=received, interferers=tuple(arriving),
        noise_power=thermal, white=noise is None,
    )  # fmt: skip


def draw_channels(
    channels: ChannelSet,
    links: NDArray[np.intp],
    grid: GridConfig,
    snr_db: float | tuple[float, float],
    rng: np.random.Generator,
    *,
    impairments: Sequence[Impairment] = (),
    noise: WifiNoise | None = None,
) -> Batch:
    """A batch of stored channels, simulated or measured: no paths, so no genie and no interferers.

    The first `grid.slots` * 14 snapshots stand for the symbols, at the times they were taken; the first antennas and
    subcarriers of the set fill the grid. InputError where the set is smaller than the grid.
    """
    return observe(stored(channels, links, grid), snr_db, grid, rng, impairments=impairments, noise=noise)


def stored(channels: ChannelSet, links: NDArray[np.intp], grid: GridConfig) -> Batch:
    """The first half of draw_channels: the clean channels `links` of a set, cut to the grid."""
    wanted = (grid.slots * SYMBOLS_PER_SLOT, grid.antennas, grid.subcarriers)
    if any(have < want for have, want in zip(channels.h.shape[1:], wanted, strict=True)):
        raise InputError(
            f"channel set {channels.name} has [time, antenna, frequency] = {[*channels.h.shape[1:]]}; "
            f"the model's grid needs {[*wanted]}: take a smaller model or longer captures"
        )
    clean = np.array(channels.h[links, : wanted[0], : wanted[1], : wanted[2]], np.complex64)
    return Batch(
        clean, clean[:, :0], np.asarray(channels.times_s[: wanted[0]], np.float64), np.zeros(len(clean)),
        channels.carrier_hz, channels.subcarrier_spacing_hz,
    )  # fmt: skip


def _others(users: NDArray[np.intp], links: PathSet, rng: np.random.Generator) -> NDArray[np.intp]:
    """A random other link for each of `users`."""
    if links.links < 2:
        raise InputError("interference needs another link, and this split holds one: use more data, or --snr")
    other: NDArray[np.intp] = (users + rng.integers(1, links.links, len(users))) % links.links
    return other


def _transmitters(antennas: int) -> int:
    """Nt of Nr x Nt links: 2 for the 2 x 2 of the benchmark, 1 for an odd number."""
    return 2 if antennas % 2 == 0 else 1


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
