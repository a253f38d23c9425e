"""Front ends: what cuts a channel, an image or an IQ stream into tokens `[batch, token, value]`, all in NumPy.

A configuration of tokens knows its grid, the number of values of a token, and how canonical channels become tokens.
Cutting only permutes values, so the network's first layer is a linear map whatever it looks at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError, unknown_name

from ..data.canonical import Sampling
from ..data.patches import Channel, rms
from .config import Config

__all__ = ["IQTokens", "ImageTokens", "PatchTokens", "Tokens"]

MOST = 65_536
FLOOR = 1e-6
Floats = NDArray[np.float32]


class Tokens(Config):
    """Base: `from_dict` makes the class that the key `kind` names."""

    kind: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if KINDS.get(self.kind) is not type(self):
            raise InputError(f"{type(self).__name__}: kind is {self.kind!r}; leave it out")
        for name, value in self.to_dict().items():
            if isinstance(value, int) and not 1 <= value <= MOST:
                raise InputError(f"{self.kind} tokens: {name} is {value}, outside 1 to {MOST:,}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of to_dict; InputError for an unknown kind and for whatever else is wrong."""
        if cls is not Tokens or not isinstance(values, Mapping):
            return super().from_dict(values)
        kind = values.get("kind", "patches")
        if not isinstance(kind, str) or kind not in KINDS:
            raise InputError(str(unknown_name("kind of tokens", str(kind), KINDS, "choose one")))
        return cast(Self, KINDS[kind].from_dict(values))

    def grid(self, sampling: Sampling) -> tuple[int, int, int]:
        """Counts of tokens along (time, antenna, frequency); InputError where `sampling` cannot be cut so."""
        raise NotImplementedError

    @property
    def values(self) -> int:
        """Real values of a token."""
        raise NotImplementedError

    def tokens(self, channel: Channel) -> Floats:
        """Canonical channels `[batch, time, antenna, frequency]` to tokens `[batch, token, value]`, at RMS 1."""
        raise NotImplementedError


@dataclass(frozen=True)
class PatchTokens(Tokens):
    """3-D patches of `time` x `antenna` x `frequency` values of a channel.

    `joint` patches hold their real, then their imaginary parts. `separate` ones hold either: the real patches of the
    whole sample come first, as if they were earlier instants. In the `delay` domain the subcarriers are replaced by
    the taps of the impulse response, h = IDFT(H) sqrt(frequency), which keeps the power.
    """

    time: int
    antenna: int
    frequency: int
    parts: str = "joint"
    domain: str = "frequency"
    kind: str = "patches"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("parts", ("joint", "separate")), ("domain", ("frequency", "delay"))):
            if getattr(self, name) not in known:
                raise InputError(f"patches: {name} is {getattr(self, name)!r}; it is one of {', '.join(known)}")

    @property
    def values(self) -> int:
        """Real values of a token."""
        return self.time * self.antenna * self.frequency * (2 if self.parts == "joint" else 1)

    def grid(self, sampling: Sampling) -> tuple[int, int, int]:
        """Counts of tokens along (time, antenna, frequency), twice the times where the parts are separate."""
        return self._counts(sampling.shape)

    def _counts(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        patch = (self.time, self.antenna, self.frequency)
        if any(have % size for have, size in zip(shape, patch, strict=True)):
            raise InputError(
                f"channels of [time, antenna, frequency] = {[*shape]} do not divide into patches of {[*patch]}: "
                "choose divisors"
            )
        t, a, f = (have // size for have, size in zip(shape, patch, strict=True))
        return t * (2 if self.parts == "separate" else 1), a, f

    def tokens(self, channel: Channel) -> Floats:
        """Canonical channels `[batch, time, antenna, frequency]` to tokens `[batch, token, value]`, at RMS 1."""
        counts = self._counts(channel.shape[1:])  # type: ignore[arg-type]
        scaled = channel / rms(channel)
        if self.domain == "delay":
            scaled = np.fft.ifft(scaled, axis=3, norm="ortho").astype(np.complex64)
        t, a, f = (have // size for have, size in zip(channel.shape[1:], self._patch, strict=True))
        cut = scaled.reshape(len(channel), t, self.time, a, self.antenna, f, self.frequency)
        cut = cut.transpose(0, 1, 3, 5, 2, 4, 6).reshape(len(channel), t * a * f, -1)
        joined = np.concatenate((cut.real, cut.imag), -1 if self.parts == "joint" else 1)
        return np.asarray(joined.reshape(len(channel), math.prod(counts), self.values), np.float32)

    def channel(self, tokens: Floats, sampling: Sampling) -> Channel:
        """Inverse of `tokens`, up to the scale: `[batch, token, value]` to `[batch, time, antenna, frequency]`."""
        real, imaginary = np.split(tokens, 2, -1 if self.parts == "joint" else 1)
        t, a, f = (have // size for have, size in zip(sampling.shape, self._patch, strict=True))
        cut = (real + 1j * imaginary).reshape(len(tokens), t, a, f, *self._patch)
        whole = cut.transpose(0, 1, 4, 2, 5, 3, 6).reshape(len(tokens), *sampling.shape)
        return np.asarray(np.fft.fft(whole, axis=3, norm="ortho") if self.domain == "delay" else whole, np.complex64)

    @property
    def _patch(self) -> tuple[int, int, int]:
        return self.time, self.antenna, self.frequency


@dataclass(frozen=True)
class ImageTokens(Tokens):
    """Square patches of images `[batch, channel, height, width]`; a token holds channel by channel, row by row.

    Of a canonical channel the image is `csi`, re and im over (time and antenna, frequency), or `spectrogram`, its
    mean power over antennas, over (frequency, time), in dB: 0 at 60 dB below the sample's mean power and 1 at the
    mean. Either is enlarged to the image's size by repeating its values.
    """

    height: int
    width: int
    patch: int
    channels: int = 2
    content: str = "csi"
    kind: str = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = {"csi": 2, "spectrogram": 1}.get(self.content)
        if wanted is None:
            raise InputError(f"image: content is {self.content!r}; it is one of csi, spectrogram")
        if self.channels != wanted:
            raise InputError(f"image: {self.content} has {wanted} channels, not {self.channels}")
        if self.height % self.patch or self.width % self.patch:
            raise InputError(f"image: {self.height} x {self.width} does not divide into patches of {self.patch}")

    @property
    def values(self) -> int:
        """Real values of a token."""
        return self.channels * self.patch**2

    def grid(self, sampling: Sampling) -> tuple[int, int, int]:
        """(1, rows, columns) of patches; InputError where a channel does not fill the image a whole number of times."""
        self._repeats(sampling.shape)
        return 1, self.height // self.patch, self.width // self.patch

    def _repeats(self, shape: tuple[int, ...]) -> tuple[int, int]:
        t, a, f = shape
        rows, columns = (t * a, f) if self.content == "csi" else (f, t)
        if self.height % rows or self.width % columns:
            raise InputError(f"image: {rows} x {columns} values do not fill {self.height} x {self.width} evenly")
        return self.height // rows, self.width // columns

    def images(self, channel: Channel) -> Floats:
        """Canonical channels `[batch, time, antenna, frequency]` as images `[batch, channel, height, width]`."""
        down, right = self._repeats(channel.shape[1:])
        scaled = channel / rms(channel)
        if self.content == "csi":
            flat = scaled.reshape(len(channel), -1, channel.shape[3])
            image = np.stack((flat.real, flat.imag), 1)
        else:
            power = np.mean(np.abs(scaled) ** 2, 2)
            image = (1 - np.log10(power + FLOOR) / np.log10(FLOOR)).transpose(0, 2, 1)[:, None]
        return np.repeat(np.repeat(image, down, 2), right, 3).astype(np.float32)

    def cut(self, images: Floats) -> Floats:
        """Images `[batch, channel, height, width]` to tokens `[batch, token, value]`, row by row."""
        if images.shape[1:] != (self.channels, self.height, self.width):
            raise InputError(
                f"image: wanted [batch, {self.channels}, {self.height}, {self.width}], got {[*images.shape]}"
            )
        p, rows, columns = self.patch, self.height // self.patch, self.width // self.patch
        split = images.reshape(len(images), self.channels, rows, p, columns, p)
        return split.transpose(0, 2, 4, 1, 3, 5).reshape(len(images), rows * columns, self.values)

    def tokens(self, channel: Channel) -> Floats:
        """Canonical channels `[batch, time, antenna, frequency]` to tokens of their image `[batch, token, value]`."""
        return self.cut(self.images(channel))


@dataclass(frozen=True)
class IQTokens(Tokens):
    """Segments of `segment` samples, `hop` apart, of an IQ stream `[batch, 2, antenna, sample]`; I before Q in a token.

    Tokens are ordered (segment, antenna). Of a canonical channel the stream is what an antenna receives when every
    subcarrier sends a one: the instants' inverse transforms over frequency, one after the other.
    """

    antennas: int
    samples: int
    segment: int
    hop: int
    kind: str = "iq"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segment > self.samples:
            raise InputError(f"iq: a segment of {self.segment} samples is longer than the stream's {self.samples}")

    @property
    def values(self) -> int:
        """Real values of a token."""
        return 2 * self.segment

    @property
    def _segments(self) -> int:
        return (self.samples - self.segment) // self.hop + 1

    def grid(self, sampling: Sampling) -> tuple[int, int, int]:
        """(segments, antennas, 1); InputError where a channel is too short or has other antennas."""
        self._fits(sampling.shape)
        return self._segments, self.antennas, 1

    def _fits(self, shape: tuple[int, ...]) -> None:
        t, a, f = shape
        if a != self.antennas or t * f < self.samples:
            raise InputError(
                f"iq: {a} antennas and {t} x {f} samples where {self.antennas} and at least {self.samples} are wanted"
            )

    def stream(self, channel: Channel) -> Floats:
        """IQ `[batch, 2, antenna, sample]` of canonical channels `[batch, time, antenna, frequency]`, at RMS 1."""
        self._fits(channel.shape[1:])
        time = np.fft.ifft(channel / rms(channel), axis=3, norm="ortho").transpose(0, 2, 1, 3)
        flat = time.reshape(len(channel), self.antennas, -1)[..., : self.samples]
        return np.stack((flat.real, flat.imag), 1).astype(np.float32)

    def cut(self, stream: Floats) -> Floats:
        """IQ `[batch, 2, antenna, sample]` to tokens `[batch, token, value]`; what follows the last segment is left."""
        if stream.shape[1:] != (2, self.antennas, self.samples):
            raise InputError(f"iq: wanted [batch, 2, {self.antennas}, {self.samples}], got {[*stream.shape]}")
        windows = np.lib.stride_tricks.sliding_window_view(stream, self.segment, axis=3)[..., :: self.hop, :]
        return windows.transpose(0, 3, 2, 1, 4).reshape(len(stream), self._segments * self.antennas, self.values)

    def tokens(self, channel: Channel) -> Floats:
        """Canonical channels `[batch, time, antenna, frequency]` to tokens of their stream `[batch, token, value]`."""
        return self.cut(self.stream(channel))


KINDS: dict[str, type[Tokens]] = {"patches": PatchTokens, "image": ImageTokens, "iq": IQTokens}
