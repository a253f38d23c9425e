"""Recipes are checked once and say what is wrong; making survives kills and full disks."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_shards import SETS, Given, store_at

from spikeport.cli.app import run
from spikeport_errors import InputError, SpikeportError, UsageError
from spikeport_toolkit.data.make import make
from spikeport_toolkit.data.parts import TracedCity
from spikeport_toolkit.data.path_store import open_store
from spikeport_toolkit.data.recipe import DataRecipe, data_recipe_names, load_data_recipe
from spikeport_toolkit.data.store import EMBEDDED_CITIES, UNSEEN_CITIES
from spikeport_toolkit.data.store_info import store_info


@pytest.mark.parametrize("name", data_recipe_names())
def test_every_shipped_recipe_is_sound(name: str, tmp_path: Path) -> None:
    recipe = load_data_recipe(name, tmp_path)
    assert recipe.summary
    assert recipe.parts
    assert all(part.rights[0] != "" and part.rights[1] for part in recipe.parts)


def test_the_embedded_recipe_names_the_embedded_cities() -> None:
    recipe = load_data_recipe("embedded")
    assert {part.name for part in recipe.parts} == set(EMBEDDED_CITIES)
    assert set(recipe.unseen_cities) == set(UNSEEN_CITIES)
    few = recipe.narrowed(["proc3"], 7).parts
    assert [(p.name, p.tracing.users_per_station) for p in few if isinstance(p, TracedCity)] == [("proc3", 7)]


RAYTRACE = 'source = "raytrace"\ncities = ["munich"]\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cities = [", "is not valid TOML"),
        ("", "lacks 'source'"),
        ('source = "raytrac"', "unknown source 'raytrac': did you mean 'raytrace'"),
        ('source = "raytrace"', "names nothing to make"),
        (RAYTRACE + "user_per_station = 3", "did you mean 'users_per_station'"),
        (RAYTRACE + "carriers_ghz = [3500000000]", "carriers_ghz is .* wanted a list of numbers of 1 to 40"),
        (RAYTRACE + "carriers_ghz = []", "carriers_ghz"),
        (RAYTRACE + "users_per_station = 0", "wanted a whole number of 1 to"),
        (RAYTRACE + "stations = true", "wanted a whole number"),
        (RAYTRACE + "mast_height_m = [25, 10]", r"wanted \[lowest, highest\]"),
        (RAYTRACE + "min_distance_m = 200", "min_distance_m must be less than cell_radius_m"),
        ('source = "raytrace"\ncities = ["munch"]', "did you mean 'munich'"),
        ('source = "raytrace"\ncities = ["proc3", "proc1..4"]', "'proc3' twice"),
        (RAYTRACE + '[[city]]\nname = "munich"\nstyle = "grid"', "'munich' twice"),
        (RAYTRACE + '[[city]]\nname = "x"\nstyle = "gird"', "did you mean 'grid'"),
        (RAYTRACE + '[[city]]\nname = "x"\nfile = "none.osm"', r"none\.osm is not a file"),
        (RAYTRACE + '[[city]]\nname = "../x"', "it names a folder too"),
        (RAYTRACE + '[[city]]\nname = "x"\nhight_m = 3', "unknown key"),
        (RAYTRACE + "pack = '../x.npz'", "name of an npz file"),
        ('source = "statistical"\nmodels = []', "names nothing to make"),
        ('source = "deepmimo"\n[[city]]\nname = "x"', "lacks 'scenarios'"),
    ],
)
def test_a_wrong_recipe_is_one_clear_line_and_exit_2(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(SpikeportError, match=says):
        load_data_recipe(str(tmp_path / "mine.toml"))
    assert run(["data", "make", str(tmp_path / "mine.toml"), "--out", str(tmp_path / "store")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "store").exists()


def test_names_that_are_not_there_are_errors_too() -> None:
    with pytest.raises(UsageError, match="did you mean 'embedded'"):
        load_data_recipe("embeded")
    with pytest.raises(InputError, match="cannot be read"):
        load_data_recipe("/nowhere/mine.toml")
    with pytest.raises(UsageError, match="did you mean 'munich'"):
        load_data_recipe("embedded").narrowed(["munch"], None)
    with pytest.raises(UsageError, match="ray-traced"):
        load_data_recipe("cdl-c").narrowed([], 5)


SCRIPT = """
import os, signal, sys
from pathlib import Path
from test_shards import SETS, Given
from spikeport_errors import SpikeportError
from spikeport_toolkit.data.make import make
from spikeport_toolkit.data.recipe import DataRecipe

class Deadly(Given):
    def make(self, interpreters):
        if Path(sys.argv[2]).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().make(interpreters)

if __name__ == "__main__":
    out, flag, workers = sys.argv[1:]
    parts = Given("alpha", SETS["alpha"]), Deadly("beta", SETS["beta"]), Deadly("gamma", SETS["beta"])
    try:
        make(DataRecipe("t", "", "deepmimo", parts, (), (0, 1), "", ""), Path(out), workers=int(workers))
    except SpikeportError as error:
        sys.exit(f"error: {error}")
"""


def in_a_process(folder: Path, workers: int) -> "subprocess.CompletedProcess[str]":
    (folder / "script.py").write_text(SCRIPT)
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "script.py", str(folder / "store"), str(folder / "flag"), str(workers)]
    return subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_a_kill_leaves_earlier_shards_and_the_same_command_finishes(workers: int, tmp_path: Path) -> None:
    store_at(tmp_path / "store", {"alpha": SETS["alpha"]})
    (tmp_path / "store" / "index.json").unlink()
    shard = tmp_path / "store" / "alpha" / "shard.json"
    before = shard.stat().st_mtime_ns
    (tmp_path / "flag").touch()
    killed = in_a_process(tmp_path, workers)
    if workers == 1:
        assert killed.returncode == -signal.SIGKILL
    else:
        assert killed.returncode == 1
        assert killed.stderr.startswith("error: a worker process died")
        assert len(killed.stderr.splitlines()) == 1
    with pytest.raises(InputError, match=r"is unfinished \(1 shards, no index\)"):
        open_store(tmp_path / "store")
    (tmp_path / "flag").unlink()
    assert in_a_process(tmp_path, workers).returncode == 0
    assert len(open_store(tmp_path / "store")) == 120
    assert shard.stat().st_mtime_ns == before, "kept, not made again"


FULL = """
import resource, sys
from spikeport.cli.app import run
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(run(sys.argv[1:]))
"""


def test_a_full_disk_is_one_line_and_exit_2_and_the_same_command_finishes(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the write fails half-way in the same way."""
    for name, frames in (("small", 20), ("large", 2000)):
        h = np.ones((1, frames, 2, 8), np.complex64)
        grid = {"times_s": np.arange(frames) / 1e3, "carrier_hz": 5e9, "subcarrier_spacing_hz": 312.5e3}
        np.savez(tmp_path / f"{name}.npz", h=h, **grid)
    captures = "".join(f'[[capture]]\nname = "{name}"\nfile = "{name}.npz"\n' for name in ("small", "large"))
    (tmp_path / "mine.toml").write_text(f'source = "measured"\n{captures}')
    line = ["data", "make", str(tmp_path / "mine.toml"), "--out", str(tmp_path / "store"), "--workers", "1"]
    full = subprocess.run([sys.executable, "-c", FULL, "100000", *line], capture_output=True, text=True, check=False)
    assert full.returncode == 2
    assert full.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in full.stderr
    assert sorted(p.name for p in (tmp_path / "store").iterdir()) == ["small"], "no trace of the other"
    assert run(line) == 0
    assert [s["name"] for s in store_info(tmp_path / "store", verify=True).shards] == ["small", "large"]
    with pytest.raises(InputError, match="holds channels, not paths"):
        open_store(tmp_path / "store")


@pytest.mark.skipif("SPIKEPORT_DATA" not in os.environ, reason="SPIKEPORT_DATA names no evaluation data")
def test_deepmimo_cities_become_a_store_with_both_carriers_of_a_city_in_one_split(tmp_path: Path) -> None:
    folder = Path(os.environ["SPIKEPORT_DATA"]) / "deepmimo_v3"
    store = open_store(make(load_data_recipe("deepmimo-cities", folder), tmp_path / "store"))
    assert store.carriers == (3.5e9, 28e9)
    counts = {(s["city"], s["station"], s["carrier_hz"]): s["links"] for shard in store.shards for s in shard.sets}
    assert [counts["denver", station, 3.5e9] for station in (1, 2, 3)] == [1041, 1580, 1354]
    assert counts["oklahoma", 1, 3.5e9] == counts["oklahoma", 1, 28e9] == 3455
    assert store.select("unseen").cities == ("oklahoma",)
    assert "oklahoma" not in store.select("train").cities


def test_a_store_of_other_settings_or_a_foreign_folder_is_not_touched(tmp_path: Path) -> None:
    store_at(tmp_path / "store")

    class Other(Given):
        def key(self) -> str:
            return "other"

    recipe = DataRecipe("t", "", "deepmimo", (Other("alpha", SETS["alpha"]),), (), (0, 1), "", "")
    with pytest.raises(UsageError, match="made with other settings"):
        make(recipe, tmp_path / "store")
    (tmp_path / "mine" / "alpha").mkdir(parents=True)
    with pytest.raises(UsageError, match="is no shard"):
        make(recipe, tmp_path / "mine")


def test_info_of_a_store_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = store_at(tmp_path / "store")
    assert run(["data", "info", str(store), "--verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["links"] == 95
    (store / "alpha" / "paths.npy").write_bytes(b"")
    assert run(["data", "info", str(store)]) == 2
    assert "paths.npy has 0 bytes" in capsys.readouterr().err
    assert run(["data", "info", str(tmp_path)]) == 2
    assert "holds no store" in capsys.readouterr().err
