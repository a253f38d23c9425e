"""The channel-estimation benchmark: the whole slot from its pilots, NMSE over SNR against clean truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from ..baselines.genie import adjoint_of, estimate_paths, gram_of, known_paths
from ..baselines.lmmse import training_covariance
from ..baselines.separable import Axis, separable_lmmse
from ..baselines.wiener import delay_covariance, speed_covariance
from ..data.impairments import awgn
from ..data.patches import Channel
from ..data.sampler import SUBCARRIER_SPACING_HZ, Batch, Geometry, embedded_split, move
from ..data.schema import PathSet
from ..models.config import SYMBOLS_PER_SLOT, GridConfig
from .channel_prediction import SNRS_DB, SPLITS
from .curves import Method, measure
from .evaluation import Evaluation, nmse_of
from .request import Place

__all__ = ["ESTIMATORS", "GRID", "Estimate", "Learned", "PilotBatch", "Pilots", "evaluate", "linear", "observed"]

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
Learned = Callable[[Place, NDArray[np.intp], int], Mapping[str, tuple[str, Estimate]]]
"""Estimators by name, with their role, fitted to labelled links of a place under a seed."""


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
    learned: Learned | None = None,
    labels: int = 0,
    grid: GridConfig = GRID,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Every estimator of `estimators` (name to role and function) and of ESTIMATORS on the same slots.

    `learned` makes more of them for a place, `labels` links of it that are not tested, and a seed. Raises InputError
    when a split holds fewer links than `links` and `labels`, or an estimate is not finite or misshapen.
    """
    clash = set(ESTIMATORS) & set(estimators or {})
    if clash:
        raise InputError(f"an estimator is called {min(clash)!r}, the name of a baseline: rename it")
    pattern = pilots or Pilots()
    places = [Place(name, paths) for name, paths in (splits or {n: embedded_split(n) for n in SPLITS}).items()]

    def methods(place: Place, known: NDArray[np.intp], seed: int) -> dict[str, tuple[str, Method[PilotBatch]]]:
        found = {**(estimators or {}), **(learned(place, known, seed) if learned else {}), **ESTIMATORS}
        return {name: (role, partial(_score, name, estimate)) for name, (role, estimate) in found.items()}

    curves = measure(
        places, methods, partial(_slots, grid), lambda batch, snr, rng: observed(batch, pattern, snr, rng),
        regime=REGIME, snrs_db=snrs_db, links=links, labels=labels, seed=seed, seeds=seeds, progress=progress,
    )  # fmt: skip
    note = f"Pilots on every {pattern.comb}th subcarrier of symbols {', '.join(map(str, pattern.symbols))} of a slot."
    return Evaluation(model, links, seed, data, curves, task="channel-estimation", seeds=seeds, notes=(note,))


def _slots(grid: GridConfig, paths: PathSet, users: NDArray[np.intp], rng: np.random.Generator) -> Batch:
    return move(paths, users, grid, "R1", rng)


def observed(batch: Batch, pilots: Pilots, snr_db: float | tuple[float, float], rng: np.random.Generator) -> PilotBatch:
    """The first slot of `batch` as its pilots show it, at `snr_db` or U(low, high) a sample."""
    assert batch.geometry is not None
    slot = batch.clean[:, :SYMBOLS_PER_SLOT]
    symbols, tones = np.array(pilots.symbols), np.arange(0, slot.shape[3], pilots.comb)
    power = np.mean(np.abs(slot) ** 2, axis=(1, 2, 3))
    drawn = rng.uniform(*snr_db, len(slot)) if isinstance(snr_db, tuple) else float(snr_db)
    levels = np.broadcast_to(drawn, len(slot)).astype(np.float64)
    seen = awgn(slot[:, symbols][..., tones], power, levels if isinstance(snr_db, tuple) else float(snr_db), rng)
    times = np.arange(SYMBOLS_PER_SLOT) / 28e3
    noise = (power * 10 ** (-levels / 10)).astype(np.float64)
    return PilotBatch(slot, seen, times, symbols, tones, levels, noise, batch.carrier_hz, batch.geometry)


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


def _score(name: str, estimate: Estimate, batch: PilotBatch) -> NDArray[np.float64]:
    found, truth = estimate(batch), batch.clean
    if found.shape != truth.shape:
        raise InputError(f"{name} estimates {[*found.shape]}, wanted {[*truth.shape]} [batch, 14, antenna, frequency]")
    return nmse_of(found, truth)
