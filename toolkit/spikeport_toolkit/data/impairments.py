"""What stands between a channel and its estimate: thermal noise, other users, the receiver's own hardware.

Noise and interference are added to the channel estimate (the paper's Eq. 1: H_hat = H + E). Hardware acts on samples,
so `impair` sends known pilots over the estimate, one OFDM symbol after another, spoils the waveform and estimates
again: common phase error, inter-carrier interference, mirror images and clipping come out of that, none is put in
by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikeport_errors import InputError, UsageError, unknown_name

from .patches import Channel

__all__ = [
    "Adc", "CarrierOffset", "Impairment", "Interference", "IqImbalance", "PhaseNoise", "WifiNoise", "awgn", "impair",
    "parse_impairments", "quantise", "scrambled",
]  # fmt: skip

Waveform = NDArray[np.complex64]


class Impairment(Protocol):
    """A receiver fault. `waveform` `[batch, symbol, antenna, sample]`; `times_s` `[symbol, sample]`."""

    def __call__(self, waveform: Waveform, times_s: NDArray[np.float64], rng: np.random.Generator) -> Waveform:
        """The spoiled waveform, of the same shape."""


@dataclass(frozen=True)
class CarrierOffset:
    """Carrier frequency offset left after synchronisation: r(t) exp(j 2 pi `hz` (t - t_last)).

    The phase is zero at the last observed sample, where a receiver's tracking loop has it.
    """

    hz: float

    def __call__(self, waveform: Waveform, times_s: NDArray[np.float64], rng: np.random.Generator) -> Waveform:
        """Rotate all antennas alike: they share one oscillator."""
        phase = 2 * np.pi * self.hz * (times_s - times_s[-1, -1])
        return np.asarray(waveform * np.exp(1j * phase)[:, None], np.complex64)

    def __str__(self) -> str:
        return f"carrier offset {self.hz:g} Hz"


@dataclass(frozen=True)
class PhaseNoise:
    """Free-running oscillator: r(t) exp(j phi(t)), phi a Wiener process of variance 2 pi `linewidth_hz` |dt|.

    The spectrum is a Lorentzian of full width `linewidth_hz` at half maximum. No loop bounds it between slots, so it is
    harsher than a locked oscillator of TR 38.803. phi is zero at the last observed sample; one oscillator a sample.
    """

    linewidth_hz: float

    def __call__(self, waveform: Waveform, times_s: NDArray[np.float64], rng: np.random.Generator) -> Waveform:
        """Draw one path of phi for each sample of the batch."""
        steps = np.sqrt(2 * np.pi * self.linewidth_hz * np.diff(times_s.ravel(), prepend=times_s[0, 0]))
        phase = np.cumsum(steps * rng.standard_normal((len(waveform), steps.size)), axis=1)
        phase = (phase - phase[:, -1:]).reshape(len(waveform), *times_s.shape)
        return np.asarray(waveform * np.exp(1j * phase)[:, :, None], np.complex64)

    def __str__(self) -> str:
        return f"phase noise, linewidth {self.linewidth_hz:g} Hz"


@dataclass(frozen=True)
class IqImbalance:
    """Image of the mirrored band: mu r + nu conj(r), |nu|^2 / |mu|^2 = 10^(-`image_rejection_db` / 10), same power.

    The direction of nu is drawn per sample. The window of subcarriers is taken to lie around the carrier.
    """

    image_rejection_db: float

    def __call__(self, waveform: Waveform, times_s: NDArray[np.float64], rng: np.random.Generator) -> Waveform:
        """Add the image."""
        ratio = 10 ** (-self.image_rejection_db / 10)
        turn = np.exp(2j * np.pi * rng.random(len(waveform)))[:, None, None, None]
        mixed = (waveform + np.sqrt(ratio) * turn * waveform.conj()) / np.sqrt(1 + ratio)
        return np.asarray(mixed, np.complex64)

    def __str__(self) -> str:
        return f"I/Q image rejection {self.image_rejection_db:g} dB"


@dataclass(frozen=True)
class Adc:
    """A converter of `bits` for I and for Q, full scale at `clip_db` above the RMS of I and Q over the observation.

    See `quantise`. 12 dB clip one sample in 15,000 of a Gaussian waveform.
    """

    bits: int
    clip_db: float = 12.0

    def __call__(self, waveform: Waveform, times_s: NDArray[np.float64], rng: np.random.Generator) -> Waveform:
        """Quantise, with the gain control settled on each sample's observed part."""
        power = np.mean(np.abs(waveform) ** 2, axis=(1, 2, 3), keepdims=True) / 2
        scale = np.sqrt(power) * 10 ** (self.clip_db / 20)
        return (quantise(waveform.real, self.bits, scale) + 1j * quantise(waveform.imag, self.bits, scale)).astype(
            np.complex64
        )

    def __str__(self) -> str:
        return f"{self.bits}-bit converter"


@dataclass(frozen=True, eq=False)
class WifiNoise:
    """Measured noise instead of Gaussian: residuals of sanitised Wi-Fi frames, `[frame, antenna, subcarrier]` complex.

    Windows of them, at random places and turned by a random phase, scaled to the wanted noise power. Frames stand for
    symbols and wrap around where a capture is shorter than the observation.
    """

    residuals: NDArray[np.complex64]
    name: str = "measured Wi-Fi"

    def __post_init__(self) -> None:
        if self.residuals.ndim != 3 or 0 in self.residuals.shape or not np.isfinite(self.residuals).all():
            raise InputError(
                f"{self.name}: residuals have shape {self.residuals.shape}, wanted finite [frame, antenna, subcarrier]"
            )

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Channel:
        """Noise of unit mean power, `shape` = `[batch, symbol, antenna, frequency]`."""
        batch, symbols, antennas, subcarriers = shape
        frames, chains, tones = self.residuals.shape
        frame = (rng.integers(0, frames, (batch, 1)) + np.arange(symbols)) % frames
        tone = (rng.integers(0, tones, (batch, 1)) + np.arange(subcarriers)) % tones
        chain = np.arange(antennas) % chains
        cut = self.residuals[frame[:, :, None, None], chain[:, None], tone[:, None, None, :]]
        turn = np.exp(2j * np.pi * rng.random((batch, 1, antennas, 1)))
        power = np.mean(np.abs(self.residuals) ** 2)
        return np.asarray(cut * turn / np.sqrt(power), np.complex64)

    def __str__(self) -> str:
        return f"noise of {self.name}"


@dataclass(frozen=True)
class Interference:
    """Co-channel users: `users` other links through the same grid, together `inr_db` above the thermal noise.

    E = sum_u c_u H_u[t, (m, n), f] q_u[t, n, f] + N. Each transmit port n is measured on pilots of its own, and
    the other cells scramble theirs otherwise, so that q_u is a fresh QPSK symbol on every resource element, the same
    at all receive antennas m. All users arrive with the same power. SINR = P_H / (P_interference + P_noise).
    """

    users: int = 2
    inr_db: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.users <= 16 or not -60 <= self.inr_db <= 60:
            raise InputError(f"interference of {self.users} users at {self.inr_db:g} dB; 1 to 16 users, -60 to 60 dB")

    def __str__(self) -> str:
        return f"{self.users} co-channel users, {self.inr_db:g} dB above the thermal noise"


def awgn(channel: Channel, power: ArrayLike, snr_db: ArrayLike, rng: np.random.Generator) -> Channel:
    """`channel` `[batch, ...]` + white noise of variance `power` 10^(-`snr_db` / 10), both `[batch]` or one number."""
    sigma = np.sqrt(np.asarray(power) * 10 ** (-np.asarray(snr_db) / 10) / 2).astype(np.float32)
    noise = rng.standard_normal(channel.shape, np.float32) + 1j * rng.standard_normal(channel.shape, np.float32)
    return np.asarray(channel + sigma.reshape(-1, *(1,) * (channel.ndim - 1)) * noise, np.complex64)


def quantise(values: NDArray[np.float32], bits: int, full_scale: ArrayLike) -> NDArray[np.float32]:
    """Mid-rise uniform quantiser of 2^`bits` levels over -`full_scale` to `full_scale`, clipping beyond.

    q(x) = D (floor(x / D) + 1/2), D = 2 `full_scale` / 2^`bits`. A full-scale sine comes out with a
    signal-to-quantisation-noise ratio of 6.02 `bits` + 1.76 dB.
    """
    half = 2 ** (bits - 1)
    step = np.asarray(full_scale) / half
    return np.asarray(step * (np.clip(np.floor(values / step), -half, half - 1) + 0.5), np.float32)


def impair(
    observed: Channel,
    times_s: NDArray[np.float64],
    impairments: Sequence[Impairment],
    rng: np.random.Generator,
    *,
    spacing_hz: float = 30e3,
) -> Channel:
    """Estimates `[batch, symbol, antenna, frequency]` as a receiver with `impairments` makes them, in that order.

    r = IFFT(H_hat x) of each symbol (useful part, `spacing_hz` times the subcarriers samples a second, cyclic prefix
    removed), each impairment on r, H_hat' = FFT(r) / x, with unit-modulus QPSK pilots x on every resource element.
    `times_s` are the starts of the symbols, s.
    """
    if not impairments:
        return observed
    subcarriers = observed.shape[3]
    pilots = _qpsk(observed.shape, rng)
    waveform = np.fft.ifft(np.fft.ifftshift(observed * pilots, axes=3), norm="ortho").astype(np.complex64)
    samples = times_s[:, None] + np.arange(subcarriers) / (subcarriers * spacing_hz)
    for impairment in impairments:
        waveform = impairment(waveform, samples, rng)
    received = np.fft.fftshift(np.fft.fft(waveform, norm="ortho"), axes=3)
    return np.asarray(received * pilots.conj(), np.complex64)


def scrambled(interferers: Channel, tx: int, rng: np.random.Generator) -> Channel:
    """Interferers `[batch, symbol, antenna, frequency]` times fresh QPSK, one symbol for all receive antennas."""
    batch, symbols, antennas, subcarriers = interferers.shape
    data = _qpsk((batch, symbols, 1, tx, subcarriers), rng)
    by_antenna = interferers.reshape(batch, symbols, antennas // tx, tx, subcarriers)
    return np.asarray((by_antenna * data).reshape(interferers.shape), np.complex64)


def _qpsk(shape: tuple[int, ...], rng: np.random.Generator) -> Channel:
    points = np.array([1, 1j, -1, -1j], np.complex64)
    return np.asarray(points[rng.integers(0, 4, shape, np.int8)])


_RANGES: dict[str, tuple[str, float, float]] = {
    "cfo": ("Hz", -15e3, 15e3),
    "phase-noise": ("Hz", 0.0, 1e5),
    "iq": ("dB", 0.0, 100.0),
    "adc": ("bits", 1, 24),
}
_MAKERS: dict[str, Callable[[float], Impairment]] = {"cfo": CarrierOffset, "phase-noise": PhaseNoise, "iq": IqImbalance}


def parse_impairments(text: str) -> tuple[tuple[Impairment, ...], WifiNoise | None]:
    """Hardware impairments in order, and measured noise if asked for: `cfo=200,phase-noise=10,iq=30,adc=6,wifi=FILE`.

    cfo and phase-noise (linewidth) in Hz, iq image rejection in dB, adc in bits, wifi a FILE or FILE#CAPTURE that
    `data.measured.residual_noise` reads. UsageError for an unknown name, a value out of range or one given twice.
    """
    hardware: dict[str, Impairment] = {}
    wifi: WifiNoise | None = None
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, value = part.partition("=")
        if name not in {*_RANGES, "wifi"}:
            raise unknown_name("impairment", name, [*_RANGES, "wifi"], "give name=value, as in cfo=200,adc=6")
        if name in hardware or (name == "wifi" and wifi is not None):
            raise UsageError(f"--impairments names {name} twice: give it once")
        if name == "wifi":
            from .measured import residual_noise

            file, _, capture = value.partition("#")
            wifi = WifiNoise(
                residual_noise(Path(file), capture=capture or None), f"{Path(file).name} {capture}".strip()
            )
            continue
        hardware[name] = _hardware(name, value)
    return tuple(hardware.values()), wifi


def _hardware(name: str, value: str) -> Impairment:
    unit, low, high = _RANGES[name]
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not low <= number <= high or (name == "adc" and number != int(number)):
        raise UsageError(f"--impairments {name}={value!s} is not {low:g} to {high:g} {unit}: as in cfo=200,adc=6")
    return Adc(int(number)) if name == "adc" else _MAKERS[name](number)
