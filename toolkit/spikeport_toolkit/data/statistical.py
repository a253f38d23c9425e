"""3GPP TR 38.901 channels (CDL, TDL, UMi, UMa, RMa) on the project's grid, through Sionna's PHY (extra [phy]).

They have statistics but no place: no city to hold out, no pairing between carriers. They serve as a set whose
statistics no model was trained on, never as the default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError, MissingDependencyError, UsageError, unknown_name

from ..models.config import GridConfig
from .channel_set import ChannelSet
from .raytrace.llvm import find_llvm
from .sampler import SLOT_START_S, SUBCARRIER_SPACING_HZ, SYMBOL_S, symbol_times

__all__ = ["MODELS", "statistical_channels"]

MODELS = (*(f"{kind}-{letter}" for kind in ("cdl", "tdl") for letter in "abcde"), "umi", "uma", "rma")
CHUNK = 16
"""Links drawn with one seed: the first links of a set are the same however many follow."""


@dataclass(frozen=True)
class _Cell:
    """Mast height and the ring of user distances, m: the model's least to about half the standard's site distance."""

    height_m: float
    nearest_m: float
    farthest_m: float


_CELLS = {"umi": _Cell(10, 10, 100), "uma": _Cell(25, 35, 250), "rma": _Cell(35, 35, 850)}
_USER_HEIGHT_M = 1.5
_INSTALL = "pip install 'spikeport[phy]'"


def statistical_channels(
    model: str,
    links: int,
    grid: GridConfig,
    *,
    regime: str = "R2",
    carrier_hz: float = 3.5e9,
    speed_m_s: tuple[float, float] = (0.1, 5.0),
    delay_spread_s: float = 100e-9,
    rx: int = 2,
    tx: int = 2,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ChannelSet:
    """`links` downlink channels of a TR 38.901 model on `grid`, in slots spaced as `regime` says.

        H[t, m, n, k] = sum_p a_p[m, n](t) exp(-j 2 pi f_k (tau_p - min_p tau_p))

    Arrays are half-wavelength lines of vertical, isotropic elements; TDL has no angles, its antennas are independent.
    Speed U(speed_m_s), horizontal heading U(0, 2 pi) (TDL: Jakes' spectrum; with line of sight a peak at 0.7 of the
    largest shift). `delay_spread_s` scales CDL and TDL; UMi, UMa and RMa draw their own for users on the street,
    10 to 100, 35 to 250 and 35 to 850 m from the mast, without path loss and shadowing: the mean power over links is
    one. A seed gives the same bits on the same machine, and the first links do not depend on `links`.

    Raises UsageError for an unknown model or regime, InputError for numbers out of range, MissingDependencyError
    without the extra [phy].
    """
    if model not in MODELS:
        raise unknown_name("channel model", model, MODELS, "the letters are the standard's profiles")
    if regime not in SLOT_START_S:
        raise unknown_name("regime", regime, SLOT_START_S, "R1 is contiguous slots, R2 slots 5 ms apart")
    _check(model, links, grid, carrier_hz, speed_m_s, delay_spread_s, rx * tx)
    times = symbol_times(grid, regime)
    steps = np.rint(times / SYMBOL_S).astype(int)
    tones = np.arange(grid.subcarriers) - grid.subcarriers // 2
    frequencies = np.asarray(tones * SUBCARRIER_SPACING_HZ, np.float64)
    h = np.empty((links, len(times), rx * tx, grid.subcarriers), np.complex64)
    los = np.empty(links, np.int8)
    with _sionna() as phy:
        for first in range(0, links, CHUNK):
            last = min(links, first + CHUNK)
            state = np.random.SeedSequence((seed, first // CHUNK)).generate_state(2)
            phy.config.seed = int(state[0])
            velocity = _velocity(np.random.default_rng(state[1]), speed_m_s)
            try:
                source = _source(phy, model, carrier_hz, delay_spread_s, rx, tx, speed_m_s, velocity, state[1])
                a, tau, seen = source(int(steps[-1]) + 1)
            except (ValueError, AssertionError) as error:
                raise InputError(f"{model} at {carrier_hz / 1e9:g} GHz: {error}") from error
            h[first:last] = _response(a[..., steps], tau, frequencies)[: last - first]
            los[first:last] = seen[: last - first]
            progress(last, links)
    name = f"{model} {regime}" if model in _CELLS else f"{model} {delay_spread_s * 1e9:g} ns {regime}"
    return ChannelSet(h, times, carrier_hz, SUBCARRIER_SPACING_HZ, rx, tx, name, "simulated", los).validate()


def _check(
    model: str, links: int, grid: GridConfig, carrier: float, speed: tuple[float, float], spread: float, antennas: int
) -> None:
    if links < 1:
        raise UsageError(f"{links} links were asked for; at least 1 is needed")
    if antennas != grid.antennas:
        raise InputError(f"rx * tx is {antennas} antenna pairs, the grid has {grid.antennas}: make them equal")
    if not 0.5e9 <= carrier <= (30e9 if model == "rma" else 100e9):
        raise InputError(f"{model} at {carrier / 1e9:g} GHz: TR 38.901 holds from 0.5 to 100 GHz, its RMa to 30 GHz")
    if not 0 <= speed[0] <= speed[1] <= 300:
        raise InputError(f"speed_m_s is {speed}; wanted (lowest, highest) within 0 to 300 m/s")
    if not 0 < spread <= 1e-5:
        raise InputError(f"delay_spread_s is {spread}; wanted more than 0 and at most 10 us")


def _velocity(rng: np.random.Generator, speed_m_s: tuple[float, float]) -> NDArray[np.float32]:
    """[CHUNK, 3] m/s, horizontal."""
    speed, heading = rng.uniform(*speed_m_s, CHUNK), rng.uniform(0, 2 * np.pi, CHUNK)
    return np.stack((speed * np.cos(heading), speed * np.sin(heading), np.zeros(CHUNK)), -1).astype(np.float32)


Cir = tuple[NDArray[np.complex64], NDArray[np.float64], NDArray[np.int8]]
"""Coefficients [link, rx, tx, path, step], delays [link, path] in s, line of sight [link]."""


def _source(
    phy: Any, model: str, carrier: float, spread: float, rx: int, tx: int, speed: tuple[float, float],
    velocity: NDArray[np.float32], seed: int,
) -> Callable[[int], Cir]:  # fmt: skip
    """A function of the number of symbol steps that gives CHUNK links."""
    tr, options = phy.tr38901, {"precision": "single", "device": "cpu"}
    kind, _, letter = model.partition("-")
    has_los = np.full(CHUNK, letter in ("d", "e"), np.int8)
    if kind == "tdl":
        low, high = speed
        tdl = tr.TDL(
            letter.upper(), spread, carrier, min_speed=low, max_speed=high, num_rx_ant=rx, num_tx_ant=tx, **options
        )
        return lambda steps: _numpy(tdl(CHUNK, steps, 1 / SYMBOL_S), has_los)
    arrays = [
        tr.PanelArray(
            num_rows_per_panel=1, num_cols_per_panel=count, polarization="single", polarization_type="V",
            antenna_pattern="omni", carrier_frequency=carrier, **options,
        )
        for count in (rx, tx)
    ]  # fmt: skip
    if kind == "cdl":
        cdl = tr.CDL(letter.upper(), spread, carrier, *arrays, "downlink", ut_velocity=velocity, **options)
        return lambda steps: _numpy(cdl(CHUNK, steps, 1 / SYMBOL_S), has_los)
    losses: dict[str, Any] = {"enable_pathloss": False, "enable_shadow_fading": False}
    if kind != "rma":
        losses["o2i_model"] = "low"
    classes = {"umi": tr.UMi, "uma": tr.UMa, "rma": tr.RMa}
    drop = classes[kind](
        carrier_frequency=carrier, ut_array=arrays[0], bs_array=arrays[1], direction="downlink", **losses, **options
    )
    drop.set_topology(**_topology(phy.torch, _CELLS[kind], velocity, np.random.default_rng((seed, 1))))
    # Sionna has no public way to ask which links it drew as line of sight.
    seen = np.asarray(drop._scenario.los.cpu()).reshape(CHUNK).astype(np.int8)
    return lambda steps: _numpy(drop(steps, 1 / SYMBOL_S), seen)


def _topology(torch: Any, cell: _Cell, velocity: NDArray[np.float32], rng: np.random.Generator) -> dict[str, Any]:
    """CHUNK cells of one mast and one user outdoors, uniform on the ring."""
    distance = np.sqrt(rng.uniform(cell.nearest_m**2, cell.farthest_m**2, CHUNK))
    angle = rng.uniform(0, 2 * np.pi, CHUNK)
    user = np.stack((distance * np.cos(angle), distance * np.sin(angle), np.full(CHUNK, _USER_HEIGHT_M)), -1)
    still = np.zeros((CHUNK, 1, 3))
    places = {
        "ut_loc": user[:, None], "bs_loc": still + np.array([0, 0, cell.height_m]), "ut_orientations": still,
        "bs_orientations": still, "ut_velocities": velocity[:, None],
    }  # fmt: skip
    tensors = {key: torch.tensor(value, dtype=torch.float32) for key, value in places.items()}
    return tensors | {"in_state": torch.zeros(CHUNK, 1, dtype=torch.bool)}


def _numpy(made: tuple[Any, Any], los: NDArray[np.int8]) -> Cir:
    a, tau = made
    coefficients = a.detach().cpu().numpy()[:, 0, :, 0]
    delays = tau.detach().cpu().numpy().astype(np.float64).reshape(len(coefficients), -1)
    return coefficients, delays, los


def _response(
    a: NDArray[np.complex64], tau: NDArray[np.float64], frequencies: NDArray[np.float64]
) -> NDArray[np.complex64]:
    links, rx, tx, paths, steps = a.shape
    delays = tau - tau.min(1, keepdims=True)
    phasors = np.exp(-2j * np.pi * delays[:, :, None] * frequencies).astype(np.complex64)
    flat = a.transpose(0, 4, 1, 2, 3).reshape(links, steps * rx * tx, paths) @ phasors
    return np.asarray(flat.reshape(links, steps, rx * tx, len(frequencies)), np.complex64)


@dataclass(frozen=True)
class _Phy:
    tr38901: Any
    config: Any
    torch: Any


@contextmanager
def _sionna() -> Iterator[_Phy]:
    """Sionna's PHY; torch's own random state is left as it was."""
    spec = find_spec("sionna")
    parts = {
        part.name for place in (spec.submodule_search_locations or () if spec else ()) for part in Path(place).iterdir()
    }
    if "phy" not in parts:
        raise MissingDependencyError(f"TR 38.901 channels need Sionna's PHY, which is not installed: {_INSTALL}")
    if "rt" in parts:  # its __init__ may import the ray tracer too, which must not meet an old LLVM
        with suppress(MissingDependencyError):
            os.environ["DRJIT_LIBLLVM_PATH"] = str(find_llvm())
    try:
        tr38901, phy, torch = (import_module(name) for name in ("sionna.phy.channel.tr38901", "sionna.phy", "torch"))
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise MissingDependencyError(
            f"Sionna's PHY does not import ({reason}): pip install --force-reinstall --no-deps sionna-no-rt==2.2.0"
        ) from error
    state = torch.random.get_rng_state()
    try:
        yield _Phy(tr38901, phy.config, torch)
    finally:
        torch.random.set_rng_state(state)
