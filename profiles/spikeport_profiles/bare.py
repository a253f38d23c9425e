"""Bare counts of one inference: enough to cost a published network without having its weights."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Integral, Real

from spikeport_errors import InputError

MOST = 1e30


@dataclass(frozen=True)
class Counts:
    """What one inference needs, as a paper states it; give what its targets use, the rest stays 0.

    - Event chips: `synops`, `neuron_updates` (neurons times steps), `spikes` emitted, `steps` of one inference, `cores`
      and `chips` it occupies, `busiest_core_synops` in one step, and `latency_s` where the paper measured it.
    - GPUs: `macs`, `kernels` after fusion, `bytes` moved to and from memory in the precision that runs.
    - The 45 nm convention: `macs` on analog input and `synops`.
    """

    synops: float = 0.0
    neuron_updates: float = 0.0
    spikes: float = 0.0
    steps: float = 1.0
    cores: int = 1
    chips: int = 1
    busiest_core_synops: float = 0.0
    latency_s: float | None = None
    macs: float = 0.0
    kernels: float = 0.0
    bytes: float = 0.0

    def __post_init__(self) -> None:
        """InputError unless every count is a finite number that is not negative, cores and chips at least 1."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name == "latency_s":
                continue
            least = 1 if field.name in ("cores", "chips", "steps") else 0
            whole = field.name in ("cores", "chips")
            number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
            if not number or not least <= value <= MOST:
                kind = "a whole number" if whole else "a number"
                raise InputError(f"Counts: {field.name} is {value!r}; give {kind} from {least} to {MOST:g}")

    @property
    def spiking(self) -> bool:
        """Whether it counts events."""
        return self.synops > 0

    @property
    def spike_rate(self) -> float:
        """Spikes per neuron and step, 0 where either is not given."""
        return self.spikes / self.neuron_updates if self.neuron_updates else 0.0
