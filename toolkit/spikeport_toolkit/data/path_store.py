"""A store: shards and an index in one folder; links are read as they are wanted, never all at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError, UsageError, unknown_name

from ..files import read_json
from .schema import PATH_FIELDS, SPEED_M_S, PathSet
from .shards import Shard, file_hash, open_shard, shard_of
from .store import HOLD_OUT, SPLITS, UNSEEN_CITIES, load_embedded, load_paths

__all__ = ["CHANNELS", "INDEX", "SCHEMA", "PathStore", "is_store", "open_store", "packed_sets", "read_index"]

INDEX, SCHEMA = "index.json", "spikeport.store/1"
CHANNELS = "channels"
"""Name of the channel set in a shard that holds channels instead of paths."""


@dataclass(frozen=True, eq=False)
class PathStore:
    """The links of a store, or those that `select` chose, numbered from 0; only what `take` asks for is read."""

    shards: tuple[Shard, ...]
    unseen_cities: frozenset[str] = frozenset(UNSEEN_CITIES)
    """Cities that training never sees."""
    speed_m_s: tuple[float, float] = SPEED_M_S
    """Range of user speeds that the recipe states, for the sampler."""
    rows: NDArray[np.int64] | None = None
    """Numbers of the chosen links among all links of the shards; None: all."""

    def __len__(self) -> int:
        return int(self._starts[-1]) if self.rows is None else len(self.rows)

    @property
    def links(self) -> int:
        """Number of links, as `PathSet.links`."""
        return len(self)

    @property
    def cities(self) -> tuple[str, ...]:
        """Cities of the chosen links, in the store's order."""
        return tuple(dict.fromkeys(str(self._sets[i]["city"]) for i in self._present()))

    @property
    def carriers(self) -> tuple[float, ...]:
        """Carriers of the chosen links, Hz, ascending."""
        return tuple(sorted({float(self._sets[i]["carrier_hz"]) for i in self._present()}))

    def select(
        self,
        split: str | None = None,
        *,
        cities: Collection[str] | None = None,
        carrier_hz: float | None = None,
        unseen: Collection[str] | None = None,
    ) -> PathStore:
        """Links with a path, of one split, of `cities`, at one carrier.

        `train` and `in-domain` share the cities that are not in `unseen` (default: the store's own) and no link:
        every fifth link of a set is in-domain; `unseen` holds the other cities. UsageError for an unknown name,
        InputError where no link is left.
        """
        hidden = self.unseen_cities if unseen is None else frozenset(unseen)
        if split is not None and split not in SPLITS:
            raise unknown_name("split", split, SPLITS, "choose one")
        for city in cities or ():
            if city not in self.cities:
                raise unknown_name("city", city, self.cities, "these are in the store")
        if carrier_hz is not None and carrier_hz not in self.carriers:
            have = ", ".join(f"{c / 1e9:g}" for c in self.carriers)
            raise UsageError(f"the store holds no links at {carrier_hz / 1e9:g} GHz; it holds {have} GHz: choose one")
        chosen = []
        for i in self._present():
            item = self._sets[i]
            city_fits = cities is None or item["city"] in cities
            split_fits = split is None or (item["city"] in hidden) == (split == "unseen")
            if city_fits and split_fits and carrier_hz in (None, item["carrier_hz"]):
                links = self._reached(i)
                held_out = np.arange(len(links)) % HOLD_OUT == HOLD_OUT - 1
                chosen.append({"train": links[~held_out], "in-domain": links[held_out]}.get(split or "", links))
        rows = np.concatenate([np.empty(0, np.int64), *chosen])
        if self.rows is not None:
            rows = rows[np.isin(rows, self.rows)]
        if not len(rows):
            raise InputError(f"no link is left of split {split!r}, cities {cities or 'all'}: choose others")
        return replace(self, rows=rows)

    def take(self, users: NDArray[np.integer[Any]]) -> PathSet:
        """The links `users` (indices into this selection) as one path set, in that order.

        `station` and `bs` are those of the first link's set where several are mixed, then `station` is -1. InputError
        for no user, an index out of range, links of several carriers, or values that do not validate.
        """
        wanted = np.asarray(users, np.int64)
        if not len(wanted):
            raise InputError("the set of users is empty: take at least one link")
        if wanted.min() < 0 or wanted.max() >= len(self):
            raise InputError(f"link {wanted.max()} of {len(self)}: indices run from 0 to {len(self) - 1}")
        numbers = wanted if self.rows is None else self.rows[wanted]
        which = np.searchsorted(self._starts, numbers, "right") - 1
        sets = [self._sets[i] for i in dict.fromkeys(which.tolist())]
        carriers = sorted({float(item["carrier_hz"]) for item in sets})
        if len(carriers) > 1:
            mixed = ", ".join(f"{c / 1e9:g}" for c in carriers)
            raise InputError(
                f"these links are at {mixed} GHz; a path set has one carrier: select(carrier_hz=...) first"
            )
        padded, counts, los, ue = self._gather(numbers, which)
        return PathSet(
            a=np.ascontiguousarray(padded[..., :2]).view(np.complex64)[..., 0],
            **{name: np.ascontiguousarray(padded[..., 2 + k]) for k, name in enumerate(PATH_FIELDS[1:])},
            n_paths=counts.astype(np.int16),
            los=los,
            ue=ue,
            bs=np.array(sets[0]["bs"], np.float32),
            carrier_hz=carriers[0],
            city="+".join(dict.fromkeys(str(item["city"]) for item in sets)),
            station=int(sets[0]["station"]) if len(sets) == 1 else -1,
            speed_m_s=self.speed_m_s,
        ).validate()

    def sets(self, most: int | None = None) -> Iterator[PathSet]:
        """The path sets of the chosen links, one a city, station and carrier; at most `most` links of each, evenly."""
        numbers = np.arange(len(self)) if self.rows is None else self.rows
        which = np.searchsorted(self._starts, numbers, "right") - 1
        for i in self._present():
            links = np.flatnonzero(which == i)
            yield self.take(links if most is None else links[:: -(-len(links) // most)])

    @cached_property
    def _sets(self) -> list[dict[str, Any]]:
        return [item for shard in self.shards for item in shard.sets]

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum([0, *(int(item["links"]) for item in self._sets)], dtype=np.int64)

    @cached_property
    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Per set: its shard, and the number of that shard's first link."""
        shards = np.repeat(np.arange(len(self.shards)), [len(shard.sets) for shard in self.shards])
        starts = np.cumsum([0, *(shard.links for shard in self.shards)], dtype=np.int64)
        return shards, starts[shards]

    def _gather(
        self, numbers: NDArray[np.int64], which: NDArray[np.intp]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int8], NDArray[np.float32]]:
        """Path rows [link, path, 7] padded with zeros, paths a link, line of sight, user positions."""
        shard_of_set, offsets = self._places
        shards, local = shard_of_set[which], numbers - offsets[which]
        groups = [(self.shards[s], np.flatnonzero(shards == s)) for s in np.unique(shards)]
        ends = np.empty((len(numbers), 2), np.int64)
        los, ue = np.empty(len(numbers), np.int8), np.empty((len(numbers), 3), np.float32)
        for shard, group in groups:
            rows = local[group]
            ends[group] = np.column_stack((shard.first[rows], shard.first[rows + 1]))
            los[group], ue[group] = shard.los[rows], shard.ue[rows]
            if ends[group].min() < 0 or ends[group].max() > len(shard.paths) or (np.diff(ends[group]) < 0).any():
                raise InputError(f"shard {shard.name} has links outside its paths: `spikeport data info --verify` it")
        counts = ends[:, 1] - ends[:, 0]
        padded = np.zeros((len(numbers), max(1, int(counts.max())), 1 + len(PATH_FIELDS)), np.float32)
        for shard, group in groups:
            place = ends[group, :1] + np.arange(padded.shape[1])
            link, path = np.nonzero(place < ends[group, 1:])
            padded[group[link], path] = shard.paths[place[link, path]]
        return padded, counts, los, ue

    def _present(self) -> list[int]:
        if self.rows is None:
            return [i for i, item in enumerate(self._sets) if item["links"]]
        return [int(i) for i in np.unique(np.searchsorted(self._starts, self.rows, "right") - 1)]

    def _reached(self, i: int) -> NDArray[np.int64]:
        """Numbers of the links of set `i` that have a path."""
        shards, offsets = self._places
        first = self.shards[shards[i]].first
        start, end = self._starts[i] - offsets[i], self._starts[i + 1] - offsets[i]
        reached: NDArray[np.int64] = self._starts[i] + np.flatnonzero(np.diff(first[start : end + 1]))
        return reached


def is_store(folder: Path) -> bool:
    """Whether `folder` is a store, finished or not, and no plain folder of npz files."""
    return (folder / INDEX).is_file() or any(folder.glob("*/shard.json"))


def read_index(folder: Path) -> dict[str, Any]:
    """The store's index; InputError if it is missing, of another version, or names a shard that is not there."""
    if not (folder / INDEX).is_file() and is_store(folder):
        done = len(list(folder.glob("*/shard.json")))
        raise InputError(f"{folder} is unfinished ({done} shards, no index): run `spikeport data make` again to finish")
    index = read_json(folder / INDEX)
    schema = index.get("schema") if isinstance(index, dict) else None
    if schema != SCHEMA or not isinstance(index.get("shards"), dict) or not index["shards"]:
        raise InputError(f"{folder / INDEX} has schema {schema!r}, this version reads {SCHEMA!r}: make the store again")
    for name, digest in index["shards"].items():
        facts = folder / name / "shard.json"
        if not facts.is_file() or file_hash(facts) != digest:
            raise InputError(f"{facts} is missing or not what the index says: run `spikeport data make` again")
    return dict(index)


def open_store(path: Path) -> PathStore:
    """A store folder memory-mapped; an npz of `save_paths`, or a folder of them, loaded. InputError if it is neither.

    Opening reads the index, the shards' JSON (hashed) and the sizes of the arrays, not the arrays.
    """
    path = Path(path)
    if not is_store(path):
        return PathStore(tuple(shard_of(name, sets) for name, sets in packed_sets(path).items()))
    index = read_index(path)
    shards = tuple(open_shard(path / name) for name in index["shards"])
    low, high = index.get("speed_m_s", PathStore.speed_m_s)
    return PathStore(shards, frozenset(index.get("unseen_cities", UNSEEN_CITIES)), (float(low), float(high)))


def packed_sets(path: Path) -> dict[str, list[PathSet]]:
    """The path sets of an npz, of a folder of them, or of `embedded`, by file."""
    if str(path) == "embedded":
        return {"embedded": load_embedded()}
    if not path.exists():
        raise InputError(f"{path} does not exist: check the path; `spikeport data make RECIPE --out DIR` makes a store")
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no store and no path sets (*.npz): `spikeport data make` writes a store")
    return {file.stem: load_paths(file) for file in files}
