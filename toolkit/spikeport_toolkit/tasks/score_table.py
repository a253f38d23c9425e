"""The result of a task that is no curve over SNR: scores of methods, by number of labels, as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Metric", "Score", "ScoreTable", "Scores"]

SCHEMA = "spikeport.scores/1"


@dataclass(frozen=True)
class Metric:
    """What a column holds; `better` is higher or lower."""

    name: str
    unit: str
    better: str
    digits: int = 2


@dataclass(frozen=True)
class Score:
    """One method in one `setting` with so many `labels` (None: it takes none).

    `values` holds per metric the mean over places and draws, and the lowest and highest of them.
    """

    method: str
    role: str
    setting: str
    labels: int | None
    values: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True)
class ScoreTable:
    """The scores of one model, other models and baselines on the same links and labels."""

    task: str
    model: str
    adaptation: str
    data: str
    places: int
    links: int
    snr_db: float | None
    seed: int
    seeds: int
    metrics: tuple[Metric, ...]
    scores: tuple[Score, ...]
    kind: str = "simulated"
    notes: tuple[str, ...] = ()

    def score(self, method: str, metric: str, *, labels: int | None = None, setting: str = "") -> float:
        """The mean of one metric of one method."""
        found = (s for s in self.scores if (s.method, s.labels, s.setting) == (method, labels, setting))
        return next(found).values[metric][0]

    def to_dict(self) -> dict[str, Any]:
        """As evaluation.json holds it."""
        facts = ("task", "model", "adaptation", "data", "places", "links", "snr_db", "seed", "seeds", "kind")
        return {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in facts},
            "notes": list(self.notes),
            "metrics": [{"name": m.name, "unit": m.unit, "better": m.better} for m in self.metrics],
            "scores": [
                {"method": s.method, "role": s.role, "setting": s.setting, "labels": s.labels,
                 "values": {key: dict(zip(("mean", "low", "high"), v, strict=True)) for key, v in s.values.items()}}
                for s in self.scores
            ],
        }  # fmt: skip

    def summary(self) -> str:
        """A table per setting: a row per method and number of labels, a column per metric (mean, lowest to highest)."""
        snr = "no noise" if self.snr_db is None else f"SNR {self.snr_db:g} dB"
        draws = f"{self.places} place{'s' * (self.places > 1)}, {self.seeds} draw{'s' * (self.seeds > 1)} of labels"
        head = f"{self.task}, {self.links} test links, {snr}; mean (lowest to highest) over {draws}"
        tables = []
        for setting in dict.fromkeys(s.setting for s in self.scores):
            chosen = [s for s in self.scores if s.setting == setting]
            titles = [
                setting or "method",
                "labels",
                *(f"{m.name} [{m.unit}]" if m.unit else m.name for m in self.metrics),
            ]
            rows = [titles] + [
                [
                    s.method,
                    "-" if s.labels is None else str(s.labels),
                    *(_cell(s.values[m.name], m) for m in self.metrics),
                ]
                for s in chosen
            ]
            widths = [max(len(row[i]) for row in rows) for i in range(len(titles))]
            tables.append(
                "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)
            )
        return "\n\n".join([head, *tables, *(["\n".join(self.notes)] if self.notes else [])])


@dataclass
class Scores:
    """Collects values of methods over places and draws."""

    found: dict[tuple[str, str, str, int | None], dict[str, list[float]]] = field(default_factory=dict)

    def add(
        self, method: str, role: str, values: Mapping[str, float], labels: int | None = None, setting: str = ""
    ) -> None:
        """One place and draw of one method."""
        row = self.found.setdefault((method, role, setting, labels), {})
        for name, value in values.items():
            row.setdefault(name, []).append(float(value))

    def rows(self) -> tuple[Score, ...]:
        """Means with lowest and highest, in the order they came, models first."""
        order = {"model": 0, "twin": 1, "baseline": 2}
        keys = sorted(self.found, key=lambda key: (order[key[1]], key[0] if key[1] == "twin" else ""))
        return tuple(Score(*key, {name: _span(values) for name, values in self.found[key].items()}) for key in keys)


def _span(values: list[float]) -> tuple[float, float, float]:
    return round(float(np.mean(values)), 5), round(min(values), 5), round(max(values), 5)


def _cell(value: tuple[float, float, float], metric: Metric) -> str:
    mean, low, high = (f"{v:.{metric.digits}f}" for v in value)
    return mean if low == high else f"{mean} ({low} to {high})"
