"""Mapping onto cores: how many a model's islands take within the limits of a card, what limits, and what would help.

Per island, neurons and weights stand on cores of their own, and a core of weights holds whole rows of fc2:

    rows  = floor(synapse bits / (inputs of the core x weight bits)),   inputs <= input axons
    weight cores = groups x ceil(outputs / rows),   groups = ceil(neurons / input axons)
    neuron cores = ceil(max(neurons / neurons per core, neurons x weight cores per group / output axons))

Every core of weights in a group gets every spike of it: a spike is as many messages. Groups add up different neurons,
so that the host reads and adds one accumulator per output and group. Tokens follow one another on the same cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from torch import nn

from spikeport_errors import CardError
from spikeport_targets.card import Card
from spikeport_toolkit.models.layers import FeedForward
from spikeport_toolkit.models.neuron import SpikingNeuron

LIMITS = ("neurons_per_core", "synapse_bits_per_core", "input_axons_per_core", "output_axons_per_core",
          "cores_per_chip", "weight_bits", "graded_spikes")  # fmt: skip
SYNAPSES, NEURONS, AXONS_IN, AXONS_OUT = "synaptic memory", "neurons", "input axons", "output axons"


@dataclass(frozen=True)
class IslandMapping:
    """One island: its neurons (slots counted one by one where the chip has no graded spikes) and outputs on cores.

    `weights_by` and `neurons_by` are the limits that set the number of cores, `filled` the part of its cores' synaptic
    memory in use, `messages` what one spike becomes, `groups` the parts that its inputs are split into.
    """

    path: str
    neurons: int
    outputs: int
    weight_bits: int
    weight_cores: int
    neuron_cores: int
    groups: int
    messages: int
    weights_by: str
    neurons_by: str
    filled: float

    @property
    def cores(self) -> int:
        """All its cores."""
        return self.weight_cores + self.neuron_cores

    @property
    def weights(self) -> int:
        """Its weights."""
        return self.neurons * self.outputs

    def summary(self) -> str:
        """One line."""
        split = f", inputs in {self.groups} groups" if self.groups > 1 else ""
        weights = f"{self.weights:,} {self.weight_bits}-bit weights on {_cores(self.weight_cores)}"
        return (
            f"{self.path}: {self.neurons:,} neurons on {_cores(self.neuron_cores)} (limit: {self.neurons_by}), "
            f"{weights} (limit: {self.weights_by}, {100 * self.filled:.0f} % full{split}); "
            f"a spike is {self.messages} message{'s' * (self.messages > 1)}"
        )


@dataclass(frozen=True)
class Mapping:
    """All islands of a model on one target: cores, chips, and what does not fit on one chip with what would help."""

    target: str
    islands: tuple[IslandMapping, ...]
    cores_per_chip: int
    misfits: tuple[str, ...]

    @property
    def cores(self) -> int:
        """Cores of all islands together."""
        return sum(island.cores for island in self.islands)

    @property
    def chips(self) -> int:
        """Chips that hold them all at once."""
        return ceil(self.cores / self.cores_per_chip)

    def summary(self) -> str:
        """Cores and chips, a line per kind of island, and what does not fit."""
        head = (
            f"{self.cores} cores of {self.cores_per_chip} on {self.target}: {self.chips} chip{'s' * (self.chips > 1)}"
        )
        return "\n".join([head, *(f"  {island.summary()}" for island in self.islands), *self.misfits])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "target": self.target,
            "cores": self.cores,
            "cores_per_chip": self.cores_per_chip,
            "chips": self.chips,
            "islands": [{**asdict(island), "cores": island.cores} for island in self.islands],
            "misfits": list(self.misfits),
        }


@dataclass(frozen=True)
class _Layer:
    path: str
    hidden: int
    outputs: int
    levels: int


def loihi_mapping(model: nn.Module, card: Card, *, weight_bits: int | None = None) -> Mapping:
    """`model`'s spiking feed-forward blocks on the cores of `card`, with `weight_bits` (default: the card's).

    Raises CardError if the card lacks one of LIMITS.
    """
    for name in LIMITS:
        if name not in card.limits:
            raise CardError(f"{card.path or card.id}: limits.{name} is missing; a mapping onto cores needs it")
    layers = [
        _Layer(f"{path}.fc2", m.fc2.in_features, m.fc2.out_features, int(m.neuron.config.levels))
        for path, m in model.named_modules()
        if isinstance(m, FeedForward) and isinstance(m.neuron, SpikingNeuron)
    ]
    bits = weight_bits or int(card.limits["weight_bits"])
    islands = _islands(layers, card, bits)
    per_chip = int(card.limits["cores_per_chip"])
    return Mapping(card.id, islands, per_chip, tuple(_misfits(layers, islands, card, bits)))


def _islands(layers: Sequence[_Layer], card: Card, bits: int) -> tuple[IslandMapping, ...]:
    return tuple(_island(layer, card, bits) for layer in layers)


def _island(layer: _Layer, card: Card, bits: int) -> IslandMapping:
    limits = card.limits
    neurons = layer.hidden * (1 if limits["graded_spikes"] else layer.levels)
    synapse_bits = int(limits["synapse_bits_per_core"])
    groups = max(ceil(neurons / limits["input_axons_per_core"]), ceil(neurons * bits / synapse_bits))
    inputs = ceil(neurons / groups)
    rows = min(synapse_bits // (inputs * bits), int(limits["neurons_per_core"]))
    per_group = ceil(layer.outputs / rows)
    by_axons = ceil(neurons * per_group / limits["output_axons_per_core"])
    by_neurons = ceil(neurons / limits["neurons_per_core"])
    neuron_cores = max(by_neurons, by_axons)
    return IslandMapping(
        path=layer.path,
        neurons=neurons,
        outputs=layer.outputs,
        weight_bits=bits,
        weight_cores=groups * per_group,
        neuron_cores=neuron_cores,
        groups=groups,
        messages=per_group,
        weights_by=AXONS_IN if groups > 1 else SYNAPSES if rows < limits["neurons_per_core"] else NEURONS,
        neurons_by=AXONS_OUT if by_axons > by_neurons else NEURONS,
        filled=neurons * layer.outputs * bits / (groups * per_group * synapse_bits),
    )


def _cores(count: int) -> str:
    return f"{count} core{'s' * (count > 1)}"


def _misfits(layers: Sequence[_Layer], islands: tuple[IslandMapping, ...], card: Card, bits: int) -> list[str]:
    per_chip, cores = int(card.limits["cores_per_chip"]), sum(island.cores for island in islands)
    if cores <= per_chip:
        return []
    largest = max(islands, key=lambda island: island.cores)
    one = int(card.limits["synapse_bits_per_core"]) // bits
    remedies = [f"take {ceil(cores / per_chip)} chips"]
    for fewer in (4, 2):
        if fewer < bits:
            then = sum(island.cores for island in _islands(layers, card, fewer))
            remedies.append(f"use {fewer}-bit weights ({then} cores{', which fit' if then <= per_chip else ''})")
    if narrower := _width_that_fits(layers, card, bits, per_chip):
        remedies.append(
            f"narrow every d_ff to {narrower:.0%} ({max(1, int(largest.neurons * narrower))} in the widest)"
        )
    return [
        f"{len(islands)} islands need {cores} cores; one {card.id} holds {per_chip}, {cores - per_chip} too few: "
        + ", or ".join(remedies),
        f"the largest, {largest.path}, needs {largest.weights:,} weights; one core of {card.id} holds {one:,}: it is "
        f"split by outputs over {largest.weight_cores} cores, each spike going to {largest.messages} of them, "
        f"and its {largest.neurons:,} neurons over {largest.neuron_cores}",
    ]


def _width_that_fits(layers: Sequence[_Layer], card: Card, bits: int, per_chip: int) -> float | None:
    for percent in range(95, 0, -5):
        narrow = [_Layer(x.path, max(1, x.hidden * percent // 100), x.outputs, x.levels) for x in layers]
        if sum(island.cores for island in _islands(narrow, card, bits)) <= per_chip:
            return percent / 100
    return None
