"""The files of a run folder, validated once at the boundary: evaluation.json, profile.json and bundle manifests."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ..schema import AccuracyCurve, Kind, Profile, Quantity
from ..schema import Part as _Part

__all__ = ["Classification", "Curve", "Evaluation", "Manifest", "Profile", "ScoreTable", "SweepFile"]


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


class Span(_Part):
    """A score: mean, lowest and highest over places and draws of labels."""

    mean: float
    low: float
    high: float


class Metric(_Part):
    """A column of scores."""

    name: str
    unit: str
    better: Literal["higher", "lower"]


class Score(_Part):
    """One method in one setting with so many labels; values by the name of the metric."""

    method: str
    role: str
    setting: str
    labels: int | None
    values: dict[str, Span]


class _Task(_Part):
    """What every table of a task says of itself."""

    task: str
    model: str
    data: str
    links: int
    seed: int
    kind: Kind
    notes: list[str] = Field(default_factory=list)


class ScoreTable(_Task):
    """evaluation.json of positioning, charting and CSI feedback."""

    schema_: Literal["spikeport.scores/1"] = Field(alias="schema")
    adaptation: str
    places: int
    seeds: int
    snr_db: float | None
    metrics: list[Metric] = Field(min_length=1)
    scores: list[Score] = Field(min_length=1)


class FewShot(_Part):
    """Accuracy, its standard deviation over draws, and weighted F1 by number of labels."""

    method: str
    features: str
    labels: list[int]
    accuracy: list[float]
    spread: list[float]
    f1: list[float]

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len({len(self.labels), len(self.accuracy), len(self.spread), len(self.f1)}) != 1:
            raise ValueError(f"curve {self.method!r}: labels, accuracy, spread and f1 differ in length")
        return self


class Classification(_Task):
    """evaluation.json of LoS and beam."""

    schema_: Literal["spikeport.classification/1"] = Field(alias="schema")
    classes: int
    draws: int
    curves: list[FewShot] = Field(min_length=1)


class SweepPoint(_Part):
    """One point of a design space: its setting, and its NMSE and costs where no target refused it."""

    id: str
    neuron: str
    steps: int
    levels: int
    precision: str
    target: str
    status: Literal["done", "refused"]
    reason: str = ""
    note: str = ""
    nmse_of: Literal["artefact", "float model"] | None = None
    curves: list[AccuracyCurve] = Field(default_factory=list)
    energy: Quantity | None = None
    energy_part: Literal["total", "event"] | None = None
    latency: Quantity | None = None
    boundary: str | None = None
    front_energy: bool = False
    front_latency: bool = False


class SweepSettings(_Part):
    """What holds for all points."""

    links: int
    seed: int
    samples: int


class SweepFile(_Part):
    """sweep.json, as `spikeport profile --sweep` writes it."""

    schema_: Literal["spikeport.sweep/1"] = Field(alias="schema")
    model: str
    axes: dict[str, list[str]]
    settings: SweepSettings
    points: list[SweepPoint] = Field(min_length=1)


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
