"""What is kept of the weights along the way: their moving average, and the best ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """a <- b a + (1 - b) w after every step, with b = min(decay, (1 + n) / (10 + n)) at step n.

    The start is short-sighted, so that the random weights are soon forgotten.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float):
        self.decay = decay
        self.parameters = list(parameters)
        self.values = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` (from 0)."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for value, parameter in zip(self.values, self.parameters, strict=True):
            value.lerp_(parameter.detach(), 1 - keep)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange average and weights."""
        for value, parameter in zip(self.values, self.parameters, strict=True):
            held = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(held)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The weights are their average inside."""
        self.swap()
        try:
            yield
        finally:
            self.swap()


class Best:
    """The weights of the best validation so far, and for how many validations there was no better one."""

    def __init__(self) -> None:
        self.loss = float("inf")
        self.waited = 0
        self.state: dict[str, Tensor] = {}

    def take(self, loss: float, model: nn.Module) -> None:
        """Look at a validation: keep the weights where it is the best."""
        self.waited += 1
        if loss < self.loss:
            self.loss, self.waited = loss, 0
            self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def restore(self, model: nn.Module) -> None:
        """Put the best weights back; nothing without a validation."""
        for name, place in model.state_dict().items():
            if name in self.state:
                place.copy_(self.state[name])
