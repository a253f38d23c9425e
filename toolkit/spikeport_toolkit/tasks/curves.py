"""NMSE over SNR of methods that share every sample: how channel estimation and frequency prediction are measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from ..data.sampler import Batch
from ..data.schema import PathSet
from .evaluation import Curve, curve_of
from .request import Place, Progress

__all__ = ["AT_ONCE", "measure"]

AT_ONCE = 64
B = TypeVar("B")
Method = Callable[[B], NDArray[np.float64]]
"""What is observed of a batch, to the NMSE of each sample `[batch]`."""


def measure(
    places: Sequence[Place],
    methods: Callable[[Place, NDArray[np.intp], int], Mapping[str, tuple[str, Method[B]]]],
    clean: Callable[[PathSet, NDArray[np.intp], np.random.Generator], Batch],
    observe: Callable[[Batch, float, np.random.Generator], B],
    *,
    regime: str,
    snrs_db: Sequence[float],
    links: int,
    labels: int,
    seed: int,
    seeds: int,
    progress: Progress,
) -> tuple[Curve, ...]:
    """A curve for every method, by name with its role, in every place.

    `methods` makes them for a place, `labels` links of it that are not tested, and a seed; `clean` draws channels with
    motion and `observe` adds noise, the same at every SNR but for its power. `seeds` seeds from `seed` on draw
    links, labels, motion and noise anew, and are pooled. InputError where a score is not finite.
    """
    total, done = len(places) * seeds * len(range(0, links, AT_ONCE)) * len(snrs_db), 0
    curves: list[Curve] = []
    for place in places:
        scores: dict[tuple[str, str], list[list[NDArray[np.float64]]]] = {}
        for each_seed in range(seed, seed + seeds):
            tested, known = place.draw(links, labels, each_seed)
            chosen = methods(place, known, each_seed)
            for start in range(0, links, AT_ONCE):
                rng = np.random.default_rng((each_seed, start))
                batch = clean(place.paths, tested[start : start + AT_ONCE], rng)
                for index, snr in enumerate(snrs_db):
                    seen = observe(batch, float(snr), deepcopy(rng))
                    for name, (role, method) in chosen.items():
                        values = method(seen)
                        if not np.isfinite(values).all():
                            raise InputError(f"{name} gave an estimate that is not finite: check its weights")
                        scores.setdefault((name, role), [[] for _ in snrs_db])[index].append(values)
                    progress(done := done + 1, total)
        curves += [
            curve_of(name, role, regime, place.name, snrs_db, [np.concatenate(v) for v in values], seed)
            for (name, role), values in scores.items()
        ]
    return tuple(curves)
