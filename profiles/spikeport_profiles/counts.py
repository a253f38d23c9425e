"""What a trace measured, per layer and per sample: the target-independent half of every estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

from .detail import Detail
from .keys import Keys, keyed

LayerKind = Literal[
    "linear", "convolution", "attention", "layernorm", "batchnorm", "spiking", "activation", "embedding"
]
InputKind = Literal["spikes", "analog"]


@dataclass(frozen=True)
class LayerCounts:
    """Counts of one layer for one sample, averaged over the traced samples.

    Multiply-accumulates (MACs) are those of matrix products; LayerNorm, BatchNorm and softmax are `elements`.

    - `macs_executed`: as the model ran here. `macs_algebraic`: the least the same function needs, with W1 hoisted out
      of the time loop and W2 applied once to the rate. `macs_unrolled`: a loop over T steps around the feed-forward.
    - `input` says where the layer's input comes from, by source and never by value; `fed_by` names the spiking layer.
    - `spikes`: events. A graded spike of value k is k events. `spike_rate` = spikes / (neuron updates * D).
    - `synops`: sum over input events of the outgoing weights that are not zero.
    - `neuron_updates` = neurons * tokens * T; `neurons` is the width of one token, or a whole feature map.
    - `nonzero`: nonzero outputs of a twin's activation. `graded_synops`: nonzero inputs times the outgoing weights that
      are not zero, for a layer fed by spikes or by an activation: what a chip with graded spikes would do.
    - Bytes are those of the dtype traced. Weights count once, biases included; activations are input plus output of
      the layer; state is the membrane of all tokens.
    - `busiest_unit_per_step`, the most over the traced samples: for a spiking layer the events of one neuron at one
      step over all tokens, for a layer fed by spikes the SynOps of one token at one step; 0 for a folded neuron, which
      keeps counts and not times.
    - `spikes_per_step`, `rate_per_step`, `synops_per_step` and `busiest_per_step` are the same at each of T steps;
      empty where the time axis is gone.
    """

    path: str
    kind: LayerKind
    input: InputKind = "analog"
    fed_by: str | None = None
    macs_executed: float = 0
    macs_algebraic: float = 0
    macs_unrolled: float = 0
    spikes: float = 0
    spike_rate: float = 0.0
    synops: float = 0
    graded_synops: float = 0
    neuron_updates: float = 0
    neurons: int = 0
    weights: int = 0
    weights_nonzero: int = 0
    outputs: int = 0
    elements: float = 0
    nonzero: float = 0
    weight_bytes: int = 0
    activation_bytes: float = 0
    state_bytes: float = 0
    busiest_unit_per_step: float = 0
    spikes_per_step: tuple[float, ...] = ()
    rate_per_step: tuple[float, ...] = ()
    synops_per_step: tuple[float, ...] = ()
    busiest_per_step: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, one entry per field."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of to_dict; keys of a newer schema are ignored."""
        known = {f.name for f in fields(cls)}
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
        return cls(**given)


_SUMMED = (
    "macs_executed", "macs_algebraic", "macs_unrolled", "spikes", "synops", "graded_synops", "neuron_updates",
    "neurons", "weights", "weights_nonzero", "elements", "nonzero", "weight_bytes", "activation_bytes", "state_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class AtSnr:
    """Spike rates of a trace on inputs of one SNR: overall, and by spiking layer."""

    snr_db: float
    samples: int
    spike_rate: float
    synops: float
    layers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Trace:
    """Counts per layer for one inference, measured on `samples` inputs.

    `steps` is T, `levels` is D (1 and 1 for a model without spiking neurons), `tokens` of one sample. `unaccounted`
    names every module that has weights and no counting rule: what they cost is in none of the numbers. `over_snr` are
    the spike rates on inputs of one SNR each, `detail` spikes and potentials of one sample, both where asked for.
    """

    samples: int
    tokens: int
    steps: int
    levels: int
    source: str
    layers: tuple[LayerCounts, ...]
    unaccounted: tuple[str, ...] = ()
    over_snr: tuple[AtSnr, ...] = ()
    detail: Detail | None = None

    @property
    def spiking(self) -> bool:
        """True when a spiking layer was traced."""
        return any(layer.kind == "spiking" for layer in self.layers)

    @property
    def spike_rate(self) -> float:
        """The overall rate."""
        return self.totals["spike_rate"]

    @property
    def totals(self) -> dict[str, float]:
        """Sums over the layers; `spike_rate` is the overall rate and `busiest_unit_per_step` the maximum."""
        sums: dict[str, float] = {name: sum(getattr(layer, name) for layer in self.layers) for name in _SUMMED}
        slots = sums["neuron_updates"] * self.levels
        sums["spike_rate"] = sums["spikes"] / slots if slots else 0.0
        sums["busiest_unit_per_step"] = max((layer.busiest_unit_per_step for layer in self.layers), default=0)
        return sums

    def summary(self) -> str:
        """A table: one line per layer, then the totals and what has no rule."""
        head = f"{'layer':38} {'kind':10} {'MACs':>12} {'SynOps':>12} {'rate':>7} {'weight B':>10}"
        rows = [
            f"{layer.path:38} {layer.kind:10} {layer.macs_executed:12,.0f} {layer.synops:12,.0f} "
            f"{layer.spike_rate if layer.kind == 'spiking' else float('nan'):7.3f} {layer.weight_bytes:10,d}"
            for layer in self.layers
        ]
        t = self.totals
        rows.append(
            f"{'total':38} {'':10} {t['macs_executed']:12,.0f} {t['synops']:12,.0f} {t['spike_rate']:7.3f} "
            f"{t['weight_bytes']:10,.0f}"
        )
        rows.append(
            f"per sample, measured on {self.samples} samples of {self.tokens} tokens; T={self.steps}, D={self.levels}; "
            f"MACs executed {t['macs_executed']:,.0f}, unrolled over T {t['macs_unrolled']:,.0f}"
        )
        if self.over_snr:
            points = ", ".join(f"{p.spike_rate:.3f} at {p.snr_db:g} dB" for p in self.over_snr)
            rows.append(f"spike rate over SNR: {points}")
        if self.unaccounted:
            rows.append("no counting rule, in none of the numbers: " + ", ".join(self.unaccounted))
        return "\n".join([head, *rows]).replace("    nan", "      -")

    def at_snr(self, snr_db: float) -> AtSnr:
        """This trace as the rates at one SNR, that of its inputs."""
        rates = {layer.path: layer.spike_rate for layer in self.layers if layer.kind == "spiking"}
        return AtSnr(float(snr_db), self.samples, self.spike_rate, self.totals["synops"], rates)

    def to_dict(self, *, keys: Keys = "spikeport") -> dict[str, Any]:
        """The TRACE of profile.json; with `keys` the same counts by the names of another tool (see `keys.keyed`)."""
        if keys != "spikeport":
            return keyed(self, keys)
        return {
            "samples": self.samples,
            "tokens": self.tokens,
            "steps": self.steps,
            "levels": self.levels,
            "source": self.source,
            "kind": "measured",
            "layers": [layer.to_dict() for layer in self.layers],
            "totals": self.totals,
            "unaccounted": list(self.unaccounted),
            "over_snr": [asdict(point) for point in self.over_snr],
            "detail": None if self.detail is None else self.detail.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of to_dict."""
        return cls(
            samples=values["samples"],
            tokens=values["tokens"],
            steps=values["steps"],
            levels=values["levels"],
            source=values["source"],
            layers=tuple(LayerCounts.from_dict(layer) for layer in values["layers"]),
            unaccounted=tuple(values["unaccounted"]),
            over_snr=tuple(AtSnr(**point) for point in values.get("over_snr", ())),
            detail=Detail.from_dict(values["detail"]) if values.get("detail") else None,
        )
