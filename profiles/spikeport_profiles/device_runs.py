"""measured.json, which a bundle's run.py writes on the device: runs that stand over estimates.

A run of the very model (its weights are compared), target, precision and power mode takes the estimate's place; any
other calibrates it (`calibrate`). A run in a power mode that the card does not know is named and not merged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from spikeport_errors import InputError, SpikeportError
from spikeport_targets.card import load_card
from spikeport_toolkit.files import read_json
from spikeport_toolkit.models.identity import model_sha256

from .calibrate import TRANSFER, Run

PATTERN = "*measured.json"
LARGEST = 1 << 20
"""Bytes of the largest file that is read: a record has a few thousand."""
_HASH = "^[0-9a-f]{64}$"


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class _Model(_Part):
    name: str = Field(min_length=1, max_length=500)
    sha256: str = Field(pattern=_HASH)


class _Target(_Part):
    id: str = Field(min_length=1, max_length=200)


class _Mode(_Part):
    name: str = Field(min_length=1, max_length=200)


class _Device(_Part):
    model: str = Field(max_length=500)
    power_mode: _Mode | None = None


class _Latency(_Part):
    p10: float = Field(gt=0)
    median: float = Field(gt=0)
    p90: float = Field(gt=0)
    runs: int = Field(gt=0)


class _Timing(_Part):
    batch: int = Field(gt=0)
    graph: bool
    latency_s: _Latency


class _Power(_Part):
    batch: int = Field(gt=0)
    boundary: str = Field(max_length=500)
    energy_j: float | None = Field(default=None, gt=0)


class _Verification(_Part):
    ok: bool


class Record(_Part):
    """measured.json as far as a report reads it."""

    schema_: Literal["spikeport.measured/1"] = Field(alias="schema")
    kind: Literal["measured"]
    model: _Model
    target: _Target
    precision: str = Field(min_length=1, max_length=100)
    kind_of_arithmetic: Literal["fp32", "fp16", "int8", "fp8", "nvfp4"]
    device: _Device
    tensorrt: str = Field(max_length=100)
    verification: _Verification
    timing: list[_Timing] = Field(min_length=1, max_length=100)
    cuda_graph: bool
    power: list[_Power | None] = Field(max_length=100)


def read_measured(path: Path) -> Run:
    """The run of batch 1 in one measured.json. InputError, naming file and key, where it is not what run.py writes.

    The engine's precision preset, the device, its power mode and the rails stand in the run's source.
    """
    try:
        if Path(path).stat().st_size > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST:,} bytes, no measured.json of a bundle's run.py")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): give a measured.json of a bundle's run.py"
        ) from None
    try:
        record = Record.model_validate(read_json(Path(path)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "top level"
        raise InputError(f"{path}: {place}: {first['msg']}; measure again with `python run.py --measure`") from None
    if not record.verification.ok:
        raise InputError(
            f"{path}: the engine's outputs differed from the golden ones on the device: its speed is that of a wrong "
            "result; `spikeport check DIR --bisect` names the layer"
        )
    row = next((r for r in record.timing if r.batch == 1 and r.graph == record.cuda_graph), None)
    if row is None or not row.latency_s.p10 <= row.latency_s.median <= row.latency_s.p90:
        raise InputError(f"{path}: timing: no row of batch 1 with p10 <= median <= p90; measure again")
    power = next((p for p in record.power if p is not None and p.batch == 1 and p.energy_j is not None), None)
    mode = record.device.power_mode
    said = [
        f"{Path(path).name}: {record.precision} engine",
        f"TensorRT {record.tensorrt} on {record.device.model}",
        f"power mode {mode.name}" if mode else "no power mode",
        "CUDA graph" if record.cuda_graph else "no CUDA graph",
        f"median of {row.latency_s.runs} runs",
    ]
    return Run(
        model=record.model.name,
        target=record.target.id,
        precision=record.kind_of_arithmetic,
        scenario=_scenario(record.target.id, mode.name if mode else None),
        latency_s=row.latency_s.median,
        energy_j=None if power is None else power.energy_j,
        source=", ".join([*said, *([] if power is None else [power.boundary])]),
        interval_s=(row.latency_s.p10, row.latency_s.p90),
        boundary="" if power is None else power.boundary,
        sha256=record.model.sha256,
    )


def runs_of(paths: Iterable[Path], model: str, network: nn.Module, load: Callable[[str], nn.Module]) -> tuple[Run, ...]:
    """The runs in these files, each with the name by which its model can be traced here.

    A run with the weights of `network` is a run of `model`, whatever it was called. Raises InputError for a run of
    `model` with other weights, and for one of a model that cannot be loaded here, or not with these weights.
    """
    own, found = model_sha256(network), []
    for path in paths:
        run = read_measured(Path(path))
        if run.sha256 == own:
            found.append(replace(run, model=model))
            continue
        if run.model == model:
            raise InputError(_other(path, run, own))
        try:
            known = model_sha256(load(run.model))
        except SpikeportError as error:
            raise InputError(
                f"{path} is of {run.model}, which is not {model} and cannot be traced here ({error}): leave it out"
            ) from None
        if known != run.sha256:
            raise InputError(_other(path, run, known))
        found.append(run)
    return tuple(found)


def merged(profile: dict[str, Any], runs: Sequence[Run]) -> dict[str, Any]:
    """profile.json with measured latency and energy of the model, and of its twin, in place of the estimates.

    Runs count for the target, precision and scenario they were taken in. Where the model alone was measured, the
    twin's estimate is multiplied by measured / estimated, and its interval is that of a transfer.
    """
    return {**profile, "targets": [_merged(profile, target, runs) for target in profile["targets"]]}


def _merged(profile: dict[str, Any], target: dict[str, Any], runs: Sequence[Run]) -> dict[str, Any]:
    here = [r for r in runs if (r.target, r.precision) == (target["id"], target["precision"])]
    held = [r for r in here if r.scenario == (target.get("scenario") or "none")]
    stray = [f"Not merged: {r.source}; this is {target.get('scenario')}." for r in here if r not in held]
    mine = fastest(held, profile["model"]["name"])
    twin = fastest(held, profile["twin"]["name"]) if profile.get("twin") else None
    result = {**target, "notes": [*target.get("notes", []), *stray]}
    if mine is not None:
        result = _replaced(result, mine)
        if mine.boundary:
            result["boundary"] = mine.boundary
        result["notes"] = [*result["notes"], f"Measured on the device, not estimated: {mine.source}."]
    if target.get("twin"):
        if twin is not None:
            result["twin"] = _replaced(target["twin"], twin)
        elif mine is not None:
            result["twin"] = _transferred(target["twin"], target, mine)
    return result


def fastest(runs: Iterable[Run], model: str) -> Run | None:
    """Of several engines of one model the one that a user would keep."""
    return min((run for run in runs if run.model == model), key=lambda run: run.latency_s, default=None)


def _replaced(cost: dict[str, Any], run: Run) -> dict[str, Any]:
    joules = run.energy()
    energy = cost["energy"] if joules is None else {**cost["energy"], "total": joules.to_dict()}
    return {**cost, "latency": run.latency().to_dict(), "energy": energy}


def _transferred(cost: dict[str, Any], model: dict[str, Any], run: Run) -> dict[str, Any]:
    energy = {**cost["energy"], "total": _scaled(cost["energy"]["total"], model["energy"]["total"], run.energy_j, run)}
    return {**cost, "latency": _scaled(cost["latency"], model["latency"], run.latency_s, run), "energy": energy}


def _scaled(
    other: dict[str, Any] | None, predicted: dict[str, Any] | None, value: float | None, run: Run
) -> dict[str, Any] | None:
    if value is None or other is None or predicted is None or not predicted["nominal"] or other["nominal"] is None:
        return other
    nominal = other["nominal"] * value / predicted["nominal"]
    interval = {"low": nominal / TRANSFER, "nominal": nominal, "high": nominal * TRANSFER}
    return {**other, **interval, "source": [*other["source"], f"calibrated by {run.source}"]}


def _scenario(target: str, mode: str | None) -> str:
    """The card's scenario of a power mode by its name; the card's own where the device has no modes."""
    card = load_card(target)
    if mode is None:
        return str(card.limits.get("default_scenario", "none"))
    return re.sub(r"[^a-z0-9]+", "_", mode.lower()).strip("_")


def _other(path: Path, run: Run, weights: str) -> str:
    return (
        f"{path} was measured on another model called {run.model} ({run.sha256[:12]}, here {weights[:12]}): export and "
        "measure this model, or leave the file out"
    )
