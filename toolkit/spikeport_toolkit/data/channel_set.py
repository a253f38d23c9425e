"""Channels that have no path parameters: drawn from a standard's statistics, or measured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from ..files import atomic_folder, read_json, write_json

__all__ = ["KINDS", "ChannelSet", "load_channels", "save_channels"]

KINDS = ("simulated", "measured")
_SCHEMA = "spikeport.channels/1"
_LISTED = ("name", "kind", "carrier_hz", "subcarrier_spacing_hz", "rx", "tx")
_CHUNK = 1 << 22
"""Values of h looked at at once, so that a memory-mapped set is checked without being loaded."""


@dataclass(frozen=True, eq=False)
class ChannelSet:
    """Channels of U links on one grid of times and frequencies."""

    h: NDArray[np.complex64]
    """[link, time, antenna, frequency], antenna index rx * Nt + tx; may be a read-only memory map."""
    times_s: NDArray[np.float64]
    """[time] when each symbol or frame was, s, growing."""
    carrier_hz: float
    subcarrier_spacing_hz: float
    """Distance of neighbouring frequencies, Hz; their middle is the carrier."""
    rx: int
    tx: int
    name: str
    kind: str
    """`simulated` or `measured`."""
    los: NDArray[np.int8]
    """[link] 1 with a line of sight, 0 without, -1 where nobody knows."""

    @property
    def links(self) -> int:
        """U, the number of links."""
        return int(self.h.shape[0])

    @property
    def frequencies_hz(self) -> NDArray[np.float64]:
        """[frequency] baseband frequencies, Hz, centred on the carrier."""
        count = self.h.shape[3]
        return np.asarray((np.arange(count) - count // 2) * self.subcarrier_spacing_hz, np.float64)

    def validate(self) -> ChannelSet:
        """Return self; InputError names the first part that is empty, misshapen, not finite or out of range."""
        shape = np.shape(self.h)
        if len(shape) != 4 or 0 in shape:
            raise self._bad(f"h has shape {shape}, wanted [link, time, antenna, frequency], none empty")
        if self.h.dtype != np.complex64:
            raise self._bad(f"h holds {self.h.dtype}, wanted complex64")
        if self.kind not in KINDS:
            raise self._bad(f"kind is {self.kind!r}, wanted {' or '.join(KINDS)}")
        for field in ("carrier_hz", "subcarrier_spacing_hz"):
            value = getattr(self, field)
            if not (isinstance(value, int | float) and np.isfinite(value) and value > 0):
                raise self._bad(f"{field} is {value!r}, wanted a positive frequency in Hz")
        if min(self.rx, self.tx) < 1 or self.rx * self.tx != shape[2]:
            raise self._bad(f"{self.rx} x {self.tx} antennas do not make the {shape[2]} of h")
        growing = np.isfinite(self.times_s).all() and (np.diff(self.times_s) > 0).all()
        if self.times_s.shape != shape[1:2] or not growing:
            raise self._bad(f"times_s must be {shape[1]} growing times in s, one a symbol")
        if self.los.shape != shape[:1] or not np.isin(self.los, (-1, 0, 1)).all():
            raise self._bad(f"los must be {shape[0]} flags of 1, 0 or -1")
        for first, part in self._chunks():
            finite = np.isfinite(part).all(axis=(1, 2, 3))
            if not finite.all():
                link = first + int(np.flatnonzero(~finite)[0])
                raise self._bad(f"link {link} of h holds NaN or infinity: drop it or make the set again")
        return self

    def select(self, links: NDArray[np.intp]) -> ChannelSet:
        """The same set with only the links `links` (indices into U), in that order."""
        return replace(self, h=self.h[links], los=self.los[links])

    def summary(self) -> str:
        """One line: name, kind, carrier, links and grid."""
        _, times, antennas, count = self.h.shape
        known = self.los[self.los >= 0]
        los = f", {known.mean():.0%} line of sight" if len(known) else ""
        return (
            f"{self.name} ({self.kind}) {self.carrier_hz / 1e9:g} GHz: {self.links} links of {times} times x "
            f"{antennas} antenna pairs x {count} subcarriers of {self.subcarrier_spacing_hz / 1e3:g} kHz{los}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Facts of the set (no arrays), for JSON."""
        return {key: getattr(self, key) for key in _LISTED} | {
            "links": self.links,
            "shape": list(self.h.shape),
            "duration_s": float(self.times_s[-1] - self.times_s[0]),
            "los_share": float((self.los == 1).mean()) if (self.los >= 0).any() else None,
        }

    def _bad(self, what: str) -> InputError:
        return InputError(f"channels {self.name}: {what}")

    def _chunks(self) -> Iterator[tuple[int, NDArray[np.complex64]]]:
        step = max(1, _CHUNK // max(1, int(np.prod(self.h.shape[1:]))))
        for first in range(0, self.links, step):
            yield first, self.h[first : first + step]


def save_channels(item: ChannelSet, path: Path) -> Path:
    """Write a set to the folder `path` (h.npy, channels.json with its SHA-256), whole or not at all; gives `path`.

    InputError for a set that does not validate and for a full disk or a folder that cannot be written.
    """
    path = Path(path)
    item.validate()
    facts = {"schema": _SCHEMA} | {key: getattr(item, key) for key in _LISTED}
    try:
        with atomic_folder(path) as folder:
            # Written in order, not through a memory map: a full disk is then an error, not a SIGBUS.
            with (folder / "h.npy").open("wb") as file:
                header = {"shape": item.h.shape, "fortran_order": False, "descr": "<c8"}
                np.lib.format.write_array_header_1_0(file, header)
                for _, part in item._chunks():
                    file.write(np.ascontiguousarray(part, "<c8").data)
            facts |= {"shape": list(item.h.shape), "sha256": _sha256(folder / "h.npy")}
            facts |= {"times_s": item.times_s.tolist(), "los": item.los.tolist()}
            write_json(folder / "channels.json", facts)
    except OSError as error:
        raise InputError(f"{path} was not written ({error}): make room or name another folder") from error
    return path


def load_channels(path: Path, *, verify: bool = True) -> ChannelSet:
    """The set of a folder that `save_channels` wrote, h memory-mapped and read-only.

    `verify` reads the file once for its checksum and its values. InputError for a folder that is no channel set, of
    another version, truncated, changed, misshapen or not finite.
    """
    path = Path(path)
    facts = read_json(path / "channels.json")
    if not isinstance(facts, dict) or facts.get("schema") != _SCHEMA:
        raise InputError(f"{path} is no channel set of this version ({_SCHEMA}): make it again")
    file = path / "h.npy"
    try:
        h = np.load(file, mmap_mode="r", allow_pickle=False)
        if list(h.shape) != facts["shape"]:
            raise ValueError(f"shape {list(h.shape)}, channels.json says {facts['shape']}")
        if verify and _sha256(file) != facts["sha256"]:
            raise ValueError("its SHA-256 is not the stored one")
        item = ChannelSet(
            h=h,
            times_s=np.array(facts["times_s"], np.float64),
            los=np.array(facts["los"], np.int8),
            **{key: facts[key] for key in _LISTED},
        )
        return item.validate() if verify else item
    except (OSError, ValueError, TypeError, KeyError, EOFError, OverflowError, AttributeError) as error:
        raise InputError(f"{file} is truncated, changed or no array ({error}): make the set again") from error


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
