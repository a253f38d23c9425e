"""What the commands do, as functions with the same options. No logic of its own: it hands on to the rooms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from spikeport_converters import export as converter
from spikeport_converters.contenders import contenders, model_config, model_name_of
from spikeport_converters.plan import plan as make_plan
from spikeport_errors import UsageError, unknown_name
from spikeport_profiles.bare import Counts
from spikeport_profiles.calibrate import read_runs
from spikeport_profiles.estimate import estimate as make_estimate
from spikeport_profiles.profile import profile as make_profile
from spikeport_profiles.report import report as make_report
from spikeport_profiles.trace import trace as make_trace
from spikeport_targets.card import load_card
from spikeport_toolkit.data.impairments import Interference, parse_impairments
from spikeport_toolkit.data.splits import evaluation_splits
from spikeport_toolkit.files import write_json, write_text
from spikeport_toolkit.models.checkpoint import trained_cities, trained_links
from spikeport_toolkit.models.load import converting, is_trained, load_model, twin_of
from spikeport_toolkit.tasks import channel_estimation, channel_prediction
from spikeport_toolkit.training.loop import Progress
from spikeport_toolkit.training.loop import train as run_training
from spikeport_toolkit.training.recipe import load_recipe

if TYPE_CHECKING:
    from torch import nn

    from spikeport_converters.bundle import Bundle
    from spikeport_converters.conformance import Conformance
    from spikeport_converters.export import CheckReport
    from spikeport_converters.plan import Plan
    from spikeport_profiles.counts import Trace
    from spikeport_profiles.estimate import Estimate
    from spikeport_profiles.profile import Profile
    from spikeport_profiles.report import Report
    from spikeport_toolkit.tasks.channel_prediction import Evaluation

__all__ = [
    "Counts",
    "check",
    "conformance",
    "demo",
    "estimate",
    "evaluate",
    "export",
    "load_model",
    "plan",
    "profile",
    "report",
    "trace",
    "train",
]

SAMPLES, SEED, MOST_SAMPLES, MOST_SEEDS = 16, 0, 4096, 100
TASKS = ("channel-estimation", "channel-prediction")
BASELINES_ALONE = "baselines"
DEMO_LINKS = 200
"""Test links a point in the demo, for its three minutes; `evaluate` takes 500."""
Step = Callable[[str, int, int], None]
"""Progress callback: what, done, of how many."""


def _silent(what: str, done: int, total: int) -> None:
    """Show nothing."""


def plan(model: str, *, target: str) -> Plan:
    """What each part of MODEL becomes on `target`: kept, rewritten or refused. Nothing is converted."""
    card = load_card(target)
    network = load_model(model)
    with converting(model):
        return make_plan(network, None, card)


def export(
    model: str,
    *,
    target: str,
    out: str | Path,
    precision: str | None = None,
    samples: int = SAMPLES,
    seed: int = SEED,
    allow_approximate: bool = False,
) -> Bundle:
    """Convert MODEL for `target`, run the result beside the reference, and write the bundle `out`.

    `precision` defaults to the card's `default_precision`. `samples` real channels, drawn with `seed`, serve as
    calibration and golden inputs; a module of the user's that has an `example_input` is run on that instead.
    `allow_approximate` writes also what a simulator reproduces only in part, with parity reported, not gated. Look at
    `.parity` of the result: a bundle is written also when it fails.
    """
    card = load_card(target)
    network = load_model(model)
    chosen = precision or str(card.limits.get("default_precision", "fp32"))
    with converting(model):
        if not hasattr(network, "config"):  # a user's own module: what the target cannot run is said before all else
            make_plan(network, None, card).require(allow_approximate=allow_approximate)
        example = getattr(network, "example_input", None)
        own = isinstance(example, torch.Tensor)
        if isinstance(example, torch.Tensor):
            patches, truth = example.detach().numpy(), None
        else:
            patches, truth = _samples(network, samples, seed)
        return converter.export(
            network,
            card,
            chosen,
            out,
            patches,
            truth,
            name=model,
            trained=is_trained(model),
            seeds={} if own else {"samples": seed},
            licences={} if own else {"golden inputs": "ODbL (OpenStreetMap cities) and Apache-2.0 (procedural cities)"},
            allow_approximate=allow_approximate,
        )


def check(folder: str | Path) -> CheckReport:
    """Verify every hash of a bundle, then run its parity again; truthy when all holds."""
    return converter.check(folder)


def conformance(
    targets: Sequence[str] | None = None, *, out: str | Path | None = None, progress: Step = _silent
) -> Conformance:
    """Every feature of a spiking network on `targets` (default: all of route nir) against SpikingJelly's own nodes.

    Falsy where a simulator differs although its card claims exactness. Writes `out`/conformance.json and
    conformance.md if given.
    """
    from spikeport_converters.conformance import conformance as run_conformance
    from spikeport_converters.conformance_page import page

    cards = [load_card(target) for target in targets] if targets else None
    result = run_conformance(cards, progress=progress)
    if out is not None:
        write_json(Path(out) / "conformance.json", result.to_dict())
        write_text(Path(out) / "conformance.md", page(result))
    return result


def trace(model: str, *, samples: int = SAMPLES, seed: int = SEED) -> Trace:
    """Spikes, SynOps, MACs and bytes of MODEL per layer, measured on `samples` real channels."""
    network = load_model(model)
    patches, _ = _samples(network, samples, seed)
    return make_trace(network, [patches], source=_source(samples))


def estimate(
    counts: Trace | Counts,
    *,
    target: str,
    precision: str | None = None,
    scenario: str | None = None,
    twin: Trace | Counts | None = None,
    host: str | None = None,
) -> Estimate:
    """Energy and latency on `target` of a trace, or of bare `Counts`, beside those of a twin.

    `host` is the target that runs what an event-driven chip cannot; it needs a trace.
    """
    return make_estimate(
        counts,
        load_card(target),
        precision=precision,
        scenario=scenario,
        twin_trace=twin,
        host=load_card(host) if host else None,
    )


def profile(
    model: str,
    *,
    targets: Sequence[str],
    out: str | Path | None = None,
    precision: str | None = None,
    scenario: str | None = None,
    host: str | None = None,
    calibrate: str | Path | None = None,
    samples: int = SAMPLES,
    seed: int = SEED,
) -> Profile:
    """Trace MODEL and its quantised-ReLU twin, cost both on every target; writes `out`/profile.json if given.

    A MODEL that is no preset has no twin here; a twin preset without shipped weights is traced untrained and says so.
    `host` is the target that runs what an event-driven chip of `targets` cannot: their totals are then composed.
    `calibrate` is a CSV file of runs on these targets (model,target,precision,scenario,latency_s,energy_j); each of its
    models is traced, and the runs narrow the intervals.
    """
    if not targets:
        raise UsageError("name at least one --target; `spikeport targets` lists them")
    cards = [load_card(target) for target in targets]
    network = load_model(model)
    patches, _ = _samples(network, samples, seed)
    runs = read_runs(Path(calibrate)) if calibrate is not None else ()
    traces = {name: trace(name, samples=samples, seed=seed) for name in dict.fromkeys(run.model for run in runs)}
    twin = twin_of(model, "qrelu")
    result = make_profile(
        network,
        load_model(twin) if twin else None,
        cards,
        [patches],
        name=model,
        twin_name=twin,
        trained=is_trained(model),
        twin_trained=bool(twin) and is_trained(str(twin)),
        precision=precision,
        scenario=scenario,
        host=load_card(host) if host else None,
        runs=[(run, traces[run.model]) for run in runs],
        source=_source(samples),
    )
    if out is not None:
        write_json(Path(out) / "profile.json", result.to_dict())
    return result


def evaluate(
    model: str,
    *,
    out: str | Path | None = None,
    task: str = "channel-prediction",
    snr: str = "-10:30:5",
    compare: Sequence[str] = (),
    islands: str | None = None,
    baselines: str = "",
    sinr: str | None = None,
    impairments: str = "",
    data: str | Path | None = None,
    links: int = 500,
    seed: int = SEED,
    seeds: int = 1,
    progress: Step = _silent,
) -> Evaluation:
    """NMSE over SNR of MODEL beside the baselines, the genie's limit and the models of `compare`.

    `task` is channel-prediction or channel-estimation; MODEL `baselines` evaluates the baselines alone, and for
    estimation is the only one there is. last-value, wiener, lmmse and genie always run; `baselines` adds others by
    name, commas between, or all. `sinr` in place of `snr` adds co-channel users; `impairments` spoil the receiver, as
    cfo=200,adc=6 (data/impairments.py). `seeds` seeds from `seed` on draw links, motion and noise anew.

    Any of them may be the folder of a bundle: then the artefact itself is run (role `deployed`), in onnxruntime, and
    its islands in its simulator or in the runtime `islands`. MODEL's float model stands beside it.
    `snr` is low:high:step in dB, or one value. `data` is a folder of path sets or of stored channels (default: the
    embedded cities, held-out users of the seven training cities and the three unseen ones). Writes
    `out`/evaluation.json if given.
    """
    if task not in TASKS:
        raise unknown_name("task", task, TASKS, "choose one")
    _check_seed(seed)
    if not 1 <= seeds <= MOST_SEEDS:
        raise UsageError(f"--seeds is {seeds}; 1 to {MOST_SEEDS} are possible")
    hardware, noise = parse_impairments(impairments)
    models = [model_name_of(name) for name in (model, *compare)]
    common: dict[str, Any] = {
        "snrs_db": _snrs(snr) if sinr is None else _snrs(sinr, "--sinr"),
        "links": links,
        "seed": seed,
        "seeds": seeds,
        "splits": evaluation_splits(data, trained_cities(models), trained_links(models)),
        "data": str(data) if data is not None else "embedded cities (ray-traced)",
        "progress": partial(progress, "evaluate"),
    }
    if task == "channel-estimation":
        _refuse_estimation(model, compare, sinr, impairments)
        result = channel_estimation.evaluate(**common)
    else:
        alone = model == BASELINES_ALONE and not compare
        rivals = () if alone else contenders(model, compare, islands)
        result = channel_prediction.evaluate(
            model if alone else model_name_of(model),
            {rival.name: (rival.role, rival.predict) for rival in rivals},
            model_config("spikewfm-nano", load_model("spikewfm-nano")).grid if alone else rivals[0].grid,
            baselines=[name.strip() for name in baselines.split(",")] if baselines else (),
            sinr=Interference() if sinr is not None else None,
            impairments=hardware,
            noise=noise,
            **common,
        )
    if out is not None:
        write_json(Path(out) / "evaluation.json", result.to_dict())
    return result


def train(
    recipe: str,
    *,
    out: str | Path | None = None,
    data: str | Path | None = None,
    resume: bool = False,
    max_steps: int | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Run a recipe; leaves a checkpoint folder at `out` (default: the recipe's name in the working folder).

    `data` is a store (`spikeport data make`) to train on; default: the embedded cities.
    """
    if max_steps is not None and max_steps < 1:
        raise UsageError(f"--max-steps is {max_steps}; at least 1 is needed")
    chosen = load_recipe(recipe)
    store = None if data is None else Path(data)
    return run_training(
        chosen, Path(out or chosen.name), data=store, resume=resume, max_steps=max_steps, report=progress
    )


def report(folders: Sequence[str | Path], *, out: str | Path, title: str | None = None) -> Report:
    """One self-contained HTML page, its JSON and its Markdown over run folders, in `out`."""
    return make_report([Path(folder) for folder in folders], Path(out), title=title)


def demo(out: str | Path = "spikeport-demo", *, links: int = DEMO_LINKS, progress: Step = _silent) -> Report:
    """The whole flow on the shipped checkpoint and the embedded cities: evaluate, export, check, profile, report.

    Raises CheckFailed if any bundle fails its parity.
    """
    from .demo import run_demo

    return run_demo(Path(out), links=links, progress=progress)


def _samples(network: nn.Module, samples: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if not 1 <= samples <= MOST_SAMPLES:
        raise UsageError(f"--samples is {samples}; 1 to {MOST_SAMPLES} are possible")
    _check_seed(seed)
    return channel_prediction.example_pairs(model_config("MODEL", network), samples, seed)


def _refuse_estimation(model: str, compare: Sequence[str], sinr: str | None, impairments: str) -> None:
    """Estimation knows baselines and thermal noise only."""
    if model != BASELINES_ALONE or compare:
        raise UsageError(
            f"{model if model != BASELINES_ALONE else compare[0]} predicts the next slot and has no head for "
            "estimation: `spikeport evaluate baselines --task channel-estimation` evaluates the baselines"
        )
    if sinr is not None or impairments:
        raise UsageError("--sinr and --impairments go with channel-prediction; estimation has thermal noise: --snr")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise UsageError(f"--seed is {seed}; 0 to 2^32 - 1 are possible")


def _source(samples: int) -> str:
    return f"{samples} ray-traced links of the embedded training cities, both slot spacings, SNR U(-10, 30) dB"


def _snrs(text: str, option: str = "--snr") -> tuple[float, ...]:
    try:
        values = [float(part) for part in text.split(":")]
    except ValueError:
        values = []
    if len(values) == 1:
        values = [values[0], values[0], 1.0]
    if len(values) != 3 or not -100 <= values[0] <= values[1] <= 100 or not 1e-3 <= values[2] <= 200:
        raise UsageError(
            f"{option} {text!r} is not low:high:step in dB within -100 to 100 (as -10:30:5), nor one number"
        )
    count = int((values[1] - values[0]) / values[2] + 1e-9) + 1
    if count > 100:
        raise UsageError(f"{option} {text!r} asks for {count} points; 100 is the limit: take a larger step")
    return tuple(values[0] + values[2] * index for index in range(count))
