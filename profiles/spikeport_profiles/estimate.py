"""A trace on a target card: energy and latency with intervals, beside those of the quantised twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from spikeport_errors import InputError, UsageError, unknown_name
from spikeport_targets.card import Card, Constant, Quantity

from .accuracy import Accuracy
from .bare import Counts
from .calibrate import TRANSFER, Factor, Run, combined, factor
from .convention import convention_costs
from .costs import Costs
from .counts import Trace
from .event import Island, event_costs, islands, on_chip
from .gpu import gpu_costs
from .montecarlo import DRAWS, Draws, quantity
from .text import si
from .verdict import break_even, verdict

NEEDED = {
    "gpu": ("macs", "kernels", "bytes"),
    "event": ("synops", "neuron_updates"),
    "convention": ("macs", "synops"),
}
"""Which bare counts a class of target is costed by."""
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Energy:
    """Joules per inference: of events, of the powered target over the time, of a host, and the sum; None is unknown."""

    event: Quantity | None
    system: Quantity | None
    host: Quantity | None
    total: Quantity | None

    def to_dict(self) -> dict[str, Any]:
        """The `energy` of profile.json."""
        return {name: None if q is None else q.to_dict() for name, q in vars(self).items()}


@dataclass(frozen=True)
class TwinCost:
    """What the quantised ANN twin costs on the same target, by the same constants, and how well it predicts there."""

    energy: Energy
    latency: Quantity | None
    accuracy: Accuracy | None = None

    def to_dict(self) -> dict[str, Any]:
        """The `twin` of a target in profile.json."""
        return {
            "energy": self.energy.to_dict(),
            "latency": None if self.latency is None else self.latency.to_dict(),
            "accuracy": None if self.accuracy is None else self.accuracy.to_dict(),
        }


@dataclass(frozen=True)
class Estimate:
    """Costs of one inference of one sample on one target.

    `low` and `high` of every quantity are the 10th and 90th percentile of 500 draws. `break_even_spike_rate` is the
    rate at which the model's event energy equals its twin's (0 or less: no rate pays); None where no rate matters.
    `cores` says how an event-driven chip shares out the layers, `accuracy` how well the artefact predicts there.
    """

    id: str
    name: str
    klass: str
    scenario: str
    boundary: str
    precision: str
    energy: Energy
    latency: Quantity | None
    twin: TwinCost | None
    break_even_spike_rate: float | None
    verdict: str
    notes: tuple[str, ...]
    constants: tuple[Constant, ...]
    cores: tuple[Island, ...] = ()
    accuracy: Accuracy | None = None

    def summary(self) -> str:
        """Target, energies, latency, verdict and notes, one a line."""
        where = ", ".join(x for x in (self.precision, self.scenario) if x != "none")
        lines = [f"{self.name} ({where}; {self.boundary})"]
        for label, mine, theirs in self._pairs():
            if mine is not None or theirs is not None or label.endswith(("total", "latency")):
                twin = "" if self.twin is None else f"   twin: {_short(theirs)}"
                lines.append(f"  {label:14} {_short(mine)}{twin}")
        if self.accuracy is not None:
            value = self.accuracy.nmse_db
            where = "" if self.accuracy.runtime is None else f" in {self.accuracy.runtime}"
            said = self.accuracy.reason if value is None else f"{value:.2f} dB, mean over all points, simulated{where}"
            lines.append(f"  {'NMSE':14} {said}")
        lines.append(f"  {self.verdict}")
        lines += [f"  - {note}" for note in self.notes]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """One entry of `targets` in profile.json."""
        return {
            "id": self.id,
            "name": self.name,
            "class": self.klass,
            "scenario": self.scenario,
            "boundary": self.boundary,
            "precision": self.precision,
            "energy": self.energy.to_dict(),
            "latency": None if self.latency is None else self.latency.to_dict(),
            "twin": None if self.twin is None else self.twin.to_dict(),
            "break_even_spike_rate": self.break_even_spike_rate,
            "verdict": self.verdict,
            "notes": list(self.notes),
            "constants": [_constant_dict(c) for c in self.constants],
            "cores": [part.to_dict() for part in self.cores] or None,
            "accuracy": None if self.accuracy is None else self.accuracy.to_dict(),
        }

    def _pairs(self) -> list[tuple[str, Quantity | None, Quantity | None]]:
        names = ("event", "system", "host", "total")
        pairs = [
            (f"energy {n}", getattr(self.energy, n), None if self.twin is None else getattr(self.twin.energy, n))
            for n in names
        ]
        return [*pairs, ("latency", self.latency, None if self.twin is None else self.twin.latency)]


def estimate(
    work: Trace | Counts,
    card: Card,
    *,
    precision: str | None = None,
    scenario: str | None = None,
    twin_trace: Trace | Counts | None = None,
    host: Card | None = None,
    runs: Sequence[tuple[Run, Trace]] = (),
    name: str | None = None,
) -> Estimate:
    """Energy and latency of one inference on the target of `card`, and of the twin whose trace is given.

    `work` is a trace, or bare `Counts` of a network whose weights are not at hand (then a host cannot be composed).
    `runs` were measured on the device, each with the trace of its model, and narrow the interval (see `calibrate`); a
    run of the model called `name` itself is reported as measured, several of them as their geometric mean.
    `precision` ('fp32' | 'fp16' | 'int8') and `scenario` default to the card's. `host` is the card of the GPU that
    runs what an event-driven chip cannot; without it host energy and total are None there. Raises UsageError for a
    precision, scenario or host that does not fit the card, InputError for a card that is measured or has no costs.
    """
    if card.klass == "cpu" or card.limits.get("energy_model"):
        raise InputError(f"{card.id} runs the model itself: name it with `spikeport profile MODEL`")
    if card.klass == "simulator":
        raise InputError(f"{card.id} is a simulator: it has no energy or latency to estimate; use it with `export`")
    precision, scenario = _precision(card, precision), _scenario(card, scenario)
    here = [(run, trace) for run, trace in runs if (run.target, run.scenario) == (card.id, scenario or "none")]
    factors = _factors(card, scenario, here)
    compared = twin_trace is not None
    mine = _costs(work, Draws(card, scenario, factors), precision, host, compared)
    theirs = None if twin_trace is None else _costs(twin_trace, Draws(card, scenario, factors), precision, host)
    own = _own([run for run, _ in here if (run.model, run.precision) == (name, precision)])
    same = combined(own)
    measured_energy = None if same is None else same.energy()
    energy, latency = _energy(mine), _latency(mine)
    if factors:
        energy = replace(energy, system=_around(energy.system), total=_around(energy.total))
        latency = _around(latency)
    even = None if theirs is None else break_even(mine, theirs, work.spike_rate)
    notes = [*mine.notes, *(mine.energy_notes if measured_energy is None else ())]
    if measured_energy is not None:
        void = tuple(f"{c.name}: " for c in mine.unknown if c.name.startswith("p_"))
        notes = [note for note in notes if not (void and note.startswith(void))]
    if isinstance(work, Trace) and work.unaccounted:
        notes.append(f"No counting rule for {', '.join(work.unaccounted)}: every figure is a lower bound.")
    return Estimate(
        id=card.id,
        name=card.name,
        klass=card.klass,
        scenario=scenario or "none",
        boundary=_boundary(card, host, same),
        precision=precision,
        energy=energy if measured_energy is None else replace(energy, total=measured_energy),
        latency=latency if same is None else same.latency(),
        twin=None if theirs is None else TwinCost(_energy(theirs), _latency(theirs)),
        break_even_spike_rate=even,
        verdict=verdict(card, work, mine, theirs, even),
        notes=(
            *notes,
            *_other_precision(card, precision, twin_trace),
            *_calibrated(here, own, factors),
            *_unused(card, here, own, factors),
            *_strays(card, runs),
        ),
        constants=(*mine.used(), *_only_twin(mine, theirs), *mine.unknown),
        cores=tuple(islands(work, card)) if isinstance(work, Trace) and card.klass == "event" else (),
    )


def _factors(card: Card, scenario: str | None, runs: Sequence[tuple[Run, Trace]]) -> dict[str, Factor]:
    """The structural factors that runs on this target give: of the latency, and on a GPU of the power."""
    plain: Factor = (np.ones(1 + DRAWS), 1.0, ())
    costs = [_costs(t, Draws(card, scenario, {"factor_latency": plain}), _precision(card, r.precision), None)
             for r, t in runs]  # fmt: skip
    times = [(c, r) for c, (r, _) in zip(costs, runs, strict=True) if c.latency is not None]
    powers = [(c, r) for c, r in times if card.klass == "gpu" and c.total is not None and r.energy_j is not None]
    found = {}
    if times:
        found["factor_latency"] = factor(
            [c.latency for c, _ in times if c.latency is not None],
            [r.latency_s for _, r in times],
            [r for _, r in times],
        )
    if powers:
        predicted = [c.total / c.latency for c, _ in powers if c.total is not None and c.latency is not None]
        measured = [r.energy_j / r.latency_s for _, r in powers if r.energy_j is not None]
        found["factor_power"] = factor(predicted, measured, [r for _, r in powers])
    return found


def _own(runs: Sequence[Run]) -> list[Run]:
    """Runs of the model itself; of several engines (which carry a SHA-256) the fastest, which a user would keep."""
    engine = min((run for run in runs if run.sha256), key=lambda run: run.latency_s, default=None)
    return [run for run in runs if not run.sha256 or run is engine]


def _around(value: Quantity | None) -> Quantity | None:
    """A calibrated quantity with at least the transfer's interval where the draws lie to one side of the nominal."""
    if value is None or value.low is None or value.nominal is None or value.high is None:
        return value
    if value.low < value.nominal < value.high:
        return value
    low, high = min(value.low, value.nominal / TRANSFER), max(value.high, value.nominal * TRANSFER)
    return replace(value, low=low, high=high)


def _calibrated(
    runs: Sequence[tuple[Run, Trace]], own: Sequence[Run], factors: Mapping[str, Factor]
) -> tuple[str, ...]:
    if not runs or not (own or factors):
        return ()
    names = ", ".join(dict.fromkeys(f"{run.model} ({run.precision})" for run, _ in runs))
    what = "the runs take the structural factor's place"
    if len(own) > 1:
        what = f"{len(own)} runs of its own: measured, not estimated; their geometric mean, from least to most"
    elif own:
        what = "its own run: measured, not estimated" + ("" if own[0].interval_s else "; one run alone has no spread")
    return (f"Calibrated by {len(runs)} run{'s' if len(runs) > 1 else ''} on the device: {names}; {what}.",)


def _unused(
    card: Card, runs: Sequence[tuple[Run, Trace]], own: Sequence[Run], factors: Mapping[str, Factor]
) -> tuple[str, ...]:
    """What the runs say and no figure here rests on."""
    notes = [
        f"Column {column} of {run.source.split(', line')[0]} is not used." for run, _ in runs for column in run.unused
    ]
    power = factors["factor_power"][2] if "factor_power" in factors else ()
    for run, _ in runs:
        if "factor_latency" not in factors and run not in own:
            notes.append(f"latency_s of {run.source} is not used: no latency is estimated on {card.id}.")
        if run.energy_j is not None and run not in own and run.source not in power:
            notes.append(
                f"energy_j of {run.source} is not used: on {card.id} no power is estimated that it could scale."
            )
    return tuple(dict.fromkeys(notes))


def _strays(card: Card, runs: Sequence[tuple[Run, Trace]]) -> tuple[str, ...]:
    """Runs on this target in a power mode that its card does not know."""
    strays = [run for run, _ in runs if run.target == card.id and run.scenario not in (*card.scenarios, "none")]
    known = ", ".join(card.scenarios)
    return tuple(f"Not merged: {run.source}; the card knows the modes {known}." for run in strays)


def _boundary(card: Card, host: Card | None, same: Run | None) -> str:
    if same is not None and same.boundary:
        return same.boundary
    return card.boundary if host is None or card.klass == "gpu" else f"{card.boundary}; host: {host.boundary}"


def _costs(work: Trace | Counts, draws: Draws, precision: str, host: Card | None, compared: bool = False) -> Costs:
    klass = draws.card.klass
    if isinstance(work, Counts):
        needed = NEEDED[klass]
        if not any(getattr(work, name) for name in needed):
            raise InputError(f"Counts: {draws.card.id} is costed by {', '.join(needed)}, which are all 0: give them")
    if klass == "gpu":
        return gpu_costs(work if isinstance(work, Counts) else work.layers, draws, precision)
    if klass == "convention":
        return convention_costs(work, draws, precision)
    if host is None:
        return event_costs(work, draws, compared=compared)
    if isinstance(work, Counts):
        raise UsageError("bare counts say nothing about what a host would run: cost the host's part by itself")
    if host.klass != "gpu":
        raise UsageError(f"host {host.id} is of class {host.klass}; give the card of a GPU, such as jetson-orin-nano")
    chip = on_chip(work)
    rest = [layer for layer in work.layers if layer not in chip]
    scenario = _scenario(host, None)
    idle = Draws(host, scenario)
    power = idle("p_idle_rail")
    rest_costs = gpu_costs(rest, Draws(host, scenario), _precision(host, None))
    return event_costs(work, draws, rest_costs, power, idle.record(), compared)


def _precision(card: Card, asked: str | None) -> str:
    known = tuple(card.limits.get("precisions", PRECISIONS))
    if asked is None:
        return cast(str, card.limits.get("default_precision", known[0]))
    if asked not in known:
        raise unknown_name(f"precision of {card.id}", asked, known, "choose one of those")
    return asked


def _scenario(card: Card, asked: str | None) -> str | None:
    if asked is None:
        return cast("str | None", card.limits.get("default_scenario", next(iter(card.scenarios), None)))
    if asked not in card.scenarios:
        raise unknown_name(f"scenario of {card.id}", asked, card.scenarios, f"`spikeport targets show {card.id}`")
    return asked


def _energy(costs: Costs) -> Energy:
    def joules(part: str) -> Quantity | None:
        return quantity(getattr(costs, part), "J", costs.constants.get(part, ()))

    return Energy(joules("event"), joules("system"), joules("host"), joules("total"))


def _latency(costs: Costs) -> Quantity | None:
    return quantity(costs.latency, "s", costs.constants.get("latency", ()))


def _only_twin(mine: Costs, twin: Costs | None) -> tuple[Constant, ...]:
    """Constants of the twin that differ from the model's, such as its count of kernels."""
    own = {c.name: c for c in mine.used()}
    return tuple(replace(c, name=f"twin.{c.name}") for c in (twin.used() if twin else ()) if own.get(c.name) != c)


def _other_precision(card: Card, precision: str, twin: Trace | Counts | None) -> tuple[str, ...]:
    """By the convention a quantised twin would use INT8 operations: say what that gives."""
    if card.klass != "convention" or twin is None or precision == "int8":
        return ()
    energy = convention_costs(twin, Draws(card), "int8").total
    if energy is None:
        return ()
    return (f"The twin in INT8, which is what quantisation buys, takes {si(energy[0], 'J')} by the same table.",)


def _constant_dict(constant: Constant) -> dict[str, Any]:
    kind = {"measured": "measured", "fitted_silicon": "measured", "simulated": "simulated"}
    return {**constant.to_dict(), "kind": kind.get(constant.basis, "estimated")}


def _short(value: Quantity | None) -> str:
    if value is None or value.low is None or value.nominal is None or value.high is None:
        return "not known"
    return f"{si(value.nominal, value.unit)} ({si(value.low, value.unit)} to {si(value.high, value.unit)})"
