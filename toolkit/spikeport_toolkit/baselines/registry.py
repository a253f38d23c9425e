"""All predictors without a trained transformer, by name, in one call form: a batch in, its wanted slots out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import UsageError, unknown_name

from ..data.sampler import Batch
from .ar import ar
from .genie import genie
from .kalman import kalman
from .last_value import last_value
from .lmmse import lmmse
from .prony import prony
from .recurrent import recurrent
from .slot_mean import slot_mean
from .wiener import wiener
from .wiener_2x1d import wiener_2x1d
from .wiener_mixture import wiener_mixture
from .wiener_threshold import wiener_threshold

__all__ = ["BASELINES", "DEFAULT", "Baseline", "baselines_of"]


@dataclass(frozen=True)
class Baseline:
    """A method to compare with. Role `limit` marks what no method can reach: it is told the paths."""

    name: str
    summary: str
    predict: Callable[[Batch], NDArray[np.complex64]]
    role: str = "baseline"

    @property
    def needs_paths(self) -> bool:
        """Whether it runs only where path parameters are known, and the noise is."""
        return self.role == "limit"


def _filter(function: Callable[..., NDArray[np.complex64]], batch: Batch, **known: object) -> NDArray[np.complex64]:
    return function(batch.observed, batch.times_observed, batch.times_predicted, batch.snr_db, **known)


def _prior(function: Callable[..., NDArray[np.complex64]], batch: Batch) -> NDArray[np.complex64]:
    return _filter(function, batch, carrier_hz=batch.carrier_hz, subcarrier_spacing_hz=batch.spacing_hz)


def _carrier(function: Callable[..., NDArray[np.complex64]], batch: Batch) -> NDArray[np.complex64]:
    return _filter(function, batch, carrier_hz=batch.carrier_hz)


def _hold(function: Callable[..., NDArray[np.complex64]], batch: Batch) -> NDArray[np.complex64]:
    return function(batch.observed, len(batch.times_predicted))


BASELINES: dict[str, Baseline] = {
    each.name: each
    for each in (
        Baseline("last-value", "the last noisy symbol, repeated", partial(_hold, last_value)),
        Baseline("slot-mean", "the mean of the last slot, repeated", partial(_hold, slot_mean)),
        Baseline("ar", "autoregression of order 8 (Yule-Walker)", partial(_filter, ar)),
        Baseline("pad", "vector Prony in the angle-delay domain", partial(_filter, prony)),
        Baseline("kalman", "Kalman filter of an AR(3) model of Jakes' fading", partial(_prior, kalman)),
        Baseline("wiener-2x1d", "robust Wiener, frequency first, then time", partial(_prior, wiener_2x1d)),
        Baseline(
            "wiener-threshold", "delay-domain threshold, then Wiener over time", partial(_carrier, wiener_threshold)
        ),
        Baseline("wiener", "robust Wiener: fixed prior, told the SNR", partial(_prior, wiener)),
        Baseline("wiener-mixture", "mixture of Wiener filters, told neither SNR nor speed", wiener_mixture),
        Baseline("lmmse", "separable LMMSE, covariance of the training cities", partial(_prior, lmmse)),
        Baseline("lstm", "LSTM over half slots, trained on the training cities", partial(recurrent, "lstm")),
        Baseline("gru", "GRU over half slots, trained on the training cities", partial(recurrent, "gru")),
        Baseline("genie", "LMMSE told all paths and the motion, not the phases", genie, "limit"),
    )
}
DEFAULT = ("last-value", "wiener", "lmmse", "genie")
"""Cheap enough to stand in every evaluation."""


def baselines_of(names: str | Sequence[str]) -> tuple[Baseline, ...]:
    """Baselines by name, in the registry's order; `all` is all of them, and the defaults are always among them.

    UsageError for an unknown name.
    """
    wanted = [part.strip() for part in names.split(",")] if isinstance(names, str) else list(names)
    if not all(wanted):
        raise UsageError(f"--baselines {names!r} holds an empty name: give names with commas between, or all")
    for name in wanted:
        if name != "all" and name not in BASELINES:
            raise unknown_name("baseline", name, BASELINES, "or all")
    chosen = set(BASELINES) if "all" in wanted else {*wanted, *DEFAULT}
    return tuple(each for name, each in BASELINES.items() if name in chosen)
