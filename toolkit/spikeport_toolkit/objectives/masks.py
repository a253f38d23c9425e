"""Which tokens are hidden: one function a kind of mask."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

MASKS = ("random", "time", "frequency", "antenna", "block", "tube")
AXES = {"time": 0, "antenna": 1, "frequency": 2}
TokenGrid = tuple[int, int, int]
Hidden = NDArray[np.bool_]


def hidden_tokens(kind: str, ratio: float, grid: TokenGrid, batch: int, rng: np.random.Generator) -> Hidden:
    """Hidden tokens `[batch, token]` of a `grid` (time, antenna, frequency), the same number in every sample.

    random      round(ratio n) tokens
    time        the last round(ratio T) times (causal: the future is hidden)
    frequency   the last round(ratio F) frequencies (the upper band)
    antenna     round(ratio A) antennas, drawn at random
    block       one box of neighbouring tokens, of the volume nearest to ratio n, anywhere
    tube        round(ratio A F) pairs of antenna and frequency, at all times

    `time`, `frequency` and `random` are WiFo's three (arXiv 2412.08908); tubes are VideoMAE's (arXiv 2203.12602).
    Where a model has real and imaginary patches as two times, a tube hides both parts of a place, as WiMAE does.
    InputError where the ratio hides nothing or everything of the grid.
    """
    if kind == "random":
        return _some(batch, _count(kind, ratio, int(np.prod(grid)), "tokens"), int(np.prod(grid)), rng)
    if kind == "block":
        return _boxes(ratio, grid, batch, rng)
    times, antennas, frequencies = grid
    if kind == "tube":
        pairs = antennas * frequencies
        chosen = _some(batch, _count(kind, ratio, pairs, "pairs of antenna and frequency"), pairs, rng)
        return np.tile(chosen, (1, times))
    rows = grid[AXES[kind]]
    count = _count(kind, ratio, rows, f"{kind} rows")
    if kind == "antenna":
        chosen = _some(batch, count, rows, rng)
    else:
        chosen = np.broadcast_to(np.arange(rows) >= rows - count, (batch, rows))
    return along(kind, chosen, grid)


def along(axis: str, rows: Hidden, grid: TokenGrid) -> Hidden:
    """Rows `[batch, row]` of one axis of the grid as tokens `[batch, token]`."""
    shape = [len(rows), 1, 1, 1]
    shape[1 + AXES[axis]] = rows.shape[1]
    return np.broadcast_to(rows.reshape(shape), (len(rows), *grid)).reshape(len(rows), -1).copy()


def _count(kind: str, ratio: float, of: int, what: str) -> int:
    count = round(ratio * of)
    if not 0 < count < of:
        raise InputError(
            f"mask {kind} at ratio {ratio:g} hides {count} of {of} {what}, and a mask hides some and leaves some: "
            "change the ratio, or take a mask along another axis"
        )
    return count


def _some(batch: int, count: int, of: int, rng: np.random.Generator) -> Hidden:
    hidden: Hidden = rng.random((batch, of)).argsort(1) < count
    return hidden


def _boxes(ratio: float, grid: TokenGrid, batch: int, rng: np.random.Generator) -> Hidden:
    sizes = _box_sizes(ratio, grid)
    hidden = np.zeros((batch, *grid), bool)
    for sample in hidden:
        size = sizes[rng.integers(len(sizes))]
        start = rng.integers(0, np.subtract(grid, size) + 1)
        sample[tuple(slice(a, a + b) for a, b in zip(start, size, strict=True))] = True
    return hidden.reshape(batch, -1)


@cache
def _box_sizes(ratio: float, grid: TokenGrid) -> NDArray[np.intp]:
    """Sides `[box, 3]` of all boxes whose volume is nearest to the ratio; of two equally near volumes the smaller."""
    tokens = int(np.prod(grid))
    sides = np.indices(grid).reshape(3, -1).T + 1
    volume = sides.prod(1)
    sides, volume = sides[volume < tokens], volume[volume < tokens]
    if not len(volume):
        raise InputError(f"mask block needs more than one token, and the grid is {[*grid]}: take a larger grid")
    off = np.abs(volume - ratio * tokens)
    chosen: NDArray[np.intp] = sides[volume == volume[np.isclose(off, off.min())].min()]
    return chosen
