"""What to evaluate on: in-domain and unseen links of any data, with nothing among them that a model was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from .channel_set import ChannelSet, load_channels
from .sampler import folder_sets, merge
from .schema import PathSet
from .store import HOLD_OUT, TRAIN_CITIES, load_embedded

__all__ = ["city_splits", "embedded_links", "evaluation_splits", "folder_splits", "link_keys"]

TRAINED_AT_HZ = 3.5e9
"""Carrier of the shipped checkpoints' training links."""


def evaluation_splits(
    folder: str | Path | None, trained: Collection[str] | None, links: Collection[bytes] = ()
) -> Mapping[str, PathSet | ChannelSet] | None:
    """What to evaluate on: a folder's links, or the embedded ones of a model trained on cities of its own, or None."""
    if folder is not None:
        return folder_splits(Path(folder), trained, links)
    return None if trained is None else city_splits(load_embedded(), "the embedded cities", trained, links)


def folder_splits(
    folder: Path, trained: Collection[str] | None = None, links: Collection[bytes] = ()
) -> Mapping[str, PathSet | ChannelSet]:
    """What a data folder holds, by split: paths as city_splits has them, or else each set of stored channels.

    A path set is taken at 3.5 GHz if that is there. Stored channels (`save_channels`, or a store made of them) were
    in no training set of ours; each is a split of its own name.
    """
    stored_sets = sorted(folder.glob("**/channels.json"))
    if stored_sets:
        found = [load_channels(file.parent) for file in stored_sets]
        return {f"{item.name} {n}" if n else item.name: item for item, n in _numbered(found)}
    return city_splits(folder_sets(folder), str(folder), trained, links)


def city_splits(
    sets: Sequence[PathSet],
    name: str = "the data",
    trained: Collection[str] | None = None,
    trained_links: Collection[bytes] = (),
) -> dict[str, PathSet]:
    """In-domain and unseen links of any cities, none of which the model was trained on.

    `trained` names the model's training cities (default: those of the shipped checkpoints), `trained_links` are the
    `link_keys` of its training links where it kept them. A city is a training city
    if it has the name of one or shares a link with one, whatever it is called; of those only held-out links are given
    (in-domain). All other cities are unseen. A link that occurs twice, under whatever names, is taken once.
    InputError where nothing is left.
    """
    carriers = {item.carrier_hz for item in sets}
    carrier = 3.5e9 if 3.5e9 in carriers else min(carriers)
    names = TRAIN_CITIES if trained is None else trained
    seen, taken = (set(keys) for keys in (embedded_links() if trained is None else (trained_links,) * 2))
    for item in sets:
        if item.city in names and item.carrier_hz == carrier:
            keys, links, held_out = link_keys(item), *_reached(item)
            taken.update(keys)
            seen.update(keys[link] for link in links[~held_out])
    known = {item.city for item in sets if item.city in names or not taken.isdisjoint(link_keys(item))}
    splits: dict[str, list[PathSet]] = {"in-domain": [], "unseen": []}
    chosen = [item for item in sets if item.carrier_hz == carrier]
    for item in sorted(chosen, key=lambda item: item.city not in known):
        keys, links, held_out = link_keys(item), *_reached(item)
        fresh = []
        for link in links[held_out] if item.city in names else links:
            if keys[link] not in seen:
                seen.add(keys[link])
                fresh.append(link)
        if fresh:
            splits["in-domain" if item.city in known else "unseen"].append(item.select(np.array(fresh, np.intp)))
    if not any(splits.values()):
        raise InputError(f"{name} holds only links that the model was trained on: evaluate on other ones")
    return {split: merge(parts) for split, parts in splits.items() if parts}


def link_keys(paths: PathSet) -> list[bytes]:
    """What tells one link from another, whatever its city is called: 8 bytes of station, user and first delay."""
    valid = np.arange(paths.tau.shape[1]) < paths.n_paths[:, None]
    first = np.where(valid, paths.tau, np.float32(np.inf)).min(axis=1)
    rows = np.column_stack((np.broadcast_to(paths.bs, (paths.links, 3)), paths.ue, first)).astype(np.float32)
    return [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]


@cache
def embedded_links() -> tuple[frozenset[bytes], frozenset[bytes]]:
    """Keys of the links that the shipped models were trained on, and of all links of the training cities."""
    trained: set[bytes] = set()
    everything: set[bytes] = set()
    for item in load_embedded():
        if item.city in TRAIN_CITIES:
            keys, links, held_out = link_keys(item), *_reached(item)
            if item.carrier_hz == TRAINED_AT_HZ:
                trained |= {keys[link] for link in links[~held_out]}
            everything |= set(keys)
    return frozenset(trained), frozenset(everything)


def _reached(item: PathSet) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Links with a path, and which of them are held out of training."""
    links = np.flatnonzero(item.n_paths > 0)
    return links, np.arange(len(links)) % HOLD_OUT == HOLD_OUT - 1


def _numbered(sets: Sequence[ChannelSet]) -> Iterator[tuple[ChannelSet, int]]:
    """Each set with 0, or with a number where its name was there before."""
    count: dict[str, int] = {}
    for item in sets:
        count[item.name] = count.get(item.name, 0) + 1
        yield item, count[item.name] if count[item.name] > 1 else 0
