"""How well a chart keeps neighbourhoods."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

Points = NDArray[np.floating]


def trustworthiness(space: Points, chart: Points, neighbours: int) -> float:
    """1 when everybody near on the `chart` `[n, e]` is near in `space` `[n, d]`; intruders cost their rank:

        T(k) = 1 - 2 / (n k (2 n - 3 k - 1)) sum_i sum_{j in U_k(i)} (r(i, j) - k)

    U_k(i): the k nearest of i on the chart that are not among its k nearest in space; r: rank by distance in space,
    1 the nearest (Venna and Kaski, 2001). Distances are Euclidean. InputError unless 1 <= k < n / 2.
    """
    if len(space) != len(chart):
        raise InputError(f"{len(space)} points in space and {len(chart)} on the chart: give the same users to both")
    n, k = len(space), neighbours
    if not 1 <= k < n / 2:
        raise InputError(f"{k} neighbours of {n} points: take 1 to {max((n - 1) // 2, 0)}, or more points")
    rank = _ranks(space)
    intruders = (_ranks(chart) <= k) & (rank > k)
    return float(1 - 2 / (n * k * (2 * n - 3 * k - 1)) * np.sum((rank - k)[intruders]))


def continuity(space: Points, chart: Points, neighbours: int) -> float:
    """1 when everybody near in `space` is near on the `chart`: trustworthiness with the two exchanged."""
    return trustworthiness(chart, space, neighbours)


def _ranks(points: Points) -> NDArray[np.intp]:
    """Rank `[n, n]` of every other point by distance, 1 the nearest; a point's own rank is n, beyond all others."""
    x = np.asarray(points, np.float64)
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    rank: NDArray[np.intp] = distance.argsort(1, kind="stable").argsort(1) + 1
    return rank
