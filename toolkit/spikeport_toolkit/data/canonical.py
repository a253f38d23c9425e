"""The canonical sample of any sampling: which instants, antennas and subcarriers of a link's channel a system sees."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from ..models.config import Config
from .impairments import awgn
from .patches import Channel
from .path_store import PathStore
from .sampler import Batch, Geometry, random_velocity
from .schema import PathSet

__all__ = ["Sampling", "canonical_batch", "canonical_channels"]

MOST_VALUES = 1 << 20


@dataclass(frozen=True)
class Sampling(Config):
    """Counts and steps of `H[time, antenna, frequency]`: instants `time_step_s` apart, subcarriers
    `frequency_step_hz` apart around the carrier."""

    time: int
    antenna: int
    frequency: int
    time_step_s: float
    frequency_step_hz: float

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low, high in (("time_step_s", 0.0, 1e3), ("frequency_step_hz", 0.0, 1e9)):
            value = getattr(self, name)
            if not low < value <= high:
                raise InputError(f"Sampling: {name} is {value!r}, outside {low:g} (not taken) to {high:g}")
        for name, count in zip(("time", "antenna", "frequency"), self.shape, strict=True):
            if not 1 <= count <= MOST_VALUES:
                raise InputError(f"Sampling: {name} is {count!r}, outside 1 to {MOST_VALUES:,}")
        if self.time * self.antenna * self.frequency > MOST_VALUES:
            raise InputError(f"Sampling: {[*self.shape]} are more than {MOST_VALUES:,} values a sample: take fewer")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(time, antenna, frequency)."""
        return self.time, self.antenna, self.frequency

    @property
    def times_s(self) -> NDArray[np.float64]:
        """Instants from 0, s, `[time]`."""
        return np.asarray(np.arange(self.time) * self.time_step_s, np.float64)

    @property
    def frequencies_hz(self) -> NDArray[np.float64]:
        """Baseband frequencies, Hz, `[frequency]`: the carrier is subcarrier `frequency` // 2."""
        return np.asarray((np.arange(self.frequency) - self.frequency // 2) * self.frequency_step_hz, np.float64)


def canonical_channels(
    paths: PathSet,
    users: NDArray[np.intp],
    sampling: Sampling,
    rng: np.random.Generator,
    *,
    carrier_hz: float | None = None,
) -> Channel:
    """Clean channels `[batch, time, antenna, frequency]` of the links `users` of `paths`, by data/synthesis.channels.

    A half-wavelength uniform linear array of `sampling.antenna` elements at the base station, one antenna at the
    user, who moves as in data/sampler.draw: horizontally, at a speed of the set's range, in a random direction.
    The first arrival's delay is taken off. The carrier is the set's unless `carrier_hz` says another.
    """
    return _geometry(paths, users, sampling, rng, carrier_hz).channels(sampling.times_s)


def canonical_batch(
    paths: PathSet | PathStore,
    users: NDArray[np.intp],
    sampling: Sampling,
    snr_db: float | tuple[float, float],
    rng: np.random.Generator,
    *,
    carrier_hz: float | None = None,
) -> Batch:
    """canonical_channels with white noise at `snr_db` (or U(low, high) per sample) on every instant.

    `observed` covers all of `clean`. SNR is a sample's mean power over the noise power. Of a store only the links
    `users` are read.
    """
    if isinstance(paths, PathStore):
        paths, users = paths.take(users), np.arange(len(users))
    geometry = _geometry(paths, users, sampling, rng, carrier_hz)
    clean = geometry.channels(sampling.times_s)
    drawn = rng.uniform(*snr_db, len(users)) if isinstance(snr_db, tuple) else snr_db
    snr = np.broadcast_to(drawn, len(users)).astype(np.float64)
    power = np.mean(np.abs(clean) ** 2, axis=(1, 2, 3), dtype=np.float64)
    return Batch(
        clean, awgn(clean, power, snr, rng), sampling.times_s, snr, carrier_hz or paths.carrier_hz,
        float(sampling.frequency_step_hz), geometry=geometry, noise_power=power * 10 ** (-snr / 10),
    )  # fmt: skip


def _geometry(
    paths: PathSet, users: NDArray[np.intp], sampling: Sampling, rng: np.random.Generator, carrier_hz: float | None
) -> Geometry:
    moving = replace(paths, carrier_hz=carrier_hz) if carrier_hz is not None else paths
    velocity = random_velocity(rng, len(users), paths.speed_m_s)
    return Geometry(moving, users, velocity, sampling.frequencies_hz, rx=1, tx=sampling.antenna)
