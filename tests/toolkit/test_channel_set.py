"""Channel sets survive the disk bit for bit, stay on it, and a damaged one is named."""

import json
import resource
from dataclasses import replace

import numpy as np
import pytest

from spikeport_errors import InputError
from spikeport_toolkit.data.channel_set import ChannelSet, load_channels, save_channels


def random_channels(links=5, seed=0, **fields):
    rng = np.random.default_rng(seed)
    shape = (links, 14, 4, 24)
    values = {
        "h": (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64),
        "times_s": np.arange(14) / 28e3,
        "carrier_hz": 3.5e9,
        "subcarrier_spacing_hz": 30e3,
        "rx": 2,
        "tx": 2,
        "name": "test",
        "kind": "simulated",
        "los": rng.integers(-1, 2, links).astype(np.int8),
    }
    return ChannelSet(**values | fields)


def test_what_is_saved_is_loaded_bit_for_bit_and_stays_on_disk(tmp_path):
    saved = random_channels()
    loaded = load_channels(save_channels(saved, tmp_path / "set"))
    assert isinstance(loaded.h, np.memmap)
    assert not loaded.h.flags.writeable
    for field in ("h", "times_s", "los"):
        np.testing.assert_array_equal(getattr(loaded, field), getattr(saved, field))
        assert getattr(loaded, field).dtype == getattr(saved, field).dtype
    assert loaded.to_dict() == saved.to_dict()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]


def test_a_set_is_replaced_whole(tmp_path):
    save_channels(random_channels(5), tmp_path / "set")
    save_channels(random_channels(2, seed=1), tmp_path / "set")
    assert load_channels(tmp_path / "set").links == 2
    with pytest.raises(InputError):
        save_channels(random_channels(carrier_hz=-1.0), tmp_path / "set")
    assert load_channels(tmp_path / "set").links == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"h": np.zeros((2, 14, 4), np.complex64)}, "h has shape"),
        ({"h": np.zeros((0, 14, 4, 24), np.complex64)}, "none empty"),
        ({"h": np.zeros((5, 14, 4, 24), np.complex128)}, "wanted complex64"),
        ({"h": np.full((5, 14, 4, 24), np.nan, np.complex64)}, "link 0 of h holds NaN"),
        ({"kind": "guessed"}, "simulated or measured"),
        ({"carrier_hz": np.nan}, "carrier_hz"),
        ({"subcarrier_spacing_hz": "30 kHz"}, "subcarrier_spacing_hz"),
        ({"rx": 3}, "3 x 2 antennas"),
        ({"times_s": np.zeros(14)}, "growing times"),
        ({"times_s": np.arange(3.0)}, "growing times"),
        ({"los": np.full(5, 7, np.int8)}, "flags"),
    ],
)
def test_a_broken_set_is_refused_by_name(change, message):
    with pytest.raises(InputError, match=message):
        random_channels(**change).validate()


def test_nan_is_found_in_the_link_that_has_it(tmp_path):
    item = random_channels(5)
    item.h[3, 1, 2, 3] = np.inf
    with pytest.raises(InputError, match="link 3"):
        save_channels(item, tmp_path / "set")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error_that_leaves_the_old_set(tmp_path):
    save_channels(random_channels(1), tmp_path / "set")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"was not written.*make room"):
            save_channels(random_channels(5), tmp_path / "set")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_channels(tmp_path / "set").links == 1
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def _edit(folder, **changes):
    facts = json.loads((folder / "channels.json").read_text())
    (folder / "channels.json").write_text(json.dumps({**facts, **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "h.npy").write_bytes((f / "h.npy").read_bytes()[:-100]), "truncated"),
        (lambda f: (f / "h.npy").write_bytes(b""), "truncated"),
        (lambda f: (f / "h.npy").unlink(), "h.npy"),
        (lambda f: np.save(f / "h.npy", np.zeros((5, 14, 4, 24), np.complex64)), "SHA-256"),
        (lambda f: np.save(f / "h.npy", np.array([{}], object)), "h.npy"),
        (lambda f: (f / "channels.json").unlink(), "does not exist"),
        (lambda f: (f / "channels.json").write_text("{"), "not readable JSON"),
        (lambda f: (f / "channels.json").write_text("[]"), "no channel set"),
        (lambda f: _edit(f, schema="spikeport.channels/9"), "no channel set of this version"),
        (lambda f: _edit(f, shape=[1, 2]), "channels.json says"),
        (lambda f: _edit(f, times_s=["a"]), "h.npy"),
        (lambda f: _edit(f, rx=3), "3 x 2 antennas"),
        (lambda f: _edit(f, rx="2"), "h.npy"),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path, damage, message):
    folder = save_channels(random_channels(), tmp_path / "set")
    damage(folder)
    with pytest.raises(InputError, match=message):
        load_channels(folder)


def test_select_keeps_the_chosen_links_and_facts_say_what_there_is():
    item = random_channels(6, los=np.array([1, 0, 0, 0, -1, 1], np.int8))
    chosen = item.select(np.array([4, 1]))
    np.testing.assert_array_equal(chosen.h, item.h[[4, 1]])
    np.testing.assert_array_equal(chosen.los, [-1, 0])
    assert "6 links of 14 times x 4 antenna pairs x 24 subcarriers of 30 kHz, 40% line of sight" in item.summary()
    assert item.frequencies_hz[12] == 0
    assert replace(item, los=np.full(6, -1, np.int8)).to_dict()["los_share"] is None
