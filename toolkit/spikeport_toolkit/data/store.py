"""Path sets on disk: one compressed npz with flat path lists, and the embedded ten cities."""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError
from spikeport_toolkit.data.schema import PATH_FIELDS, PathSet

__all__ = [
    "EMBEDDED_CITIES",
    "HOLD_OUT",
    "SPLITS",
    "TRAIN_CITIES",
    "UNSEEN_CITIES",
    "load_embedded",
    "load_paths",
    "save_paths",
]

TRAIN_CITIES = ("munich", "florence", "etoile", "proc0", "proc1", "proc2", "proc3")
UNSEEN_CITIES = ("san_francisco", "proc4", "proc5")
EMBEDDED_CITIES = (*TRAIN_CITIES, *UNSEEN_CITIES)
SPLITS = ("train", "in-domain", "unseen")
HOLD_OUT = 5
"""Every fifth link of a training city is kept for in-domain tests."""

_VERSION = 1
_SET_FIELDS = ("city", "station", "carrier_hz", "bs", "links")
_LINK_FIELDS = ("n_paths", "los", "ue")


def save_paths(sets: Sequence[PathSet], path: Path) -> None:
    """Write `sets` to `path` (npz), atomically: the file is whole or absent.

    Layout, version 1: per set `city`, `station`, `carrier_hz`, `bs`, `links`; per link, sets one after another,
    `n_paths`, `los`, `ue`; per path, links one after another, `a`, `tau`, `theta_t`, `phi_t`, `theta_r`, `phi_r`.
    InputError if there is no set or a set does not validate.
    """
    if not sets:
        raise InputError(f"no path set to write to {path}: generate at least one city")
    masks = [np.arange(s.validate().a.shape[1]) < s.n_paths[:, None] for s in sets]
    arrays = {k: np.concatenate([getattr(s, k) for s in sets]) for k in _LINK_FIELDS}
    arrays |= {k: np.concatenate([getattr(s, k)[m] for s, m in zip(sets, masks, strict=True)]) for k in PATH_FIELDS}
    arrays |= {k: np.array([getattr(s, k) for s in sets]) for k in _SET_FIELDS}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, version=np.array(_VERSION), **arrays)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_paths(path: Path) -> list[PathSet]:
    """The path sets of an npz written by `save_paths`; InputError if it is missing, corrupt or of another version."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file: write it with `spikeport data make embedded --out DIR`")
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("it is no npz archive")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {k: archive[k] for k in archive.files}
        version = int(arrays["version"])
        sets = _split(arrays) if version == _VERSION else []
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        KeyError,
        ValueError,
        TypeError,
        IndexError,
        OverflowError,
    ) as error:
        raise InputError(
            f"{path} is truncated, corrupt or no path file ({error}): fetch or generate it again"
        ) from error
    if version != _VERSION:
        raise InputError(f"{path} has layout {version}, this version reads {_VERSION}: generate it again")
    return [s.validate() for s in sets]


def load_embedded() -> list[PathSet]:
    """The path sets of the ten embedded cities: two base stations each, at 3.5 and 28 GHz (see embedded/README.md)."""
    with as_file(files("spikeport_toolkit.data") / "embedded" / "paths_v1.npz") as path:
        return load_paths(path)


def _split(arrays: dict[str, NDArray[Any]]) -> list[PathSet]:
    counts = np.asarray(arrays["n_paths"], dtype=np.int64)
    ends = np.cumsum(np.asarray(arrays["links"], dtype=np.int64))
    if ends[-1] != counts.size or any(arrays[k].shape[0] != counts.sum() for k in PATH_FIELDS):
        raise ValueError("the counts of links and paths do not match the arrays")
    path_ends = np.cumsum(counts)
    sets = []
    for i, end in enumerate(ends):
        links = slice(end - int(arrays["links"][i]), end)
        n = counts[links]
        paths = slice(path_ends[end - 1] - n.sum(), path_ends[end - 1])
        mask = np.arange(n.max()) < n[:, None]
        padded = {}
        for k in PATH_FIELDS:
            padded[k] = np.zeros(mask.shape, arrays[k].dtype)
            padded[k][mask] = arrays[k][paths]
        sets.append(
            PathSet(
                **padded,  # type: ignore[arg-type]
                **{k: arrays[k][links] for k in _LINK_FIELDS},  # type: ignore[arg-type]
                bs=arrays["bs"][i],
                carrier_hz=float(arrays["carrier_hz"][i]),
                city=str(arrays["city"][i]),
                station=int(arrays["station"][i]),
            )
        )
    return sets
