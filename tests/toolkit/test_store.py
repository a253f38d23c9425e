"""Path sets survive the disk bit for bit; a damaged file is named, with the remedy."""

import numpy as np
import pytest
from path_sets import random_paths

from spikeport_errors import InputError
from spikeport_toolkit.data.schema import PATH_FIELDS
from spikeport_toolkit.data.store import load_paths, save_paths

FIELDS = (*PATH_FIELDS, "n_paths", "los", "ue", "bs", "carrier_hz", "city", "station")


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path):
    sets = [random_paths(8, 5, seed=1), random_paths(3, 2, seed=2, city="other", station=1, carrier_hz=28e9)]
    save_paths(sets, tmp_path / "paths.npz")
    for saved, loaded in zip(sets, load_paths(tmp_path / "paths.npz"), strict=True):
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(loaded, field), getattr(saved, field))
            assert np.asarray(getattr(loaded, field)).dtype == np.asarray(getattr(saved, field)).dtype


def test_the_same_sets_give_the_same_bytes(tmp_path):
    for name in ("one.npz", "two.npz"):
        save_paths([random_paths()], tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


@pytest.mark.parametrize("keep", [0, 10, 200, 0.5, 0.99])
def test_a_truncated_file_is_named_with_the_remedy(tmp_path, keep):
    path = tmp_path / "paths.npz"
    save_paths([random_paths(200, 20)], path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match=r"paths\.npz is truncated.*again"):
        load_paths(path)


def test_a_flipped_byte_is_caught(tmp_path):
    path = tmp_path / "paths.npz"
    save_paths([random_paths(200, 20)], path)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(InputError, match=r"paths\.npz"):
        load_paths(path)


@pytest.mark.parametrize("arrays", [{"x": np.zeros(3)}, {"version": np.array(99)}])
def test_another_npz_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(InputError, match=r"other\.npz"):
        load_paths(tmp_path / "other.npz")


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(InputError, match="spikeport data make"):
        load_paths(tmp_path / "none.npz")


def test_a_refused_set_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "paths.npz"
    save_paths([random_paths()], path)
    before = path.read_bytes()
    with pytest.raises(InputError):
        save_paths([random_paths(carrier_hz=-1.0)], path)
    with pytest.raises(InputError, match="no path set"):
        save_paths([], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
