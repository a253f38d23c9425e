"""Which points of a sweep no other point beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def fronts(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The points with `front_energy` and `front_latency`: no other has both a lower NMSE and a lower cost.

    Energies are compared where they hold the same: totals with totals, event energies with event energies.
    """
    marked = [dict(point, front_energy=False, front_latency=False) for point in points]
    for part in ("total", "event"):
        _mark([p for p in marked if p["energy_part"] == part], "energy", "front_energy")
    _mark(marked, "latency", "front_latency")
    return marked


def _mark(points: Sequence[dict[str, Any]], cost: str, mark: str) -> None:
    known = [
        (p, (p["nmse_db"], p[cost]["nominal"]))
        for p in points
        if p["nmse_db"] is not None and p[cost] and p[cost]["nominal"] is not None
    ]
    for point, (nmse, price) in known:
        beaten = any(n <= nmse and c <= price and (n, c) != (nmse, price) for _, (n, c) in known)
        point[mark] = not beaten
