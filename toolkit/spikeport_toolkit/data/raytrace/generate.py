"""The path sets of one city, station by station and carrier by carrier."""

from __future__ import annotations

import zlib

import numpy as np

from spikeport_errors import InputError
from spikeport_toolkit.data.raytrace import trace
from spikeport_toolkit.data.raytrace.scenes import load_city
from spikeport_toolkit.data.raytrace.settings import City, Tracing
from spikeport_toolkit.data.schema import PathSet

__all__ = ["REVISION", "generate_city"]

REVISION = 2
"""Goes up when the generator gives other paths for the same recipe, so that kept cities are traced again."""


def generate_city(city: City, tracing: Tracing) -> list[PathSet]:
    """One path set a station and carrier, with only the links that a path reaches.

    Masts, and the users of each station, come from random streams of their own (seed, city, station), so fewer users
    are the first users of the same draw. InputError if no user is reached.
    """
    scene = load_city(city)
    name, seed = zlib.crc32(city.name.encode()), tracing.seed
    sets = []
    try:
        stations = trace.place_stations(scene, tracing, np.random.default_rng([seed, name]))
        for station, bs in enumerate(stations):
            draw = -(-tracing.users_per_station // trace.GROUP) * trace.GROUP
            places = trace.place_users(scene, bs, draw, np.random.default_rng([seed, name, station + 1]), tracing)
            for carrier in tracing.carriers_hz:
                paths = trace.trace_paths(scene, city.name, station, bs, places, carrier, tracing)
                reached = np.flatnonzero(paths.n_paths[: tracing.users_per_station])
                sets += [paths.select(reached)] if reached.size else []
    except InputError as error:
        raise InputError(f"city {city.name}: {error}") from None
    if not sets:
        raise InputError(f"city {city.name}: no path reaches a user: allow more reflections, or place users nearer")
    return sets
