"""Patches invert, splits do not leak, samples are what the benchmark says they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeport_errors import InputError
from spikeport_toolkit.data.patches import channel_from_patches, patches_from_channel, rms
from spikeport_toolkit.data.sampler import SYMBOL_S, draw, embedded_split, symbol_times
from spikeport_toolkit.data.store import TRAIN_CITIES, UNSEEN_CITIES
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


def test_the_same_seed_gives_the_same_batch() -> None:
    links = embedded_split("unseen")
    first, second = (draw(links, np.arange(4), NANO, "R2", (-10.0, 25.0), np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first.observed, second.observed)
