"""What every training objective is: frozen settings, the extra modules it trains, a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

from spikeport_errors import InputError

from ..data.sampler import Batch
from ..models.config import Config


class Objective(Config, ABC):
    """Base of the objectives: a frozen dataclass of settings, as a recipe stage's `settings` table gives them.

    A stage makes `parts` once, under its seed, and trains them with the model; what they hold (heads, codebooks, a
    teacher) is saved with the run's state. `loss` follows from the model, the parts, the batch and `rng`, and from
    nothing else. A class adds itself to OBJECTIVES in `objectives/__init__.py`.
    """

    name: ClassVar[str]

    def parts(self, model: nn.Module) -> nn.Module:
        """Modules that the objective needs beside `model`; an empty ModuleDict where it needs none."""
        return nn.ModuleDict()

    @property
    def whole(self) -> bool:
        """Whether a loss needs the whole batch (negatives, triplets, a codebook), not just a process's share of it.

        Several processes then give `loss` the whole batch and generators in one state; it computes the network's part
        on `sharing.share` only, and gives the loss of its share, or of all.
        """
        return False

    @property
    def fewest(self) -> int:
        """Samples that a loss takes at least."""
        return 1

    def follow(self, before: Objective | None) -> None:
        """InputError where the objective of the stage before (None: there is none) trains no parts that this needs."""
        return

    def take_over(self, parts: nn.Module, before: Mapping[str, Tensor]) -> None:
        """Put what this objective takes of the state `before` of the last stage's parts into its own `parts`."""
        return

    @abstractmethod
    def loss(self, model: nn.Module, parts: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """The scalar to minimise on `batch`; InputError where the model or the batch lacks what it takes."""

    def stepped(self, model: nn.Module, parts: nn.Module) -> None:
        """What follows an optimiser step: a teacher's, say."""
        return

    def decibels(self, loss: float) -> float | None:
        """`loss` in dB where it is a ratio of powers; None where dB mean nothing."""
        return None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Settings of a TOML table; lists become tuples. InputError names an unknown or wrong value."""
        if isinstance(values, Mapping):
            values = {key: _tuples(value) for key, value in values.items()}
        return super().from_dict(values)

    def _wrong(self, name: str, wanted: str) -> InputError:
        return InputError(f"objective {self.name}: {name} is {getattr(self, name)!r}, wanted {wanted}")

    def _within(self, name: str, low: float, high: float) -> None:
        if not low <= getattr(self, name) <= high:
            raise self._wrong(name, f"{low:g} to {high:g}")

    def _one_of(self, name: str, known: Iterable[str]) -> None:
        if getattr(self, name) not in tuple(known):
            raise self._wrong(name, f"one of {', '.join(known)}")

    def _snr(self, name: str) -> None:
        """A pair (low, high) in dB, or None."""
        value = getattr(self, name)
        if value is None:
            return
        pair = isinstance(value, tuple) and len(value) == 2
        if not pair or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
            raise self._wrong(name, "[low, high] in dB")
        if not -100 <= value[0] <= value[1] <= 100:
            raise self._wrong(name, "low <= high within -100 to 100 dB")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
