"""Measured channels: a user's own files, and Wi-Fi captures as measured noise.

Commodity Wi-Fi frames carry a phase and a timing offset of their own each, and their gain is the receiver's. What is
left after these are taken off says how a real receiver errs; it says nothing true about Doppler.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError, unknown_name

from .array_files import read_arrays
from .channel_set import ChannelSet

__all__ = ["captures", "load_measured", "residual_noise", "sanitised"]

KEYS = ("h", "times_s", "carrier_hz", "subcarrier_spacing_hz")
_CLOCKS = {"_t_s": 1.0, "_t_us": 1e-6}
_NOMINAL_CARRIER_HZ = 5.5e9
"""The captures do not say which channel of the 5 GHz band they were made on."""
_TONES_HZ = {"iwl5300": 625e3, "ax210": 78.125e3}
"""Distance of neighbouring tones where it is not Wi-Fi's 312.5 kHz: every second one, and Wi-Fi 6."""
_NO_CLOCK_S = 0.64e-3
"""Mean interval of the Nexmon capture, whose file holds no times."""
WINDOW = 9
"""Frames whose mean is taken for the channel when a frame's residual is formed."""

Frames = NDArray[np.complex64]
"""[frame, antenna, frequency]"""


def captures(path: Path) -> tuple[str, ...]:
    """Names of the Wi-Fi captures of a file, longest first; none for a file of channels in this project's keys."""
    return _captures(read_arrays(path))


def load_measured(path: Path, *, capture: str | None = None, sanitise: bool | None = None) -> ChannelSet:
    """Measured channels of an npz, `.mat` (5 or 7.3) or HDF5 file.

    The file holds `h` complex [link, time, antenna, frequency] (or one link's [time, antenna, frequency]), `times_s`
    [time], `carrier_hz` and `subcarrier_spacing_hz`; also, if known, `los` [link] and `tx`, the transmit antennas
    (antenna index rx * Nt + tx; default 1). Instead it may hold Wi-Fi captures, complex [frame, tone(, antenna)] with
    times in NAME_t_s or NAME_t_us: then one of them is read as one link, `capture` or the longest, without empty
    frames, guard tones and, where its clock jumps back, without the shorter recording.

    `sanitise` takes common phase, linear phase slope and gain off every frame (see `sanitised`). By default Wi-Fi
    captures are and `h` is not, since it would take Doppler off too.

    Raises InputError naming the keys found where the wanted ones are missing, and for what does not fit; UsageError
    for an unknown capture.
    """
    path = Path(path)
    arrays = read_arrays(path)
    names = _captures(arrays)
    if "h" in arrays or not names:
        if capture is not None:
            raise InputError(f"{path} holds channels, no Wi-Fi captures: leave {capture!r} out")
        item = _user_set(path, arrays)
        return _sanitise(item) if sanitise else item
    if capture is not None and capture not in names:
        raise unknown_name("capture", capture, names, f"they are what {path.name} holds")
    item = _wifi_set(path, arrays, capture or names[0])
    return item if sanitise is False else _sanitise(item)


def residual_noise(path: Path, *, capture: str | None = None) -> Frames:
    """What is left of sanitised frames after their slow part, [frame, antenna, frequency], of unit mean power.

    r_i = sqrt(W / (W - 1)) (x_i - mean of the W frames around i), W = 9: for white noise exactly the noise. Links of
    a user's file follow one another. InputError for fewer than 9 frames a link and for a capture without noise.
    """
    item = load_measured(path, capture=capture, sanitise=True)
    if len(item.times_s) < WINDOW:
        raise InputError(f"{item.name} has {len(item.times_s)} frames; a residual needs at least {WINDOW}")
    h = np.asarray(item.h, np.complex128)
    sums = np.cumsum(np.pad(h, ((0, 0), (1, 0), (0, 0), (0, 0))), axis=1)
    means = (sums[:, WINDOW:] - sums[:, :-WINDOW]) / WINDOW
    margin = WINDOW // 2
    left = (h[:, margin : h.shape[1] - margin] - means).reshape(-1, *h.shape[2:])
    power = np.mean(np.abs(left) ** 2)
    if power < 1e-12:
        raise InputError(f"{item.name} has no noise: its frames are all alike")
    return np.asarray(left / np.sqrt(power), np.complex64)


def sanitised(frames: Frames) -> Frames:
    """Frames without common phase, linear phase slope over frequency, and gain, each of unit mean power.

        y_i[m, k] = x_i[m, k] exp(-j (alpha_im + beta_im k)) / rms(x_i)

    beta_im and then alpha_im are the ones that bring antenna m of frame i closest in phase to the mean frame, which
    is refined three times. They are each antenna's own, since a Wi-Fi card's receive chains lock in different phases;
    so what an array would say about direction is gone.
    """
    tones = np.arange(frames.shape[2])
    scale = np.sqrt(np.mean(np.abs(frames) ** 2, axis=(1, 2), keepdims=True, dtype=np.float64))
    y = frames / scale
    reference = np.ones(frames.shape[1:])
    for _ in range(4):
        turned = y * np.conj(reference)
        slope = np.angle(np.sum(turned[..., 1:] * np.conj(turned[..., :-1]), axis=2, keepdims=True))
        y = y * np.exp(-1j * slope * tones)
        y = y * np.exp(-1j * np.angle(np.sum(y * np.conj(reference), axis=2, keepdims=True)))
        reference = y.mean(0)
    return np.asarray(y, np.complex64)


def _sanitise(item: ChannelSet) -> ChannelSet:
    if (np.abs(item.h).max(axis=(2, 3)) == 0).any():
        raise InputError(f"channels {item.name}: a frame is all zero and has no phase: drop it")
    h = np.stack([sanitised(np.asarray(frames)) for frames in item.h])
    return ChannelSet(**{**vars(item), "h": h}).validate()


def _captures(arrays: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    frames = {k: v for k, v in arrays.items() if v.dtype.kind == "c" and v.ndim in (2, 3) and k not in KEYS}
    return tuple(sorted(frames, key=lambda name: (-len(frames[name]), name)))


def _user_set(path: Path, arrays: Mapping[str, NDArray[Any]]) -> ChannelSet:
    missing = [key for key in KEYS if key not in arrays]
    if missing:
        found = ", ".join(f"{k} {list(v.shape)}" for k, v in list(arrays.items())[:12]) or "nothing"
        raise InputError(f"{path} lacks {', '.join(missing)}; it holds {found}: save h, {', '.join(KEYS[1:])}")
    h = arrays["h"]
    if h.dtype.kind != "c" or h.ndim not in (3, 4):
        raise InputError(f"{path}: h is {h.dtype} {list(h.shape)}, wanted complex [link, time, antenna, frequency]")
    h = np.ascontiguousarray(h if h.ndim == 4 else h[None], np.complex64)
    try:
        carrier, spacing = (float(arrays[key].item()) for key in KEYS[2:])
        tx = int(arrays["tx"].item()) if "tx" in arrays else 1
        times = arrays["times_s"].astype(np.float64).ravel()
        los = arrays["los"].astype(np.int8).ravel() if "los" in arrays else np.full(len(h), -1, np.int8)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: carrier_hz, subcarrier_spacing_hz and tx are single numbers ({error})") from None
    rx = h.shape[2] // max(tx, 1)
    return ChannelSet(h, times, carrier, spacing, rx, tx, path.stem, "measured", los).validate()


def _wifi_set(path: Path, arrays: Mapping[str, NDArray[Any]], name: str) -> ChannelSet:
    frames = arrays[name] if arrays[name].ndim == 3 else arrays[name][..., None]
    frames = frames.transpose(0, 2, 1).astype(np.complex64)
    if not np.isfinite(frames).all():
        raise InputError(f"{path}: capture {name} holds NaN or infinity: drop those frames")
    clock = next(((name + end, unit) for end, unit in _CLOCKS.items() if name + end in arrays), None)
    times = np.asarray(arrays[clock[0]] * clock[1] if clock else np.arange(len(frames)) * _NO_CLOCK_S, np.float64)
    if times.shape != (len(frames),):
        raise InputError(f"{path}: capture {name} has {len(frames)} frames and times of shape {times.shape}")
    longest = max(np.split(np.arange(len(times)), np.flatnonzero(np.diff(times) <= 0) + 1), key=len)
    frames, times = frames[longest], times[longest]
    rms = np.sqrt(np.mean(np.abs(frames) ** 2, axis=(0, 1), dtype=np.float64))
    strong = np.quantile(rms, 0.9)
    often = (np.abs(frames) > 0).any(1).mean(0) > 0.95
    kept = frames[:, :, often & (rms > strong / 10) & (rms < strong * 3)]
    whole = (np.abs(kept) > 0).any(2).all(1)
    if kept.shape[2] < 2 or not whole.any():
        raise InputError(f"{path}: capture {name} holds no frame with a signal on two tones or more")
    spacing = next((hz for key, hz in _TONES_HZ.items() if key in name), 312.5e3)
    los = np.array([1 if name.startswith("los_") else -1], np.int8)
    h, when = kept[whole][None], times[whole] - times[whole][0]
    item = ChannelSet(h, when, _NOMINAL_CARRIER_HZ, spacing, kept.shape[1], 1, f"Wi-Fi {name}", "measured", los)
    return item.validate()
