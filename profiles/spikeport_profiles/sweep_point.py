"""A point of a sweep as its file holds it: what a kept file must look like to be taken."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from .schema import AccuracyCurve, Part, Quantity


class Point(Part):
    """One setting with what it cost and how well it predicts; `status` refused has a reason in place of figures.

    `energy` is the total, or where that is not known the event energy, as `energy_part` says; NMSE in dB.
    """

    id: str
    neuron: str
    steps: int
    levels: int
    precision: str
    target: str
    settings: dict[str, Any]
    weights: str | None
    retrained: bool
    note: str
    status: Literal["done", "refused"]
    reason: str
    spike_rate: float | None
    synops: float | None
    macs: float | None
    nmse_db: float | None
    nmse_of: Literal["artefact", "float model"] | None
    curves: list[AccuracyCurve]
    latency: Quantity | None
    energy: Quantity | None
    energy_part: Literal["total", "event"] | None
    boundary: str | None

    @model_validator(mode="after")
    def whole(self) -> Self:
        """Raise ValueError for a finished point without its NMSE, or an energy that does not say which it is."""
        if self.status == "done" and (self.nmse_db is None or self.weights is None):
            raise ValueError("a point that is done has an NMSE and weights")
        if (self.energy is None) != (self.energy_part is None):
            raise ValueError("energy and energy_part go together")
        return self
