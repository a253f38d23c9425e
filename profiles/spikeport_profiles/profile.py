"""The whole bill of a model: its trace, its quantised twin's, and an estimate per target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from spikeport_errors import UsageError, unknown_name
from spikeport_targets.card import Card
from spikeport_toolkit.models.config import Config
from spikeport_toolkit.models.families import parameter_counts
from spikeport_toolkit.models.identity import model_sha256

from .accuracy import AccuracyReport
from .budget import Budget, BudgetReport, check_budget
from .calibrate import Run
from .counts import Trace
from .estimate import Estimate, estimate
from .keys import Keys
from .measured import measure
from .simulated import simulate
from .trace import trace, with_rates

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = "spikeport.profile/1"


@dataclass(frozen=True)
class Profile:
    """What `profile` found; `to_dict` is profile.json."""

    model: dict[str, Any]
    trace: Trace
    twin: dict[str, Any] | None
    twin_trace: Trace | None
    targets: tuple[Estimate, ...]
    accuracy: AccuracyReport | None = None
    budget: BudgetReport | None = None

    def with_accuracy(self, found: AccuracyReport) -> Profile:
        """This profile with how well each target's artefact predicts."""
        targets = []
        for target, mine, theirs in zip(self.targets, found.targets, found.twins, strict=True):
            twin = None if target.twin is None else replace(target.twin, accuracy=theirs)
            targets.append(replace(target, accuracy=mine, twin=twin))
        return replace(self, targets=tuple(targets), accuracy=found)

    def with_budget(self, budget: Budget) -> Profile:
        """This profile held against `budget`."""
        return replace(self, budget=check_budget(self.targets, budget))

    def summary(self) -> str:
        """Counts per layer, then each target, then the budget, as text."""
        name = self.model["name"]
        trained = "trained" if self.model["trained"] else "untrained: spike rates say nothing about a trained model"
        beside = f"; twin {self.twin['name']}" if self.twin else "; no twin given"
        head = f"{name}: {self.model['parameters']:,} + {self.model['head_parameters']:,} parameters, {trained}{beside}"
        held = [] if self.budget is None else [self.budget.summary()]
        return "\n\n".join([head, self.trace.summary(), *(t.summary() for t in self.targets), *held])

    def to_dict(self, *, keys: Keys = "spikeport") -> dict[str, Any]:
        """Plain values by the schema `spikeport.profile/1`; with `keys`, counts alone by the names of another tool."""
        if keys != "spikeport":
            return {"model": self.model["name"], "samples": self.trace.samples, keys: self.trace.to_dict(keys=keys)}
        twin = None
        if self.twin is not None and self.twin_trace is not None:
            twin = {**self.twin, "trace": self.twin_trace.to_dict()}
        return {
            "schema": SCHEMA,
            "model": self.model,
            "trace": self.trace.to_dict(),
            "twin": twin,
            "targets": [t.to_dict() for t in self.targets],
            "accuracy": None if self.accuracy is None else self.accuracy.to_dict(),
            "budget": None if self.budget is None else self.budget.to_dict(),
        }


def profile(
    model: nn.Module,
    twin: nn.Module | None,
    cards: Sequence[Card],
    batches: Iterable[NDArray[np.float32]],
    *,
    name: str | None = None,
    twin_name: str | None = None,
    trained: bool = False,
    twin_trained: bool = False,
    precision: str | None = None,
    scenario: str | None = None,
    host: Card | None = None,
    runs: Sequence[tuple[Run, Trace]] = (),
    source: str = "inputs of the caller",
    at_snr: Mapping[float, NDArray[np.float32]] | None = None,
    detail: bool = False,
) -> Profile:
    """Trace `model` and its quantised `twin` on `batches` (float patches `[batch, token, value]`), cost both per card.

    `precision` and `scenario` apply to the cards that know them, the others use their own; UsageError if none does.
    `source` says what the inputs are, `host` and `runs` as in `estimate`; `at_snr` and `detail` go to the trace. A
    card of class `cpu` is measured, and a simulator that models energy is run.
    """
    known = {card.id for card in cards}
    stray = next((run for run, _ in runs if run.target not in known), None)
    if stray is not None:
        raise unknown_name(f"target of {stray.source}", stray.target, known, "calibrate with runs on profiled targets")
    inputs = list(batches)
    precisions = [precision if precision in card.limits.get("precisions", ()) else None for card in cards]
    scenarios = [scenario if scenario in card.scenarios else None for card in cards]
    for what, asked, used in (("precision", precision, precisions), ("scenario", scenario, scenarios)):
        if asked is not None and not any(used):
            targets = ", ".join(card.id for card in cards)
            raise UsageError(f"{what} {asked!r} is known to none of {targets}; `spikeport targets show ID` lists them")
    counts = trace(model, inputs, source=source, detail=detail)
    if at_snr:
        counts = with_rates(counts, model, at_snr)
    twin_counts = None if twin is None else trace(twin, inputs, source=source)

    def cost(card: Card, asked: str | None, where: str | None) -> Estimate:
        if card.klass == "cpu":
            chosen = asked or str(card.limits["default_precision"])
            return measure(model, twin, card, np.concatenate(inputs), chosen)
        if card.limits.get("energy_model"):
            return simulate(model, card, np.concatenate(inputs))
        return estimate(
            counts, card, precision=asked, scenario=where, twin_trace=twin_counts, host=host, runs=runs, name=name
        )

    return Profile(
        model=_described(model, name, trained),
        trace=counts,
        twin=None if twin is None else {"name": twin_name or _name(twin), "trained": twin_trained},
        twin_trace=twin_counts,
        targets=tuple(cost(card, p, s) for card, p, s in zip(cards, precisions, scenarios, strict=True)),
    )


def _described(model: nn.Module, name: str | None, trained: bool) -> dict[str, Any]:
    body, head, config = sum(p.numel() for p in model.parameters()), 0, {}
    if isinstance(getattr(model, "config", None), Config):
        body, head = parameter_counts(model)
        config = model.config.to_dict()  # type: ignore[union-attr, operator]
    return {
        "name": name or _name(model),
        "parameters": body,
        "head_parameters": head,
        "trained": trained,
        "config": config,
        "sha256": model_sha256(model),
    }


def _name(model: nn.Module) -> str:
    return str(getattr(getattr(model, "config", None), "name", type(model).__name__))
