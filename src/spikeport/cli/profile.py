"""`spikeport profile`: what a model costs on each target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .output import DEFAULTS, Common, progress, say, show


def profile(
    model: str,
    *,
    target: Annotated[tuple[str, ...], Parameter(negative="")],
    out: Path | None = None,
    precision: str | None = None,
    scenario: str | None = None,
    host: str | None = None,
    calibrate: Path | None = None,
    samples: int = 16,
    seed: int = 0,
    common: Common = DEFAULTS,
) -> None:
    """Spikes, SynOps, MACs and bytes per layer, and energy and latency per target, beside a quantised-ANN twin.

    Parameters
    ----------
    model
        Preset, checkpoint folder, or file.py:factory.
    target
        A target's id (repeatable).
    out
        Folder for profile.json.
    precision
        Precision of the dense arithmetic, where a target has several.
    scenario
        Scenario of a card, such as embedded or host_streamed.
    host
        Target that runs what an event-driven chip cannot, such as jetson-orin-nano: gives composed totals.
    calibrate
        CSV file of runs on these targets: model,target,precision,scenario,latency_s,energy_j (SI; energy may be empty).
    samples
        Real channels to measure on.
    seed
        Seed of those channels.
    """
    from spikeport import api

    with progress(common) as advance:
        advance(f"profile {model}", 0, 1)
        result = api.profile(
            model,
            targets=target,
            out=out,
            precision=precision,
            scenario=scenario,
            host=host,
            calibrate=calibrate,
            samples=samples,
            seed=seed,
        )
        advance(f"profile {model}", 1, 1)
    show(result, common)
    if out is not None:
        say(f"\nwrote {out / 'profile.json'}; next: spikeport report {out}", common)
