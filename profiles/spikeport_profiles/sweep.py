"""A sweep over a design space: every point profiled and evaluated, kept as a file, and the Pareto fronts over all.

Points run in processes of their own and are written atomically, so that a killed sweep goes on where it was. Targets
that are measured here run one after another, after the rest.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spikeport_converters.contenders import model_config
from spikeport_converters.precision import assignment
from spikeport_errors import InputError, SpikeportError, UsageError, unknown_name
from spikeport_targets.card import Card, load_card
from spikeport_toolkit.files import read_json, write_json, write_text
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.tasks.channel_prediction import example_pairs

from .accuracy import check_links, deployed_accuracy, mean_db, plain
from .pareto import fronts
from .profile import profile
from .sweep_axes import Setting, parse_axes, settings_of, variant
from .sweep_point import Point
from .text import si

SCHEMA = "spikeport.sweep/1"
FIELDS = ("neuron", "steps", "levels", "precision", "target")
COLUMNS = (
    "id", *FIELDS, "status", "weights", "retrained", "spike_rate", "synops", "macs", "nmse_db", "nmse_of", "energy_j",
    "energy_low", "energy_high", "energy_part", "latency_s", "latency_low", "latency_high", "kind", "boundary",
    "front_energy", "front_latency", "note", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class Terms:
    """What holds for all points: the model and a hash of its weights, the samples traced, the links evaluated."""

    model: str
    model_sha256: str
    samples: int
    seed: int
    snrs_db: tuple[float, ...]
    links: int
    host: str | None = None


@dataclass(frozen=True)
class Sweep:
    """All points of a sweep; `points` are those of sweep.json, with their fronts."""

    terms: Terms
    axes: dict[str, tuple[str, ...]]
    points: tuple[dict[str, Any], ...]

    @property
    def done(self) -> int:
        """How many points were profiled and evaluated; the others were refused."""
        return sum(point["status"] == "done" for point in self.points)

    def summary(self) -> str:
        """A line a point, those of a front marked, then how to read it."""
        head = (
            f"{'neuron':9} {'T':>3} {'D':>3} {'precision':9} {'target':18} {'NMSE dB':>8} {'energy':>10} {'latency':>9}"
        )
        lines = [f"   {head}  note"]
        for p in self.points:
            marks = ("E" if p["front_energy"] else " ") + ("L" if p["front_latency"] else " ")
            energy = _text(p["energy"], "J") + ("" if p["energy_part"] != "event" else " ev")
            nmse = "-" if p["nmse_db"] is None else f"{p['nmse_db']:.2f}" + ("" if p["nmse_of"] == "artefact" else "~")
            lines.append(
                f"{marks} {p['neuron']:9} {p['steps']:3d} {p['levels']:3d} {p['precision']:9} {p['target']:18} "
                f"{nmse:>8} {energy:>10} {_text(p['latency'], 's'):>9}  {p['note'] or p['reason']}".rstrip()
            )
        snrs = ", ".join(f"{snr:g}" for snr in self.terms.snrs_db)
        lines.append(
            "E, L: on the Pareto front of NMSE against energy, latency. NMSE is the mean over regimes, splits and "
            f"{snrs} dB SNR on {self.terms.links} links, simulated; ~ of the float model where a target has no "
            "artefact. ev: event energy only, compared among its like."
        )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """sweep.json."""
        return {
            "schema": SCHEMA,
            "model": self.terms.model,
            "axes": {name: list(values) for name, values in self.axes.items()},
            "settings": _plain_terms(self.terms),
            "points": list(self.points),
        }


def sweep(
    model: str,
    text: str,
    out: Path,
    *,
    targets: Sequence[str] = (),
    precision: str | None = None,
    host: str | None = None,
    samples: int = 16,
    seed: int = 0,
    snrs_db: Sequence[float] = (-10.0, 0.0, 10.0, 20.0, 30.0),
    links: int = 50,
    jobs: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Sweep:
    """Profile and evaluate every point of the design space `text` (see `parse_axes`), in `jobs` processes.

    Axes that `text` leaves out keep MODEL's neuron, T and D, `targets` and `precision` (default: each target's own).
    Points stay in `out`/points; those that are there with the same settings are not run again. Writes sweep.json and
    sweep.csv. Raises UsageError for axes and options that do not fit, InputError for `links` or `samples` that are too
    few or too many, or where a process was killed.
    """
    network = load_model(model)
    config = model_config(model, network)
    axes = parse_axes(text)
    for axis, option in (("target", tuple(targets)), ("precision", () if precision is None else (precision,))):
        if axis in axes and option:
            raise UsageError(f"--{axis} {option[0]} and {axis}= of --sweep are both given: leave one out")
        axes.setdefault(axis, option)
    cards = {name: load_card(name) for name in (*axes["target"], *filter(None, [host]))}
    if not axes["target"]:
        raise UsageError("a sweep needs targets: target=... in --sweep, or --target")
    if not axes["precision"]:
        defaults = (str(cards[name].limits.get("default_precision", "fp32")) for name in axes["target"])
        axes["precision"] = tuple(dict.fromkeys(defaults))
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs is {jobs}; at least 1 is needed")
    _check_host(host, cards, axes["target"])
    check_links(links, seed)
    terms = Terms(model, _digest(network), samples, seed, tuple(map(float, snrs_db)), links, host)
    todo = settings_of(axes, model, config)
    _check_precisions(todo, cards, samples)
    fresh = [s for s in todo if not _kept(out, s, terms)]
    total, done = len(todo), len(todo) - len(fresh)
    progress(done, total)
    alone = [s for s in fresh if cards[s.target].klass == "cpu"]
    shared = [s for s in fresh if s not in alone]
    workers = min(jobs or os.cpu_count() or 1, len(shared))
    if workers > 1:
        done = _in_processes(shared, terms, out, workers, lambda count: progress(done + count, total)) + done
    else:
        alone = shared + alone
    for setting in alone:
        run_point(setting, terms, out)
        done += 1
        progress(done, total)
    found = Sweep(terms, axes, tuple(fronts([read_json(_place(out, s)) for s in todo])))
    write_json(out / "sweep.json", found.to_dict())
    write_text(out / "sweep.csv", _csv(found))
    return found


def run_point(setting: Setting, terms: Terms, out: Path) -> None:
    """Profile and evaluate one point, and keep it; one that a target refuses is kept with the reason."""
    point: dict[str, Any] = {
        "id": setting.id, **asdict(setting), "settings": _fingerprint(setting, terms), "weights": None,
        "retrained": False, "note": "", "status": "refused", "reason": "", "spike_rate": None, "synops": None,
        "macs": None, "nmse_db": None, "nmse_of": None, "curves": [], "latency": None, "energy": None,
        "energy_part": None, "boundary": None,
    }  # fmt: skip
    try:
        point |= _measured(setting, terms) | {"status": "done"}
    except SpikeportError as error:
        point["reason"] = str(error)
    write_json(_place(out, setting), point)


def _measured(setting: Setting, terms: Terms) -> dict[str, Any]:
    card = load_card(setting.target)
    if setting.precision not in _precisions(card):
        raise UsageError(f"{card.id} does not run {setting.precision}")
    made = variant(terms.model, setting)
    samples = example_pairs(model_config(terms.model, made.network), terms.samples, terms.seed)
    host = load_card(terms.host) if terms.host and card.klass == "event" else None
    asked = setting.precision if "precisions" in card.limits else None
    result = profile(made.network, None, [card], [samples[0]], name=setting.id, precision=asked, host=host)
    accuracy = deployed_accuracy(
        made.network, None, [card], [setting.precision], samples, name=setting.id, trained=made.retrained,
        snrs_db=terms.snrs_db, links=terms.links, seed=terms.seed,
    )  # fmt: skip
    (target,), (artefact,), totals = result.targets, accuracy.targets, result.trace.totals
    curves = artefact.curves or accuracy.model
    total = target.energy.total
    energy = total if total is not None else target.energy.event
    return {
        "weights": made.weights,
        "retrained": made.retrained,
        "note": made.note,
        "reason": artefact.reason,
        "spike_rate": totals["spike_rate"],
        "synops": totals["synops"],
        "macs": totals["macs_executed"],
        "nmse_db": mean_db(curves),
        "nmse_of": "artefact" if artefact.curves else "float model",
        "curves": plain(curves),
        "latency": None if target.latency is None else target.latency.to_dict(),
        "energy": None if energy is None else energy.to_dict(),
        "energy_part": None if energy is None else "event" if total is None else "total",
        "boundary": target.boundary,
    }


def _in_processes(
    settings: Sequence[Setting], terms: Terms, out: Path, workers: int, progress: Callable[[int], None]
) -> int:
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = [pool.submit(run_point, setting, terms, out) for setting in settings]
        try:
            for count, finished in enumerate(as_completed(waiting), 1):
                finished.result()
                progress(count)
        except BrokenProcessPool:
            raise InputError(
                f"a process of the sweep was killed (out of memory?): the finished points are kept in {out}; run the "
                "same command again to go on, with fewer --jobs"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return len(settings)


def _precisions(card: Card) -> tuple[str, ...]:
    return tuple(card.limits.get("precisions", ("fp32",)))


def _check_precisions(settings: Sequence[Setting], cards: Mapping[str, Card], samples: int) -> None:
    """Refuse what would fail at every point: a precision of no target, an INT8 graph calibrated on one sample."""
    known = dict.fromkeys(p for s in settings for p in _precisions(cards[s.target]))
    for setting in settings:
        name, card = setting.precision, cards[setting.target]
        if name not in known:
            raise unknown_name("precision", name, known, "no target of the sweep has it")
        if samples < 2 and card.route == "onnx" and name in _precisions(card) and assignment(name).kind:
            raise InputError(
                f"{name} on {card.id} calibrates on at least 2 samples, got {samples}: take more --samples"
            )


def _check_host(host: str | None, cards: Mapping[str, Card], targets: Sequence[str]) -> None:
    if host is None:
        return
    if cards[host].klass != "gpu":
        raise UsageError(f"--host {host} is of class {cards[host].klass}; give a GPU, such as jetson-orin-nano")
    if all(cards[name].klass != "event" for name in targets):
        raise UsageError(f"--host {host} runs what an event-driven chip cannot, and no target is one: leave it out")


def _place(out: Path, setting: Setting) -> Path:
    return out / "points" / f"{setting.id}.json"


def _kept(out: Path, setting: Setting, terms: Terms) -> bool:
    try:
        found = json.loads(_place(out, setting).read_text(encoding="utf-8"))
        Point.model_validate(found, strict=True)
    except (OSError, ValueError, RecursionError):
        return False
    wanted = {"id": setting.id, **asdict(setting), "settings": _fingerprint(setting, terms)}
    return all(found[key] == value for key, value in wanted.items())


def _fingerprint(setting: Setting, terms: Terms) -> dict[str, Any]:
    """What a kept point must agree in to be kept; the card too, whose constants may have changed."""
    return {**_plain_terms(terms), "card_sha256": load_card(setting.target).sha256}


def _plain_terms(terms: Terms) -> dict[str, Any]:
    return {**asdict(terms), "snrs_db": list(terms.snrs_db)}


def _digest(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _csv(found: Sweep) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for point in found.points:
        row = {key: "" if value is None else value for key, value in point.items()}
        for name, unit in (("energy", "j"), ("latency", "s")):
            cost = point[name] or {}
            row |= {f"{name}_{unit}": cost.get("nominal", ""), f"{name}_low": cost.get("low", "")}
            row |= {f"{name}_high": cost.get("high", ""), "kind": cost.get("kind", row.get("kind", ""))}
        writer.writerow(row)
    return text.getvalue()


def _text(cost: dict[str, Any] | None, unit: str) -> str:
    return "-" if not cost or cost["nominal"] is None else si(cost["nominal"], unit)
