"""The channel-estimation benchmark: the whole slot from its pilots, NMSE over SNR against clean truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from ..baselines.genie import adjoint_of, estimate_paths, gram_of, known_paths
from ..baselines.lmmse import training_covariance
from ..baselines.separable import Axis, separable_lmmse
from ..baselines.wiener import delay_covariance, speed_covariance
from ..data.impairments import awgn
from ..data.patches import Channel
from ..data.sampler import SUBCARRIER_SPACING_HZ, Geometry, embedded_split, move
from ..data.schema import PathSet
from ..models.config import SYMBOLS_PER_SLOT, GridConfig
from .channel_prediction import BATCH, SNRS_DB, SPLITS, choose_links
from .evaluation import Curve, Evaluation, curve_of, nmse_of

__all__ = ["ESTIMATORS", "Estimate", "PilotBatch", "Pilots", "evaluate"]

GRID = GridConfig(slots=2, antennas=4, blocks=4)
REGIME = "one slot"


@dataclass(frozen=True)
class Pilots:
    """Where pilots stand in a slot: on every `comb`-th subcarrier from the first, in `symbols`.

    The default is 3GPP's front-loaded demodulation reference signal with one more symbol, thinned to a comb of 4.
    Each antenna link has an orthogonal copy of the pattern, so that it is observed alone, at the SNR of the channel.
    """

    comb: int = 4
    symbols: tuple[int, ...] = (2, 11)

    def __post_init__(self) -> None:
        fits = list(self.symbols) == sorted(set(self.symbols)) and set(self.symbols) <= set(range(SYMBOLS_PER_SLOT))
        if not 1 <= self.comb <= 24 or not self.symbols or not fits:
            raise InputError(
                f"pilots on every {self.comb}th subcarrier of symbols {self.symbols}: give a comb of 1 to 24 and "
                f"growing symbols of 0 to {SYMBOLS_PER_SLOT - 1}"
            )


@dataclass(frozen=True, eq=False)
class PilotBatch:
    """Clean slots `[batch, 14, antenna, frequency]` and the noisy least-squares estimates at their pilots.

    `observed` is `[batch, pilot symbol, antenna, pilot tone]`: H_LS = y / x = H + n at each pilot.
    """

    clean: Channel
    observed: Channel
    times_s: NDArray[np.float64]
    symbols: NDArray[np.intp]
    tones: NDArray[np.intp]
    snr_db: NDArray[np.float64]
    noise_power: NDArray[np.float64]
    carrier_hz: float
    geometry: Geometry


Estimate = Callable[[PilotBatch], Channel]
"""Noisy pilots to the whole slot `[batch, 14, antenna, frequency]`."""


def nearest(batch: PilotBatch) -> Channel:
    """Least squares, and each resource element takes the nearest pilot's: at the pilots its NMSE is -SNR dB."""
    symbol = np.abs(np.arange(batch.clean.shape[1])[:, None] - batch.symbols).argmin(1)
    tone = np.abs(np.arange(batch.clean.shape[3])[:, None] - batch.tones).argmin(1)
    return batch.observed[:, symbol][..., tone]


def linear(batch: PilotBatch) -> Channel:
    """Least squares, then linear interpolation over frequency and over time, extrapolation at the edges."""
    time = _lines(np.arange(batch.clean.shape[1]), batch.symbols)
    frequency = _lines(np.arange(batch.clean.shape[3]), batch.tones)
    filled = np.einsum("tp,bpaq,fq->btaf", time, batch.observed, frequency, optimize=True)
    return np.asarray(filled, np.complex64)


def wiener(batch: PilotBatch) -> Channel:
    """Linear MMSE under the fixed prior of baselines/wiener.py: Jakes' fading of U(0.1, 5) m/s, 0.3 us mean delay."""
    r_t = speed_covariance(batch.times_s, batch.carrier_hz, (0.1, 5.0))
    r_f = delay_covariance(batch.clean.shape[3], SUBCARRIER_SPACING_HZ, 0.3e-6)
    return _separable(batch, r_t, np.eye(batch.clean.shape[2]), r_f)


def lmmse(batch: PilotBatch) -> Channel:
    """Linear MMSE under the covariance of the training cities, separable in time, antenna and frequency."""
    known = training_covariance(batch.carrier_hz, batch.clean.shape[3])
    return _separable(batch, known.time(batch.times_s, batch.carrier_hz), known.antenna, known.frequency)


def genie(batch: PilotBatch) -> Channel:
    """The limit: baselines/genie.py with the pilots for observation."""
    wanted = known_paths(batch.geometry, batch.times_s)
    at_pilots = replace(wanted, time=wanted.time[:, batch.symbols], frequency=wanted.frequency[..., batch.tones])
    noise = batch.noise_power[:, None]
    return estimate_paths(adjoint_of(at_pilots, batch.observed) / noise, gram_of(at_pilots) / noise[..., None], wanted)


ESTIMATORS: dict[str, tuple[str, Estimate]] = {
    "ls": ("baseline", nearest),
    "ls-linear": ("baseline", linear),
    "wiener": ("baseline", wiener),
    "lmmse": ("baseline", lmmse),
    "genie": ("limit", genie),
}


def evaluate(
    estimators: Mapping[str, tuple[str, Estimate]] | None = None,
    *,
    model: str = "baselines",
    pilots: Pilots | None = None,
    snrs_db: Sequence[float] = SNRS_DB,
    splits: Mapping[str, PathSet] | None = None,
    links: int = 500,
    seed: int = 0,
    seeds: int = 1,
    data: str = "embedded",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Every estimator of `estimators` (name to role and function) and of ESTIMATORS on the same slots.

    Raises InputError when a split holds fewer links than `links`, or an estimate is not finite or misshapen.
    """
    clash = set(ESTIMATORS) & set(estimators or {})
    if clash:
        raise InputError(f"an estimator is called {min(clash)!r}, the name of a baseline: rename it")
    methods = {**(estimators or {}), **ESTIMATORS}
    splits = splits or {name: embedded_split(name) for name in SPLITS}
    pattern = pilots or Pilots()
    total, done = len(splits) * seeds * len(range(0, links, BATCH)) * len(snrs_db), 0
    curves: list[Curve] = []
    for split, paths in splits.items():
        scores: dict[str, list[list[NDArray[np.float64]]]] = {name: [[] for _ in snrs_db] for name in methods}
        for each_seed in range(seed, seed + seeds):
            users = choose_links(paths, links, split, each_seed)
            for start in range(0, links, BATCH):
                rng = np.random.default_rng((each_seed, start))
                clean = move(paths, users[start : start + BATCH], GRID, "R1", rng)
                for index, snr in enumerate(snrs_db):
                    batch = _observed(clean.clean, clean.geometry, clean.carrier_hz, pattern, snr, deepcopy(rng))
                    for name, (_, estimate) in methods.items():
                        scores[name][index].append(_score(name, estimate(batch), batch.clean))
                    done += 1
                    progress(done, total)
        curves += [
            curve_of(name, methods[name][0], REGIME, split, snrs_db, [np.concatenate(v) for v in values], seed)
            for name, values in scores.items()
        ]
    note = f"Pilots on every {pattern.comb}th subcarrier of symbols {', '.join(map(str, pattern.symbols))} of a slot."
    return Evaluation(
        model, links, seed, data, tuple(curves), task="channel-estimation", seeds=seeds, notes=(note,)
    )  # fmt: skip


def _observed(
    clean: Channel, geometry: Geometry | None, carrier_hz: float, pilots: Pilots, snr: float, rng: np.random.Generator
) -> PilotBatch:
    assert geometry is not None
    slot = clean[:, :SYMBOLS_PER_SLOT]
    symbols, tones = np.array(pilots.symbols), np.arange(0, slot.shape[3], pilots.comb)
    power = np.mean(np.abs(slot) ** 2, axis=(1, 2, 3))
    observed = awgn(slot[:, symbols][..., tones], power, snr, rng)
    times = np.arange(SYMBOLS_PER_SLOT) / 28e3
    levels = np.full(len(slot), float(snr))
    noise = power * 10 ** (-levels / 10)
    return PilotBatch(slot, observed, times, symbols, tones, levels, noise.astype(np.float64), carrier_hz, geometry)


def _separable(
    batch: PilotBatch, r_t: NDArray[np.generic], r_a: NDArray[np.generic], r_f: NDArray[np.generic]
) -> Channel:
    time: Axis = r_t[np.ix_(batch.symbols, batch.symbols)], r_t[:, batch.symbols]
    frequency: Axis = r_f[np.ix_(batch.tones, batch.tones)], r_f[:, batch.tones]
    return separable_lmmse(batch.observed, batch.snr_db, time, (r_a, r_a), frequency)


def _lines(wanted: NDArray[np.intp], known: NDArray[np.intp]) -> NDArray[np.float64]:
    """Weights `[wanted, known]` of linear interpolation, and of extrapolation by the outermost pair."""
    weights = np.zeros((len(wanted), len(known)))
    if len(known) == 1:
        return weights + 1.0
    left = np.clip(np.searchsorted(known, wanted, side="right") - 1, 0, len(known) - 2)
    share = (wanted - known[left]) / (known[left + 1] - known[left])
    rows = np.arange(len(wanted))
    weights[rows, left], weights[rows, left + 1] = 1 - share, share
    return weights


def _score(name: str, estimate: Channel, truth: Channel) -> NDArray[np.float64]:
    if estimate.shape != truth.shape:
        raise InputError(
            f"{name} estimates {[*estimate.shape]}, wanted {[*truth.shape]} [batch, 14, antenna, frequency]"
        )
    scores = nmse_of(estimate, truth)
    if not np.isfinite(scores).all():
        raise InputError(f"{name} gave an estimate that is not finite: check its weights")
    return scores
