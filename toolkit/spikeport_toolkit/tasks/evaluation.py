"""What an evaluation is: curves of NMSE over SNR, the gaps to LMMSE and to the limit, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["METRIC", "Curve", "Evaluation", "Gap", "curve_of", "nmse_of"]

METRIC = "NMSE against the clean channel, mean over links of per-link NMSE, dB"
BOOTSTRAP = 400
REFERENCES = ("lmmse", "genie")
"""Every model is held against these: what second-order statistics give, and what no method can reach."""


@dataclass(frozen=True)
class Curve:
    """NMSE over SNR of one method in one regime and split, with a 95 % bootstrap interval of the mean over links."""

    method: str
    role: str
    regime: str
    split: str
    snr_db: tuple[float, ...]
    nmse_db: tuple[float, ...]
    low_db: tuple[float, ...]
    high_db: tuple[float, ...]


@dataclass(frozen=True)
class Gap:
    """How far `method` stands above `to` (lmmse or genie) in one regime and split, dB at each SNR."""

    method: str
    to: str
    regime: str
    split: str
    gap_db: tuple[float, ...]


@dataclass(frozen=True)
class Evaluation:
    """The curves of one model, its twins, the baselines and the limit on the same links, noise and motion."""

    model: str
    links: int
    seed: int
    data: str
    curves: tuple[Curve, ...]
    task: str = "channel-prediction"
    seeds: int = 1
    kind: str = "simulated"
    axis: str = "SNR"
    impairments: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Of every model, deployed model and twin, or of every baseline where there is no model."""
        by_place = {(c.method, c.regime, c.split): c for c in self.curves}
        ours = [c for c in self.curves if c.role not in {"baseline", "limit"}]
        held = ours or [c for c in self.curves if c.method not in REFERENCES]
        return tuple(
            Gap(c.method, to, c.regime, c.split, _difference(c, by_place[to, c.regime, c.split]))
            for c in held
            for to in REFERENCES
            if (to, c.regime, c.split) in by_place
        )

    def to_dict(self) -> dict[str, Any]:
        """As evaluation.json holds it."""
        return {
            "schema": "spikeport.evaluation/1",
            "task": self.task,
            "model": self.model,
            "metric": METRIC,
            "links": self.links,
            "seed": self.seed,
            "seeds": self.seeds,
            "kind": self.kind,
            "data": self.data,
            "axis": self.axis,
            "impairments": list(self.impairments),
            "notes": list(self.notes),
            "curves": [_plain(c) for c in self.curves],
            "gaps": [_plain(g) for g in self.gaps],
        }

    def summary(self) -> str:
        """One table per regime and split: a row per method, then the gaps; a column per SNR."""
        tables = []
        for regime, split in dict.fromkeys((c.regime, c.split) for c in self.curves):
            rows = [c for c in self.curves if (c.regime, c.split) == (regime, split)]
            lines = [(c.method, c.nmse_db) for c in rows]
            lines += [
                (f"{g.method} over {g.to}", g.gap_db) for g in self.gaps if (g.regime, g.split) == (regime, split)
            ]
            width = max(len(name) for name, _ in lines)
            head = [f"{regime} {split}, NMSE in dB at {self.axis}"]
            head.append(" " * width + "".join(f"{snr:>8g}" for snr in rows[0].snr_db))
            table = [name.ljust(width) + "".join(f"{value:8.2f}" for value in values) for name, values in lines]
            tables.append("\n".join(head + table))
        facts = [f"Receiver: {'; '.join(self.impairments)}."] if self.impairments else []
        return "\n\n".join(tables + ["\n".join([*facts, *self.notes])] * bool(facts or self.notes))


def nmse_of(prediction: NDArray[np.complex64], target: NDArray[np.complex64]) -> NDArray[np.float64]:
    """NMSE `[batch]`: sum |prediction - target|^2 / sum |target|^2 over all but the first axis of four."""
    error = np.sum(np.abs(prediction - target) ** 2, axis=(1, 2, 3), dtype=np.float64)
    return np.asarray(error / np.sum(np.abs(target) ** 2, axis=(1, 2, 3), dtype=np.float64))


def curve_of(
    name: str,
    role: str,
    regime: str,
    split: str,
    snrs: Sequence[float],
    values: Sequence[NDArray[np.float64]],
    seed: int,
) -> Curve:
    """The curve of per-link NMSE `values`, one array an SNR, with bootstrap intervals."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(values[0]), (BOOTSTRAP, len(values[0])))
    means = [float(v.mean()) for v in values]
    bounds = [np.quantile(v[draws].mean(1), (0.025, 0.975)) for v in values]

    def db(items: Iterable[float]) -> tuple[float, ...]:
        return tuple(round(10 * float(np.log10(item)), 4) for item in items)

    return Curve(
        name,
        role,
        regime,
        split,
        tuple(map(float, snrs)),
        db(means),
        db(b[0] for b in bounds),
        db(b[1] for b in bounds),
    )


def _difference(curve: Curve, reference: Curve) -> tuple[float, ...]:
    return tuple(round(a - b, 4) for a, b in zip(curve.nmse_db, reference.nmse_db, strict=True))


def _plain(item: Any) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(item).items()}
