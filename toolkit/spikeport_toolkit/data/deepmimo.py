"""DeepMIMO scenarios as path sets: v4 folders, and v2/v3 folders of `.mat` files, read without DeepMIMO's package.

DeepMIMO's conventions and ours, converted here once:

- InSite's phases hold the carrier term exp(-j 2 pi fc tau), and so do DeepMIMO's; `PathSet.a` does not. Folders made
  from Sionna lack it already (DeepMIMO's converter drops it, which makes DeepMIMO's own fading wrong there).
- `*_el` and `theta` are zenith angles in degrees; ours are zenith angles in radians.
- Arrival angles point from the user to where the path comes from, as ours do: a user that moves along them sees a
  positive Doppler shift. The scenarios are static: velocities are drawn per sample, nothing is stored.
- DeepMIMO scales an OFDM channel of K subcarriers by 1/sqrt(K) and counts array phases from element 0; ours is not
  scaled, and the traced point is the array's centre.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from ..files import read_json
from .array_files import read_arrays
from .schema import PathSet

__all__ = ["load_deepmimo"]

_V4_FIELDS = {
    "power": "gain_db", "phase": "phase_deg", "delay": "tau", "aod_el": "theta_t", "aod_az": "phi_t",
    "aoa_el": "theta_r", "aoa_az": "phi_r",
}  # fmt: skip
_MAT_ROWS = ("phase_deg", "tau", "gain_db", "phi_r", "theta_r", "phi_t", "theta_t", "los")
"""Rows of a v2/v3 user's p[8, paths]."""
_ANGLES = ("theta_t", "phi_t", "theta_r", "phi_r")

Raw = dict[str, NDArray[Any]]
"""Path values [users, paths] in DeepMIMO's units, NaN where there is no path, and `ue` [users, 3], `bs` [3], m."""


@dataclass(frozen=True)
class _Scenario:
    carrier_hz: float
    carrier_in_phase_hz: float
    """The carrier whose delay term the stored phases hold: the same, or 0 where they hold none."""
    stations: Mapping[int, Callable[[], Raw]]


def load_deepmimo(
    folder: Path, *, stations: Sequence[int] | None = None, max_paths: int = 25, city: str | None = None
) -> list[PathSet]:
    """The path sets of a DeepMIMO scenario folder, one a base station, in the order of `stations` (default: all).

    A folder with `params.json` is read as v4, one with `params.mat` as v2/v3. Every user of the scenario keeps its
    row (`n_paths` 0 and `los` -1 where no path reaches it), so that the same row of the same city at another carrier
    is the same user. The `max_paths` strongest paths of a link are kept. `station` is DeepMIMO's own number (BS3 is
    3); `city` is the folder's name unless given.

    Raises InputError for a folder of another layout, a station that is not there, a file that is missing, corrupt or
    misshapen, dynamic scenarios, and a scenario in which no user is reached.
    """
    folder = Path(folder).resolve()
    if max_paths < 1:
        raise InputError(f"max_paths is {max_paths}; at least one path is kept")
    if (folder / "params.json").is_file():
        scenario = _open_v4(folder)
    elif (folder / "params.mat").is_file():
        scenario = _open_mat(folder)
    else:
        raise InputError(f"{folder} {_no_scenario(folder)}")
    known = scenario.stations
    if not known:
        raise InputError(f"{folder} holds no base station's paths to users: fetch the scenario again")
    sets = []
    for station in sorted(known) if stations is None else stations:
        if station not in known:
            raise InputError(f"{folder} has no station {station}; it has {', '.join(map(str, sorted(known)))}")
        sets.append(_path_set(known[station](), scenario, max_paths, city or folder.name, station))
    if not any((item.n_paths > 0).any() for item in sets):
        raise InputError(f"{folder}: no user of station {', '.join(str(s.station) for s in sets)} is reached by a path")
    return sets


def _path_set(raw: Raw, scenario: _Scenario, most: int, city: str, station: int) -> PathSet:
    name = f"{city}, station {station}"
    shape = raw["gain_db"].shape
    valid = ~np.isnan(raw["gain_db"])
    for key in (*_V4_FIELDS.values(), "los"):
        if raw[key].shape != shape:
            raise InputError(f"{name}: {key} has shape {raw[key].shape}, power {shape}: fetch the scenario again")
        if not np.isfinite(raw[key][valid]).all():
            raise InputError(f"{name}: {key} is NaN or infinite where a path has power: fetch the scenario again")
    if raw["ue"].shape != (shape[0], 3):
        raise InputError(f"{name}: {shape[0]} users have positions of shape {raw['ue'].shape}: fetch it again")
    n_paths = np.minimum(valid.sum(1), most)
    width = max(1, int(n_paths.max(initial=0)))
    order = np.argsort(np.where(valid, -raw["gain_db"], np.inf), axis=1, kind="stable")[:, :width]
    kept = np.arange(width) < n_paths[:, None]

    def strongest(key: str) -> NDArray[np.float64]:
        return np.where(kept, np.take_along_axis(raw[key], order, 1), 0).astype(np.float64)

    tau = strongest("tau").astype(np.float32)
    turns = strongest("phase_deg") / 360 + scenario.carrier_in_phase_hz * tau.astype(np.float64)
    gain = np.where(kept, 10 ** (strongest("gain_db") / 20), 0)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which validate() refuses
        made = PathSet(
            a=(gain * np.exp(2j * np.pi * np.mod(turns, 1))).astype(np.complex64),
            tau=tau,
            **{key: np.deg2rad(strongest(key)).astype(np.float32) for key in _ANGLES},  # type: ignore[arg-type]
            n_paths=n_paths.astype(np.int16),
            los=np.where(n_paths == 0, -1, (valid & (raw["los"] == 1)).any(1)).astype(np.int8),
            ue=raw["ue"].astype(np.float32),
            bs=raw["bs"].astype(np.float32),
            carrier_hz=scenario.carrier_hz,
            city=city,
            station=station,
        )
    return made.validate()


def _open_v4(folder: Path) -> _Scenario:
    params = read_json(folder / "params.json")
    try:
        carrier_hz, raytracer = float(params["rt_params"]["frequency"]), str(params["rt_params"]["raytracer_name"])
        scenes, sets = int(params["scene"]["num_scenes"]), {int(s["id"]): s for s in params["txrx_sets"].values()}
        user_sets = {i for i, s in sets.items() if s["is_rx"] and not s["is_tx"]}
        names = {i: int(s["id_orig"]) for i, s in sets.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / 'params.json'} is no DeepMIMO v4 scenario ({error!r}): fetch it again") from None
    if scenes > 1:
        raise InputError(f"{folder} is a dynamic scenario of {scenes} scenes; only static ones are read")
    links: dict[tuple[int, int], list[str]] = {}
    for file in sorted(folder.glob("power_t*_tx*_r*.*")):
        match = re.fullmatch(r"power_(t(\d+)_tx(\d+)_r(\d+))\.(npz|mat)", file.name)
        if match and int(match[4]) in user_sets:
            links.setdefault((int(match[2]), int(match[3])), []).append(match[1])
    # A set of one mast carries the scenario's own number; several masts in a set are numbered through from 1.
    single = len({s for s, _ in links}) == len({names.get(s) for s, _ in links}) == len(links)
    numbers = [names[s] for s, _ in links] if single else range(1, len(links) + 1)
    stations = {n: partial(_read_v4, folder, parts) for n, parts in zip(numbers, links.values(), strict=True)}
    return _Scenario(carrier_hz, 0.0 if "sionna" in raytracer.lower() else carrier_hz, stations)


def _read_v4(folder: Path, parts: list[str]) -> Raw:
    read = [_read_v4_part(folder, part) for part in parts]
    width = max(item["gain_db"].shape[1] for item in read)
    raw: Raw = {"bs": read[0]["bs"]}
    for key in read[0]:
        if key != "bs":
            wide = [i[key] if key == "ue" else _padded(i[key], width) for i in read]
            raw[key] = np.concatenate(wide)
    return raw


def _read_v4_part(folder: Path, part: str) -> Raw:
    raw = {ours: _v4_matrix(folder, theirs, part, 2) for theirs, ours in _V4_FIELDS.items()}
    raw["los"] = (_v4_matrix(folder, "inter", part, 2) == 0).astype(np.float64)
    raw["ue"] = _v4_matrix(folder, "rx_pos", part, 2)
    raw["bs"] = _v4_matrix(folder, "tx_pos", part, None).reshape(-1)
    return raw


def _v4_matrix(folder: Path, field: str, part: str, dimensions: int | None) -> NDArray[Any]:
    suffix = "npz" if (folder / f"{field}_{part}.npz").is_file() else "mat"
    file = folder / f"{field}_{part}.{suffix}"
    arrays = read_arrays(file)
    if field not in arrays:
        raise InputError(f"{file} holds no {field!r} but {', '.join(arrays) or 'nothing'}: fetch the scenario again")
    value = arrays[field]
    if value.dtype.kind not in "iuf" or (dimensions is not None and value.ndim != dimensions):
        raise InputError(f"{file}: {field} is {value.dtype} of shape {value.shape}: fetch the scenario again")
    return value


def _open_mat(folder: Path) -> _Scenario:
    params = read_arrays(folder / "params.mat")
    try:
        carrier_hz, power_dbm = (float(params[key].item()) for key in ("carrier_freq", "transmit_power"))
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{folder / 'params.mat'} is no DeepMIMO scenario ({error!r}): fetch it again") from None
    known: dict[int, list[tuple[int, int, Path]]] = {}
    for file in folder.glob("BS*_UE_*.mat"):
        match = re.fullmatch(r"BS(\d+)_UE_(\d+)-(\d+)\.mat", file.name)
        if match:
            known.setdefault(int(match[1]), []).append((int(match[2]), int(match[3]), file))
    stations = {number: partial(_read_mat, sorted(files), power_dbm) for number, files in known.items()}
    return _Scenario(carrier_hz, carrier_hz, stations)


def _read_mat(files: list[tuple[int, int, Path]], power_dbm: float) -> Raw:
    users: list[NDArray[Any]] = []
    ue, bs = [], None
    for first, end, file in files:
        if first != len(users):
            raise InputError(f"{file} starts at user {first}, and the files before it end at {len(users)}: fetch all")
        arrays = read_arrays(file)
        key = "channels" if "channels" in arrays else "channels_VV"
        try:
            cells = [np.asarray(cell[0, 0]["p"]) for cell in arrays[key][0]]
            positions, bs = arrays["rx_locs"][:, :3], arrays["tx_loc"].reshape(-1)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(f"{file} is no DeepMIMO user file ({error!r}): fetch the scenario again") from None
        if len(cells) != end - first or any(c.ndim != 2 or len(c) < len(_MAT_ROWS) for c in cells):
            raise InputError(f"{file} should hold {end - first} users of 8 path rows: fetch the scenario again")
        users.extend(cells)
        ue.append(positions)
    counts = np.array([cell.shape[1] for cell in users])
    flat = np.concatenate([cell[: len(_MAT_ROWS)] for cell in users], axis=1)
    mask = np.arange(max(1, int(counts.max(initial=0)))) < counts[:, None]
    raw: Raw = {"ue": np.concatenate(ue), "bs": np.asarray(bs)}
    for key, row in zip(_MAT_ROWS, flat, strict=True):
        raw[key] = np.full(mask.shape, np.nan)
        raw[key][mask] = row
    if np.isnan(raw["gain_db"][mask]).any():
        raise InputError(f"{files[0][2]}: a path's power is NaN: fetch the scenario again")
    raw["gain_db"] -= power_dbm
    return raw


def _padded(values: NDArray[Any], width: int) -> NDArray[Any]:
    return np.pad(values.astype(np.float64), ((0, 0), (0, width - values.shape[1])), constant_values=np.nan)


def _no_scenario(folder: Path) -> str:
    if not folder.is_dir():
        return "is no folder: check the path, or `spikeport data make` with download = true"
    scenes = [p.name for p in folder.glob("scene_*")]
    if scenes:
        return f"is a dynamic scenario ({len(scenes)} scene folders); only static ones are read"
    if any(folder.glob("*.params.mat")):
        return "holds DeepMIMO's layout before BS*_UE_*.mat; fetch the scenario's v3 or v4 form"
    return "holds neither params.json (DeepMIMO v4) nor params.mat (v2, v3): name the folder that does"
