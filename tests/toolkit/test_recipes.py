"""Every shipped recipe loads, says what it is, and takes its first steps."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from spikeport.cli.app import run
from spikeport_toolkit.models.checkpoint import load_checkpoint
from spikeport_toolkit.models.families import build, parameter_counts
from spikeport_toolkit.models.presets import presets
from spikeport_toolkit.objectives import OBJECTIVES
from spikeport_toolkit.training.loop import train
from spikeport_toolkit.training.recipe import Recipe, Stage, load_recipe, recipe_names

LIGHT, WIDE = 2_000_000, 10_000_000
"""Models of more values take one step instead of two, and of more than WIDE with their layers truncated to one:
benchmarks/recipes.py takes these steps in full."""


def values_of(name: str) -> int:
    with torch.device("meta"):
        return sum(parameter_counts(build(load_recipe(name).config())))


VALUES = {name: values_of(name) for name in recipe_names()}


def first_steps(recipe: Recipe, out: Path, steps: int) -> None:
    stages = tuple(
        dataclasses.replace(stage, batch=4 if stage.objective == "charting" else 2, accumulation=1)
        for stage in recipe.stages
    )
    folder = train(dataclasses.replace(recipe, stages=stages, workers=1), out, max_steps=steps)
    load_checkpoint(folder)
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["step"]) for row in rows] == [(stage.objective, steps) for stage in recipe.stages]


@pytest.mark.parametrize("name", [name for name, values in VALUES.items() if values <= WIDE])
def test_a_recipe_takes_its_first_steps(name: str, tmp_path: Path) -> None:
    first_steps(load_recipe(name), tmp_path / "c", 2 if VALUES[name] <= LIGHT else 1)


@pytest.mark.parametrize("name", [name for name, values in VALUES.items() if values > WIDE])
def test_a_wide_recipe_takes_its_first_step_with_layers_truncated_to_one(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    values = recipe.config().to_dict()
    settings: dict[str, Any] = {"tower": {"layers": 1}} if "tower" in values else {"layers": 1}
    if isinstance(values.get("decoder"), Mapping):
        settings["decoder"] = {"layers": 1}
    first_steps(dataclasses.replace(recipe, model_settings=settings), tmp_path / "c", 1)


def test_recipes_json_lists_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == recipe_names()
    assert all(row["summary"] and row["stages"] for row in rows.values())
    protocol = rows["spikewfm-80m-cross-domain"]
    assert protocol["test"] == {"split": "unseen", "samples": 4800}
    masked, head = protocol["stages"]
    assert (masked["samples"], masked["validation"], masked["steps"]) == (10_500, 3_500, 200 * (10_500 // 64))
    assert (head["samples"], head["validation"], head["adaptation"]) == (22_800, 4_800, "probe")


def test_every_system_and_every_objective_has_a_recipe() -> None:
    recipes = [load_recipe(name) for name in recipe_names()]
    systems = {name for name, item in presets().items() if item.config.family != "spikewfm"}
    assert systems <= {recipe.model for recipe in recipes}
    text = " ".join(recipe.text for recipe in recipes)
    assert all(f'"{name}"' in text for name in OBJECTIVES)


def test_the_papers_protocol_is_the_same_at_every_size() -> None:
    for kind in ("in-domain", "cross-domain"):
        stages = [load_recipe(f"spikewfm-{size}-{kind}").stages for size in ("3.5m", "20m", "80m")]
        same = [[dataclasses.replace(s, lr=1.0, accumulation=1) for s in each] for each in stages]
        assert same[0] == same[1] == same[2]


def test_the_training_page_names_every_key_and_setting() -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`([a-z_-]+)`", page))
    kinds = (Recipe, Stage, *OBJECTIVES.values())
    keys = {field.name for kind in kinds for field in dataclasses.fields(kind)} - {"name", "text", "stages"}
    assert keys | set(OBJECTIVES) <= told, (keys | set(OBJECTIVES)) - told
