"""A weighted sum of objectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from spikeport_errors import InputError, UsageError

from ..data.sampler import Batch
from .objective import Objective
from .sharing import part_of, processes, share


@dataclass(frozen=True)
class Combined(Objective):
    """L = sum_i w_i L_i over `terms`, tables of `objective`, `weight` (1) and `settings`; all see the same batch.

    ContraWiMAE is .9 masked + .1 contrastive (arXiv 2505.09160), LWLM 20 domain-transform + 10 masked + 1 contrastive
    (arXiv 2505.10134).
    """

    name: ClassVar[str] = "combined"

    terms: tuple[Mapping[str, Any], ...] = field(default=())

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.terms, tuple) or not self.terms:
            raise self._wrong("terms", "a list of tables {objective, weight, settings}")
        _ = self.objectives

    @cached_property
    def objectives(self) -> tuple[tuple[float, Objective], ...]:
        """Weights and the objectives they weigh."""
        return tuple(self._term(index, term) for index, term in enumerate(self.terms))

    @property
    def whole(self) -> bool:
        """As soon as one term needs the whole batch."""
        return any(term.whole for _, term in self.objectives)

    @property
    def fewest(self) -> int:
        """What the neediest term takes."""
        return max(term.fewest for _, term in self.objectives)

    def follow(self, before: Objective | None) -> None:
        """What the terms need."""
        for _, term in self.objectives:
            term.follow(before)

    def take_over(self, parts: nn.Module, before: Mapping[str, Tensor]) -> None:
        """What the terms take."""
        assert isinstance(parts, nn.ModuleList)
        for (_, term), part in zip(self.objectives, parts, strict=True):
            term.take_over(part, before)

    def stepped(self, model: nn.Module, parts: nn.Module) -> None:
        """What follows it for every term."""
        assert isinstance(parts, nn.ModuleList)
        for (_, term), part in zip(self.objectives, parts, strict=True):
            term.stepped(model, part)

    def _term(self, index: int, term: Any) -> tuple[float, Objective]:
        from . import objective

        who = f"objective {self.name}: term {index + 1}"
        if not isinstance(term, Mapping) or not {"objective"} <= set(term) <= {"objective", "weight", "settings"}:
            raise InputError(f"{who} is {term!r}, wanted a table of objective, weight and settings")
        weight = term.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1e6:
            raise InputError(f"{who} has weight {weight!r}, wanted a number above 0 and at most 1e6")
        try:
            return float(weight), objective(term["objective"], term.get("settings", {}))
        except (InputError, UsageError) as error:
            raise type(error)(f"{who}: {error}") from None

    def parts(self, model: nn.Module) -> nn.Module:
        """The parts of every term, in order."""
        return nn.ModuleList(term.parts(model) for _, term in self.objectives)

    def loss(self, model: nn.Module, parts: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """The weighted sum; the terms draw from `rng` one after the other.

        Of several processes each gives a term that needs no whole batch its share and a generator of its own.
        """
        assert isinstance(parts, nn.ModuleList)
        rank, size = processes()
        losses = []
        for (weight, term), part in zip(self.objectives, parts, strict=True):
            cut = self.whole and not term.whole and size > 1
            mine = (part_of(batch, share(len(batch.clean))), rng.spawn(size)[rank]) if cut else (batch, rng)
            losses.append(weight * term.loss(model, part, *mine))
        return torch.stack(losses).sum()
