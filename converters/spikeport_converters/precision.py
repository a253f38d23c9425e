"""Precisions: which layers run in which type, and what a preset promises.

A preset is an assignment of a type to groups of linear layers; an assignment may also name layers one by one. Whatever
is not named runs in the type `rest`. The neurons' compares, LayerNorm, softmax, attention's two products, the residual
sums and a Wiener skip are never quantised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from spikeport_errors import UnsupportedError, UsageError, unknown_name

from .operator_table import VERSIONS

if TYPE_CHECKING:
    from spikeport_targets.card import Card

EMBED, ATTENTION, FC1, FC2, HEAD, OTHER = GROUPS = ("embed", "attention", "fc1", "fc2", "head", "other")
CALIBRATIONS = ("minmax", "entropy", "mse")
MIXED = "int8-mixed"
"""Name of an assignment that was chosen within an NMSE budget."""
_THROUGHPUT = {"fp32": 1.0, "fp16": 2.0, "int8": 4.0, "fp8": 4.0, "nvfp4": 8.0}
"""Dense MACs a cycle relative to TF32: 1:2:4 in the Orin and Thor briefs, FP8 as INT8, FP4 twice that."""
_NAMES = {
    ATTENTION: {"attention", "attn", "self_attn", "mha", "qkv", "q_proj", "k_proj", "v_proj", "out_proj", "wq", "wk"},
    FC1: {"fc1", "linear1", "w1", "up_proj"},
    FC2: {"fc2", "linear2", "w2", "down_proj"},
    EMBED: {"embed", "embedding", "patch_embed", "stem"},
    HEAD: {"decoder", "head", "classifier", "readout", "read_out"},
}
_FLOATING = ("wiener", "skip")


@dataclass(frozen=True)
class Gates:
    """What parity demands of trained weights: spikes gained or lost per neuron-step, output NMSE, change of task."""

    spikes: float
    output_db: float
    task_db: float


@dataclass(frozen=True)
class Assignment:
    """Which linear layers run in `kind` (int8, fp8, nvfp4; none where empty); the rest runs in `rest` (fp32, fp16).

    `groups` are names of GROUPS; `layers`, where given, are module paths and replace the groups. `calibration` is how
    the ranges of activations are found: minmax, entropy (Kullback-Leibler) or mse. `capability` is the least CUDA
    compute capability that computes in `kind`, `tensorrt` the first TensorRT of VERSIONS that parses it.
    """

    name: str
    kind: str
    rest: str
    groups: tuple[str, ...]
    gates: Gates
    summary: str
    capability: float = 0.0
    tensorrt: str = VERSIONS[0]
    layers: tuple[str, ...] | None = None
    calibration: str = "minmax"

    def quantises(self, path: str, group: str) -> bool:
        """Whether the linear layer at module path `path`, of `group`, runs in `kind`."""
        if not self.kind or any(part.startswith(_FLOATING) for part in path.split(".")):
            return False
        return path in self.layers if self.layers is not None else group in self.groups

    def cost(self, macs: Iterable[tuple[str, str, int]]) -> float:
        """Estimated time of the linear layers `(path, group, MACs)` in units of one TF32 MAC: sum MACs / throughput."""
        speed = {True: _THROUGHPUT[self.kind or self.rest], False: _THROUGHPUT[self.rest]}
        return sum(count / speed[self.quantises(path, group)] for path, group, count in macs)

    def to_dict(self) -> dict[str, Any]:
        """What the manifest keeps: plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Assignment:
        """Inverse of to_dict."""
        layers = values["layers"]
        named = {"groups": tuple(values["groups"]), "layers": None if layers is None else tuple(layers)}
        return cls(**{**values, **named, "gates": Gates(**values["gates"])})

    @property
    def versions(self) -> tuple[str, ...]:
        """The TensorRT versions that its graph has to be legal for."""
        return VERSIONS[VERSIONS.index(self.tensorrt) :]

    @property
    def described(self) -> str:
        """A sentence for the README of a bundle."""
        what = ", ".join(self.layers) if self.layers is not None else ", ".join(self.groups)
        if not self.kind:
            return self.summary
        return f"{self.summary}; quantised: {what or 'nothing'}; ranges by {self.calibration}"


_FP32, _FP16 = Gates(1e-5, -60.0, 0.001), Gates(2e-3, -38.0, 0.02)
_INT8, _SAFE = Gates(2e-2, -28.0, 0.25), Gates(2e-2, -28.0, 0.1)
_ALL = GROUPS
PRESETS = {
    preset.name: preset
    for preset in (
        Assignment("fp32", "", "fp32", (), _FP32, "float32"),
        Assignment("fp16", "", "fp16", (), _FP16, "float16 behind float32 input and output"),
        Assignment(
            "int8-safe", "int8", "fp32", (FC2, ATTENTION), _SAFE,
            "INT8 where the error is least (what reads spike counts, attention's projections), the rest float32",
        ),
        Assignment("int8", "int8", "fp32", _ALL, _INT8, "INT8 in all linear layers, the rest float32"),
        Assignment("int8-fp16", "int8", "fp16", _ALL, _INT8, "INT8 in all linear layers, the rest float16"),
        Assignment(
            "fp8", "fp8", "fp16", _ALL, Gates(5e-2, -20.0, 0.5), "FP8 (E4M3) in all linear layers, the rest float16",
            8.9,
        ),
        Assignment(
            "nvfp4", "nvfp4", "fp16", _ALL, Gates(1e-1, -12.0, 1.5),
            "NVFP4 weights (E2M1, one E4M3 scale per 16) in all linear layers, the rest float16", 10.0, VERSIONS[1],
        ),
    )
}  # fmt: skip


def assignment(name: str | Assignment, calibration: str = "minmax") -> Assignment:
    """The preset `name` with `calibration`, or an assignment itself; UsageError for an unknown name of either."""
    if isinstance(name, Assignment):
        return name
    if calibration not in CALIBRATIONS:
        raise unknown_name("calibration", calibration, CALIBRATIONS, "choose one")
    if name not in PRESETS:
        raise unknown_name("precision", name, PRESETS, "choose one, as the target's card has it")
    return replace(PRESETS[name], calibration=calibration)


def only(base: Assignment, *, groups: Iterable[str] = (), layers: Iterable[str] | None = None) -> Assignment:
    """`base` with these groups or layers quantised and no others: an assignment called `int8-mixed`."""
    chosen = None if layers is None else tuple(layers)
    return replace(base, name=MIXED, groups=tuple(groups), layers=chosen, gates=_INT8, summary="INT8 within a budget")


def gates_of(precision: str) -> Gates:
    """What parity demands in `precision`; a name that is no preset is gated as int8."""
    return PRESETS[precision].gates if precision in PRESETS else _INT8


def group_of(path: str, *, reads_counts: bool = False) -> str:
    """Group of a linear layer by its module path; one that reads a staircase's rate is `fc2` wherever it stands."""
    if reads_counts:
        return FC2
    parts = [part for part in path.split(".") if not part.isdigit()]
    for group, names in _NAMES.items():
        if parts and parts[-1] in names:
            return group
    return ATTENTION if _NAMES[ATTENTION].intersection(parts) else OTHER


def check_precision(card: Card, chosen: Assignment) -> None:
    """Refuse before any compiler what the target of `card` cannot compute.

    Raises UnsupportedError where the device lacks the type, UsageError where the card does not list the precision.
    """
    known = tuple(card.limits.get("presets", card.limits.get("precisions", tuple(PRESETS))))
    has = card.limits.get("compute_capability")
    if chosen.capability and has is not None and float(has) < chosen.capability:
        best = ", ".join(name for name in known if PRESETS[name].kind == "int8") or ", ".join(known)
        raise UnsupportedError(
            f"{card.name} has compute capability {has:g}, and {chosen.kind.upper()} needs {chosen.capability:g} or "
            f"newer: no engine can be built there; take {best}, or a newer target"
        )
    if chosen.name not in known and not (chosen.name == MIXED and "int8" in known):
        raise UsageError(f"{card.id} has no precision {chosen.name!r}: take {', '.join(known)}")
