"""Patches invert, splits do not leak, samples are what the benchmark says they are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from path_sets import random_paths

from spikeport_errors import InputError
from spikeport_toolkit.data.channel_set import ChannelSet, save_channels
from spikeport_toolkit.data.patches import channel_from_patches, patches_from_channel, rms
from spikeport_toolkit.data.sampler import (
    SYMBOL_S,
    draw,
    draw_channels,
    embedded_split,
    move,
    observe,
    symbol_times,
)
from spikeport_toolkit.data.splits import city_splits, evaluation_splits, link_keys
from spikeport_toolkit.data.store import TRAIN_CITIES, UNSEEN_CITIES, load_embedded, save_paths
from spikeport_toolkit.models.config import GridConfig

NANO = GridConfig(slots=4, antennas=4, blocks=4)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_patching_inverts(batch: int, slots: int, antennas: int, blocks: int) -> None:
    rng = np.random.default_rng(0)
    shape = (batch, 14 * slots, antennas, 12 * blocks)
    channel = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)
    patches = patches_from_channel(channel)
    assert patches.shape == (batch, slots * antennas * blocks, 336)
    assert np.array_equal(channel_from_patches(patches, antennas, blocks), channel)


def test_a_token_is_one_slot_one_link_one_block() -> None:
    channel = np.zeros((1, 56, 4, 48), np.complex64)
    channel[0, 14 * 2 + 3, 1, 12 * 3 + 5] = 2 - 7j
    patches = patches_from_channel(channel)
    token, value = (2 * 4 + 1) * 4 + 3, 3 * 12 + 5
    assert patches[0, token, value] == 2
    assert patches[0, token, 168 + value] == -7
    assert np.count_nonzero(patches) == 2


def test_symbols_that_do_not_fill_a_slot_are_refused() -> None:
    with pytest.raises(InputError, match="multiples of 14 and 12"):
        patches_from_channel(np.zeros((1, 15, 4, 48), np.complex64))
    with pytest.raises(InputError, match="sample 1 of the observed channel"):
        rms(np.stack([np.ones((1, 1, 1)), np.full((1, 1, 1), np.nan)]).astype(np.complex64))


def test_splits_share_no_link_and_no_unseen_city() -> None:
    train, held_out, unseen = (embedded_split(name) for name in ("train", "in-domain", "unseen"))
    assert set(train.city.split("+")) == set(held_out.city.split("+")) == set(TRAIN_CITIES)
    assert set(unseen.city.split("+")) == set(UNSEEN_CITIES)
    keys = [
        {(*u, *t[:2]) for u, t in zip(s.ue.tolist(), s.tau.tolist(), strict=True)} for s in (train, held_out, unseen)
    ]
    assert not keys[0] & keys[1]
    assert not (keys[0] | keys[1]) & keys[2]
    assert min(held_out.links, unseen.links) >= 500


def test_slot_spacing_is_the_regime() -> None:
    assert np.allclose(np.diff(symbol_times(NANO, "R1")), SYMBOL_S)
    assert np.allclose(symbol_times(NANO, "R2")[::14], [0, 5e-3, 10e-3, 15e-3])


def test_snr_scale_and_target_are_as_stated() -> None:
    links = embedded_split("train")
    batch = draw(links, np.arange(64), NANO, "R1", 10.0, np.random.default_rng(3))
    noise = batch.observed - batch.clean[:, :42]
    snr = np.mean(np.abs(batch.clean) ** 2, axis=(1, 2, 3)) / np.mean(np.abs(noise) ** 2, axis=(1, 2, 3))
    assert np.allclose(10 * np.log10(snr), 10.0, atol=0.3)
    patches = batch.patches()
    assert patches.dtype == np.float32
    assert np.allclose(np.mean(patches[:, :48] ** 2, axis=(1, 2)), 0.5, rtol=1e-3), "unit power over re and im"
    assert not patches[:, 48:].any()
    assert np.allclose(channel_from_patches(batch.target_patches(), 4, 4) * batch.scale, batch.target, atol=1e-9)


def test_users_move_at_the_speeds_of_their_path_set() -> None:
    paths = replace(random_paths(users=40), speed_m_s=(20.0, 30.0))
    batch = draw(
        paths.select(np.arange(30)),
        np.arange(20),
        GridConfig(slots=4, antennas=4, blocks=4),
        "R2",
        10.0,
        np.random.default_rng(0),
    )
    speed = np.linalg.norm(batch.geometry.velocity, axis=1)
    assert ((speed >= 20) & (speed <= 30)).all()
    assert np.ptp(speed) > 5


def test_the_same_seed_gives_the_same_batch() -> None:
    links = embedded_split("unseen")
    first, second = (draw(links, np.arange(4), NANO, "R2", (-10.0, 25.0), np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first.observed, second.observed)


CITIES = [item for item in load_embedded() if item.carrier_hz == 3.5e9]
TRAINED = set(link_keys(embedded_split("train")))


def keys_of(splits: dict) -> dict[str, set]:
    return {name: set(link_keys(links)) for name, links in splits.items()}


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_no_split_leaks_whatever_a_folder_calls_its_cities(data: st.DataObject) -> None:
    """Random parts of random cities, shuffled, renamed, duplicated: nothing trained on comes back, nothing twice."""
    sets = [random_paths(7, 3, seed=1, city="elsewhere")]
    for _ in range(data.draw(st.integers(1, 5))):
        item = data.draw(st.sampled_from(CITIES))
        links = np.array(data.draw(st.lists(st.integers(0, item.links - 1), min_size=1, max_size=40, unique=True)))
        name = data.draw(st.sampled_from([item.city, "renamed", "proc0", "proc4", "munich", item.city.upper()]))
        sets.append(replace(item.select(links), city=name))
    splits = city_splits(data.draw(st.permutations(sets)))
    keys = keys_of(splits)
    assert not TRAINED & set.union(*keys.values())
    assert not keys.get("in-domain", set()) & keys.get("unseen", set())
    assert all(len(keys[name]) == links.links for name, links in splits.items()), "each link once"
    names = {item.city for item in sets if item.city in TRAIN_CITIES}
    seen = embedded_split("in-domain")
    assert not set(splits["unseen"].city.split("+")) & names if "unseen" in splits else True
    assert not set(link_keys(seen)) & keys.get("unseen", set()), "a training city's users are never called unseen"


def test_a_copy_of_the_embedded_cities_gives_their_own_splits(tmp_path: Path) -> None:
    save_paths(load_embedded(), tmp_path / "copy.npz")
    splits = keys_of(evaluation_splits(tmp_path, None))
    assert splits == {name: set(link_keys(embedded_split(name))) for name in ("in-domain", "unseen")}


def test_a_training_city_under_another_name_is_found_out() -> None:
    munich = next(item for item in CITIES if item.city == "munich")
    splits = city_splits([replace(munich, city="monaco"), random_paths(5, 3, city="elsewhere")])
    assert splits["unseen"].city == "elsewhere"
    assert set(link_keys(splits["in-domain"])) <= set(link_keys(munich)) - TRAINED
    trained = replace(embedded_split("train").select(np.arange(9)), city="mine")
    with pytest.raises(InputError, match="only links that the model was trained on"):
        city_splits([trained])


def test_a_models_own_training_links_are_found_under_any_name() -> None:
    there = random_paths(40, 3, city="there")
    trained_links = link_keys(there.select(np.arange(0, 40, 2)))
    renamed = replace(there, city="elsewhere")
    splits = city_splits([renamed], trained=("there",), trained_links=trained_links)
    assert set(splits) == {"in-domain"}, "the place is a training city whatever it is called"
    assert not set(link_keys(splits["in-domain"])) & set(trained_links)


def test_a_model_trained_elsewhere_has_other_unseen_cities() -> None:
    splits = city_splits(CITIES, trained=("proc4", "proc5"))
    assert set(splits["in-domain"].city.split("+")) == {"proc4", "proc5"}
    assert set(splits["unseen"].city.split("+")) == set(TRAIN_CITIES) | {"san_francisco"}
    assert evaluation_splits(None, None) is None
    held = sum(
        item.select(np.flatnonzero(item.n_paths > 0)).links for item in CITIES if item.city in ("proc4", "proc5")
    )
    assert splits["in-domain"].links < held / 4


def test_moving_then_observing_is_drawing() -> None:
    links, users = embedded_split("train"), np.arange(6)
    first, second = np.random.default_rng(2), np.random.default_rng(2)
    whole = draw(links, users, NANO, "R2", 3.0, first)
    halves = observe(move(links, users, NANO, "R2", second), 3.0, NANO, second)
    np.testing.assert_array_equal(whole.observed, halves.observed)
    np.testing.assert_array_equal(whole.clean, halves.clean)


def stored_set(snapshots: int = 60, name: str = "hall") -> ChannelSet:
    rng = np.random.default_rng(0)
    h = rng.standard_normal((5, snapshots, 4, 50, 2)).astype(np.float32).view(np.complex64)[..., 0]
    return ChannelSet(h, np.arange(snapshots) * 1e-3, 5e9, 312.5e3, 2, 2, name, "measured", np.full(5, -1, np.int8))


def test_stored_channels_are_cut_to_the_grid_and_have_no_paths(tmp_path: Path) -> None:
    batch = draw_channels(stored_set(), np.array([3, 1]), NANO, 10.0, np.random.default_rng(0))
    np.testing.assert_array_equal(batch.clean[1], stored_set().h[1, :56, :, :48])
    assert batch.observed.shape == (2, 42, 4, 48)
    assert batch.geometry is None
    assert (batch.carrier_hz, batch.spacing_hz) == (5e9, 312.5e3)
    with pytest.raises(InputError, match="needs \\[56, 4, 48\\]"):
        draw_channels(stored_set(snapshots=20), np.array([0]), NANO, 10.0, np.random.default_rng(0))
    save_channels(stored_set(), tmp_path / "a")
    save_channels(stored_set(), tmp_path / "b")
    assert set(evaluation_splits(tmp_path, None)) == {"hall", "hall 2"}
