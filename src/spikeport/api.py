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
from spikeport_converters.tailor import tailor
from spikeport_errors import UsageError
from spikeport_profiles.accuracy import check_links, deployed_accuracy
from spikeport_profiles.bare import Counts
from spikeport_profiles.calibrate import read_runs
from spikeport_profiles.device_runs import runs_of
from spikeport_profiles.estimate import estimate as make_estimate
from spikeport_profiles.inputs import calibration_inputs
from spikeport_profiles.profile import profile as make_profile
from spikeport_profiles.report import report as make_report
from spikeport_profiles.sweep import sweep as run_sweep
from spikeport_profiles.table import csv_of
from spikeport_profiles.trace import trace as make_trace
from spikeport_profiles.trace import with_rates
from spikeport_targets.card import load_card
from spikeport_toolkit.data.impairments import Interference, parse_impairments
from spikeport_toolkit.data.splits import evaluation_splits
from spikeport_toolkit.files import write_json, write_text
from spikeport_toolkit.models.checkpoint import trained_cities, trained_links
from spikeport_toolkit.models.config import ModelConfig
from spikeport_toolkit.models.import_lwm import import_weights as run_import
from spikeport_toolkit.models.load import converting, is_trained, load_model, twin_of
from spikeport_toolkit.models.presets import neuron_preset
from spikeport_toolkit.tasks import channel_estimation, channel_prediction
from spikeport_toolkit.tasks.registry import task_of
from spikeport_toolkit.tasks.request import Request
from spikeport_toolkit.training.ann_to_snn import ann_to_snn as run_conversion
from spikeport_toolkit.training.loop import Progress
from spikeport_toolkit.training.loop import train as run_training
from spikeport_toolkit.training.recipe import load_recipe

if TYPE_CHECKING:
    from torch import nn

    from spikeport_converters.bundle import Bundle
    from spikeport_converters.conformance import Conformance
    from spikeport_converters.export import CheckReport
    from spikeport_converters.plan import Plan
    from spikeport_profiles.budget import Budget
    from spikeport_profiles.counts import Trace
    from spikeport_profiles.estimate import Estimate
    from spikeport_profiles.profile import Profile
    from spikeport_profiles.report import Report
    from spikeport_profiles.sweep import Sweep
    from spikeport_toolkit.models.import_lwm import Imported
    from spikeport_toolkit.tasks.channel_prediction import Evaluation
    from spikeport_toolkit.tasks.registry import Result
    from spikeport_toolkit.training.ann_to_snn import Converted

__all__ = [
    "Counts",
    "ann_to_snn",
    "check",
    "conformance",
    "demo",
    "estimate",
    "evaluate",
    "export",
    "import_weights",
    "load_model",
    "plan",
    "profile",
    "report",
    "sweep",
    "trace",
    "train",
]

SAMPLES, SEED, MOST_SAMPLES, MOST_SEEDS = 16, 0, 4096, 100
BASELINES_ALONE = "baselines"
ACCURACY_SNR, ACCURACY_LINKS = "-10:30:10", 50
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
    calibration: str = "minmax",
    sensitivity: str | None = None,
    max_nmse_loss: float | None = None,
    qat: int | None = None,
    pad_heads: int = 1,
    tokens: Sequence[int] | None = None,
) -> Bundle:
    """Convert MODEL for `target`, run the result beside the reference, and write the bundle `out`.

    `precision` is a preset of the card (default: its `default_precision`), `calibration` minmax, entropy or mse.
    `sensitivity` (groups, layers) measures what quantising each part costs; `max_nmse_loss` in dB replaces an INT8
    preset by the cheapest assignment within that loss; `qat` fine-tunes for so many steps; `pad_heads` pads attention
    heads with zeros to a multiple of so many features, and `tokens` (fewest, best, most) lets the number of tokens vary
    where forward does, in a dense graph. `samples` real channels, drawn with `seed`,
    serve as calibration and golden inputs; a module of the user's that has an `example_input` is run on that instead.
    `allow_approximate` writes also what a simulator reproduces only in part, with parity reported, not gated. Look at
    `.ok` of the result: a bundle is written also when parity or a rung of the verify ladder fails.
    """
    card = load_card(target)
    network = load_model(model)
    asked = (sensitivity, max_nmse_loss, qat) != (None, None, None)
    chosen = converter.precision_of(card, precision, calibration, integer=asked)
    with converting(model):
        if not hasattr(network, "config"):  # a user's own module: what the target cannot run is said before all else
            make_plan(network, None, card).require(allow_approximate=allow_approximate)
        example = getattr(network, "example_input", None)
        own = isinstance(example, torch.Tensor)
        if isinstance(example, torch.Tensor):
            patches, truth = example.detach().numpy(), None
        elif card.route == "onnx" and not isinstance(getattr(network, "config", None), ModelConfig):
            patches, truth = _inputs(model, network, samples, seed)[0], None
        else:
            patches, truth = _samples(model, network, samples, seed)
        tailored = tailor(
            network, chosen, patches, seed=seed, parts=sensitivity, budget_db=max_nmse_loss, qat_steps=qat
        )
        return converter.export(
            tailored.model,
            card,
            tailored.chosen,
            out,
            patches,
            truth,
            name=model,
            trained=is_trained(model),
            seeds={} if own else {"samples": seed},
            licences={} if own else {"golden inputs": "ODbL (OpenStreetMap cities) and Apache-2.0 (procedural cities)"},
            allow_approximate=allow_approximate,
            original=tailored.original,
            compilers=True,
            notes=tailored.notes,
            pad_heads=pad_heads,
            tokens=tokens,
        )


def check(folder: str | Path, *, bisect: bool = False) -> CheckReport:
    """Verify every hash of a bundle, then run its parity again; truthy when all holds.

    `bisect` also names the first layer of its graph that differs from the model.
    """
    return converter.check(folder, bisect=bisect)


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


def trace(
    model: str, *, samples: int = SAMPLES, seed: int = SEED, rates_snr: str | None = None, detail: bool = False
) -> Trace:
    """Spikes, SynOps, MACs and bytes of MODEL per layer, measured on `samples` real channels.

    A module of the user's is traced on its `example_input`. `rates_snr` (low:high:step in dB) adds spike rates at each
    SNR, `detail` the spikes and membrane potentials of one sample.
    """
    network = load_model(model)
    with converting(model):
        patches, source = _inputs(model, network, samples, seed)
        found = make_trace(network, [patches], source=source, detail=detail)
        at_snr = _at_snr(model, network, samples, seed, rates_snr)
        return with_rates(found, network, at_snr) if at_snr else found


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
    measured: Sequence[str | Path] = (),
    samples: int = SAMPLES,
    seed: int = SEED,
    rates_snr: str | None = None,
    detail: bool = False,
    accuracy: bool = False,
    snr: str | None = None,
    links: int | None = None,
    bundles: str | Path | None = None,
    budget: Budget | None = None,
    progress: Step = _silent,
) -> Profile:
    """Trace MODEL and its quantised-ReLU twin, cost both on every target; writes `out`/profile.json and profile.csv.

    A MODEL that is no preset has no twin here; a twin preset without shipped weights is traced untrained and says so.
    A module of the user's is traced on its `example_input`. `host` is the target that runs what an event-driven chip of
    `targets` cannot: their totals are then composed. `calibrate` is a CSV file of runs on these targets
    (model,target,precision,scenario,latency_s,energy_j); each of its models is traced, and the runs narrow the
    intervals; so do the `measured` files that a bundle's run.py wrote on the device, and a run of MODEL's own weights
    takes the estimate's place. `rates_snr` and `detail` as in `trace`. `accuracy` exports MODEL for every target (to
    `bundles` if given) and evaluates the artefacts at `snr` on `links` links a point (default: -10:30:10, 50). `budget`
    is held against every target: look at `.budget` of the result.
    """
    given = {"--snr": snr, "--links": links, "--bundles": bundles, "--max-nmse": budget.nmse_db if budget else None}
    stray = [option for option, value in given.items() if value is not None]
    if stray and not accuracy:
        raise UsageError(f"{', '.join(stray)} does nothing without --accuracy, which runs the artefacts: add that")
    snrs, links = _evaluated(snr, links, seed)
    if not targets:
        raise UsageError("name at least one --target; `spikeport targets` lists them")
    cards = [load_card(target) for target in targets]
    network = load_model(model)
    with converting(model):
        patches, source = _inputs(model, network, samples, seed)
        at_snr = _at_snr(model, network, samples, seed, rates_snr)
    runs = (
        *(read_runs(Path(calibrate), cards) if calibrate is not None else ()),
        *runs_of(map(Path, measured), model, network, load_model),
    )
    traces = {name: trace(name, samples=samples, seed=seed) for name in dict.fromkeys(run.model for run in runs)}
    name = twin_of(model, "qrelu")
    twin = load_model(name) if name else None
    with converting(model):
        result = make_profile(
            network,
            twin,
            cards,
            [patches],
            name=model,
            twin_name=name,
            trained=is_trained(model),
            twin_trained=bool(name) and is_trained(str(name)),
            precision=precision,
            scenario=scenario,
            host=load_card(host) if host else None,
            runs=[(run, traces[run.model]) for run in runs],
            source=source,
            at_snr=at_snr,
            detail=detail,
        )
        if accuracy:
            found = deployed_accuracy(
                network,
                twin,
                cards,
                [target.precision for target in result.targets],
                _samples(model, network, samples, seed),
                name=model,
                trained=is_trained(model),
                snrs_db=snrs,
                links=links,
                seed=seed,
                bundles=Path(bundles) if bundles is not None else None,
                progress=partial(progress, "accuracy"),
            )
            result = result.with_accuracy(found)
    if budget:
        result = result.with_budget(budget)
    if out is not None:
        write_json(Path(out) / "profile.json", result.to_dict())
        write_text(Path(out) / "profile.csv", csv_of(result))
    return result


def sweep(
    model: str,
    *,
    sweep: str,
    out: str | Path | None,
    targets: Sequence[str] = (),
    precision: str | None = None,
    host: str | None = None,
    samples: int = SAMPLES,
    seed: int = SEED,
    snr: str | None = None,
    links: int | None = None,
    jobs: int | None = None,
    progress: Step = _silent,
) -> Sweep:
    """Profile and evaluate MODEL over a design space, in `jobs` processes; writes sweep.json and sweep.csv in `out`.

    `sweep` is axes and values, as "neuron=lif,ilif;steps=2,4,8;precision=fp16,int8;target=jetson-orin-nano,loihi2".
    A changed T or D is not retrained, and the point says so. Points stay in `out`, so that a killed sweep goes on.
    Every point is evaluated at `snr` on `links` links (default: -10:30:10, 50). No point may have succeeded: look at
    `.done` of the result.
    """
    if out is None:
        raise UsageError("--sweep keeps every point in a folder: name one with --out")
    _check_samples(samples, seed)
    snrs, links = _evaluated(snr, links, seed)
    return run_sweep(
        model,
        sweep,
        Path(out),
        targets=targets,
        precision=precision,
        host=host,
        samples=samples,
        seed=seed,
        snrs_db=snrs,
        links=links,
        jobs=jobs,
        progress=partial(progress, "sweep"),
    )


def evaluate(
    model: str,
    *,
    out: str | Path | None = None,
    task: str = "channel-prediction",
    snr: str | None = None,
    compare: Sequence[str] = (),
    islands: str | None = None,
    baselines: str = "",
    sinr: str | None = None,
    impairments: str = "",
    labels: str | Sequence[int] | None = None,
    adaptation: str | None = None,
    data: str | Path | None = None,
    links: int | None = None,
    seed: int = SEED,
    seeds: int | None = None,
    progress: Step = _silent,
) -> Result:
    """How well MODEL does a `task` beside the models of `compare`, baselines and, where there is one, a limit.

    The tasks stand in spikeport_toolkit/tasks/registry.py with what they take and the defaults of `snr`, `links`,
    `labels` and `seeds`. All but channel-prediction fit a read-out of the model's features to so many `labels`, by an
    `adaptation` (probe, last-k, lora, full; zero-shot where pre-training already does the task). The rest is about
    channel-prediction, NMSE over SNR:

    MODEL `baselines` evaluates the baselines alone, also of channel-estimation. last-value, wiener, lmmse and genie
    always run; `baselines` adds others by name, commas between, or all. `sinr` in place of `snr` adds co-channel users;
    `impairments` spoil the receiver, as cfo=200,adc=6 (data/impairments.py). `seeds` seeds from `seed` on draw links,
    motion and noise anew.

    Any of them may be the folder of a bundle: then the artefact itself is run (role `deployed`), in onnxruntime, and
    its islands in its simulator or in the runtime `islands`. MODEL's float model stands beside it.
    `snr` is low:high:step in dB, or one value. `data` is a folder of path sets or of stored channels (default: the
    embedded cities, held-out users of the seven training cities and the three unseen ones). Writes
    `out`/evaluation.json if given.
    """
    chosen = task_of(task)
    given = {"snr": snr, "sinr": sinr, "impairments": impairments or None, "baselines": baselines or None}
    chosen.check(given | {"islands": islands, "labels": labels, "adaptation": adaptation})
    if snr is not None and sinr is not None:
        raise UsageError("--snr and --sinr are both given, and there is one axis: leave one out")
    _check_seed(seed)
    links, seeds = chosen.links if links is None else links, chosen.seeds if seeds is None else seeds
    if not 1 <= seeds <= MOST_SEEDS:
        raise UsageError(f"--seeds is {seeds}; 1 to {MOST_SEEDS} are possible")
    snrs = _snrs(snr or chosen.snr) if sinr is None else _snrs(sinr, "--sinr")
    tell = partial(progress, "evaluate")
    result: Result
    if chosen.run is not None and model != BASELINES_ALONE:
        if len(_snrs(chosen.snr)) == 1 < len(snrs):
            raise UsageError(f"--snr {snr!r} is a range; {task} is measured at one SNR: give one number")
        names = list(dict.fromkeys((model, *compare)))
        request = Request(
            {name: _float_model(name) for name in names}, snrs, chosen.labels if labels is None else _labels(labels),
            chosen.adaptation(adaptation), links, seed, seeds, None if data is None else Path(data),
            trained_cities(names), trained_links(names), tell,
        )  # fmt: skip
        result = chosen.run(request)
    else:
        result = _nmse(
            task, model, snrs, compare, islands, baselines, impairments, data, links, seed, seeds, tell,
            sinr=sinr is not None,
        )  # fmt: skip
    if out is not None:
        write_json(Path(out) / "evaluation.json", result.to_dict())
    return result


def _nmse(
    task: str, model: str, snrs: tuple[float, ...], compare: Sequence[str], islands: str | None, baselines: str,
    impairments: str, data: str | Path | None, links: int, seed: int, seeds: int,
    progress: Callable[[int, int], None], *, sinr: bool,
) -> Evaluation:  # fmt: skip
    """Channel prediction, in which bundles take part, and the baselines alone."""
    hardware, noise = parse_impairments(impairments)
    models = [model_name_of(name) for name in (model, *compare)]
    common: dict[str, Any] = {
        "snrs_db": snrs,
        "links": links,
        "seed": seed,
        "seeds": seeds,
        "splits": evaluation_splits(data, trained_cities(models), trained_links(models)),
        "data": str(data) if data is not None else "embedded cities (ray-traced)",
        "progress": progress,
    }
    if task == "channel-estimation" and not compare:
        return channel_estimation.evaluate(**common)
    if task != "channel-prediction":
        raise UsageError(
            f"{BASELINES_ALONE} alone are a MODEL of channel-prediction and channel-estimation, without --compare; "
            f"{task} shows them beside a model: name one"
        )
    alone = model == BASELINES_ALONE and not compare
    rivals = () if alone else contenders(model, compare, islands)
    return channel_prediction.evaluate(
        model if alone else model_name_of(model),
        {rival.name: (rival.role, rival.predict) for rival in rivals},
        model_config("spikewfm-nano", load_model("spikewfm-nano")).grid if alone else rivals[0].grid,
        baselines=[name.strip() for name in baselines.split(",")] if baselines else (),
        sinr=Interference() if sinr else None,
        impairments=hardware,
        noise=noise,
        **common,
    )


def _float_model(name: str) -> nn.Module:
    if (Path(name) / "manifest.json").is_file():
        raise UsageError(f"{name} is a bundle, whose features cannot be read: give the model it was made from")
    return load_model(name)


def _labels(labels: str | Sequence[int]) -> tuple[int, ...]:
    try:
        found = sorted({int(part) for part in (labels.split(",") if isinstance(labels, str) else labels)})
    except ValueError:
        found = []
    if not found or found[0] < 2:
        raise UsageError(f"--labels {labels!r} is no list of whole numbers of 2 or more, as 50,200")
    return tuple(found)


def import_weights(file: str | Path, *, preset: str, out: str | Path) -> Imported:
    """The published weights `file` as the checkpoint folder `out` of `preset` (lwm-1.0-code, lwm-1.1-code)."""
    return run_import(file, preset_name=preset, out=out)


def ann_to_snn(
    model: str,
    *,
    out: str | Path,
    neuron: str = "lif",
    steps: int | None = None,
    levels: int | None = None,
    data: str | Path | None = None,
    samples: int = 64,
    seed: int = 0,
    progress: Step = _silent,
) -> Converted:
    """A trained MODEL with ReLU or GELU as a spiking checkpoint folder `out`, without training.

    `neuron` is lif, lif_soft, lif_paper or ilif, `steps` its T and `levels` its D where they differ from the preset's;
    about `samples` channels of the store `data` (default: the embedded cities) calibrate it. See docs/training.md.
    """
    chosen = neuron_preset(neuron, steps, levels)
    store = None if data is None else Path(data)
    return run_conversion(
        model, neuron=chosen, out=Path(out), data=store, samples=samples, seed=seed, progress=progress
    )


def train(
    recipe: str,
    *,
    out: str | Path | None = None,
    data: str | Path | None = None,
    resume: bool = False,
    max_steps: int | None = None,
    save_every: int | None = None,
    start: str | None = None,
    tensorboard: str | Path | None = None,
    device: str = "auto",
    progress: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Run a recipe; leaves a checkpoint folder at `out` (default: the recipe's name in the working folder).

    `data` is a store (`spikeport data make`) to train on; default: the embedded cities. `save_every` steps (default:
    the recipe's) the state is written that `resume` goes on from. `start` is a trained model to begin with. `device` is
    auto, cpu or cuda. See docs/training.md.
    """
    for name, value in (("--max-steps", max_steps), ("--save-every", save_every)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}; at least 1 is needed")
    chosen = load_recipe(recipe)
    store = None if data is None else Path(data)
    board = None if tensorboard is None else Path(tensorboard)
    return run_training(
        chosen, Path(out or chosen.name), data=store, resume=resume, max_steps=max_steps, save_every=save_every,
        start=start, tensorboard=board, device=device, report=progress,
    )  # fmt: skip


def report(folders: Sequence[str | Path], *, out: str | Path, title: str | None = None) -> Report:
    """One self-contained HTML page, its JSON and its Markdown over run folders, in `out`."""
    return make_report([Path(folder) for folder in folders], Path(out), title=title)


def demo(out: str | Path = "spikeport-demo", *, links: int = DEMO_LINKS, progress: Step = _silent) -> Report:
    """The whole flow on the shipped checkpoint and the embedded cities: evaluate, export, check, profile, report.

    Raises CheckFailed if any bundle fails its parity.
    """
    from .demo import run_demo

    return run_demo(Path(out), links=links, progress=progress)


def _samples(
    model: str, network: nn.Module, samples: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    _check_samples(samples, seed)
    return channel_prediction.example_pairs(model_config(model, network), samples, seed)


def _inputs(model: str, network: nn.Module, samples: int, seed: int) -> tuple[NDArray[np.float32], str]:
    _check_samples(samples, seed)
    return calibration_inputs(model, network, samples, seed)


def _at_snr(
    model: str, network: nn.Module, samples: int, seed: int, rates_snr: str | None
) -> dict[float, NDArray[np.float32]]:
    snrs = () if rates_snr is None else _snrs(rates_snr, "--rates-snr")
    return {each: calibration_inputs(model, network, samples, seed, each)[0] for each in snrs}


def _evaluated(snr: str | None, links: int | None, seed: int) -> tuple[tuple[float, ...], int]:
    """SNRs and links of --accuracy and --sweep, refused before anything is run."""
    _check_seed(seed)
    if links is not None:
        check_links(links, seed)
    return _snrs(ACCURACY_SNR if snr is None else snr), ACCURACY_LINKS if links is None else links


def _check_samples(samples: int, seed: int) -> None:
    if not 1 <= samples <= MOST_SAMPLES:
        raise UsageError(f"--samples is {samples}; 1 to {MOST_SAMPLES} are possible")
    _check_seed(seed)


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise UsageError(f"--seed is {seed}; 0 to 2^32 - 1 are possible")


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
