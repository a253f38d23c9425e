"""A shard: one city's paths (or one capture's channels) in a folder of plain arrays, whole or absent.

    munich/
      shard.json    schema, kind, settings key, licence, attribution, facts of each set, size and sha256 of each file,
                    and a digest of all that
      paths.npy     float32 [path, 7]: Re a, Im a, tau, theta_t, phi_t, theta_r, phi_r; links one after another
      first.npy     int64 [link + 1]: row of a link's first path
      los.npy       int8 [link]
      ue.npy        float32 [link, 3], m

The rows of a link lie together, so that reading one link of a memory map touches one page, not seven.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from ..files import atomic_folder, read_json, write_json
from .schema import PATH_FIELDS, PathSet

__all__ = ["Shard", "file_hash", "open_shard", "read_facts", "shard_of", "verify_shard", "write_shard"]

SCHEMA = "spikeport.shard/1"
_ARRAYS: dict[str, tuple[type[np.generic], int]] = {
    "paths": (np.float32, 2),
    "first": (np.int64, 1),
    "los": (np.int8, 1),
    "ue": (np.float32, 2),
}
_REMEDY = "run `spikeport data make` again, which keeps the whole shards"


@dataclass(frozen=True, eq=False)
class Shard:
    """The arrays of a shard, memory-mapped or not, and the facts of its sets, which lie one after another."""

    name: str
    paths: NDArray[np.float32]
    first: NDArray[np.int64]
    los: NDArray[np.int8]
    ue: NDArray[np.float32]
    sets: tuple[dict[str, Any], ...]
    """Per set: city, station, carrier_hz, bs, links and the facts of `PathSet.to_dict`."""

    @property
    def links(self) -> int:
        """Number of links."""
        return len(self.los)


def shard_of(name: str, sets: Sequence[PathSet]) -> Shard:
    """`sets` as the flat arrays of a shard; InputError if there is none or one does not validate."""
    if not sets:
        raise InputError(f"no path set to write to shard {name}: give at least one")
    rows, counts = [], []
    for item in sets:
        valid = np.arange(item.validate().a.shape[1]) < item.n_paths[:, None]
        gain = item.a[valid]
        rows.append(np.column_stack([gain.real, gain.imag, *(getattr(item, k)[valid] for k in PATH_FIELDS[1:])]))
        counts.append(item.n_paths)
    facts = tuple(item.to_dict() | {"bs": [float(v) for v in item.bs]} for item in sets)
    return Shard(
        name,
        np.concatenate(rows).astype(np.float32),
        np.cumsum(np.concatenate([[0], *counts]), dtype=np.int64),
        np.concatenate([item.los for item in sets]).astype(np.int8),
        np.concatenate([item.ue for item in sets]).astype(np.float32),
        facts,
    )


def write_shard(
    folder: Path, content: Shard | Callable[[Path], Sequence[dict[str, Any]]], about: Mapping[str, Any]
) -> None:
    """Write the shard `folder`, atomically: path arrays, or whatever `content` writes (it gives the sets' facts)."""
    with atomic_folder(folder) as temporary:
        if isinstance(content, Shard):
            for name in _ARRAYS:
                _save(temporary / f"{name}.npy", getattr(content, name))
            kind, sets = "paths", list(content.sets)
        else:
            kind, sets = "channels", list(content(temporary))
        files = {
            path.relative_to(temporary).as_posix(): {"bytes": path.stat().st_size, "sha256": file_hash(path)}
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }
        facts = {"schema": SCHEMA, "name": folder.name, "kind": kind, **about, "sets": sets, "files": files}
        write_json(temporary / "shard.json", facts | {"digest": _digest(facts)})


def read_facts(folder: Path) -> dict[str, Any]:
    """`shard.json`, every file it names there with its size; InputError otherwise."""
    facts = read_json(folder / "shard.json")
    schema = facts.get("schema") if isinstance(facts, dict) else None
    if schema != SCHEMA:
        raise InputError(f"{folder} has schema {schema!r}, this version reads {SCHEMA!r}: {_REMEDY}")
    try:
        if facts.pop("digest", None) != _digest(facts):
            raise InputError(f"{folder / 'shard.json'} is not what was written: {_REMEDY}")
        for name, entry in facts["files"].items():
            path = folder / name
            size = path.stat().st_size if path.is_file() else -1
            if size != entry["bytes"]:
                has = f"has {size:,} bytes" if size >= 0 else "is missing"
                raise InputError(f"{path} {has}, and its shard was written with {entry['bytes']:,}: {_REMEDY}")
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / 'shard.json'} lacks what a shard says ({error!r}): {_REMEDY}") from None
    return dict(facts)


def verify_shard(folder: Path) -> dict[str, Any]:
    """`read_facts`, and the sha256 of every file; InputError names the file that differs."""
    facts = read_facts(folder)
    for name, entry in facts["files"].items():
        if file_hash(folder / name) != entry["sha256"]:
            raise InputError(f"{folder / name} is not what was written (its sha256 differs): {_REMEDY}")
    return facts


def open_shard(folder: Path) -> Shard:
    """Memory-map a shard of paths; InputError if a file is missing, cut, or does not fit the others."""
    facts = read_facts(folder)
    if facts.get("kind") != "paths":
        raise InputError(f"{folder} holds {facts.get('kind')}, not paths: see `spikeport data info {folder.parent}`")
    arrays = {name: _open(folder / f"{name}.npy", *rule) for name, rule in _ARRAYS.items()}
    try:
        shard = Shard(folder.name, **arrays, sets=tuple(facts["sets"]))
        wanted = sum(int(item["links"]) for item in shard.sets)
        fits = len(shard.first) == wanted + 1 and len(shard.los) == wanted and shard.ue.shape == (wanted, 3)
        fits &= shard.paths.shape[1] == 1 + len(PATH_FIELDS) and int(shard.first[-1]) == len(shard.paths)
        for item in shard.sets:
            float(item["carrier_hz"]), str(item["city"]), int(item["station"]), np.asarray(item["bs"], float)[2]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{folder / 'shard.json'} lacks what a shard says ({error!r}): {_REMEDY}") from None
    if not fits:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise InputError(f"{folder} has arrays of shape {shapes}, and {wanted} links in shard.json: {_REMEDY}")
    return shard


def file_hash(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _save(path: Path, array: NDArray[Any]) -> None:
    """An npy file; unlike numpy.save it says why a write failed (numpy loses the errno of a full disk)."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.tobytes())


def _open(path: Path, dtype: type[np.generic], dimensions: int) -> Any:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is no npy array ({' '.join(str(error).split())}): {_REMEDY}") from None
    if array.dtype != dtype or array.ndim != dimensions:
        wanted = f"{dimensions} dimensions of {np.dtype(dtype)}"
        raise InputError(f"{path} holds {array.dtype} of shape {array.shape}, wanted {wanted}: {_REMEDY}")
    return array
