"""Environments of simulators: made whole or not at all, one line for each thing that can be missing."""

import json

import pytest

from spikeport.cli.app import run
from spikeport_errors import MissingDependencyError, UsageError
from spikeport_targets import environments
from spikeport_targets.environments import Recipe, environment, make_environment, python_of, remove_environment

EMPTY = Recipe("brian2", "nothing", "none", {"3.11": (), "3.12": (), "3.13": ()})


@pytest.fixture
def root(monkeypatch, tmp_path):
    """An empty folder of environments, where `brian2` holds nothing: an environment made in seconds, offline."""
    monkeypatch.setenv("SPIKEPORT_ENVS", str(tmp_path / "envs"))
    monkeypatch.setitem(environments.RECIPES, "brian2", EMPTY)
    monkeypatch.setattr(environments, "VENV", ("-m", "venv", "--without-pip"))
    monkeypatch.setattr(environments, "PIP", ("-c", "pass"))
    return tmp_path / "envs"


def test_an_environment_is_made_once_and_kept(root):
    assert not environment("brian2").made
    made = make_environment("brian2")
    assert made.made
    assert python_of("brian2") == root / "brian2" / "bin" / "python"
    (root / "brian2" / "mine").touch()
    assert make_environment("brian2") == made
    assert (root / "brian2" / "mine").exists()


def test_an_unfinished_or_outdated_environment_is_made_anew(root, monkeypatch):
    (root / "brian2" / "bin").mkdir(parents=True)
    (root / "brian2" / "bin" / "python").touch()
    assert python_of("brian2") is None
    make_environment("brian2")
    (root / "brian2" / "old").touch()
    changed = Recipe("brian2", "nothing", "none", dict.fromkeys(EMPTY.requirements, ("more",)))
    monkeypatch.setitem(environments.RECIPES, "brian2", changed)
    assert not environment("brian2").made
    make_environment("brian2")
    assert not (root / "brian2" / "old").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("ERROR: No matching distribution found for brian2", "pip found no package.*check the network"),
        ("No module named pip", "no venv or pip.*python3-venv"),
        ("ERROR: no space left on device", "no space left on device; mend what it names"),
    ],
    ids=["no network", "no pip", "full disk"],
)
def test_what_cannot_be_made_is_one_line_and_leaves_nothing(root, monkeypatch, words, reason):
    monkeypatch.setattr(environments, "PIP", ("-c", f"raise SystemExit({words!r})"))
    with pytest.raises(MissingDependencyError, match=f"^environment brian2 was not made: .*{reason}"):
        make_environment("brian2")
    assert [path.name for path in root.iterdir()] == [".brian2.lock"]


def test_without_a_fitting_python_it_names_the_version(root, monkeypatch):
    monkeypatch.setitem(environments.RECIPES, "brian2", Recipe("brian2", "nothing", "none", {"2.7": ()}))
    with pytest.raises(MissingDependencyError, match=r"needs Python 2\.7.*install one"):
        make_environment("brian2")
    assert not (root / "brian2").exists()


def test_an_unknown_environment_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'sanafe'"):
        make_environment("sanaf")
    with pytest.raises(UsageError, match="spikeport env list"):
        remove_environment("nothing")


def test_the_command_makes_lists_and_removes(root, capsys):
    assert run(["env", "make", "brian2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["made"] is True
    assert run(["env", "list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(environments.RECIPES)
    assert listed[0].startswith("brian2   nothing, none: made, Python 3.")
    assert "GPL-3.0 (in its own process): not made" in "\n".join(listed)
    assert run(["env", "remove", "brian2", "-q"]) == 0
    assert not (root / "brian2").exists()
    assert run(["env", "make", "brain2"]) == 2
    assert "did you mean 'brian2'" in capsys.readouterr().err
