"""Generate path sets city by city; a finished city is kept and not traced again."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from spikeport_errors import UsageError, unknown_name
from spikeport_toolkit.data.raytrace import trace
from spikeport_toolkit.data.raytrace.llvm import import_sionna_rt
from spikeport_toolkit.data.schema import PathSet
from spikeport_toolkit.data.store import EMBEDDED_CITIES, load_paths, save_paths

__all__ = ["FILE_NAME", "SEED", "generate", "generate_city"]

FILE_NAME = "paths_v1.npz"
SEED = 2026
_REVISION = 2
"""Goes up when the generator gives other paths for the same arguments, so that kept cities are traced again."""


def generate(
    cities: Sequence[str] = EMBEDDED_CITIES,
    out: Path = Path("paths"),
    *,
    users: int = 400,
    stations: int = 2,
    carriers: Sequence[float] = (3.5e9, 28e9),
    seed: int = SEED,
) -> Path:
    """Trace `cities` and write `out`/paths_v1.npz; gives that file.

    Each city is first written to `out`/cities, so that an interrupted run goes on where it stopped. The defaults
    give the embedded data set; `users` may be smaller and gives the first users of the same draw. Users that no path
    reaches are dropped. UsageError for an unknown city or a count below one, MissingDependencyError without
    sionna-rt or LLVM 17.
    """
    for city in cities:
        if city not in trace.WHEEL_CITIES and not re.fullmatch(r"proc\d{1,6}", city):
            raise unknown_name("city", city, EMBEDDED_CITIES, "any proc<number> works too")
    if not cities or users < 1 or stations < 1 or not carriers or min(carriers) < 1e9 or max(carriers) > 40e9:
        raise UsageError(
            f"{len(cities)} cities, {users} users, {stations} stations, carriers {list(carriers)} Hz: give at least "
            "one of each, and carriers of 1 to 40 GHz (the range of the walls' ITU materials)"
        )
    import_sionna_rt()
    out = Path(out)
    key = f"{zlib.crc32(repr((_REVISION, users, stations, tuple(carriers), seed)).encode()):08x}"
    sets: list[PathSet] = []
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("ray tracing", total=len(cities))
        for city in cities:
            progress.update(task, description=f"ray tracing {city}")
            part = out / "cities" / f"{city}-{key}.npz"
            if not part.is_file():
                save_paths(generate_city(city, users, stations, carriers, seed), part)
            sets += load_paths(part)
            progress.advance(task)
    save_paths(sets, out / FILE_NAME)
    return out / FILE_NAME


def generate_city(city: str, users: int, stations: int, carriers: Iterable[float], seed: int) -> list[PathSet]:
    """The path sets of one city, station by station and carrier by carrier; only links with a path.

    Masts, and the users of each station, come from random streams of their own (seed, city, station).
    """
    scene = trace.load_city(city)
    name = zlib.crc32(city.encode())
    sets = []
    for station, bs in enumerate(trace.place_stations(scene, stations, np.random.default_rng([seed, name]))):
        draw = -(-users // trace.GROUP) * trace.GROUP
        places = trace.place_users(scene, bs, draw, np.random.default_rng([seed, name, station + 1]))
        for carrier in carriers:
            paths = trace.trace_paths(scene, city, station, bs, places, carrier, seed)
            sets.append(paths.select(np.flatnonzero(paths.n_paths[:users])))
    return sets
