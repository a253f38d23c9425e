"""Training batches on the fly, ahead of the training step, the same with any number of workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..models.config import GridConfig
from .path_store import PathStore
from .sampler import Batch, draw
from .schema import PathSet

__all__ = ["Loader", "in_order"]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Loader:
    """Batches of random links, regimes and SNRs; batch `step` follows from (`seed`, `step`) and nothing else.

    `links` is a path set, or a store at one carrier of which only the drawn links are read. `workers` threads make
    batches ahead (0: none, each batch is made when it is asked for). Threads do, and share the store's memory map:
    the synthesis is NumPy over large arrays, which holds the interpreter for a small part of the time.
    """

    links: PathSet | PathStore
    grid: GridConfig
    batch: int
    regimes: tuple[str, ...]
    snr_db: tuple[float, float]
    seed: tuple[int, ...]
    workers: int = 1

    def at(self, step: int) -> tuple[Batch, np.random.Generator]:
        """The batch of `step`, and the step's generator as the drawing left it (for the mask)."""
        rng = np.random.default_rng((*self.seed, step))
        users = rng.integers(0, self.links.links, self.batch)
        regime = str(rng.choice(self.regimes))
        if isinstance(self.links, PathStore):
            return draw(self.links.take(users), np.arange(self.batch), self.grid, regime, self.snr_db, rng), rng
        return draw(self.links, users, self.grid, regime, self.snr_db, rng), rng

    def steps(self, first: int, end: int) -> Iterator[tuple[int, Batch, np.random.Generator]]:
        """(step, batch, generator) for `first` <= step < `end`."""
        steps = range(first, end)
        for step, (batch, rng) in zip(steps, in_order(self.at, steps, self.workers), strict=True):
            yield step, batch, rng


def in_order(make: Callable[[int], T], steps: Iterable[int], workers: int) -> Iterator[T]:
    """make(step) for every step, in order, up to `workers` + 1 of them ahead in as many threads as `workers`."""
    if workers < 1:
        yield from map(make, steps)
        return
    with ThreadPoolExecutor(workers, "loader") as pool:
        ahead: deque[Future[T]] = deque()
        try:
            for step in steps:
                ahead.append(pool.submit(make, step))
                if len(ahead) > workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
