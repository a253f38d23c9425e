"""Training objectives, one file each: what a recipe's stage minimises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spikeport_errors import InputError, unknown_name

from .charting import Charting
from .combined import Combined
from .contrastive import Contrastive
from .dti import DomainTransform
from .frequency_prediction import FrequencyPrediction
from .latent_masked import LatentMasked
from .masked import Masked
from .next_token import NextToken
from .objective import Objective
from .prediction import Prediction
from .tokenizer import Tokenizer

__all__ = ["OBJECTIVES", "Objective", "objective"]

OBJECTIVES: dict[str, type[Objective]] = {
    kind.name: kind
    for kind in (
        Masked, LatentMasked, Tokenizer, NextToken, Contrastive, Charting, DomainTransform, Prediction,
        FrequencyPrediction, Combined,
    )
}  # fmt: skip
"""Every objective by its name in a recipe."""


def objective(name: Any, settings: Mapping[str, Any] | None = None) -> Objective:
    """The objective `name` with its `settings`; UsageError for an unknown name, InputError for a wrong setting."""
    if not isinstance(name, str):
        raise InputError(f"an objective is named by a word, got {name!r}")
    if name not in OBJECTIVES:
        raise unknown_name("objective", name, OBJECTIVES, "or see docs/training.md")
    return OBJECTIVES[name].from_dict(settings if settings is not None else {})
