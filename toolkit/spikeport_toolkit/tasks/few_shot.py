"""Few-shot curves: how well a classifier on a kind of features does as it gets more labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spikeport_errors import InputError

from .features import Features
from .probe import Fit, Labels

__all__ = ["Classification", "FewShotCurve", "few_shot", "weighted_f1"]

MOST_TESTED = 2000


@dataclass(frozen=True)
class FewShotCurve:
    """Mean accuracy and weighted F1 over draws of the training labels, with the standard deviation of the accuracy."""

    method: str
    features: str
    labels: tuple[int, ...]
    accuracy: tuple[float, ...]
    spread: tuple[float, ...]
    f1: tuple[float, ...]


@dataclass(frozen=True)
class Classification:
    """The few-shot curves of a task: its features from one or more models, on the same links and draws."""

    task: str
    model: str
    data: str
    links: int
    classes: int
    draws: int
    seed: int
    curves: tuple[FewShotCurve, ...]
    kind: str = "simulated"
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As evaluation.json holds it."""
        return {"schema": "spikeport.classification/1"} | asdict(self)

    def summary(self) -> str:
        """A row a method, a column a number of labels: accuracy in per cent."""
        counts = self.curves[0].labels
        width = max(len(curve.method) for curve in self.curves)
        head = f"{self.task}, {self.classes} classes, {self.links} links: accuracy in % by labels"
        rows = [head, " " * width + "".join(f"{count:>8}" for count in counts)]
        rows += [c.method.ljust(width) + "".join(f"{100 * v:8.1f}" for v in c.accuracy) for c in self.curves]
        return "\n".join([*rows, f"mean of {self.draws} draws of the labels", *self.notes])


def weighted_f1(truth: Labels, predicted: Labels) -> float:
    """F1 = 2 TP / (2 TP + FP + FN) of every class that occurs, weighted by how often it does."""
    total = 0.0
    for label, count in zip(*np.unique(truth, return_counts=True), strict=True):
        hit = int(((truth == label) & (predicted == label)).sum())
        total += count * 2 * hit / (count + int((predicted == label).sum()))
    return total / len(truth)


def few_shot(
    features: Mapping[str, tuple[str, Features]],
    labels: Labels,
    classes: int,
    fit: Fit,
    *,
    counts: Sequence[int],
    draws: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[FewShotCurve, ...]:
    """A curve for each of `features` (method to kind and `[link, ...]`), by `fit` on `counts` labels, `draws` times.

    A draw orders the links at random, the same for all methods: the first are labelled, at most 2,000 of those after
    the largest count are tested, whatever the count. InputError where no link is left to test.
    """
    links, most = len(labels), max(counts)
    if most >= links:
        raise InputError(f"{most} labels of {links} links leave none to test: take fewer labels or more links")
    scores = {name: np.zeros((len(counts), draws, 2)) for name in features}
    total, done = len(features) * draws * len(counts), 0
    for draw in range(draws):
        order = np.random.default_rng((seed, draw)).permutation(links)
        tested = order[most : most + MOST_TESTED]
        for name, (_, values) in features.items():
            for index, count in enumerate(counts):
                known = order[:count]
                guess = fit(values[known], labels[known], values[tested], classes, seed + draw)
                scores[name][index, draw] = (guess == labels[tested]).mean(), weighted_f1(labels[tested], guess)
                done += 1
                progress(done, total)
    return tuple(
        FewShotCurve(
            name,
            kind,
            tuple(counts),
            _rounded(scores[name][:, :, 0].mean(1)),
            _rounded(scores[name][:, :, 0].std(1)),
            _rounded(scores[name][:, :, 1].mean(1)),
        )
        for name, (kind, _) in features.items()
    )


def _rounded(values: Any) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in values)
