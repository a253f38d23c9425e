"""Runs on a device that narrow the estimates for it: a measured latency replaces the structural factor.

A run of some model on the target gives, draw by draw, the factor f = measured / predicted by the constants alone.
Another model's estimate is its own prediction times f: what both owe to the constants cancels, and what is left is the
transfer's interval: 1.3 each way for the 10th and 90th percentile (one measurement of the same model on another Jetson
predicts with 11.5 % mean error, 26.5 % for the worst family), or the spread of the runs where that is wider. A run of
the very model, precision and scenario is not estimated at all: its latency is what was measured, of several runs the
geometric mean, and the extremes as the interval.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path

import numpy as np

from spikeport_errors import InputError, unknown_name
from spikeport_targets.card import Card, Quantity

from .montecarlo import Values

COLUMNS = ("model", "target", "precision", "scenario", "latency_s", "energy_j")
TRANSFER = 1.3
P90 = 1.2816
"""The 90th percentile of a normal distribution, in standard deviations."""
LIMITS = {"latency_s": (1e-9, 3600.0, "1 ns to 1 h"), "energy_j": (1e-12, 1e6, "1 pJ to 1 MJ")}
"""Least and most that one inference can have taken, in SI units and in words."""


@dataclass(frozen=True)
class Run:
    """One measurement on a device; `energy_j` None where it was not measured, `source` says where it stands.

    `interval_s` is its 10th and 90th percentile, or the extremes of several runs, as `interval_j`; `boundary` the rails
    of the energy, `sha256` that of the weights (of a measured.json alone), `unused` columns of its file.
    """

    model: str
    target: str
    precision: str
    scenario: str
    latency_s: float
    energy_j: float | None
    source: str
    interval_s: tuple[float, float] | None = None
    boundary: str = ""
    sha256: str = ""
    interval_j: tuple[float, float] | None = None
    unused: tuple[str, ...] = ()

    def latency(self) -> Quantity:
        """The latency as measured."""
        low, high = self.interval_s or (self.latency_s, self.latency_s)
        return Quantity(low, self.latency_s, high, "s", "measured", (self.source,))

    def energy(self) -> Quantity | None:
        """The energy as measured."""
        if self.energy_j is None:
            return None
        low, high = self.interval_j or (self.energy_j, self.energy_j)
        return Quantity(low, self.energy_j, high, "J", "measured", (self.source,))


Factor = tuple[Values, float, tuple[str, ...]]
"""What multiplies a prediction, draw by draw; the p10-p90 factor of what is left uncertain; the runs it is from."""


def read_runs(path: Path, cards: Sequence[Card] = ()) -> tuple[Run, ...]:
    """The runs of a CSV file with the header model,target,precision,scenario,latency_s,energy_j (SI units).

    `energy_j` may be empty, a byte-order mark may lead. InputError names the line and the column of what is wrong,
    UsageError the line of a scenario that the card of its target, where that is among `cards`, does not know.
    """
    reader = csv.DictReader(io.StringIO(_text(Path(path)), newline=""), strict=True)
    runs = []
    try:
        header = tuple(reader.fieldnames or ())
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise InputError(f"{path}: column {missing[0]} is missing; the header is {','.join(COLUMNS)}")
        twice = next((name for name in COLUMNS if header.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"{path}: column {twice} stands twice in the header; keep one of them")
        for row in reader:
            run = _run(path, reader.line_num, row)
            _check_scenario(run, cards)
            runs.append(replace(run, unused=tuple(name for name in header if name not in COLUMNS)))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: no CSV ({error}); give a CSV file of runs") from None
    if not runs:
        raise InputError(f"{path} holds no run: add one line for each measurement")
    return tuple(runs)


def combined(runs: Sequence[Run]) -> Run | None:
    """Runs of one model as one run: the geometric means, and the extremes as intervals; None where there is none."""
    if len(runs) < 2:
        return runs[0] if runs else None
    energies = [run.energy_j for run in runs if run.energy_j is not None]
    times = [edge for run in runs for edge in (run.interval_s or (run.latency_s, run.latency_s))]
    return replace(
        runs[0],
        latency_s=_mean([run.latency_s for run in runs]),
        energy_j=_mean(energies) if energies else None,
        source="; ".join(dict.fromkeys(run.source for run in runs)),
        interval_s=(min(times), max(times)),
        boundary="; ".join(dict.fromkeys(run.boundary for run in runs if run.boundary)),
        interval_j=(min(energies), max(energies)) if energies else None,
    )


def factor(predicted: Sequence[Values], measured: Sequence[float], runs: Sequence[Run]) -> Factor:
    """What predictions of other models are to be multiplied by, from the runs' own predictions and measurements."""
    logs = np.array([np.log(m / p) for p, m in zip(predicted, measured, strict=True)])
    spread = exp(P90 * float(np.std(logs[:, 0])))
    return np.exp(logs.mean(0)), max(TRANSFER, spread), tuple(dict.fromkeys(run.source for run in runs))


def _mean(values: Sequence[float]) -> float:
    """The geometric mean, inside the extremes whatever the rounding."""
    return min(max(exp(float(np.log(values).mean())), min(values)), max(values))


def _text(path: Path) -> str:
    remedy = "give a CSV file of runs"
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder: {remedy}")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: {remedy}") from None
    except PermissionError:
        raise InputError(f"{path} may not be read by this user: {remedy}, or change its permissions") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text in UTF-8: {remedy}, saved as UTF-8") from None
    except OSError:
        raise InputError(f"{path} cannot be read: {remedy}") from None


def _check_scenario(run: Run, cards: Sequence[Card]) -> None:
    card = next((card for card in cards if card.id == run.target), None)
    if card is None:
        return
    if card.klass not in ("gpu", "event"):
        raise InputError(f"{run.source}: {card.id} is no device whose estimates a run could narrow: leave the run out")
    known = tuple(card.scenarios) or ("none",)
    if run.scenario not in known:
        remedy = f"`spikeport targets show {run.target}`"
        raise unknown_name(f"{run.source}: scenario of {run.target}", run.scenario, known, remedy)


def _run(path: Path, number: int, row: dict[str, str | None]) -> Run:
    if None in row:
        raise InputError(f"{path}, line {number}: more fields than the header has; quote a field that holds a comma")
    values = {name: (row[name] or "").strip() for name in COLUMNS}
    for name in COLUMNS[:4]:
        if not values[name]:
            raise InputError(f"{path}, line {number}: {name} is empty; every run says what it ran, where and how")
    return Run(
        model=values["model"],
        target=values["target"],
        precision=values["precision"],
        scenario=values["scenario"],
        latency_s=_positive(path, number, "latency_s", values["latency_s"]),
        energy_j=_positive(path, number, "energy_j", values["energy_j"]) if values["energy_j"] else None,
        source=f"{Path(path).name}, line {number}",
    )


def _positive(path: Path, number: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    low, high, words = LIMITS[name]
    if not low <= value <= high:
        raise InputError(
            f"{path}, line {number}: {name} is {text!r}; give a positive number in SI units, {words} an inference"
        )
    return value
