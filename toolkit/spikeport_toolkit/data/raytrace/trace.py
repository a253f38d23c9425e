"""One scene: place base stations and users, shoot rays, keep the strongest paths."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError
from spikeport_toolkit.data.raytrace.llvm import import_sionna_rt
from spikeport_toolkit.data.raytrace.procedural import procedural_city
from spikeport_toolkit.data.schema import PATH_FIELDS, PathSet

__all__ = ["GROUP", "MAX_PATHS", "SOLVER", "WHEEL_CITIES", "load_city", "place_stations", "place_users", "trace_paths"]

WHEEL_CITIES = ("munich", "florence", "etoile", "san_francisco")
MAX_PATHS = 25
GROUP = 100
_WEAKEST_PATH_DB, _WEAKEST_LINK_DB = -40.0, -140.0
SOLVER = {
    "max_depth": 4, "los": True, "specular_reflection": True, "refraction": False, "diffraction": True,
    "synthetic_array": True, "samples_per_src": 100_000,
}  # fmt: skip
"""Options of sionna-rt's PathSolver. Ten times more samples cost ten times more and find the same paths."""
_GROUND_NAMES = ("ground", "Plane", "Terrain")
_USER_HEIGHT, _MAST_HEIGHTS = 1.5, (10.0, 25.0)
_CELL_RADIUS, _MIN_DISTANCE, _STATION_DISTANCE = 150.0, 10.0, 150.0
_MASTS, _PROBES = 60, 400
_SAME_LENGTH_M, _SAME_ANGLE_RAD, _MOST_COMPARED = 0.01, 1e-3, 200
_SPEED_OF_LIGHT = 299_792_458.0
_Fields = dict[str, NDArray[Any]]


def load_city(city: str) -> Any:
    """The sionna-rt scene of a wheel city or of `proc<N>`, with one vertical isotropic antenna at both ends."""
    rt, _ = import_sionna_rt()
    if city in WHEEL_CITIES:
        scene = rt.load_scene(getattr(rt.scene, city))
    else:
        scene = rt.load_scene_from_string(procedural_city(int(city.removeprefix("proc"))))
    scene.tx_array = scene.rx_array = rt.PlanarArray(num_rows=1, num_cols=1, pattern="iso", polarization="V")
    return scene


def place_stations(scene: Any, stations: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """[stations, 3] m: among 60 masts of 10-25 m, those whose share of street in line of sight is nearest one half.

    A random mast covers 1-20 % of the streets around it; this rule gives 40-95 %. Stations stand 150 m apart.
    """
    masts = _street_points(scene, _MASTS, rng)
    masts[:, 2] += rng.uniform(*_MAST_HEIGHTS, len(masts))
    shares = [_visible(scene, m, place_users(scene, m, _PROBES, rng)).mean() for m in masts]
    chosen: list[int] = []
    for i in np.argsort(np.abs(np.array(shares) - 0.5), kind="stable"):
        if all(np.linalg.norm(masts[i, :2] - masts[c, :2]) > _STATION_DISTANCE for c in chosen):
            chosen.append(int(i))
        if len(chosen) == stations:
            return masts[chosen]
    raise InputError(f"no room for {stations} base stations {_STATION_DISTANCE:g} m apart: ask for fewer")


def place_users(scene: Any, station: NDArray[np.float64], users: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """[users, 3] m: 1.5 m above the street, uniform over it, 10-150 m from the station.

    Drawn one after another, so that the first n users of a larger draw are the n users of a smaller one.
    """
    places = _street_points(scene, users, rng, station)
    places[:, 2] += _USER_HEIGHT
    return places


def trace_paths(
    scene: Any,
    city: str,
    station: int,
    bs: NDArray[np.float64],
    users: NDArray[np.float64],
    carrier_hz: float,
    seed: int,
) -> PathSet:
    """Direct, reflected (up to four times) and diffracted paths from `bs` [3] to `users` [U, 3], strongest 25 kept.

    Paths 40 dB below the link's strongest are dropped, and so are links below -140 dB, about the largest coupling
    loss of a 5G cell: such users, and those that no path reaches, stay in the set with `los` -1. What the solver
    finds for a user depends a little on how many users it is given, so a draw is cut into whole groups of 100.
    """
    rt, mi = import_sionna_rt()
    scene.frequency = carrier_hz
    for name in (*scene.transmitters, *scene.receivers):
        scene.remove(name)
    scene.add(rt.Transmitter("bs", position=mi.Point3f(*bs.tolist())))
    for i in range(GROUP):
        scene.add(rt.Receiver(f"u{i}", position=mi.Point3f(0.0)))
    groups = []
    for start in range(0, len(users), GROUP):
        for i, user in enumerate(users[start : start + GROUP].tolist()):
            scene.receivers[f"u{i}"].position = mi.Point3f(*user)
        groups.append(_solve(rt.PathSolver(deterministic=True), scene, seed))
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


def _solve(solver: Any, scene: Any, seed: int) -> dict[str, NDArray[Any]]:
    paths = solver(scene, seed=seed, **SOLVER)
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
    scene: Any, count: int, rng: np.random.Generator, centre: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """[count, 3] points on the ground seen from above: around `centre`, or anywhere a cell fits into the scene."""
    _, mi = import_sionna_rt()
    ground = mi.ShapePtr(next(scene.objects[n].mi_mesh for n in _GROUND_NAMES if n in scene.objects))
    box = scene.mi_scene.bbox()
    low, high = np.array(box.min, dtype=float)[:2], np.array(box.max, dtype=float)[:2]
    points = np.empty((0, 3))
    for _ in range(100):
        if centre is None:
            margin = np.minimum(_CELL_RADIUS, 0.3 * (high - low))
            xy = rng.uniform(low + margin, high - margin, (2000, 2))
            inside = np.ones(2000, dtype=bool)
        else:
            offset = rng.uniform(-_CELL_RADIUS, _CELL_RADIUS, (2000, 2))
            distance = np.hypot(*offset.T)
            xy = centre[:2] + offset
            inside = (distance > _MIN_DISTANCE) & (distance < _CELL_RADIUS) & ((xy > low) & (xy < high)).all(1)
        down = mi.Ray3f(mi.Point3f(xy[:, 0], xy[:, 1], np.full(len(xy), 2000.0)), mi.Vector3f(0, 0, -1))
        hit = scene.mi_scene.ray_intersect(down)
        street = inside & np.array(hit.is_valid()) & np.array(hit.shape == ground)
        height = 2000.0 - np.array(hit.t, dtype=float)
        points = np.concatenate([points, np.column_stack([xy, height])[street]])
        if len(points) >= count:
            return points[:count]
    raise InputError(f"found only {len(points)} of {count} places on the streets: ask for fewer users")


def _visible(scene: Any, mast: NDArray[np.float64], users: NDArray[np.float64]) -> NDArray[np.bool_]:
    _, mi = import_sionna_rt()
    ray = mi.Ray3f(mi.Point3f(*mast.tolist()), mi.Vector3f(*(users - mast).T))
    ray.maxt = 0.9999
    return ~np.array(scene.mi_scene.ray_test(ray))
