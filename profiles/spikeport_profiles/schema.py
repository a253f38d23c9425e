"""profile.json: what every key means. The one source of the published JSON schema and of the check before a report.

    python -m spikeport_profiles.schema > docs/schema/profile-1.json

Reading is lenient about keys of a newer version; what this version writes has no key that is not here (tests).
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["measured", "simulated", "estimated"]
URL = "https://json-schema.org/draft/2020-12/schema"


class Part(BaseModel):
    """Any object of the file."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class Quantity(Part):
    """A number with its range, unit, kind and sources; nominal null means that nobody has published a constant."""

    low: float | None
    nominal: float | None
    high: float | None
    unit: str
    kind: Kind
    source: list[str] = Field(min_length=1)


class Layer(Part):
    """Counts of one layer per sample, mean over the traced samples; null where the count has no meaning for its kind.

    MACs are multiply-accumulates of matrix products, SynOps the outgoing weights that are not zero summed over events.
    The `per_step` lists have T entries, or none where the time axis is gone. Sizes are in bytes of the traced dtype.
    """

    path: str
    kind: str
    input: Literal["spikes", "analog"] | None = None
    fed_by: str | None = None
    macs_executed: float | None = None
    macs_algebraic: float | None = None
    macs_unrolled: float | None = None
    spikes: float | None = None
    spike_rate: float | None = None
    synops: float | None = None
    graded_synops: float | None = None
    neuron_updates: float | None = None
    neurons: float | None = None
    weights: float | None = None
    weights_nonzero: float | None = None
    outputs: float | None = None
    elements: float | None = None
    nonzero: float | None = None
    weight_bytes: float | None = None
    activation_bytes: float | None = None
    state_bytes: float | None = None
    busiest_unit_per_step: float | None = None
    spikes_per_step: list[float] = []
    rate_per_step: list[float] = []
    synops_per_step: list[float] = []
    busiest_per_step: list[float] = []


class AtSnr(Part):
    """Spike rates on inputs of one SNR: overall, and by the path of each spiking layer."""

    snr_db: float
    samples: int
    spike_rate: float
    synops: float
    layers: dict[str, float]


class Raster(Part):
    """Spikes of some neurons on some tokens of one sample: a string a neuron, column = token's position * T + step.

    A column is a base-36 digit (z: 35 or more events), `-` for a negative spike.
    """

    path: str
    steps: int
    levels: int
    tokens: list[int]
    neurons: list[int]
    rows: list[str]


class Histogram(Part):
    """Membrane potentials just before the spike, model units: counts between the edges, and outside of them."""

    path: str
    threshold: float
    edges: list[float]
    counts: list[int]
    below: int
    above: int


class Detail(Part):
    """Spikes and potentials of one sample."""

    sample: int
    rasters: list[Raster]
    membranes: list[Histogram]


class Trace(Part):
    """What was counted on calibration inputs, per sample; `steps` is T, `levels` is D."""

    samples: int
    tokens: int
    steps: int
    levels: int
    source: str
    kind: Kind
    layers: list[Layer] = Field(min_length=1)
    totals: dict[str, float | None]
    unaccounted: list[str] = []
    over_snr: list[AtSnr] = []
    detail: Detail | None = None


class Energy(Part):
    """Energy per sample, split as it must be read: event, system and host beside the total."""

    event: Quantity | None = None
    system: Quantity | None = None
    host: Quantity | None = None
    total: Quantity | None = None


class AccuracyCurve(Part):
    """NMSE over SNR in one regime and split; low and high bound a 95 % interval of the mean over links."""

    regime: str
    split: str
    snr_db: list[float]
    nmse_db: list[float]
    low_db: list[float]
    high_db: list[float]


class TargetAccuracy(Part):
    """How well the artefact for a target predicts, as it would run there; no curves and a reason where it cannot.

    `nmse_db` is the mean in dB over all points, `same_as` a target whose artefact is the same bytes.
    """

    runtime: str | None
    precision: str
    curves: list[AccuracyCurve]
    parity: bool | None
    same_as: str | None
    reason: str
    kind: Kind
    nmse_db: float | None


class TwinCost(Part):
    """What the quantised ANN twin costs on the same target, and how well it predicts there."""

    energy: Energy
    latency: Quantity | None = None
    accuracy: TargetAccuracy | None = None


class Constant(Part):
    """A constant of the target's card that entered the estimate; nominal null where nobody has published it."""

    name: str
    low: float | None
    nominal: float | None
    high: float | None
    unit: str
    basis: str
    source: list[str]
    conditions: str = ""
    unknown: bool = False
    kind: Kind = "estimated"


class CoreUse(Part):
    """A layer on the cores of an event-driven chip, and the SynOps of its busiest core in one step."""

    path: str
    cores: int
    busiest_core_synops: float
    busiest_core_synops_per_step: list[float]


class Target(Part):
    """Energy (J) and latency (s) of one inference on one target, beside its twin."""

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
    cores: list[CoreUse] | None = None
    accuracy: TargetAccuracy | None = None


class Model(Part):
    """The profiled model."""

    name: str
    parameters: int
    head_parameters: int | None = None
    trained: bool
    config: dict[str, Any] | None = None
    sha256: str | None = None


class Twin(Part):
    """The quantised ANN twin and its counts."""

    name: str
    trained: bool
    trace: Trace


class Accuracy(Part):
    """What every target was evaluated on, and the curves of the float models; `slot_s` is the deadline to draw."""

    links: int
    seed: int
    data: str
    metric: str
    slot_s: float
    slot: str
    model: list[AccuracyCurve]
    twin: list[AccuracyCurve]


class BudgetRow(Part):
    """One figure of one target against its limit; value null is not known, and does not pass."""

    target: str
    precision: str
    figure: Literal["latency", "energy", "nmse"]
    value: float | None
    limit: float
    unit: str
    kind: str
    ok: bool
    message: str


class Budget(Part):
    """The budgets of `--max-latency`, `--max-energy`, `--max-nmse`; `gate` is the value of an interval that counts."""

    gate: Literal["p10", "nominal", "p90"]
    ok: bool
    limits: dict[str, float | None]
    rows: list[BudgetRow]


class Profile(Part):
    """profile.json, as `spikeport profile` writes it."""

    schema_: Literal["spikeport.profile/1"] = Field(alias="schema")
    model: Model
    trace: Trace
    twin: Twin | None = None
    targets: list[Target]
    accuracy: Accuracy | None = None
    budget: Budget | None = None


def json_schema() -> dict[str, Any]:
    """The published JSON schema (draft 2020-12) of profile.json."""
    return {"$schema": URL, **Profile.model_json_schema(by_alias=True)}


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
