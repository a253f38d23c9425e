"""The path schema: one `PathSet` holds every ray-traced link between one base station and its users at one carrier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

__all__ = ["PATH_FIELDS", "SPEED_M_S", "PathSet"]

SPEED_M_S = (0.1, 5.0)
"""Speeds of users where nothing else is said: the paper's."""
PATH_FIELDS = ("a", "tau", "theta_t", "phi_t", "theta_r", "phi_r")
_LINK_FIELDS = {"n_paths": (), "los": (), "ue": (3,)}


@dataclass(frozen=True, eq=False)
class PathSet:
    """Path parameters of U links (one base station, one city, one carrier), at most P paths each, strongest first.

    A link's channel at baseband frequency f, before arrays and motion, is
    H(f) = sum_p a_p exp(-j 2 pi carrier_hz tau_p) exp(-j 2 pi f tau_p): the gains `a` carry no carrier phase.
    Entries at and beyond `n_paths` are zero. Angles are in radians, theta from the zenith, in the scene's axes;
    (theta_r, phi_r) point from the user to where the path comes from, so a user that moves along them sees a
    positive Doppler shift. Doppler is not stored, because the velocity is drawn per sample.
    """

    a: NDArray[np.complex64]
    """[U, P] amplitude gain (isotropic antennas), dimensionless."""
    tau: NDArray[np.float32]
    """[U, P] absolute delay, s."""
    theta_t: NDArray[np.float32]
    """[U, P] zenith of departure at the base station, rad."""
    phi_t: NDArray[np.float32]
    """[U, P] azimuth of departure, rad."""
    theta_r: NDArray[np.float32]
    """[U, P] zenith of arrival at the user, rad."""
    phi_r: NDArray[np.float32]
    """[U, P] azimuth of arrival, rad."""
    n_paths: NDArray[np.int16]
    """[U] number of valid paths."""
    los: NDArray[np.int8]
    """[U] 1 with a line of sight, 0 without, -1 without any path."""
    ue: NDArray[np.float32]
    """[U, 3] user position, m."""
    bs: NDArray[np.float32]
    """[3] base station position, m."""
    carrier_hz: float
    city: str
    station: int
    speed_m_s: tuple[float, float] = SPEED_M_S
    """Range of the users' speeds, m/s: the sampler draws from it."""

    @property
    def links(self) -> int:
        """U, the number of links."""
        return int(self.n_paths.shape[0])

    @property
    def gain_db(self) -> NDArray[np.float64]:
        """[U] sum of path powers of each link, dB (-inf for a link without a path)."""
        with np.errstate(divide="ignore"):
            gain: NDArray[np.float64] = 10 * np.log10((np.abs(self.a).astype(np.float64) ** 2).sum(-1))
        return gain

    def validate(self) -> PathSet:
        """Return self; InputError names the first field that is empty, misshapen, not finite or out of range."""
        name = f"path set {self.city}/{self.station} at {self.carrier_hz / 1e9:g} GHz"
        shape = np.shape(self.a)
        if len(shape) != 2 or 0 in shape:
            raise InputError(f"{name}: a has shape {shape}, wanted [users, paths], neither empty: generate it again")
        wanted = dict.fromkeys(PATH_FIELDS, shape) | {k: (shape[0], *v) for k, v in _LINK_FIELDS.items()} | {"bs": (3,)}
        for field, want in wanted.items():
            value = np.asarray(getattr(self, field))
            if value.shape != want:
                raise InputError(f"{name}: {field} has shape {value.shape}, wanted {want}: generate it again")
            if value.dtype.kind not in ("c" if field == "a" else "iuf"):
                raise InputError(f"{name}: {field} holds {value.dtype}, wanted numbers: generate it again")
            if not np.isfinite(value).all():
                raise InputError(f"{name}: {field} holds NaN or infinity: drop those users or generate it again")
        if not (np.isfinite(self.carrier_hz) and self.carrier_hz > 0):
            raise InputError(f"{name}: carrier_hz is {self.carrier_hz}, wanted a positive frequency in Hz")
        if self.n_paths.min() < 0 or self.n_paths.max() > shape[1]:
            raise InputError(f"{name}: n_paths runs over {shape[1]} stored paths: generate it again")
        if not np.array_equal(self.los == -1, self.n_paths == 0) or not np.isin(self.los, (-1, 0, 1)).all():
            raise InputError(f"{name}: los must be 1, 0, or -1 where a link has no path: generate it again")
        if (self.tau < 0).any():
            raise InputError(f"{name}: tau holds a negative delay: delays are absolute, in seconds")
        return self

    def select(self, users: NDArray[np.intp]) -> PathSet:
        """The same set with only the links `users` (indices into U), in that order."""
        links = {k: getattr(self, k)[users] for k in (*PATH_FIELDS, *_LINK_FIELDS)}
        return replace(self, **links)

    def summary(self) -> str:
        """One line: where, at which carrier, how many links, line-of-sight share, paths a link, median gain."""
        facts = self.to_dict()
        return (
            f"{self.city}/{self.station} {self.carrier_hz / 1e9:g} GHz: {facts['links']} links, "
            f"{facts['los_share']:.0%} line of sight, {facts['mean_paths']:.1f} paths a link, "
            f"median gain {facts['median_gain_db']:.1f} dB"
        )

    def to_dict(self) -> dict[str, Any]:
        """Facts of the set (no arrays), for JSON."""
        seen = self.n_paths > 0
        return {
            "city": self.city,
            "station": self.station,
            "carrier_hz": self.carrier_hz,
            "links": self.links,
            "los_share": float((self.los == 1).mean()),
            "mean_paths": float(self.n_paths.mean()),
            "max_paths": int(self.n_paths.max()),
            "median_gain_db": float(np.median(self.gain_db[seen])) if seen.any() else None,
        }
