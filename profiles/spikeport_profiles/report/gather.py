"""From folders to validated runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from spikeport_errors import InputError
from spikeport_toolkit.files import read_json

from ..calibrate import Run as Measured
from .inputs import Classification, Evaluation, Manifest, Profile, ScoreTable, SweepFile
from .on_device import measured_of, over_estimates

TABLES: dict[str, type[BaseModel]] = {
    "spikeport.scores/1": ScoreTable,
    "spikeport.classification/1": Classification,
}
"""Schemas of evaluation.json that hold a table in place of curves over SNR."""


@dataclass(frozen=True)
class Run:
    """One run folder; whatever part is absent is None or empty.

    `profile` has what was measured on a device over its estimates, `estimated` is profile.json as it was written.
    """

    name: str
    evaluation: dict[str, Any] | None
    profile: dict[str, Any] | None
    bundles: dict[str, dict[str, Any]]
    table: dict[str, Any] | None = None
    sweep: dict[str, Any] | None = None
    measured: tuple[Measured, ...] = ()
    estimated: dict[str, Any] | None = None


def gather(folders: Sequence[Path]) -> tuple[Run, ...]:
    """Read every run folder.

    Raises:
        InputError: no folder was given, or one is missing, empty of results, or holds a broken file (which is named).
    """
    if not folders:
        raise InputError("no run folder given; name at least one, such as the --out of `spikeport profile`")
    names = _distinct_names([Path(folder) for folder in folders])
    return tuple(_read(Path(folder), name) for folder, name in zip(folders, names, strict=True))


def _read(folder: Path, name: str) -> Run:
    if not folder.is_dir():
        raise InputError(f"run folder {folder} does not exist or is not a folder; check the path")
    profile, sweep = folder / "profile.json", folder / "sweep.json"
    evaluation, table = _evaluation(folder / "evaluation.json")
    run = Run(
        name,
        evaluation,
        _load(profile, Profile) if profile.exists() else None,
        {file.parent.name: _load(file, Manifest) for file in sorted(folder.glob("[!.]*/manifest.json"))},
        table,
        _load(sweep, SweepFile) if sweep.exists() else None,
    )
    if not (run.evaluation or run.profile or run.bundles or run.table or run.sweep):
        raise InputError(
            f"run folder {folder} holds no evaluation.json, profile.json, sweep.json or bundle; make one with "
            f"`spikeport evaluate MODEL --out {folder}` or `spikeport profile MODEL --target ID --out {folder}`"
        )
    name_of_model = _require_one_model(folder, run)
    measured = measured_of(folder, name_of_model, run.profile, run.bundles)
    return replace(run, measured=measured, profile=over_estimates(run.profile, measured), estimated=run.profile)


def _evaluation(file: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Curves over SNR, or the table of a task that has none; both None where there is no such file."""
    if not file.exists():
        return None, None
    value = read_json(file)
    schema = TABLES.get(str(value.get("schema"))) if isinstance(value, dict) else None
    return (_load(file, Evaluation), None) if schema is None else (None, _load(file, schema))


def _require_one_model(folder: Path, run: Run) -> str:
    """The model's name; InputError where the parts of a run folder speak of different models."""
    named = {f"{name}/manifest.json": manifest["model"]["name"] for name, manifest in run.bundles.items()}
    for found in filter(None, (run.evaluation, run.table)):
        named["evaluation.json"] = found["model"]
    if run.profile:
        named["profile.json"] = run.profile["model"]["name"]
    if run.sweep:
        named["sweep.json"] = run.sweep["model"]
    first, *others = named.items()
    for file, model in others:
        if model != first[1]:
            raise InputError(
                f"run folder {folder} mixes models: {first[0]} is of {first[1]}, {file} of {model}; "
                "give each model a folder of its own"
            )
    return str(first[1])


def _load(file: Path, schema: type[BaseModel]) -> dict[str, Any]:
    value = read_json(file)
    try:
        return schema.model_validate(value).model_dump(by_alias=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "top level"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise InputError(f"{file}: {place}: {first['msg']}{more}; make the file again with this spikeport") from None


def _distinct_names(folders: Sequence[Path]) -> list[str]:
    """Folder names, with as many parents as it takes to tell them apart."""
    parts = [folder.absolute().parts for folder in folders]
    if len(set(parts)) != len(parts):
        raise InputError("the same run folder is given twice; name each folder once")
    depth = 1
    while len({p[-depth:] for p in parts}) != len(parts):
        depth += 1
    return ["/".join(p[-depth:]) for p in parts]
