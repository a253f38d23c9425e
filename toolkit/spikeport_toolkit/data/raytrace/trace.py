"""One scene: place base stations and users, shoot rays, keep the strongest paths."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError
from spikeport_toolkit.data.raytrace.llvm import import_sionna_rt
from spikeport_toolkit.data.raytrace.settings import Tracing
from spikeport_toolkit.data.schema import PATH_FIELDS, PathSet

__all__ = ["GROUP", "MAX_PATHS", "place_stations", "place_users", "solver_options", "trace_paths"]

MAX_PATHS = 25
GROUP = 100
_WEAKEST_PATH_DB, _WEAKEST_LINK_DB = -40.0, -140.0
_GROUND_NAMES = ("ground", "Plane", "Terrain", "floor", "street")
_USER_HEIGHT, _SKY, _GROUND_BAND = 1.5, 2000.0, 2.0
_MASTS, _PROBES = 60, 400
_SAME_LENGTH_M, _SAME_ANGLE_RAD, _MOST_COMPARED = 0.01, 1e-3, 200
_SPEED_OF_LIGHT = 299_792_458.0
_Fields = dict[str, NDArray[Any]]


def solver_options(tracing: Tracing) -> dict[str, Any]:
    """Options of sionna-rt's PathSolver. Ten times more samples cost ten times more and find the same paths."""
    return {
        "max_depth": tracing.reflections, "los": True, "specular_reflection": tracing.reflections > 0,
        "refraction": False, "diffraction": tracing.diffraction, "synthetic_array": True, "samples_per_src": 100_000,
    }  # fmt: skip


def place_stations(scene: Any, tracing: Tracing, rng: np.random.Generator) -> NDArray[np.float64]:
    """[stations, 3] m: among 60 masts, those whose share of street in line of sight is nearest `los_share`.

    A random mast covers 1-20 % of the streets around it; a share of one half gives 40-95 %. InputError where the
    streets have no room for that many stations `station_distance_m` apart.
    """
    masts = _street_points(scene, _MASTS, rng, tracing)
    masts[:, 2] += rng.uniform(*tracing.mast_height_m, len(masts))
    shares = [_visible(scene, m, place_users(scene, m, _PROBES, rng, tracing)).mean() for m in masts]
    chosen: list[int] = []
    for i in np.argsort(np.abs(np.array(shares) - tracing.los_share), kind="stable"):
        if all(np.linalg.norm(masts[i, :2] - masts[c, :2]) > tracing.station_distance_m for c in chosen):
            chosen.append(int(i))
        if len(chosen) == tracing.stations:
            return masts[chosen]
    raise InputError(
        f"no room for {tracing.stations} base stations {tracing.station_distance_m:g} m apart: ask for fewer stations "
        "or a smaller station_distance_m"
    )


def place_users(
    scene: Any, station: NDArray[np.float64], users: int, rng: np.random.Generator, tracing: Tracing
) -> NDArray[np.float64]:
    """[users, 3] m: 1.5 m above the street, uniform over it, between min_distance_m and cell_radius_m of the station.

    Drawn one after another, so that the first n users of a larger draw are the n users of a smaller one.
    """
    places = _street_points(scene, users, rng, tracing, station)
    places[:, 2] += _USER_HEIGHT
    return places


def trace_paths(
    scene: Any,
    city: str,
    station: int,
    bs: NDArray[np.float64],
    users: NDArray[np.float64],
    carrier_hz: float,
    tracing: Tracing,
) -> PathSet:
    """Direct, reflected and diffracted paths from `bs` [3] to `users` [U, 3], strongest 25 kept.

    Paths 40 dB below the link's strongest are dropped, and so are links below -140 dB, about the largest coupling
    loss of a 5G cell: such users, and those that no path reaches, stay in the set with `los` -1. What the solver
    finds for a user depends a little on how many users it is given, so a draw is cut into whole groups of 100.
    """
    rt, mi = import_sionna_rt()
    try:
        scene.frequency = carrier_hz
    except ValueError as error:
        raise InputError(
            f"no tracing at {carrier_hz / 1e9:g} GHz ({' '.join(str(error).split())}): choose another carrier or, in "
            "the scene file, another material (sionna's ground materials end at 10 GHz, concrete does not)"
        ) from None
    for name in (*scene.transmitters, *scene.receivers):
        scene.remove(name)
    scene.add(rt.Transmitter("bs", position=mi.Point3f(*bs.tolist())))
    for i in range(GROUP):
        scene.add(rt.Receiver(f"u{i}", position=mi.Point3f(0.0)))
    groups = []
    for start in range(0, len(users), GROUP):
        for i, user in enumerate(users[start : start + GROUP].tolist()):
            scene.receivers[f"u{i}"].position = mi.Point3f(*user)
        groups.append(_solve(rt.PathSolver(deterministic=True), scene, tracing))
    width = max(1, *(group["a"].shape[1] for group in groups))
    links = {k: np.concatenate([_padded(group[k], width) for group in groups])[: len(users)] for k in groups[0]}
    return PathSet(
        **links,
        ue=users.astype(np.float32),
        bs=bs.astype(np.float32),
        carrier_hz=float(carrier_hz),
        city=city,
        station=station,
    )


def _solve(solver: Any, scene: Any, tracing: Tracing) -> dict[str, NDArray[Any]]:
    paths = solver(scene, seed=tracing.seed, **solver_options(tracing))
    gain = (np.array(paths.a[0]) + 1j * np.array(paths.a[1]))[:, 0, 0, 0]
    fields = {"a": gain} | {k: np.array(getattr(paths, k))[:, 0] for k in PATH_FIELDS[1:]}
    fields["direct"] = (np.array(paths.interactions)[:, :, 0] == 0).all(0)
    power = np.where(np.array(paths.valid)[:, 0], np.abs(gain).astype(np.float64) ** 2, 0.0)
    power, fields = _picked(power, fields)
    power[_repeated(fields) & (power > 0)] = 0
    power[power <= power.max(1, keepdims=True, initial=0) * 10 ** (_WEAKEST_PATH_DB / 10)] = 0
    power[power.sum(1) <= 10 ** (_WEAKEST_LINK_DB / 10)] = 0
    power, fields = _picked(power, fields)
    kept = (power > 0)[:, :MAX_PATHS]
    width = max(1, kept.sum(1).max())
    links = {k: np.where(kept, v[:, :MAX_PATHS], 0)[:, :width] for k, v in fields.items()}
    direct = links.pop("direct").any(1)
    n_paths = kept.sum(1)
    return links | {
        "a": links["a"].astype(np.complex64),
        "n_paths": n_paths.astype(np.int16),
        "los": np.where(n_paths == 0, -1, direct).astype(np.int8),
    }


def _picked(power: NDArray[np.float64], fields: _Fields) -> tuple[NDArray[np.float64], _Fields]:
    """`power` [U, P] and all `fields` [U, P] with each link's paths sorted, strongest first."""
    order = np.argsort(-power, axis=1, kind="stable")
    return np.take_along_axis(power, order, 1), {k: np.take_along_axis(v, order, 1) for k, v in fields.items()}


def _repeated(fields: _Fields) -> NDArray[np.bool_]:
    """[U, P] true where a stronger path of the link has the same length (1 cm) and angles (1 mrad).

    The solver tells paths apart by rounded hashes of the walls they meet, and so counts about one in twenty twice.
    """
    angles = [fields[k] for k in PATH_FIELDS[2:]]
    steps = np.stack([fields["tau"] * _SPEED_OF_LIGHT / _SAME_LENGTH_M, *(a / _SAME_ANGLE_RAD for a in angles)], -1)
    repeated = np.zeros(steps.shape[:2], dtype=bool)
    for p in range(1, min(steps.shape[1], _MOST_COMPARED)):
        repeated[:, p] = (np.abs(steps[:, :p] - steps[:, p : p + 1]).max(-1) < 1).any(1)
    return repeated


def _padded(values: NDArray[Any], width: int) -> NDArray[Any]:
    return np.pad(values, ((0, 0), (0, width - values.shape[1]))) if values.ndim == 2 else values


def _street_points(
    scene: Any,
    count: int,
    rng: np.random.Generator,
    tracing: Tracing,
    centre: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """[count, 3] points on the ground seen from above: around `centre`, or anywhere a cell fits into the scene."""
    _, mi = import_sionna_rt()
    names = [n for n in _GROUND_NAMES if n in scene.objects]
    ground = mi.ShapePtr(scene.objects[names[0]].mi_mesh) if names else None
    box, radius = scene.mi_scene.bbox(), tracing.cell_radius_m
    low, high = np.array(box.min, dtype=float)[:2], np.array(box.max, dtype=float)[:2]
    points = np.empty((0, 3))
    for _ in range(100):
        if centre is None:
            margin = np.minimum(radius, 0.3 * (high - low))
            xy = rng.uniform(low + margin, high - margin, (2000, 2))
            inside = np.ones(2000, dtype=bool)
        else:
            offset = rng.uniform(-radius, radius, (2000, 2))
            distance = np.hypot(*offset.T)
            xy = centre[:2] + offset
            inside = (distance > tracing.min_distance_m) & (distance < radius) & ((xy > low) & (xy < high)).all(1)
        down = mi.Ray3f(mi.Point3f(xy[:, 0], xy[:, 1], np.full(len(xy), _SKY)), mi.Vector3f(0, 0, -1))
        hit = scene.mi_scene.ray_intersect(down)
        height = _SKY - np.array(hit.t, dtype=float)
        street = inside & np.array(hit.is_valid())
        if ground is not None:
            street &= np.array(hit.shape == ground)
        elif street.any():
            # A scene whose ground has no name of its own: whatever lies within two metres of its lowest surfaces.
            street &= height < np.percentile(height[street], 2) + _GROUND_BAND
        points = np.concatenate([points, np.column_stack([xy, height])[street]])
        if len(points) >= count:
            return points[:count]
    raise InputError(
        f"found only {len(points)} of {count} places on the streets: ask for fewer users, or set cell_radius_m and "
        "min_distance_m to the size of the scene"
    )


def _visible(scene: Any, mast: NDArray[np.float64], users: NDArray[np.float64]) -> NDArray[np.bool_]:
    _, mi = import_sionna_rt()
    ray = mi.Ray3f(mi.Point3f(*mast.tolist()), mi.Vector3f(*(users - mast).T))
    ray.maxt = 0.9999
    return ~np.array(scene.mi_scene.ray_test(ray))
