"""What defines a model: frozen dataclasses that round-trip through JSON and TOML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, cast

from spikeport_errors import InputError

SpikingKind = Literal["lif", "lif_soft", "ilif", "lif_paper"]
TwinKind = Literal["relu", "gelu", "qrelu"]
Norm = Literal["bn", "ln", "none"]
ReadOut = Literal["next", "query"]

SPIKING_KINDS: tuple[str, ...] = ("lif", "lif_soft", "ilif", "lif_paper")
TWIN_KINDS: tuple[str, ...] = ("relu", "gelu", "qrelu")

SYMBOLS_PER_SLOT = 14
SUBCARRIERS_PER_BLOCK = 12
PATCH_VALUES = 2 * SYMBOLS_PER_SLOT * SUBCARRIERS_PER_BLOCK
"""A patch is one slot x one antenna link x one resource block, real then imaginary parts: 336 values."""


class _Config:
    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from a plain mapping; an unknown or missing key is an InputError that names it."""
        known = {f.name for f in fields(cast(Any, cls))}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"{cls.__name__}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"{cls.__name__}: {error}; add the missing key") from None


@dataclass(frozen=True)
class NeuronConfig(_Config):
    """The activation of every feed-forward block.

    `steps` is T, `levels` is the most spikes a neuron emits per step (D; 1 for binary neurons), `tau` in steps,
    `v_reset` None for soft reset. For `qrelu`, `levels` counts the staircase steps and `v_threshold` is one step.
    """

    kind: str
    steps: int = 1
    levels: int = 1
    tau: float = 2.0
    decay_input: bool = False
    v_threshold: float = 1.0
    v_reset: float | None = 0.0

    def __post_init__(self) -> None:
        if self.kind not in SPIKING_KINDS + TWIN_KINDS:
            raise InputError(f"neuron kind {self.kind!r} is not one of {', '.join(SPIKING_KINDS + TWIN_KINDS)}")
        if self.steps < 1 or self.levels < 1:
            raise InputError(f"neuron steps ({self.steps}) and levels ({self.levels}) must be at least 1")
        if self.tau <= 1:
            raise InputError(f"neuron tau is {self.tau}; SpikingJelly's leaky neurons need tau > 1")

    @property
    def spiking(self) -> bool:
        """True for neurons that emit spikes, False for the ANN twins."""
        return self.kind in SPIKING_KINDS


@dataclass(frozen=True)
class GridConfig(_Config):
    """The token grid: `slots` x `antennas` x `blocks`; the last `predicted_slots` slots are not observed."""

    slots: int
    antennas: int
    blocks: int
    predicted_slots: int = 1

    @property
    def tokens(self) -> int:
        """Tokens a sample has, ordered (slot, antenna, resource block)."""
        return self.slots * self.antennas * self.blocks

    @property
    def observed_tokens(self) -> int:
        """Tokens of the observed slots; they come first."""
        return (self.slots - self.predicted_slots) * self.antennas * self.blocks

    @property
    def subcarriers(self) -> int:
        """Subcarriers of the grid."""
        return self.blocks * SUBCARRIERS_PER_BLOCK


@dataclass(frozen=True)
class HeadConfig(_Config):
    """The prediction head: `layers` spiking encoder layers of width `d`."""

    d: int
    heads: int
    d_ff: int
    layers: int = 3
    read_out: str = "query"

    def __post_init__(self) -> None:
        if self.read_out not in ("next", "query"):
            raise InputError(f"head read_out {self.read_out!r} is not one of next, query")


@dataclass(frozen=True)
class ModelConfig(_Config):
    """A SpikeWFM: backbone of `layers` blocks of width `d`, a head, one grid and one neuron for all blocks."""

    name: str
    d: int
    layers: int
    heads: int
    d_ff: int
    norm: str
    neuron: NeuronConfig
    grid: GridConfig
    head: HeadConfig

    def __post_init__(self) -> None:
        if self.norm not in ("bn", "ln", "none"):
            raise InputError(f"norm {self.norm!r} is not one of bn, ln, none")
        if self.d % self.heads or self.head.d % self.head.heads:
            raise InputError(
                f"width {self.d} / {self.head.d} is not a multiple of heads {self.heads} / {self.head.heads}"
            )
        if self.d % 4:
            raise InputError(f"width {self.d} is not a multiple of 4, which the three position tables need")
        if self.grid.slots > 16 or self.grid.antennas > 16 or self.grid.blocks > 64:
            raise InputError("the position tables hold 16 slots, 16 antenna links and 64 resource blocks")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as config.json holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of to_dict."""
        nested = dict(values)
        parts: dict[str, type[_Config]] = {"neuron": NeuronConfig, "grid": GridConfig, "head": HeadConfig}
        for key, part in parts.items():
            if not isinstance(nested.get(key), Mapping):
                raise InputError(f"ModelConfig: {key!r} is missing or not a table")
            nested[key] = part.from_dict(nested[key])
        return super().from_dict(nested)
