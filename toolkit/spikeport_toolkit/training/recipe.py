"""Recipes: what to train, on what, how long; TOML files in `recipes/` or of the user's own."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from spikeport_errors import InputError, SpikeportError, UsageError, unknown_name

from ..data.store import SPLITS
from ..models.config import Config
from ..models.load import config_of
from ..objectives import Objective, objective
from .adaptation import ADAPTATIONS, Adaptation

REAL = (int, float)
RANGES: dict[str, tuple[Any, float, float]] = {
    "steps": (int, 0, 1e7), "epochs": (REAL, 0, 1e6), "samples": (int, 0, 1e7), "validation": (int, 0, 1e7),
    "validate_every": (int, 0, 1e7), "patience": (int, 0, 1e6), "batch": (int, 2, 65_536),
    "accumulation": (int, 1, 4096), "lr": (REAL, 1e-9, 10), "warmup": (int, 0, 1e6), "decay_every": (int, 1, 1e7),
    "decay": (REAL, 1e-3, 1), "weight_decay": (REAL, 0, 10), "clip": (REAL, 1e-6, 1e6), "ema": (REAL, 0, 0.999999),
}  # fmt: skip
RUN_RANGES = {"seed": (0, 2**32 - 1), "workers": (0, 64), "threads": (0, 1024), "save_every": (1, 10**7)}
CHOICES: dict[str, tuple[str, ...]] = {
    "optimiser": ("adamw", "adam"), "schedule": ("cosine", "warmup-cosine", "step", "constant"),
    "amp": ("off", "bf16", "fp16"), "adaptation": ADAPTATIONS,
}  # fmt: skip
FLAGS = ("freeze_statistics",)
VALIDATE_EVERY = 250


@dataclass(frozen=True)
class Stage:
    """One stage of training. Its length is `steps`, or `epochs` over `samples`."""

    objective: str
    """A name of `objectives.OBJECTIVES`."""
    steps: int = 0
    batch: int = 32
    """Samples of one optimiser step, over all processes and micro-batches."""
    lr: float = 1e-3
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The objective's own settings."""
    epochs: float = 0.0
    samples: int = 0
    """Size of the training set: links and, on SpikeWFM's grid, their motion, drawn once. 0: new draws at every step."""
    validation: int = 0
    """Samples to validate on, of links kept out of training; the best weights are kept. 0: none."""
    validate_every: int = 0
    """Steps between validations; 0: an epoch, or 250 without epochs. The stage's end is validated too."""
    patience: int = 0
    """Stop after this many validations without a new best; 0: never."""
    accumulation: int = 1
    """Micro-batches that a process cuts its share of a batch in."""
    optimiser: str = "adamw"
    schedule: str = "cosine"
    """See training/optimiser.py."""
    warmup: int = 100
    """Steps of linear warm-up."""
    decay_every: int = 1000
    decay: float = 0.5
    weight_decay: float = 0.01
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.0
    """Decay of the moving average of the weights that is the result; 0: off."""
    amp: str = "off"
    """Mixed precision; fp16 on CUDA only."""
    snr_db: tuple[float, float] = (-10.0, 25.0)
    """SNR ~ U(low, high) per sample."""
    regimes: tuple[str, ...] = ("R1", "R2")
    """Slot spacings, drawn batch by batch; on SpikeWFM's grid only."""
    adaptation: str = "full"
    """What is trained, see training/adaptation.py."""
    adaptation_settings: Mapping[str, Any] = field(default_factory=dict)
    """The adaptation's own settings."""
    freeze_statistics: bool = False
    """BatchNorm uses its running statistics and leaves them alone."""

    def __post_init__(self) -> None:
        for name, (kind, low, high) in RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                wanted = f"{low:g} to {high:g}" if kind is REAL else f"a whole number, {int(low):,} to {int(high):,}"
                raise InputError(f"recipe: {name} is {value!r}, wanted {wanted}")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"recipe: {name} is {getattr(self, name)!r}, wanted one of {', '.join(known)}")
        for name in FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"recipe: {name} is {getattr(self, name)!r}, wanted true or false")
        snr = self.snr_db
        if not (isinstance(snr, tuple) and len(snr) == 2 and all(isinstance(v, int | float) for v in snr)):
            raise InputError(f"recipe: snr_db is {snr!r}, wanted [low, high] in dB")
        if not -100 <= snr[0] <= snr[1] <= 100:
            raise InputError(f"recipe: snr_db is {list(snr)}, wanted low <= high within -100 to 100 dB")
        regimes = self.regimes
        if not isinstance(regimes, tuple) or not regimes or any(each not in ("R1", "R2") for each in regimes):
            raise InputError(f"recipe: regimes is {self.regimes!r}, wanted a list of R1, R2 or both")
        if (self.steps > 0) == (self.epochs > 0):
            raise InputError("recipe: a stage has either steps or epochs (with samples), above 0: give one of them")
        if self.samples < self.batch and (self.epochs or self.samples):
            raise InputError(f"recipe: samples is {self.samples}, wanted at least one batch of {self.batch}")
        if self.patience and not self.validation:
            raise InputError(f"recipe: patience {self.patience} needs validation samples: add validation = 500, say")
        if self.batch % self.accumulation:
            raise InputError(f"recipe: batch {self.batch} is no multiple of accumulation {self.accumulation}")
        fewest = self.make_objective().fewest
        for name, samples in (("batch", self.batch), ("validation", self.validation)):
            if samples and (each := samples // self.accumulation) < fewest:
                raise InputError(
                    f"recipe: {name} {samples} / accumulation {self.accumulation} is {each}, and {self.objective} "
                    f"takes {fewest} samples at least: raise {name} or lower accumulation"
                )
        _ = self.adapts

    def make_objective(self) -> Objective:
        """The objective with its settings; InputError for an unknown name or setting."""
        try:
            return objective(self.objective, self.settings)
        except UsageError as error:
            raise InputError(f"recipe: {error}") from None

    @property
    def adapts(self) -> Adaptation:
        """The adaptation with its settings; InputError for an unknown or wrong one."""
        try:
            return Adaptation.of(self.adaptation, self.adaptation_settings)
        except InputError as error:
            raise InputError(f"recipe: {error}") from None

    @property
    def steps_an_epoch(self) -> int:
        """Whole batches of the training set; 0 without one."""
        return self.samples // self.batch

    @property
    def length(self) -> int:
        """Optimiser steps, unless patience ends the stage earlier."""
        return self.steps or max(1, round(self.epochs * self.steps_an_epoch))

    @property
    def validation_interval(self) -> int:
        """Steps from one validation to the next."""
        return self.validate_every or self.steps_an_epoch or VALIDATE_EVERY

    def shortened(self, most: int | None) -> Stage:
        """The stage with at most `most` steps; None changes nothing."""
        return self if most is None else replace(self, steps=min(self.length, most), epochs=0.0)


@dataclass(frozen=True)
class Recipe:
    """A named training run: a model, a seed and its stages."""

    name: str
    summary: str
    model: str
    """A preset, or a checkpoint folder whose configuration is taken; its weights only as `start`."""
    seed: int
    stages: tuple[Stage, ...]
    text: str = ""
    """The recipe's TOML as read, kept beside the checkpoint."""
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    """Values that replace the preset's or folder's."""
    test: Mapping[str, Any] = field(default_factory=dict)
    """The protocol's test: `split` and number of `samples`, for `spikeport evaluate`."""
    workers: int = 1
    """Threads that make batches ahead; they change no bit."""
    threads: int = 0
    """Threads of torch; 0: as torch has it. Another number may change the last bits."""
    save_every: int = 250
    """Steps between states of a run that can be resumed."""
    sharding: str = "off"
    """Under torchrun: off, every process holds the model; full, each holds a share of it (FSDP)."""

    def __post_init__(self) -> None:
        for name, (low, high) in RUN_RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InputError(f"recipe {self.name}: {name} is {value!r}, wanted a whole number, {low} to {high:,}")
        if not isinstance(self.summary, str):
            raise InputError(f"recipe {self.name}: summary is {self.summary!r}, wanted a line of text")
        if self.sharding not in ("off", "full"):
            raise InputError(f"recipe {self.name}: sharding is {self.sharding!r}, wanted off or full")
        if self.test and (set(self.test) != {"split", "samples"} or self.test["split"] not in SPLITS):
            raise InputError(f"recipe {self.name}: test has split (one of {', '.join(SPLITS)}) and samples")
        samples = self.test.get("samples", 1)
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
            raise InputError(f"recipe {self.name}: the test's samples are {samples!r}, wanted a whole number above 0")
        for index, (stage, before) in enumerate(zip(self.stages, (None, *self.stages), strict=False)):
            with in_stage(self.name, index):
                stage.make_objective().follow(before.make_objective() if before else None)
        self.config()

    def config(self) -> Config:
        """The model's configuration: the preset's or folder's, with `model_settings` in place of its values."""
        try:
            config = config_of(self.model)
        except SpikeportError as error:
            raise type(error)(f"recipe {self.name}: {error}") from None
        if not self.model_settings:
            return config
        return type(config).from_dict(_merged({**config.to_dict(), "name": self.name}, self.model_settings))

    def to_dict(self) -> dict[str, Any]:
        """What `spikeport recipes --json` lists."""
        stages = [
            {"objective": s.objective, "steps": s.length, "batch": s.batch, "samples": s.samples or None,
             "validation": s.validation or None, "adaptation": s.adaptation}
            for s in self.stages
        ]  # fmt: skip
        return {
            "name": self.name, "summary": self.summary, "model": self.model, "seed": self.seed, "stages": stages,
            "test": dict(self.test) or None,
        }  # fmt: skip


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
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise InputError(f"recipe {name} cannot be read ({reason}); check the path") from None
    else:
        raise unknown_name("recipe", name, recipe_names(), "or give a .toml file")
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"recipe {name} is not valid TOML: {error}") from None
    return _recipe(Path(name).name.removesuffix(".toml"), table, text)


def _recipe(name: str, table: Mapping[str, Any], text: str) -> Recipe:
    missing = {"model", "seed", "stage"} - set(table)
    if missing:
        raise InputError(
            f"recipe {name}: {sorted(missing)[0]!r} is missing; a recipe has model, seed and [[stage]] tables"
        )
    if not isinstance(table["model"], str) or not isinstance(table["stage"], list) or not table["stage"]:
        raise InputError(f"recipe {name}: model is a preset or checkpoint folder, and there is at least one [[stage]]")
    known = {f.name for f in fields(Recipe)} - {"name", "text", "stages"} | {"stage"}
    values = _known(f"recipe {name}", "recipe", table, known)
    for key in ("model_settings", "test"):
        if not isinstance(values.get(key, {}), Mapping):
            raise InputError(f"recipe {name}: {key} is {values[key]!r}, wanted a table")
    stages = tuple(_stage(name, index, stage) for index, stage in enumerate(values.pop("stage")))
    return Recipe(name=name, text=text, stages=stages, **{"summary": "", **values})


@contextmanager
def in_stage(recipe: str, index: int) -> Iterator[None]:
    """An InputError inside names the recipe and the stage."""
    try:
        yield
    except InputError as error:
        raise InputError(f"recipe {recipe}, stage {index + 1}: {str(error).removeprefix('recipe: ')}") from None


def _stage(name: str, index: int, table: Any) -> Stage:
    if not isinstance(table, Mapping):
        raise InputError(f"recipe {name}: a stage is a [[stage]] table, not {table!r}")
    with in_stage(name, index):
        values = _known("recipe", "stage", table, {f.name for f in fields(Stage)})
        missing = sorted({"objective", "batch", "lr"} - set(values))
        if missing:
            raise InputError(f"{missing[0]!r} is missing; add it")
        for key in ("settings", "adaptation_settings"):
            if not isinstance(values.get(key, {}), Mapping):
                raise InputError(f"{key} is {values[key]!r}, wanted a table")
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return Stage(**values)


def _known(where: str, what: str, table: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    unknown = sorted(set(table) - known)
    if unknown:
        raise InputError(f"{where}: unknown key {unknown[0]!r}; a {what} has {', '.join(sorted(known))}")
    return dict(table)


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, change in changes.items():
        both = isinstance(change, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], change) if both else change
    return merged
