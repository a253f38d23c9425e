"""Runs on a device that narrow the estimates for it: a measured latency replaces the structural factor.

A run of some model on the target gives, draw by draw, the factor f = measured / predicted by the constants alone.
Another model's estimate is its own prediction times f: what both owe to the constants cancels, and what is left is the
transfer's interval: 1.3 each way for the 10th and 90th percentile (one measurement of the same model on another Jetson
predicts with 11.5 % mean error, 26.5 % for the worst family), or the spread of the runs where that is wider. A run of
the very model, precision and scenario is not estimated at all: its latency is what was measured.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isfinite
from pathlib import Path

import numpy as np

from spikeport_errors import InputError
from spikeport_targets.card import Quantity

from .montecarlo import Values

COLUMNS = ("model", "target", "precision", "scenario", "latency_s", "energy_j")
TRANSFER = 1.3
P90 = 1.2816
"""The 90th percentile of a normal distribution, in standard deviations."""


@dataclass(frozen=True)
class Run:
    """One measurement on a device; `energy_j` None where it was not measured, `source` says where it stands.

    `interval_s` is its 10th and 90th percentile, `boundary` the rails of the energy, `sha256` that of the weights.
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

    def latency(self) -> Quantity:
        """The latency as measured."""
        low, high = self.interval_s or (self.latency_s, self.latency_s)
        return Quantity(low, self.latency_s, high, "s", "measured", (self.source,))

    def energy(self) -> Quantity | None:
        """The energy as measured."""
        value = self.energy_j
        return None if value is None else Quantity(value, value, value, "J", "measured", (self.source,))


Factor = tuple[Values, float, tuple[str, ...]]
"""What multiplies a prediction, draw by draw; the p10-p90 factor of what is left uncertain; the runs it is from."""


def read_runs(path: Path) -> tuple[Run, ...]:
    """The runs of a CSV file with the header model,target,precision,scenario,latency_s,energy_j (SI units).

    `energy_j` may be empty. InputError names the line and the column of what is wrong.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}): give a CSV file of runs") from None
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"{path}: column {missing[0]} is missing; the header is {','.join(COLUMNS)}")
    runs = tuple(_run(path, number, row) for number, row in enumerate(reader, 2))
    if not runs:
        raise InputError(f"{path} holds no run: add one line for each measurement")
    return runs


def factor(predicted: Sequence[Values], measured: Sequence[float], runs: Sequence[Run]) -> Factor:
    """What predictions of other models are to be multiplied by, from the runs' own predictions and measurements."""
    logs = np.array([np.log(m / p) for p, m in zip(predicted, measured, strict=True)])
    spread = exp(P90 * float(np.std(logs[:, 0])))
    return np.exp(logs.mean(0)), max(TRANSFER, spread), tuple(dict.fromkeys(run.source for run in runs))


def _run(path: Path, number: int, row: dict[str, str | None]) -> Run:
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
    if not isfinite(value) or value <= 0:
        raise InputError(f"{path}, line {number}: {name} is {text!r}; give a positive number in SI units")
    return value
