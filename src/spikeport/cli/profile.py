"""`spikeport profile`: what a model costs on each target."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from spikeport_errors import UsageError

from .output import DEFAULTS, Common, Whole, progress, say, show, show_json

Hyphened = Annotated[str | None, Parameter(allow_leading_hyphen=True)]


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
    rates_snr: Hyphened = None,
    detail: Annotated[bool, Parameter(negative="")] = False,
    accuracy: Annotated[bool, Parameter(negative="")] = False,
    snr: Hyphened = None,
    links: Whole | None = None,
    bundles: Path | None = None,
    max_latency: Hyphened = None,
    max_energy: Hyphened = None,
    max_nmse: Hyphened = None,
    gate: str | None = None,
    keys: Literal["spikeport", "spikingjelly", "neurobench"] | None = None,
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
        low:high:step in dB of --accuracy and --sweep; default: -10:30:10.
    links
        Test links per point of --accuracy and --sweep; default: 50.
    bundles
        Folder where the bundles of --accuracy stay; default: none stays.
    max_latency
        Budget with its unit, as 2ms: exit code 1 where a target exceeds it, or its latency is not known.
    max_energy
        Budget for the total energy, as 5mJ.
    max_nmse
        Budget for the artefact's mean NMSE, as -10dB; needs --accuracy.
    gate
        Which value of an interval is held against a budget: p10, nominal (the default) or p90.
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

    budget = parse_budget(max_latency, max_energy, max_nmse, "nominal" if gate is None else gate)
    if sweep is not None:
        others = {
            "--max-latency": max_latency, "--max-energy": max_energy, "--max-nmse": max_nmse, "--gate": gate,
            "--keys": keys, "--scenario": scenario, "--calibrate": calibrate, "--measured": measured or None,
            "--rates-snr": rates_snr, "--detail": detail or None, "--accuracy": accuracy or None, "--bundles": bundles,
        }  # fmt: skip
        _refuse(others, "a --sweep takes no {}: leave it out, or profile its targets without --sweep")
    else:
        _refuse({"--jobs": jobs}, "{} does nothing without --sweep: add that, or leave it out")
        if not budget:
            _refuse({"--gate": gate}, "{} does nothing without a budget: add --max-latency, --max-energy or --max-nmse")
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
        if space.done:
            return 0
        print(f"no point of the sweep succeeded; the reasons stand in {out}/sweep.csv", file=sys.stderr)
        return 1
    if keys in (None, "spikeport"):
        show(result, common)
    else:
        show_json(result.to_dict(keys=keys), common)
    if out is not None:
        say(f"\nwrote {out / 'profile.json'} and profile.csv; next: spikeport report {out}", common)
    if result.budget is None or result.budget.ok:
        return 0
    if common.json or common.quiet or keys not in (None, "spikeport"):  # what was printed does not say so
        print("\n".join(row.text for row in result.budget.rows if not row.ok), file=sys.stderr)
    return 1


def _refuse(options: Mapping[str, object], why: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UsageError(why.format(", ".join(given)))
