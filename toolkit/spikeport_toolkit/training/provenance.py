"""What a run starts from and learns from, and what its checkpoint keeps of that, so that no evaluation is fooled."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from spikeport_errors import InputError

from ..data.path_store import INDEX, PathStore, open_store
from ..data.sampler import embedded_split
from ..data.shards import file_hash
from ..data.splits import embedded_links, link_keys
from ..data.store import TRAIN_CITIES
from ..models.checkpoint import DATA, LINKS, trained_cities, trained_links
from ..models.config import Config
from ..models.load import is_trained, load_model
from .batches import Links

KEYS_AT_ONCE = 10_000


def training_links(data: Path | None) -> tuple[Links, dict[str, Any]]:
    """Links to train on, and facts about them: none for the embedded cities, which every evaluation knows."""
    if data is None:
        return embedded_split("train"), {}
    store = open_store(data)
    chosen = store.select("train", carrier_hz=3.5e9 if 3.5e9 in store.carriers else min(store.carriers))
    facts: dict[str, Any] = {"cities": chosen.cities, "carrier_hz": chosen.carriers[0], "links": chosen.links}
    facts["index_sha256"] = file_hash(data / INDEX) if (data / INDEX).is_file() else None
    return chosen, facts


def checkpoint_files(links: Links, facts: dict[str, Any], start: str | None) -> dict[str, str]:
    """Files of a checkpoint, by name, that say what it was trained on, its start included; none for embedded cities."""
    earlier = None if start is None else trained_cities([start])
    if not facts and earlier is None:
        return {}
    cities, keys = list(facts.get("cities", TRAIN_CITIES)), _keys(links) if facts else set(embedded_links()[0])
    if start is not None:
        cities += TRAIN_CITIES if earlier is None else earlier
        keys |= embedded_links()[0] if earlier is None else trained_links([start])
    told = {**facts, "cities": list(dict.fromkeys(cities))} | ({} if start is None else {"start": start})
    return {DATA: json.dumps(told, indent=2) + "\n", LINKS: "\n".join(sorted(key.hex() for key in keys)) + "\n"}


def start_weights(start: str, wanted: Config) -> tuple[nn.Module, str]:
    """The trained model `start`, preset or checkpoint folder, and its digest; InputError where it is another model."""
    if not is_trained(start):
        raise InputError(f"{start} ships no trained weights to start from: give a checkpoint folder")
    model = load_model(start)
    have = getattr(model, "config", None)
    if not isinstance(have, type(wanted)):
        raise InputError(f"{start} is no model of the recipe's family: start from one of the same configuration")
    values, others = wanted.to_dict(), have.to_dict()
    different = [key for key in values | others if key != "name" and values.get(key) != others.get(key)]
    if different:
        key = different[0]
        raise InputError(
            f"{start} has {key} = {others.get(key)!r} and the recipe {values.get(key)!r}: start from a model of the "
            "recipe's configuration, or change model_settings"
        )
    digest = sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    return model, digest.hexdigest()


def _keys(links: Links) -> set[bytes]:
    assert isinstance(links, PathStore), "the embedded links have no facts"
    starts = range(0, links.links, KEYS_AT_ONCE)
    return {key for s in starts for key in link_keys(links.take(np.arange(s, min(s + KEYS_AT_ONCE, links.links))))}
