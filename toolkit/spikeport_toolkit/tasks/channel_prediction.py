"""The channel-prediction benchmark: NMSE over SNR against clean truth, seen and unseen cities, two slot spacings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from ..baselines.registry import BASELINES, DEFAULT, Baseline, baselines_of
from ..data.channel_set import ChannelSet
from ..data.impairments import Impairment, Interference, WifiNoise
from ..data.patches import Patches, channel_from_patches
from ..data.sampler import (
    CARRIER_BLOCKS,
    Batch,
    draw,
    embedded_split,
    move,
    observe,
    stored,
    symbol_times,
)
from ..data.schema import PathSet
from ..models.config import PATCH_VALUES, SYMBOLS_PER_SLOT, GridConfig, ModelConfig
from .evaluation import METRIC, Curve, Evaluation, curve_of, nmse_of

__all__ = ["METRIC", "Curve", "Evaluation", "Predict", "evaluate", "example_pairs", "example_patches"]

REGIMES = ("R1", "R2")
SPLITS = ("in-domain", "unseen")
SNRS_DB = tuple(range(-10, 31, 5))
BATCH = 64

Predict = Callable[[Patches], Patches]
"""Scaled patches `[batch, token, 336]` to predicted patches `[batch, predicted token, 336]`."""
Links = PathSet | ChannelSet
Values = dict[tuple[str, str, str], list[list[NDArray[np.float64]]]]


def evaluate(
    model: str,
    predictors: Mapping[str, tuple[str, Predict]],
    grid: GridConfig,
    *,
    snrs_db: Sequence[float] = SNRS_DB,
    regimes: Sequence[str] = REGIMES,
    splits: Mapping[str, Links] | None = None,
    links: int = 500,
    seed: int = 0,
    seeds: int = 1,
    data: str = "embedded",
    baselines: str | Sequence[str] | None = DEFAULT,
    sinr: Interference | None = None,
    impairments: Sequence[Impairment] = (),
    noise: WifiNoise | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Run every predictor and baseline on the same samples.

    `predictors` maps a name to (role, predict); role is model, deployed or twin. `splits` maps a split's name to its
    links (default: the embedded cities); `links` of each are drawn once a seed and serve at every SNR and regime.
    `seeds` seeds from `seed` on each draw links, motion and noise anew; their links are pooled. `baselines` are names
    of the registry, added to last-value, wiener, lmmse and genie; None is no baseline at all. With `sinr` the axis is
    the SINR. A ChannelSet has its own times, so it makes one regime, and it has no paths, so no genie.
    Raises InputError when a split holds fewer links, or a prediction is not finite.
    """
    clash = set(BASELINES) & set(predictors)
    if clash:
        raise InputError(f"a model is called {min(clash)!r}, the name of a baseline: rename its folder")
    splits = splits or {name: embedded_split(name) for name in SPLITS}
    chosen = () if baselines is None else baselines_of(baselines)
    places = [(r, split, s) for split, s in splits.items() for r in _regimes(s, grid, regimes)]
    roles = {name: role for name, (role, _) in predictors.items()} | {each.name: each.role for each in chosen}
    starts = range(0, links, BATCH)
    total, done = len(places) * seeds * len(starts) * len(snrs_db), 0
    scores: Values = {}
    for regime, split, source in places:
        methods = _methods(predictors, chosen, grid, paths=isinstance(source, PathSet) and noise is None)
        for name in methods:
            scores[name, regime, split] = [[] for _ in snrs_db]
        for each_seed in range(seed, seed + seeds):
            users = choose_links(source, links, split, each_seed)
            for start in starts:
                batch, rng = _clean(source, users[start : start + BATCH], grid, regime, (each_seed, start), sinr)
                for index, snr in enumerate(snrs_db):
                    # Motion and noise shape are the same at every SNR: only the noise power differs along a curve.
                    seen = observe(
                        batch, float(snr), grid, deepcopy(rng), sinr=sinr, impairments=impairments, noise=noise
                    )
                    for name, predict in methods.items():
                        scores[name, regime, split][index].append(_nmse(name, predict(seen), seen.target))
                    done += 1
                    progress(done, total)
    curves = tuple(
        curve_of(name, roles[name], regime, split, snrs_db, [np.concatenate(v) for v in values], seed)
        for (name, regime, split), values in scores.items()
    )
    spoiled = [str(each) for each in (sinr, noise, *impairments) if each is not None]
    measured = any(isinstance(s, ChannelSet) and s.kind == "measured" for s in splits.values())
    return Evaluation(
        model, links, seed, data, curves, seeds=seeds, kind="measured" if measured else "simulated",
        axis="SINR" if sinr else "SNR", impairments=tuple(spoiled), notes=_notes(splits, noise),
    )  # fmt: skip


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


def _methods(
    predictors: Mapping[str, tuple[str, Predict]], chosen: Sequence[Baseline], grid: GridConfig, *, paths: bool
) -> dict[str, Callable[[Batch], NDArray[np.complex64]]]:
    found: dict[str, Callable[[Batch], NDArray[np.complex64]]] = {
        name: partial(_network, name, predict, grid) for name, (_, predict) in predictors.items()
    }
    return found | {each.name: each.predict for each in chosen if paths or not each.needs_paths}


def _notes(splits: Mapping[str, Links], noise: WifiNoise | None) -> tuple[str, ...]:
    stored_ones = [name for name, source in splits.items() if isinstance(source, ChannelSet)]
    found = [f"No genie in {', '.join(stored_ones)}: channels stored without path parameters."] if stored_ones else []
    if noise is not None:
        found.append("No genie: measured noise has no known covariance.")
    return tuple(found)


def _regimes(source: Links, grid: GridConfig, regimes: Sequence[str]) -> Sequence[str]:
    """The regimes asked for; for stored channels the one whose symbol times they have, else `recorded`."""
    if isinstance(source, PathSet):
        return regimes
    times = np.asarray(source.times_s[: grid.slots * SYMBOLS_PER_SLOT], np.float64)
    for name in REGIMES:
        wanted = symbol_times(grid, name)
        if times.shape == wanted.shape and np.allclose(times - times[0], wanted, atol=1e-6, rtol=1e-3):
            return (name,)
    return ("recorded",)


def choose_links(source: Links, links: int, split: str, seed: int) -> NDArray[np.intp]:
    if links < 1:
        raise InputError(f"--links is {links}; at least 1 is needed")
    held = source.links if isinstance(source, PathSet) else len(source.h)
    if held < links:
        raise InputError(f"split {split} holds {held} links, {links} were asked for: lower --links")
    return np.sort(np.random.default_rng(seed).permutation(held)[:links])


def _clean(
    source: Links,
    users: NDArray[np.intp],
    grid: GridConfig,
    regime: str,
    seed: tuple[int, int],
    sinr: Interference | None,
) -> tuple[Batch, np.random.Generator]:
    """Channels without noise, and the generator that goes on to draw the noise."""
    if isinstance(source, PathSet):
        rng = np.random.default_rng((seed[0], REGIMES.index(regime), seed[1]))
        first_block = (CARRIER_BLOCKS - grid.blocks) // 2
        return move(source, users, grid, regime, rng, first_block=first_block, sinr=sinr), rng
    if sinr is not None:
        raise InputError("--sinr takes interferers from path sets, and these are stored channels: use --snr")
    return stored(source, users, grid), np.random.default_rng(seed)


def _network(name: str, predict: Predict, grid: GridConfig, batch: Batch) -> NDArray[np.complex64]:
    patches = predict(batch.patches())
    wanted = (len(batch.clean), grid.tokens - grid.observed_tokens, PATCH_VALUES)
    if patches.shape != wanted:
        raise InputError(f"{name} predicts {[*patches.shape]}, wanted {[*wanted]} [batch, predicted token, 336]")
    return channel_from_patches(patches, grid.antennas, grid.blocks) * batch.scale


def _nmse(name: str, prediction: NDArray[np.complex64], target: NDArray[np.complex64]) -> NDArray[np.float64]:
    scores = nmse_of(prediction, target)
    if not np.isfinite(scores).all():
        raise InputError(f"{name} gave a prediction that is not finite: check its weights")
    return scores
