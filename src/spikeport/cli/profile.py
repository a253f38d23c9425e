"""`spikeport profile`: what a model costs on each target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from .output import DEFAULTS, Common, Whole, progress, say, show, show_json


def profile(
    model: str,
    *,
    target: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    out: Path | None = None,
    precision: str | None = None,
    scenario: str | None = None,
    host: str | None = None,
    calibrate: Path | None = None,
    measured: Annotated[tuple[Path, ...], Parameter(negative="")] = (),
    samples: Whole = 16,
    seed: Whole = 0,
    rates_snr: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    detail: Annotated[bool, Parameter(negative="")] = False,
    accuracy: Annotated[bool, Parameter(negative="")] = False,
    snr: Annotated[str, Parameter(allow_leading_hyphen=True)] = "-10:30:10",
    links: Whole = 50,
    bundles: Path | None = None,
    max_latency: str | None = None,
    max_energy: str | None = None,
    max_nmse: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    gate: str = "nominal",
    keys: Literal["spikeport", "spikingjelly", "neurobench"] = "spikeport",
    sweep: str | None = None,
    jobs: Whole | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Spikes, SynOps, MACs and bytes per layer, and energy and latency per target, beside a quantised-ANN twin.

    Parameters
    ----------
    model
        Preset, checkpoint folder, or file.py:factory (traced on its example_input).
    target
        A target's id (repeatable).
    out
        Folder for profile.json and profile.csv, or for a sweep.
    precision
        Precision of the dense arithmetic, where a target has several.
    scenario
        Scenario of a card, such as embedded or host_streamed.
    host
        Target that runs what an event-driven chip cannot, such as jetson-orin-nano: gives composed totals.
    calibrate
        CSV file of runs on these targets: model,target,precision,scenario,latency_s,energy_j (SI; energy may be empty).
    measured
        measured.json that a bundle's run.py --measure wrote on a target (repeatable): takes the place of estimates.
    samples
        Real channels to measure on.
    seed
        Seed of those channels, and of the links of --accuracy.
    rates_snr
        low:high:step in dB: spike rates at each SNR too.
    detail
        Keep spike rasters and membrane histograms of one sample.
    accuracy
        Export for every target, run the artefacts, and say their NMSE over SNR.
    snr
        low:high:step in dB of --accuracy and --sweep.
    links
        Test links per point of --accuracy and --sweep.
    bundles
        Folder where the bundles of --accuracy stay; default: none stays.
    max_latency
        Budget with its unit, as 2ms: exit code 1 where a target exceeds it, or its latency is not known.
    max_energy
        Budget for the total energy, as 5mJ.
    max_nmse
        Budget for the artefact's mean NMSE, as -10dB; needs --accuracy.
    gate
        Which value of an interval is held against a budget: p10, nominal or p90.
    keys
        Print the counts by the names of another tool: spikingjelly (op counters) or neurobench (metrics).
    sweep
        Design space: "neuron=lif,ilif;steps=2,4,8;precision=fp16,int8;target=jetson-orin-nano,loihi2", any of neuron,
        steps, levels, precision, target. Every point is kept in --out, so that a killed run goes on.
    jobs
        Processes of a sweep; default: one for each core.
    """
    from spikeport import api
    from spikeport_profiles.budget import parse_budget

    budget = parse_budget(max_latency, max_energy, max_nmse, gate)
    with progress(common) as advance:
        if sweep is not None:
            space = api.sweep(
                model,
                sweep=sweep,
                out=out,
                targets=target,
                precision=precision,
                host=host,
                samples=samples,
                seed=seed,
                snr=snr,
                links=links,
                jobs=jobs,
                progress=advance,
            )
        else:
            advance(f"profile {model}", 0, 1)
            result = api.profile(
                model,
                targets=target,
                out=out,
                precision=precision,
                scenario=scenario,
                host=host,
                calibrate=calibrate,
                measured=measured,
                samples=samples,
                seed=seed,
                rates_snr=rates_snr,
                detail=detail,
                accuracy=accuracy,
                snr=snr,
                links=links,
                bundles=bundles,
                budget=budget,
                progress=advance,
            )
            advance(f"profile {model}", 1, 1)
    if sweep is not None:
        show(space, common)
        say(f"\nwrote {out}/sweep.json and sweep.csv", common)
        return 0
    if keys == "spikeport":
        show(result, common)
    else:
        show_json(result.to_dict(keys=keys), common)
    if out is not None:
        say(f"\nwrote {out / 'profile.json'} and profile.csv; next: spikeport report {out}", common)
    return 0 if result.budget is None or result.budget.ok else 1
