"""report.json: what every key means. The one source of its published JSON schema.

python -m spikeport_profiles.report.schema > docs/schema/report-1.json
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from ..schema import URL, Budget, Histogram, Kind, Layer, Part, Quantity, Raster, Target
from .inputs import Curve, ParityRow, PlanRow


class Topic(Part):
    """What is said of one topic."""

    topic: str
    sentences: list[str]


class Headline(Part):
    """The points of one run."""

    run: str
    points: list[Topic]


class Point(Part):
    """One model on one target in one precision, or one setting of a sweep.

    `nmse` is the mean in dB over regimes, splits and SNRs, of the deployed artefact or of the float model (`nmse_of`);
    only points of the same `basis` were evaluated on the same samples. `slot` says how the latency interval lies to
    one slot. `energy` is the total, or event energy alone (`energy_part`).
    """

    number: int
    run: str | None
    model: str
    role: Literal["model", "twin"]
    setting: str | None
    target: str
    target_id: str
    class_: str = Field(alias="class")
    precision: str
    boundary: str
    note: str
    nmse: Quantity | None
    nmse_of: Literal["artefact", "float model"]
    basis: str
    energy: Quantity | None
    energy_part: Literal["total", "event"] | None
    latency: Quantity | None
    slot: Literal["within", "over", "undecided"] | None
    front_energy: bool
    front_latency: bool


class Tradeoff(Part):
    """The main picture: its points, the deadline that it draws, and what it says."""

    slot_s: float
    slot: str
    points: list[Point]
    findings: list[str]


class Refused(Part):
    """A setting that a target or the model refused."""

    id: str
    reason: str


class Sweep(Tradeoff):
    """A sweep in the form of the main picture."""

    name: str
    model: str
    axes: dict[str, list[str]]
    settings: dict[str, Any]
    refused: list[Refused]


class Labelled(Curve):
    """A curve with its axis (SNR or SINR) and its label in the legend."""

    axis: str
    label: str


class Versus(Part):
    """Where another method's mean NMSE is lower than the model's (`ahead`) and higher (`behind`), in words."""

    model: str
    other: str
    method: str
    role: str
    points: int
    ahead: str | None
    behind: str | None
    gap: str | None


class Panel(Part):
    """All curves of one regime and split."""

    regime: str
    split: str
    axis: str
    title: str
    curves: list[Labelled]
    versus: list[Versus]
    findings: list[str]


class AccuracySection(Part):
    """NMSE over SNR, from evaluation.json."""

    task: str
    model: str
    metric: str
    links: int
    seed: int
    kind: Kind
    data: str
    source: str
    panels: list[Panel]


class Column(Part):
    """A metric of a task."""

    name: str
    unit: str
    better: Literal["higher", "lower"]


class TaskRow(Part):
    """One method in one setting with so many labels; a cell a column."""

    method: str
    role: str
    setting: str
    labels: int | None
    cells: list[Quantity | None]


class TaskSection(Part):
    """Scores of a task that has no curves over SNR; `spread` says what low and high bound."""

    task: str
    model: str
    data: str
    links: int
    seed: int
    kind: Kind
    notes: list[str]
    source: str
    spread: str
    columns: list[Column]
    rows: list[TaskRow]


class RateRow(Part):
    """Spikes of one spiking layer."""

    path: str
    label: str
    spike_rate: float
    neurons: float | None
    spikes: float | None


class Sparsity(Part):
    """Spike rates per layer, and how much of the arithmetic spikes feed."""

    kind: Kind
    source: str
    rows: list[RateRow]
    mean_rate: float | None
    spiking_mac_share: float | None
    findings: list[str]


class Shown(Part):
    """A part of the energy that a plot shows, of model and twin."""

    part: Literal["event", "system", "host", "total"]
    model: Quantity | None
    twin: Quantity | None


class CostTarget(Target):
    """A target of profile.json with what may be claimed of it, and why a number is absent."""

    claim: str | None
    absent: dict[str, str]
    shown: list[Shown]
    slot: str | None
    break_even: str | None
    missing: list[str]


class Cost(Part):
    """Energy and latency per target."""

    slot_s: float
    twin: str | None
    mean_rate: float | None
    energy_kind: str
    latency_kind: str
    targets: list[CostTarget]


class MeasuredRow(Part):
    """A figure measured on a device, and the estimate it replaces (null where the profile has none)."""

    model: str
    target: str
    precision: str
    scenario: str
    figure: Literal["latency", "energy"]
    source: str
    measured: Quantity
    estimate: Quantity | None
    ratio: float | None
    inside: bool | None


class Sum(Part):
    """Counts summed over layers; null where the count has no meaning for any of them."""

    label: str
    layers: int
    spikes: float | None
    synops: float | None
    macs_executed: float | None
    macs_algebraic: float | None
    neuron_updates: float | None
    weight_bytes: float | None
    activation_bytes: float | None
    state_bytes: float | None


class Layers(Part):
    """Counts per layer, by kind of layer and over all."""

    kind: Kind
    source: str
    rows: list[Layer]
    by_kind: list[Sum]
    total: Sum
    unaccounted: list[str]


class DrawnRaster(Raster):
    """A raster, the share of its cells that hold a spike, and its text."""

    share: float
    text: str


class DrawnHistogram(Histogram):
    """A histogram, the share of potentials at or above the threshold, and its text."""

    share: float
    text: str


class DetailLayer(Part):
    """One spiking layer; `over_snr` has a rate for each SNR of the section."""

    path: str
    label: str
    spike_rate: float
    rate_per_step: list[float]
    raster: DrawnRaster | None
    membrane: DrawnHistogram | None
    over_snr: list[float | None]


class MeanAtSnr(Part):
    """The rate of all layers at one SNR."""

    snr_db: float
    samples: int
    spike_rate: float
    synops: float


class DetailSection(Part):
    """The drill-down per layer."""

    kind: Kind
    source: str
    one_sample: str
    over_snr: list[MeanAtSnr]
    findings: list[str]
    layers: list[DetailLayer]


class ModelFacts(Part):
    """What is known of the model."""

    name: str
    parameters: int | None
    head_parameters: int | None
    trained: bool | None
    steps: int | None
    levels: int | None
    inference: str | None


class TwinFacts(Part):
    """The twin and its counts."""

    name: str
    trained: bool
    total: Sum


class ShownParity(ParityRow):
    """A parity row with its texts."""

    value_text: str
    limit_text: str
    holds: Literal["yes", "NO", "not gated"]


class ParitySection(Part):
    """The comparisons of a bundle."""

    ok: bool
    rows: list[ShownParity]


class BundleSection(Part):
    """What became of each part of the model, and whether the artefact equals it."""

    name: str
    model: str
    trained: bool
    target: str
    spikeport: str | None
    created: str
    route: str
    precision: str
    steps: int
    levels: int
    plan: list[PlanRow]
    plan_counts: dict[str, int]
    verdict: str
    parity: ParitySection
    files: int
    bytes: int
    versions: dict[str, Any]


class RunSection(Part):
    """One run folder; null or empty for what it does not hold."""

    name: str
    model: ModelFacts
    accuracy: AccuracySection | None
    table: TaskSection | None
    budget: Budget | None
    sparsity: Sparsity | None
    detail: DetailSection | None
    measured: list[MeasuredRow] | None
    cost: Cost | None
    layers: Layers | None
    twin: TwinFacts | None
    bundles: list[BundleSection]


class SideRow(Part):
    """One quantity of all runs; null where a run lacks it."""

    label: str
    cells: list[Quantity | None]


class Side(Part):
    """Runs side by side."""

    columns: list[str]
    rows: list[SideRow]
    panels: list[Panel]


class ReportFile(Part):
    """report.json, as `spikeport report` writes it."""

    schema_: Literal["spikeport.report/1"] = Field(alias="schema")
    title: str
    created: str
    spikeport: str
    headline: list[Headline]
    limits: list[str]
    tradeoff: Tradeoff | None
    sweeps: list[Sweep]
    comparison: Side | None
    runs: list[RunSection]


def json_schema() -> dict[str, Any]:
    """The published JSON schema (draft 2020-12) of report.json."""
    return {"$schema": URL, **ReportFile.model_json_schema(by_alias=True)}


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
