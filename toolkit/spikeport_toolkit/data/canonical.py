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

__all__ = ["CONVENTIONS", "ROTATION_DEG", "Sampling", "canonical_batch", "canonical_channels", "turned"]

MOST_VALUES = 1 << 20
CONVENTIONS = ("aligned", "deepmimo")
ROTATION_DEG = -135.0
"""How LWM's base stations are turned about the vertical."""


@dataclass(frozen=True)
class Sampling(Config):
    """Counts and steps of `H[time, antenna, frequency]`: instants `time_step_s` apart, subcarriers
    `frequency_step_hz` apart.

    `convention` is aligned (subcarriers around the carrier, the first arrival's delay taken off, a centred array along
    y) or deepmimo, as LWM's data were made: subcarriers from the carrier upwards, true delays, an array turned by
    ROTATION_DEG whose first element is the traced point.
    """

    time: int
    antenna: int
    frequency: int
    time_step_s: float
    frequency_step_hz: float
    convention: str = "aligned"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.convention not in CONVENTIONS:
            raise InputError(f"Sampling: convention is {self.convention!r}, wanted one of {', '.join(CONVENTIONS)}")
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
        """Baseband frequencies, Hz, `[frequency]`: the carrier is subcarrier `frequency` // 2, or 0 for deepmimo."""
        first = 0 if self.convention == "deepmimo" else self.frequency // 2
        return np.asarray((np.arange(self.frequency) - first) * self.frequency_step_hz, np.float64)


def turned(paths: PathSet, rotation_deg: float = ROTATION_DEG, antennas: int = 32) -> PathSet:
    """`paths` as an array turned by `rotation_deg` about the vertical departs them, its first element the traced point.

    Departure azimuths become phi - rotation. data/synthesis centres an array of N elements on the traced point; gains
    times exp(j pi (N - 1) / 2 sin theta sin phi) put the first element there, as DeepMIMO has it.
    """
    phi = paths.phi_t.astype(np.float64) - np.deg2rad(rotation_deg)
    along = np.sin(paths.theta_t.astype(np.float64)) * np.sin(phi)
    shift = np.exp(1j * np.pi * (antennas - 1) / 2 * along)
    return replace(paths, phi_t=phi.astype(np.float32), a=(paths.a * shift).astype(np.complex64))


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
    Delays and the array go by `sampling.convention`. The carrier is the set's unless `carrier_hz` says another.
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
    if sampling.convention == "deepmimo":
        moving, users = turned(moving.select(users), antennas=sampling.antenna), np.arange(len(users))
    aligned = sampling.convention == "aligned"
    return Geometry(moving, users, velocity, sampling.frequencies_hz, rx=1, tx=sampling.antenna, align_delays=aligned)
