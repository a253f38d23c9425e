"""Ranges of constants carried through a calculation: 500 draws, one fixed seed, p10 / nominal / p90.

A value is an array whose first entry is the nominal result and whose others are the draws, so that one formula gives
both. Each constant has its own stream, seeded by its name: the model and its twin see the same device, and a
difference between them is not blurred by what they share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from spikeport_targets.card import Card, Constant, Quantity

DRAWS = 500
SEED = 20261121

TAIL = 1 / (1 - 0.2**0.5)
"""Half-width of a symmetric triangular distribution over that of its p10-p90 interval."""

Values = NDArray[np.float64]
"""`[1 + DRAWS]`: the nominal value, then the draws."""


def log_triangular(name: str, low: float, nominal: float, high: float) -> Values:
    """Draws between `low` and `high` whose logarithm is triangular with its mode at `nominal` (linear if low is 0)."""
    if low == high:
        return np.full(1 + DRAWS, nominal)
    rng = np.random.default_rng([SEED, crc32(name.encode())])
    if low <= 0:
        return np.concatenate([[nominal], rng.triangular(low, nominal, high, DRAWS)])
    draws = rng.triangular(np.log(low), np.log(nominal), np.log(high), DRAWS)
    return np.concatenate([[nominal], np.exp(draws)])


class Draws:
    """Values of the constants of one card in one scenario, with a record of which were used or are not published.

    `factors` replace structural factors by name: values, the p10-p90 factor that is left, and sources.
    """

    def __init__(
        self,
        card: Card,
        scenario: str | None = None,
        factors: Mapping[str, tuple[Values, float, tuple[str, ...]]] | None = None,
    ):
        self.card, self.scenario, self._factors = card, scenario, factors or {}
        own = card.scenarios[scenario].constants if scenario else {}
        self.known: Mapping[str, Constant] = {**card.constants, **own}
        self.used: dict[str, Constant] = {}
        self.missing: dict[str, Constant | None] = {}

    def __call__(self, name: str) -> Values | None:
        """Values of the constant `name`; None, and noted as missing, if the card has none or it is not published."""
        constant = self.known.get(name)
        if constant is None or constant.nominal is None:
            self.missing[name] = constant
            return None
        return self.derived(constant)

    def derived(self, constant: Constant) -> Values:
        """Values of a constant that no card holds, recorded as used."""
        low, nominal, high = constant.low, constant.nominal, constant.high
        assert low is not None
        assert nominal is not None
        assert high is not None
        self.used[constant.name] = constant
        return log_triangular(constant.name, low, nominal, high)

    def calibrated(self, name: str) -> bool:
        """Whether runs on the device gave the factor `name`."""
        return name in self._factors

    def factor(self, name: str, size: float, reason: str) -> Values:
        """A structural factor: 1, and draws whose 10th and 90th percentile are 1 / `size` and `size`.

        A calibrated factor takes its place where runs on the device gave one.
        """
        if name in self._factors:
            values, left, runs = self._factors[name]
            low, high = float(values.min()) * left**-TAIL, float(values.max()) * left**TAIL
            self.used[name] = Constant(name, low, float(values[0]), high, "1", "measured", runs, conditions=reason)
            return values * log_triangular(name, left**-TAIL, 1.0, left**TAIL)
        source = ("error of the cost model on published measurements it was not fitted to",)
        edge = size**TAIL
        return self.derived(Constant(name, 1 / edge, 1.0, edge, "1", "derived", source, conditions=reason))

    def record(self) -> tuple[Constant, ...]:
        """The constants used since the last call of `record`."""
        taken = tuple(self.used.values())
        self.used = {}
        return taken

    def unknown(self) -> tuple[Constant, ...]:
        """Constants that were asked for and that nobody has published."""
        source = (f"the card of {self.card.id} does not have it",)
        return tuple(
            c or Constant(name, None, None, None, "1", "assumed", source, unknown=True)
            for name, c in self.missing.items()
        )


def quantity(values: Values | None, unit: str, constants: Iterable[Constant]) -> Quantity | None:
    """p10 / nominal / p90 as an estimated Quantity that names the sources of `constants`."""
    if values is None:
        return None
    low, high = np.percentile(values[1:], [10, 90])
    nominal = float(values[0])
    sources = tuple(dict.fromkeys(s for c in constants for s in c.source))
    return Quantity(min(float(low), nominal), nominal, max(float(high), nominal), unit, "estimated", sources)


def total(*parts: Values | None) -> Values | None:
    """Sum of the parts; None as soon as one of them is unknown."""
    result: Values = np.zeros(1 + DRAWS)
    for part in parts:
        if part is None:
            return None
        result = result + part
    return result
