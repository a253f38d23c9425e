"""Batches follow from seed and step, whatever the workers; a store and a path set train alike."""

import dataclasses
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from path_sets import random_paths
from test_shards import store_at

from spikeport_errors import InputError
from spikeport_toolkit.data.loader import Loader, in_order
from spikeport_toolkit.data.path_store import open_store
from spikeport_toolkit.models.config import GridConfig
from spikeport_toolkit.training.loop import train
from spikeport_toolkit.training.recipe import Recipe, Stage

GRID = GridConfig(slots=4, antennas=4, blocks=2)


def loader(links, workers: int) -> Loader:
    return Loader(links, GRID, 3, ("R1", "R2"), (-10.0, 25.0), (7, 0), workers)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_no_bit(workers: int, tmp_path: Path) -> None:
    for links in (random_paths(30), open_store(store_at(tmp_path / "store")).select(carrier_hz=3.5e9)):
        alone, together = (list(loader(links, n).steps(2, 8)) for n in (0, workers))
        assert [step for step, _, _ in together] == [2, 3, 4, 5, 6, 7]
        for (_, one, rng_one), (_, other, rng_other) in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one.observed, other.observed)
            np.testing.assert_array_equal(one.clean, other.clean)
            assert rng_one.random() == rng_other.random(), "the mask that is drawn next is the same too"


def test_a_store_and_the_same_links_as_a_path_set_give_the_same_batches(tmp_path: Path) -> None:
    paths = random_paths(30, 5)
    store = open_store(store_at(tmp_path / "store", {"test": [paths]}))
    paths = replace(paths, speed_m_s=store.speed_m_s)
    for (_, one, _), (_, other, _) in zip(loader(paths, 0).steps(0, 3), loader(store, 1).steps(0, 3), strict=True):
        np.testing.assert_allclose(one.observed, other.observed, atol=1e-5)


def test_an_error_in_a_worker_is_raised_where_the_batch_is_asked_for() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise InputError("link 2 is bad")
        return step

    batches = in_order(make, range(5), 2)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(InputError, match="link 2 is bad"):
        next(batches)


def test_a_loader_that_is_left_early_leaves_no_thread() -> None:
    batches = in_order(lambda step: step, range(100), 2)
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("loader")]


def test_a_model_trains_on_a_store_and_its_checkpoint_says_on_which_cities(tmp_path: Path) -> None:
    store = store_at(tmp_path / "store")
    stages = (Stage("prediction", 2, 2, 1e-3),)
    recipe = Recipe("tiny", "", "spikewfm-nano", 0, stages)
    folder = train(recipe, tmp_path / "model", data=store)
    facts = (folder / "training_data.json").read_text()
    assert '"alpha"' in facts
    assert '"beta"' not in facts, "the unseen city"
    again = train(dataclasses.replace(recipe), tmp_path / "again", data=store)
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
