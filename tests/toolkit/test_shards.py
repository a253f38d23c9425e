"""A store gives back its links bit for bit, reads only what is asked for, and names what is damaged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from path_sets import random_paths

from spikeport_errors import InputError, UsageError
from spikeport_toolkit.data.make import make
from spikeport_toolkit.data.path_store import PathStore, open_store
from spikeport_toolkit.data.recipe import DataRecipe
from spikeport_toolkit.data.schema import PATH_FIELDS, PathSet
from spikeport_toolkit.data.shards import shard_of
from spikeport_toolkit.data.store import TRAIN_CITIES, UNSEEN_CITIES, load_embedded, save_paths
from spikeport_toolkit.data.store_info import store_info

FIELDS = (*PATH_FIELDS, "n_paths", "los", "ue")
SETS = {
    "alpha": [random_paths(40, 6, seed=1, city="alpha"), random_paths(30, 4, seed=2, city="alpha", carrier_hz=28e9)],
    "beta": [random_paths(25, 9, seed=3, city="beta", station=1)],
}


class Given:
    """A part whose paths are given."""

    rights = ("ODbL-1.0", "© OpenStreetMap contributors")

    def __init__(self, name: str, sets: list[PathSet]):
        self.name, self.sets = name, sets

    def key(self) -> str:
        return self.name

    def make(self, interpreters: object) -> list[PathSet]:
        return self.sets


def store_at(folder: Path, sets: dict[str, list[PathSet]] = SETS, unseen: tuple[str, ...] = ("beta",)) -> Path:
    parts = tuple(Given(name, items) for name, items in sets.items())
    return make(DataRecipe("test", "", "deepmimo", parts, unseen, (1.0, 30.0), "", "# text"), folder, workers=1)


def same(one: PathSet, other: PathSet) -> None:
    for field in FIELDS:
        value, wanted = getattr(one, field), getattr(other, field)
        np.testing.assert_array_equal(value, wanted[:, : value.shape[1]] if wanted.ndim == 2 else wanted)
        assert value.dtype == wanted.dtype
    assert (one.carrier_hz, one.city, one.station) == (other.carrier_hz, other.city, other.station)


def test_what_is_made_is_read_bit_for_bit(tmp_path: Path) -> None:
    store = open_store(store_at(tmp_path / "store"))
    assert (len(store), store.cities, store.carriers) == (95, ("alpha", "beta"), (3.5e9, 28e9))
    assert store.speed_m_s == (1.0, 30.0)
    for got, given in zip(store.sets(), [s for items in SETS.values() for s in items], strict=True):
        same(got, given)
        assert got.speed_m_s == (1.0, 30.0)


def test_any_links_come_in_the_order_asked_for(tmp_path: Path) -> None:
    store = open_store(store_at(tmp_path / "store")).select(carrier_hz=3.5e9)
    users = np.array([64, 0, 41, 0, 39])
    taken = store.take(users)
    whole = [SETS["beta"][0], SETS["alpha"][0]]
    for row, (item, link) in enumerate(((0, 24), (1, 0), (0, 1), (1, 0), (1, 39))):
        n = whole[item].n_paths[link]
        assert taken.n_paths[row] == n
        np.testing.assert_array_equal(taken.tau[row, :n], whole[item].tau[link, :n])
        np.testing.assert_array_equal(taken.a[row, n:], 0)
    assert (taken.station, taken.city) == (-1, "beta+alpha")


def test_opening_maps_the_arrays_and_reads_none(tmp_path: Path) -> None:
    for shard in open_store(store_at(tmp_path / "store")).shards:
        assert isinstance(shard.paths, np.memmap)
        assert not shard.paths.flags.writeable


def test_splits_share_no_link_and_no_city(tmp_path: Path) -> None:
    store = open_store(store_at(tmp_path / "store"))
    parts = {split: store.select(split) for split in ("train", "in-domain", "unseen")}
    rows = [set(np.asarray(part.rows).tolist()) for part in parts.values()]
    assert sum(map(len, rows)) == len(store)
    assert len(set.union(*rows)) == len(store)
    assert parts["train"].cities == parts["in-domain"].cities == ("alpha",)
    assert parts["unseen"].cities == ("beta",)
    assert store.select("unseen", unseen=["alpha"]).cities == ("alpha",)


def test_the_embedded_cities_are_split_as_ever() -> None:
    embedded = PathStore((shard_of("embedded", load_embedded()),))
    assert set(embedded.select("train").cities) == set(TRAIN_CITIES)
    assert set(embedded.select("unseen").cities) == set(UNSEEN_CITIES)


def test_links_without_a_path_are_kept_but_never_selected(tmp_path: Path) -> None:
    paths = random_paths(6, 3)
    counts, los = paths.n_paths.copy(), paths.los.copy()
    counts[2], los[2] = 0, -1
    silent = replace(paths, n_paths=counts, los=los, a=np.where(np.arange(6)[:, None] == 2, 0, paths.a))
    store = open_store(store_at(tmp_path / "store", {"test": [silent]}))
    assert len(store) == 6
    assert store.take(np.array([2])).los[0] == -1
    assert store.select(cities=["test"]).links == 5


def test_an_npz_and_a_folder_of_them_are_stores_too(tmp_path: Path) -> None:
    save_paths(SETS["alpha"], tmp_path / "a.npz")
    save_paths(SETS["beta"], tmp_path / "b.npz")
    assert open_store(tmp_path / "a.npz").cities == ("alpha",)
    assert [s.city for s in open_store(tmp_path).sets()] == ["alpha", "alpha", "beta"]


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda s: s.take(np.array([], int)), InputError, "set of users is empty"),
        (lambda s: s.take(np.array([95])), InputError, "indices run from 0 to 94"),
        (lambda s: s.take(np.array([0, 50])), InputError, r"3\.5, 28 GHz; a path set has one carrier"),
        (lambda s: s.select(carrier_hz=60e9), UsageError, r"no links at 60 GHz; it holds 3\.5, 28 GHz"),
        (lambda s: s.select(cities=["alpa"]), UsageError, "did you mean 'alpha'"),
        (lambda s: s.select("test"), UsageError, "unknown split"),
        (lambda s: s.select("unseen", cities=["alpha"]), InputError, "no link is left"),
    ],
)
def test_a_choice_that_cannot_be_is_one_clear_error(ask, error, says, tmp_path: Path) -> None:
    with pytest.raises(error, match=says):
        ask(open_store(store_at(tmp_path / "store")))


def cut(folder: Path) -> None:
    path = folder / "alpha" / "paths.npy"
    path.write_bytes(path.read_bytes()[:-4])


def lose(folder: Path) -> None:
    (folder / "beta" / "los.npy").unlink()


def lose_all(folder: Path) -> None:
    shutil.rmtree(folder / "beta")


def misshape(folder: Path) -> None:
    path = folder / "beta" / "ue.npy"
    values = np.load(path).astype(np.float32)
    np.save(path, values.reshape(3, -1))


def edit(folder: Path) -> None:
    path = folder / "alpha" / "shard.json"
    path.write_text(path.read_text().replace('"links": 40', '"links": 41'))


def later_version(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | {"schema": "spikeport.store/9"}))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, r"paths\.npy has .* bytes.*data make"),
        (lose, r"los\.npy is missing.*data make"),
        (lose_all, r"shard\.json is missing"),
        (misshape, r"arrays of shape .*ue \(3, 25\).*data make"),
        (edit, r"shard\.json is missing or not what the index says"),
        (later_version, r"spikeport\.store/9.*make the store again"),
    ],
)
def test_damage_is_named_on_opening_and_mended_by_making_again(damage, says, tmp_path: Path) -> None:
    damage(store_at(tmp_path / "store"))
    with pytest.raises(InputError, match=says):
        open_store(tmp_path / "store")
    with pytest.raises(InputError):
        store_info(tmp_path / "store", verify=True)
    same(next(open_store(store_at(tmp_path / "store")).sets()), SETS["alpha"][0])


def test_a_flipped_bit_passes_the_sizes_and_fails_the_checksum(tmp_path: Path) -> None:
    store_at(tmp_path / "store")
    path = tmp_path / "store" / "alpha" / "paths.npy"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    assert "sizes checked" in store_info(tmp_path / "store").summary()
    with pytest.raises(InputError, match=r"paths\.npy is not what was written"):
        store_info(tmp_path / "store", verify=True)


def test_info_says_what_is_in_it(tmp_path: Path) -> None:
    info = store_info(store_at(tmp_path / "store"), verify=True)
    text, facts = info.summary(), info.to_dict()
    assert "alpha/0 28 GHz: 30 links" in text
    assert "never in training: beta" in text
    assert "ODbL-1.0 (© OpenStreetMap contributors): alpha, beta" in text
    assert (facts["links"], facts["cities"], facts["stations"]) == (95, ["alpha", "beta"], 2)
    json.dumps(facts, allow_nan=False)
