"""The tasks of `spikeport evaluate`, by name: what each takes, its defaults, and the function that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from spikeport_errors import UsageError, unknown_name

from . import charting, classification, csi_feedback, estimating_model, frequency_prediction, positioning
from .request import Request

__all__ = ["TASKS", "Result", "Task", "task_of"]

SNRS = "-10:30:5"


class Result(Protocol):
    """What a task gives: text for people, and plain values as evaluation.json holds them."""

    @property
    def model(self) -> str:
        """MODEL."""

    def summary(self) -> str:
        """Text for people."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""


@dataclass(frozen=True)
class Task:
    """A task and its defaults. `run` is None where the API runs it, because bundles take part.

    `options` are those it takes beside --compare, --data, --links, --seed and --seeds. `labels` is empty where it takes
    none, or finds its own numbers.
    """

    name: str
    summary: str
    run: Callable[[Request], Result] | None
    options: frozenset[str]
    snr: str = SNRS
    links: int = 200
    labels: tuple[int, ...] = ()
    seeds: int = 1
    adaptations: tuple[str, ...] = ("probe", "last-k", "lora", "full")

    def check(self, given: Mapping[str, Any]) -> None:
        """UsageError for an option (name to value, None where it was not given) that the task does not take."""
        wrong = next((name for name, value in given.items() if value is not None and name not in self.options), None)
        if wrong:
            takers = [task.name for task in TASKS.values() if wrong in task.options]
            raise UsageError(f"--{wrong} goes with --task {' or '.join(takers)}, not with {self.name}: leave it out")

    def adaptation(self, name: str | None) -> str:
        """The adaptation of that name; UsageError for one that the task does not have."""
        if name is not None and name not in self.adaptations:
            raise unknown_name(f"adaptation of {self.name}", name, self.adaptations, "choose one")
        return name or "probe"


def _classes(task: str, request: Request) -> Result:
    return classification.evaluate(
        task, request.models, data=request.data, links=request.links, draws=request.seeds, seed=request.seed,
        counts=request.labels or None, adaptation=request.adaptation, trained=request.trained,
        trained_links=request.trained_links, progress=request.progress,
    )  # fmt: skip


FEW_SHOT = frozenset({"labels", "adaptation"})
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "channel-prediction", "the next slot from those before, NMSE over SNR", None,
            frozenset({"snr", "sinr", "impairments", "baselines", "islands"}), links=500,
        ),
        Task(
            "frequency-prediction", "the upper half of the band from the lower, NMSE over SNR",
            frequency_prediction.evaluate, FEW_SHOT | {"snr"}, labels=(50, 200),
            adaptations=(frequency_prediction.ZERO_SHOT, "probe", "last-k", "lora", "full"),
        ),
        Task(
            "channel-estimation", "a slot from its pilots, NMSE over SNR", estimating_model.evaluate_models,
            FEW_SHOT | {"snr"}, labels=(50, 200),
        ),
        Task(
            "csi-feedback", "a channel from 1/4 to 1/32 of its values, NMSE and cosine similarity",
            csi_feedback.evaluate, FEW_SHOT, labels=(200,),
        ),
        Task(
            "positioning", "the user's place, median and 90 % error in m", positioning.evaluate, FEW_SHOT | {"snr"},
            snr="20", links=100, labels=(20, 50, 200), seeds=5,
        ),
        Task(
            "charting", "a map from channels alone, trustworthiness and continuity", charting.evaluate,
            FEW_SHOT | {"snr"}, snr="20", links=100, labels=(200,),
        ),
        Task("los", "line of sight or not, accuracy", partial(_classes, "los"), FEW_SHOT, links=500, seeds=20),
        Task("beam", "the best beam at 28 GHz, accuracy", partial(_classes, "beam"), FEW_SHOT, links=500, seeds=20),
    )
}  # fmt: skip


def task_of(name: str) -> Task:
    """The task of that name; UsageError suggests the nearest."""
    if name not in TASKS:
        raise unknown_name("task", name, TASKS, "choose one")
    return TASKS[name]
