"""The files of a run folder, validated once at the boundary: evaluation.json, profile.json and bundle manifests."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["measured", "simulated", "estimated"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class Quantity(_Part):
    """A number with its range, unit, kind and sources; nominal null means that nobody has published a constant."""

    low: float | None
    nominal: float | None
    high: float | None
    unit: str
    kind: Kind
    source: list[str] = Field(min_length=1)


class Curve(_Part):
    """NMSE over SNR of one method in one regime and split; low and high bound a 95 % interval of the mean.

    `deployed` is a bundle as it would run on its target, `limit` a bound that no predictor can pass.
    """

    method: str
    role: Literal["model", "deployed", "twin", "baseline", "limit"]
    regime: str
    split: str
    snr_db: list[float] = Field(min_length=1)
    nmse_db: list[float]
    low_db: list[float]
    high_db: list[float]

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        sizes = {len(self.snr_db), len(self.nmse_db), len(self.low_db), len(self.high_db)}
        if len(sizes) != 1:
            raise ValueError(f"curve {self.method!r}: snr_db, nmse_db, low_db and high_db differ in length")
        return self


class Evaluation(_Part):
    """evaluation.json, as `spikeport evaluate` writes it."""

    schema_: Literal["spikeport.evaluation/1"] = Field(alias="schema")
    task: str
    model: str
    metric: str
    links: int
    seed: int
    kind: Kind
    data: str
    curves: list[Curve] = Field(min_length=1)


class Layer(_Part):
    """Counts of one layer per sample; null where the count has no meaning for that kind of layer."""

    path: str
    kind: str
    input: Literal["spikes", "analog"] | None = None
    macs_executed: float | None = None
    macs_algebraic: float | None = None
    spikes: float | None = None
    spike_rate: float | None = None
    synops: float | None = None
    neuron_updates: float | None = None
    neurons: float | None = None
    weight_bytes: float | None = None
    activation_bytes: float | None = None
    state_bytes: float | None = None
    busiest_unit_per_step: float | None = None


class Trace(_Part):
    """What was counted on calibration inputs, per sample."""

    samples: int
    tokens: int
    steps: int
    levels: int
    source: str
    kind: Kind
    layers: list[Layer] = Field(min_length=1)
    totals: dict[str, float | None]
    unaccounted: list[str] = []


class Energy(_Part):
    """Energy per sample, split as it must be read: event, system and host beside the total."""

    event: Quantity | None = None
    system: Quantity | None = None
    host: Quantity | None = None
    total: Quantity | None = None


class TwinCost(_Part):
    """What the quantised ANN twin costs on the same target."""

    energy: Energy
    latency: Quantity | None = None


class Constant(_Part):
    """A constant of the target's card that entered the estimate; nominal null where nobody has published it."""

    name: str
    low: float | None
    nominal: float | None
    high: float | None
    unit: str
    basis: str
    source: list[str]


class Target(_Part):
    """Energy and latency of one model on one target, beside its twin."""

    id: str
    name: str
    class_: str = Field(alias="class")
    scenario: str | None = None
    boundary: str
    precision: str
    energy: Energy
    latency: Quantity | None = None
    twin: TwinCost | None = None
    break_even_spike_rate: float | None = None
    verdict: str
    notes: list[str] = []
    constants: list[Constant] = []


class Model(_Part):
    """The profiled model."""

    name: str
    parameters: int
    head_parameters: int | None = None
    trained: bool
    config: dict[str, Any] | None = None


class Twin(_Part):
    """The quantised ANN twin and its counts."""

    name: str
    trained: bool
    trace: Trace


class Profile(_Part):
    """profile.json, as `spikeport profile` writes it."""

    schema_: Literal["spikeport.profile/1"] = Field(alias="schema")
    model: Model
    trace: Trace
    twin: Twin | None = None
    targets: list[Target]


class BundleModel(_Part):
    """The exported model."""

    name: str
    parameters: int
    trained: bool


class BundleTarget(_Part):
    """The card the bundle was made for."""

    id: str


class PlanRow(_Part):
    """What one part of the model became on the target."""

    path: str
    what: str
    action: Literal["kept", "rewritten", "refused"]
    rule: str | None = None
    reason: str | None = None
    remedy: str | None = None


class ParityRow(_Part):
    """One comparison of the artefact with the reference model."""

    name: str
    kind: str
    value: float | None
    limit: float | None = None
    unit: str = ""
    ok: bool
    detail: str = ""


class Parity(_Part):
    """All comparisons made at export."""

    ok: bool
    rows: list[ParityRow]


class FileEntry(_Part):
    """One file of a bundle."""

    bytes: int


class Manifest(_Part):
    """manifest.json of a bundle."""

    schema_: Literal["spikeport.bundle/1"] = Field(alias="schema")
    spikeport: str | None
    created: str
    model: BundleModel
    target: BundleTarget
    route: str
    precision: str
    steps: int
    levels: int
    plan: list[PlanRow]
    parity: Parity
    files: dict[str, FileEntry]
