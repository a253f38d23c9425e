"""What the cost model of a target class gives for one trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spikeport_targets.card import Constant

from .montecarlo import Values


@dataclass(frozen=True)
class Costs:
    """Joules and seconds per inference, nominal and draws; None where a constant is not published.

    `event` is what operations and spikes cost, `system` what the powered target costs for the time, `host` what runs
    elsewhere, `total` their sum. `per_rate` is the part of `event` (of `total`, where there are no parts) that grows
    with the spike rate. `constants` holds, by those names, what each of them rests on; `unknown` what is not published.
    `energy_notes` say how `total` was found: void where the total of the very model was measured.
    """

    event: Values | None = None
    system: Values | None = None
    host: Values | None = None
    total: Values | None = None
    latency: Values | None = None
    per_rate: Values | None = None
    constants: Mapping[str, tuple[Constant, ...]] = field(default_factory=dict)
    unknown: tuple[Constant, ...] = ()
    notes: tuple[str, ...] = ()
    energy_notes: tuple[str, ...] = ()

    def used(self) -> tuple[Constant, ...]:
        """Every constant behind these costs, once."""
        return tuple({c.name: c for group in self.constants.values() for c in group}.values())
