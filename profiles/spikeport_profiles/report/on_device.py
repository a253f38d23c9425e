"""The runs that a device wrote into a run folder, over the estimates of its profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spikeport_errors import InputError

from ..calibrate import Run
from ..device_runs import PATTERN, merged, read_measured


def measured_of(
    folder: Path, model: str | None, profile: dict[str, Any] | None, bundles: Mapping[str, dict[str, Any]]
) -> tuple[Run, ...]:
    """The measured.json of a run folder and of the bundles in it.

    A run with the weights of the profile is a run of its model, whatever it was called. InputError for a run under
    the model's name with other weights.
    """
    places = [folder, *(folder / name for name in bundles)]
    own, found = (profile or {"model": {}})["model"].get("sha256"), []
    for path in sorted(path for place in places for path in place.glob(PATTERN)):
        run = read_measured(path)
        if own is not None and run.sha256 == own:
            run = replace(run, model=model or run.model)
        elif own is not None and run.model == model:
            raise InputError(f"{path} was measured with other weights of {model}: measure this model, or leave it out")
        found.append(run)
    return tuple(found)


def over_estimates(profile: dict[str, Any] | None, runs: Sequence[Run]) -> dict[str, Any] | None:
    """The profile with measured latency and energy in place of the estimates; as it was where nothing was measured."""
    return merged(profile, runs) if profile and runs else profile
