"""What defines a model: frozen dataclasses that round-trip through JSON and TOML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from types import NoneType
from typing import Any, ClassVar, Self, cast

from spikeport_errors import InputError

SPIKING_KINDS: tuple[str, ...] = ("lif", "lif_soft", "ilif", "lif_paper")
TWIN_KINDS: tuple[str, ...] = ("relu", "gelu", "qrelu")

SYMBOLS_PER_SLOT = 14
SUBCARRIERS_PER_BLOCK = 12
PATCH_VALUES = 2 * SYMBOLS_PER_SLOT * SUBCARRIERS_PER_BLOCK
"""A patch is one slot x one antenna link x one resource block, real then imaginary parts: 336 values."""


MOST_WEIGHTS = 2_000_000_000

LIMITS: dict[str, tuple[float, float]] = {
    "d": (4, 16_384), "layers": (1, 256), "heads": (1, 1024), "d_ff": (1, 65_536),
    "steps": (1, 1024), "levels": (1, 127), "tau": (1, 1e6), "v_threshold": (1e-6, 1e6), "v_reset": (-1e6, 1e6),
    "slots": (2, 16), "antennas": (1, 16), "blocks": (1, 64), "predicted_slots": (1, 15),
}  # fmt: skip
"""Smallest and largest value of every number of a configuration; the grid's are the rows of the position tables."""


class Config:
    """Base of every configuration: a frozen dataclass of plain values, checked against LIMITS when made.

    A whole model's configuration has a `name` and says in `family` which model is built from it; `nested` names the
    fields that are configurations themselves.
    """

    family: ClassVar[str] = ""
    nested: ClassVar[Mapping[str, type[Config]]] = {}

    def __post_init__(self) -> None:
        """Every value has its field's type and lies within LIMITS."""
        for field in fields(cast(Any, self)):
            self._check(field.name, str(field.type), getattr(self, field.name))

    def _check(self, name: str, kind: str, value: Any) -> None:
        wanted = {"int": int, "float": (int, float), "float | None": (int, float, NoneType), "str": str, "bool": bool}
        if kind not in wanted:
            return
        if not isinstance(value, wanted[kind]) or (isinstance(value, bool) and kind != "bool"):  # type: ignore[arg-type]
            raise InputError(f"{type(self).__name__}: {name} is {value!r}, wanted {kind.replace('|', 'or')}")
        if name in LIMITS and value is not None and not LIMITS[name][0] <= value <= LIMITS[name][1]:
            low, high = LIMITS[name]
            raise InputError(f"{type(self).__name__}: {name} is {value!r}, outside {low:g} to {high:g}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as config.json holds them."""
        return asdict(cast(Any, self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of to_dict; an unknown, missing or wrong value is an InputError that names it."""
        if not isinstance(values, Mapping):
            raise InputError(f"{cls.__name__}: {type(values).__name__} where a table of values is wanted")
        values = dict(values)
        for key, part in cls.nested.items():
            if isinstance(values.get(key), Mapping):
                values[key] = part.from_dict(values[key])
            elif key in values:
                raise InputError(f"{cls.__name__}: {key!r} is not a table")
        known = {f.name for f in fields(cast(Any, cls))}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"{cls.__name__}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
        missing = sorted(f.name for f in fields(cast(Any, cls)) if f.default is MISSING and f.name not in values)
        if missing:
            raise InputError(f"{cls.__name__}: {missing[0]!r} is missing; add it")
        return cls(**values)


@dataclass(frozen=True)
class NeuronConfig(Config):
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
        super().__post_init__()
        if self.kind not in SPIKING_KINDS + TWIN_KINDS:
            raise InputError(f"neuron kind {self.kind!r} is not one of {', '.join(SPIKING_KINDS + TWIN_KINDS)}")
        if self.tau <= 1:
            raise InputError(f"neuron tau is {self.tau}; SpikingJelly's leaky neurons need tau > 1")

    @property
    def spiking(self) -> bool:
        """True for neurons that emit spikes, False for the ANN twins."""
        return self.kind in SPIKING_KINDS


@dataclass(frozen=True)
class GridConfig(Config):
    """The token grid: `slots` x `antennas` x `blocks`; the last `predicted_slots` slots are not observed."""

    slots: int
    antennas: int
    blocks: int
    predicted_slots: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.predicted_slots >= self.slots:
            raise InputError(
                f"grid of {self.slots} slots cannot predict {self.predicted_slots}: at least one is observed"
            )

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
class HeadConfig(Config):
    """The prediction head: `layers` spiking encoder layers of width `d`."""

    d: int
    heads: int
    d_ff: int
    layers: int = 3
    read_out: str = "query"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.read_out not in ("next", "query"):
            raise InputError(f"head read_out {self.read_out!r} is not one of next, query")


@dataclass(frozen=True)
class ModelConfig(Config):
    """A SpikeWFM: backbone of `layers` blocks of width `d`, a head, one grid and one neuron for all blocks.

    `time_axis` says what the T steps of the neurons are: `direct`, the same token T times, inside each feed-forward
    block; `carry`, the same tokens T times through the whole net, so that a block's current changes from step to step,
    and the mean over T at the read-out; `slots`, the T slots of the grid, so that a neuron's membrane goes from slot to
    slot of one (antenna, resource block), whose noise is new in every slot. `skip` is what the network's output is
    added to: `none`, or `wiener`, a mixture of Wiener filters (models/wiener_mixture.py). The pre-training model
    reconstructs by one `linear` map, or by LWM's Linear, ReLU, LayerNorm, Linear (`lwm`).
    """

    name: str
    d: int
    layers: int
    heads: int
    d_ff: int
    norm: str
    neuron: NeuronConfig
    grid: GridConfig
    head: HeadConfig
    time_axis: str = "direct"
    skip: str = "none"
    decoder: str = "linear"

    family: ClassVar[str] = "spikewfm"
    nested: ClassVar[Mapping[str, type[Config]]] = {"neuron": NeuronConfig, "grid": GridConfig, "head": HeadConfig}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm not in ("bn", "ln", "none"):
            raise InputError(f"norm {self.norm!r} is not one of bn, ln, none")
        if self.d % self.heads or self.head.d % self.head.heads:
            raise InputError(
                f"width {self.d} / {self.head.d} is not a multiple of heads {self.heads} / {self.head.heads}"
            )
        if self.d % 4:
            raise InputError(f"width {self.d} is not a multiple of 4, which the three position tables need")
        self._check_time_axis()
        if self.skip not in ("none", "wiener"):
            raise InputError(f"skip {self.skip!r} is not one of none, wiener")
        if self.decoder not in ("linear", "lwm"):
            raise InputError(f"decoder {self.decoder!r} is not one of linear, lwm")
        weights = self.layers * (4 * self.d**2 + 2 * self.d * self.d_ff)
        if weights > MOST_WEIGHTS:
            raise InputError(
                f"{self.name} would hold {weights:,} weights; {MOST_WEIGHTS:,} is the limit: make it smaller"
            )

    def _check_time_axis(self) -> None:
        if self.time_axis not in ("direct", "carry", "slots"):
            raise InputError(f"time_axis {self.time_axis!r} is not one of direct, carry, slots")
        if self.time_axis != "direct" and not self.neuron.spiking:
            raise InputError(f"time_axis {self.time_axis} needs a spiking neuron; {self.neuron.kind} takes direct")
        if self.time_axis == "slots" and self.neuron.steps != self.grid.slots:
            raise InputError(
                f"time_axis slots: the neuron has {self.neuron.steps} steps and the grid {self.grid.slots} slots; "
                "make them equal, a slot is a step"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as config.json holds them; the fields with a default only where they differ from it."""
        values, defaults = super().to_dict(), {"time_axis": "direct", "skip": "none", "decoder": "linear"}
        return {key: value for key, value in values.items() if defaults.get(key) != value}
