"""The channel-prediction benchmark: NMSE over SNR against clean truth, seen and unseen cities, two slot spacings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from ..baselines.last_value import last_value
from ..baselines.wiener import wiener
from ..data.patches import Patches, channel_from_patches
from ..data.sampler import CARRIER_BLOCKS, Batch, draw, embedded_split
from ..data.schema import PathSet
from ..models.config import PATCH_VALUES, SYMBOLS_PER_SLOT, GridConfig, ModelConfig

REGIMES = ("R1", "R2")
SPLITS = ("in-domain", "unseen")
SNRS_DB = tuple(range(-10, 31, 5))
METRIC = "NMSE against the clean channel, mean over links of per-link NMSE, dB"
BATCH, BOOTSTRAP = 64, 400

Predict = Callable[[Patches], Patches]
"""Scaled patches `[batch, token, 336]` to predicted patches `[batch, predicted token, 336]`."""


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
class Evaluation:
    """The curves of one model, its twins and the baselines on the same links, noise and motion."""

    model: str
    links: int
    seed: int
    data: str
    curves: tuple[Curve, ...]

    def to_dict(self) -> dict[str, Any]:
        """As evaluation.json holds it."""
        return {
            "schema": "spikeport.evaluation/1",
            "task": "channel-prediction",
            "model": self.model,
            "metric": METRIC,
            "links": self.links,
            "seed": self.seed,
            "kind": "simulated",
            "data": self.data,
            "curves": [{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(c).items()} for c in self.curves],
        }

    def summary(self) -> str:
        """One table per regime and split: a row per method, a column per SNR."""
        tables = []
        for regime, split in dict.fromkeys((c.regime, c.split) for c in self.curves):
            rows = [c for c in self.curves if (c.regime, c.split) == (regime, split)]
            width = max(len(c.method) for c in rows)
            head = f"{regime} {split}, NMSE in dB at SNR".ljust(width) + "  "
            lines = [head, " " * width + "".join(f"{snr:>8g}" for snr in rows[0].snr_db)]
            lines += [c.method.ljust(width) + "".join(f"{value:8.2f}" for value in c.nmse_db) for c in rows]
            tables.append("\n".join(lines))
        return "\n\n".join(tables)


def evaluate(
    model: str,
    predictors: Mapping[str, tuple[str, Predict]],
    grid: GridConfig,
    *,
    snrs_db: Sequence[float] = SNRS_DB,
    regimes: Sequence[str] = REGIMES,
    splits: Mapping[str, PathSet] | None = None,
    links: int = 500,
    seed: int = 0,
    data: str = "embedded",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Run every predictor, last value and the robust Wiener filter on the same samples.

    `predictors` maps a name to (role, predict); role is model or twin. `splits` maps a split's name to its links
    (default: the embedded cities); `links` of each are drawn once and serve at every SNR and regime.
    Raises InputError when a split holds fewer links, or a prediction is not finite.
    """
    clash = {"last-value", "wiener"} & set(predictors)
    if clash:
        raise InputError(f"a model is called {min(clash)!r}, the name of a baseline: rename its folder")
    splits = splits or {name: embedded_split(name) for name in SPLITS}
    methods = {**predictors, "last-value": ("baseline", None), "wiener": ("baseline", None)}
    total, done = len(regimes) * len(splits) * len(snrs_db), 0
    scores: dict[tuple[str, str, str], list[NDArray[np.float64]]] = {}
    for regime in regimes:
        for split, paths in splits.items():
            users = _choose(paths, links, split, seed)
            for snr in snrs_db:
                point: dict[str, list[NDArray[np.float64]]] = {name: [] for name in methods}
                for batch in _batches(paths, users, grid, regime, snr, seed):
                    for name, (_, predict) in methods.items():
                        prediction = _predict(name, predict, batch, grid, snr)
                        point[name].append(_nmse(name, prediction, batch.target))
                for name, values in point.items():
                    scores.setdefault((name, regime, split), []).append(np.concatenate(values))
                done += 1
                progress(done, total)
    curves = (
        _curve(name, methods[name][0], regime, split, snrs_db, values, seed)
        for (name, regime, split), values in scores.items()
    )
    return Evaluation(model, links, seed, data, tuple(curves))


def example_patches(config: ModelConfig, batch: int, seed: int = 0) -> Patches:
    """Real scaled patches `[batch, token, 336]` of training links, for calibration: see example_pairs."""
    return example_pairs(config, batch, seed)[0]


def example_pairs(config: ModelConfig, batch: int, seed: int = 0) -> tuple[Patches, Patches]:
    """Scaled patches and their clean targets `[batch, predicted token, 336]`: both regimes, SNR U(-10, 30) dB."""
    paths = embedded_split("train")
    pairs = []
    for index, regime in enumerate(REGIMES):
        size = (batch + 1 - index) // 2
        if size:
            rng = np.random.default_rng((seed, index))
            made = draw(paths, rng.integers(0, paths.links, size), config.grid, regime, (-10.0, 30.0), rng)
            pairs.append((made.patches(), made.target_patches()))
    patches, targets = zip(*pairs, strict=True)
    return np.concatenate(patches), np.concatenate(targets)


def _choose(paths: PathSet, links: int, split: str, seed: int) -> NDArray[np.intp]:
    if links < 1:
        raise InputError(f"--links is {links}; at least 1 is needed")
    if paths.links < links:
        raise InputError(f"split {split} holds {paths.links} links, {links} were asked for: lower --links")
    return np.sort(np.random.default_rng(seed).permutation(paths.links)[:links])


def _batches(
    paths: PathSet, users: NDArray[np.intp], grid: GridConfig, regime: str, snr: float, seed: int
) -> Iterator[Batch]:
    for start in range(0, len(users), BATCH):
        # Motion and noise shape are the same at every SNR: only the noise power differs along a curve.
        rng = np.random.default_rng((seed, REGIMES.index(regime), start))
        first_block = (CARRIER_BLOCKS - grid.blocks) // 2
        yield draw(paths, users[start : start + BATCH], grid, regime, float(snr), rng, first_block=first_block)


def _predict(name: str, predict: Predict | None, batch: Batch, grid: GridConfig, snr: float) -> NDArray[np.complex64]:
    observed = batch.observed.shape[1]
    if predict is not None:
        patches = predict(batch.patches())
        wanted = (len(batch.clean), grid.tokens - grid.observed_tokens, PATCH_VALUES)
        if patches.shape != wanted:
            raise InputError(f"{name} predicts {[*patches.shape]}, wanted {[*wanted]} [batch, predicted token, 336]")
        return channel_from_patches(patches, grid.antennas, grid.blocks) * batch.scale
    times = batch.times_s[:observed], batch.times_s[observed:]
    if name == "last-value":
        return last_value(batch.observed, SYMBOLS_PER_SLOT * grid.predicted_slots)
    return wiener(batch.observed, *times, snr)


def _nmse(name: str, prediction: NDArray[np.complex64], target: NDArray[np.complex64]) -> NDArray[np.float64]:
    error = np.sum(np.abs(prediction - target) ** 2, axis=(1, 2, 3), dtype=np.float64)
    if not np.isfinite(error).all():
        raise InputError(f"{name} gave a prediction that is not finite: check its weights")
    return np.asarray(error / np.sum(np.abs(target) ** 2, axis=(1, 2, 3), dtype=np.float64))


def _curve(
    name: str,
    role: str,
    regime: str,
    split: str,
    snrs: Sequence[float],
    values: Sequence[NDArray[np.float64]],
    seed: int,
) -> Curve:
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
