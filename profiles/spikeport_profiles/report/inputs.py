"""The files of a run folder, validated once at the boundary: evaluation.json, profile.json and bundle manifests."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ..schema import Kind, Profile
from ..schema import Part as _Part

__all__ = ["Curve", "Evaluation", "Manifest", "Profile"]

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
