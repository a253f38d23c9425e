"""Recipes: what to train, on what, how long; TOML files in `recipes/` or of the user's own."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from spikeport_errors import InputError, unknown_name

from ..models.presets import preset

OBJECTIVES = ("masked", "prediction")
REAL = (int, float)
RANGES: dict[str, tuple[Any, float, float]] = {
    "steps": (int, 1, 1e7), "batch": (int, 2, 65_536), "lr": (REAL, 1e-9, 10), "warmup": (int, 0, 1e6),
    "weight_decay": (REAL, 0, 10), "clip": (REAL, 1e-6, 1e6), "mask_ratio": (REAL, 0.02, 0.98),
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """One stage of training: AdamW, linear warm-up, cosine decay to zero, gradients clipped at norm `clip`.

    `objective` is masked (pre-training of the backbone) or prediction (backbone and head, or the head alone with
    `freeze_backbone`). `regimes` are drawn batch by batch; `snr_db` is the range of U(low, high) per sample.
    """

    objective: str
    steps: int
    batch: int
    lr: float
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    mask_ratio: float = 0.5
    snr_db: tuple[float, float] = (-10.0, 25.0)
    regimes: tuple[str, ...] = ("R1", "R2")
    freeze_backbone: bool = False

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError(f"recipe: objective {self.objective!r} is not one of {', '.join(OBJECTIVES)}")
        for name, (kind, low, high) in RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                raise InputError(f"recipe: {name} is {value!r}, wanted {low:g} to {high:g}")
        snr = self.snr_db
        if not (isinstance(snr, tuple) and len(snr) == 2 and all(isinstance(v, int | float) for v in snr)):
            raise InputError(f"recipe: snr_db is {snr!r}, wanted [low, high] in dB")
        if not -100 <= snr[0] <= snr[1] <= 100:
            raise InputError(f"recipe: snr_db is {list(snr)}, wanted low <= high within -100 to 100 dB")
        if not isinstance(self.regimes, tuple) or not self.regimes or not set(self.regimes) <= {"R1", "R2"}:
            raise InputError(f"recipe: regimes is {self.regimes!r}, wanted a list of R1, R2 or both")
        if not isinstance(self.freeze_backbone, bool):
            raise InputError(f"recipe: freeze_backbone is {self.freeze_backbone!r}, wanted true or false")


@dataclass(frozen=True)
class Recipe:
    """A named training run: a model preset, a seed and its stages."""

    name: str
    summary: str
    model: str
    seed: int
    stages: tuple[Stage, ...]
    text: str = ""
    """The recipe's TOML as read, kept beside the checkpoint."""


def recipe_names() -> list[str]:
    """Shipped recipes."""
    return sorted(
        p.name.removesuffix(".toml") for p in files("spikeport_toolkit.recipes").iterdir() if p.name.endswith(".toml")
    )


def load_recipe(name: str) -> Recipe:
    """A shipped recipe by name, or a TOML file by path."""
    if name in recipe_names():
        text = (files("spikeport_toolkit.recipes") / f"{name}.toml").read_text()
    elif name.endswith(".toml"):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"recipe {name} cannot be read ({error.strerror}); check the path") from None
    else:
        raise unknown_name("recipe", name, recipe_names(), "or give a .toml file")
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"recipe {name} is not valid TOML: {error}") from None
    return _recipe(Path(name).stem, table, text)


def _recipe(name: str, table: Mapping[str, Any], text: str) -> Recipe:
    missing = {"model", "seed", "stage"} - set(table)
    if missing:
        raise InputError(
            f"recipe {name}: {sorted(missing)[0]!r} is missing; a recipe has model, seed and [[stage]] tables"
        )
    if not isinstance(table["model"], str) or not isinstance(table["stage"], list) or not table["stage"]:
        raise InputError(f"recipe {name}: model is a preset's name, and there is at least one [[stage]]")
    if isinstance(table["seed"], bool) or not isinstance(table["seed"], int) or not 0 <= table["seed"] < 2**32:
        raise InputError(f"recipe {name}: seed is {table['seed']!r}, wanted 0 to 2^32 - 1")
    extra = sorted(set(table) - {"model", "seed", "stage", "summary"})
    if extra:
        raise InputError(f"recipe {name}: unknown key {extra[0]!r}; a recipe has model, seed, summary and [[stage]]")
    preset(table["model"])
    known = {f.name for f in fields(Stage)}
    stages = []
    for stage in table["stage"]:
        if not isinstance(stage, Mapping):
            raise InputError(f"recipe {name}: a stage is a [[stage]] table, not {stage!r}")
        unknown = sorted(set(stage) - known)
        if unknown:
            raise InputError(f"recipe {name}: unknown key {unknown[0]!r}; a stage has {', '.join(sorted(known))}")
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in stage.items()
        }
        try:
            stages.append(Stage(**values))
        except TypeError as error:
            raise InputError(f"recipe {name}: {error}") from None
    return Recipe(name, table.get("summary", ""), table["model"], table["seed"], tuple(stages), text)
