"""A canonical sample is the channel of its paths, on the instants, antennas and subcarriers of a sampling."""

import numpy as np
import pytest
from path_sets import random_paths

from spikeport_errors import InputError
from spikeport_toolkit.baselines.genie import known_paths
from spikeport_toolkit.data.canonical import Sampling, canonical_batch, canonical_channels
from spikeport_toolkit.data.path_store import PathStore
from spikeport_toolkit.data.sampler import random_velocity
from spikeport_toolkit.data.shards import shard_of
from spikeport_toolkit.data.synthesis import channels
from spikeport_toolkit.models.presets import presets
from spikeport_toolkit.tasks.array_channels import array_channels

SAMPLING = Sampling(5, 4, 12, 1e-3, 90e3)
USERS = np.array([2, 0, 2, 7])


def test_it_is_the_synthesis_at_the_sampling_with_the_same_motion() -> None:
    paths = random_paths()
    velocity = random_velocity(np.random.default_rng(3), 4, paths.speed_m_s)
    times, frequencies = np.arange(5) * 1e-3, (np.arange(12) - 6) * 90e3
    wanted = channels(paths, USERS, times, frequencies, velocity, rx=1, tx=4, align_delays=True)
    got = canonical_channels(paths, USERS, SAMPLING, np.random.default_rng(3))
    np.testing.assert_array_equal(got, wanted)
    assert (got.shape, got.dtype) == ((4, 5, 4, 12), np.complex64)


def test_lwms_convention_is_the_array_its_tasks_see() -> None:
    paths = random_paths()
    sampling = Sampling(1, 8, 12, 1e-3, 30e3, "deepmimo")
    batch = canonical_batch(paths, USERS, sampling, 10.0, np.random.default_rng(0))
    wanted = array_channels(paths, USERS, antennas=8, subcarriers=12)
    np.testing.assert_array_equal(batch.clean, wanted)
    assert batch.geometry is not None
    np.testing.assert_array_equal(batch.geometry.channels(sampling.times_s), wanted)
    known = known_paths(batch.geometry, sampling.times_s)
    made = np.einsum("bp,btp,bap,bpf->btaf", known.gain, known.time, known.space, known.frequency)
    np.testing.assert_allclose(made, wanted, atol=1e-5 * np.abs(wanted).max())
    store = PathStore((shard_of("only", [paths]),))
    np.testing.assert_allclose(
        canonical_channels(store.take(USERS), np.arange(4), sampling, np.random.default_rng(0)), wanted, rtol=1e-5
    )
    for name, preset in presets().items():
        if preset.config.family == "lwm":
            assert preset.config.sampling.convention == "deepmimo", name  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="convention is 'sionna', wanted one of aligned, deepmimo"):
        Sampling(1, 8, 12, 1e-3, 30e3, "sionna")


def test_another_carrier_turns_the_doppler_faster() -> None:
    paths = random_paths(width=1)
    turns = []
    for carrier in (None, 28e9):
        H = canonical_channels(paths, USERS, Sampling(2, 1, 1, 1e-5, 1.0), np.random.default_rng(0), carrier_hz=carrier)
        turns.append(np.angle(H[:, 1] / H[:, 0]).ravel())
    np.testing.assert_allclose(turns[1], 8 * turns[0], atol=1e-3)


def test_a_batch_is_noisy_on_every_instant_at_its_snr() -> None:
    sampling = Sampling(16, 8, 64, 1e-3, 30e3)
    batch = canonical_batch(random_paths(), USERS, sampling, (-5.0, 15.0), np.random.default_rng(1))
    assert batch.observed.shape == batch.clean.shape
    assert len(np.unique(batch.snr_db)) == 4
    noise = np.mean(np.abs(batch.observed - batch.clean) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(noise, batch.noise_power, rtol=0.1)
    power = np.mean(np.abs(batch.clean) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(10 * np.log10(power / batch.noise_power), batch.snr_db, atol=1e-3)
    assert batch.target.shape[1] == 0
    np.testing.assert_array_equal(batch.times_s, sampling.times_s)


def test_a_store_gives_the_same_batch_and_so_does_the_same_seed() -> None:
    paths = random_paths()
    store = PathStore((shard_of("only", [paths]),))
    first, second = (canonical_batch(p, USERS, SAMPLING, 10.0, np.random.default_rng(5)) for p in (paths, store))
    np.testing.assert_allclose(first.observed, second.observed, atol=1e-5)
    again = canonical_batch(paths, USERS, SAMPLING, 10.0, np.random.default_rng(5))
    np.testing.assert_array_equal(first.observed, again.observed)


@pytest.mark.parametrize(
    "change",
    [{"time": 0}, {"antenna": -1}, {"frequency": 2.0}, {"time_step_s": 0.0}, {"time_step_s": float("nan")},
     {"frequency_step_hz": -1.0}, {"time": 2**20, "antenna": 2}, {"time": True}, {"times": 3}],
)  # fmt: skip
def test_a_hostile_sampling_is_refused_before_any_memory_is_taken(change: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Sampling.from_dict(SAMPLING.to_dict() | change)
    assert Sampling.from_dict(SAMPLING.to_dict()) == SAMPLING
