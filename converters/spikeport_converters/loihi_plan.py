"""What each part of a model becomes on a Loihi: integer islands on cores, the host's part, or a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from spikeport_targets.card import Card
from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.layers import Attention, FeedForward
from spikeport_toolkit.models.neuron import SpikingNeuron, SteppedNeuron

from .loihi_mapping import IslandMapping, loihi_mapping
from .plan import KEPT, REFUSED, REWRITTEN, PlanItem, refused_step

HARD_RESET = "use a binary neuron with hard reset to 0 (`spikewfm-nano`), or an I-LIF with T = 1"


def loihi_plan(model: nn.Module, card: Card) -> tuple[PlanItem, ...]:
    """One item per part of `model`, and one for the chip; `refused` items name the limit and the remedy."""
    stepped = {path: m for path, m in model.named_modules() if isinstance(m, SteppedNeuron)}
    if stepped:
        return tuple(refused_step(path, neuron, card) for path, neuron in stepped.items())
    mapping = loihi_mapping(model, card)
    if not mapping.islands:
        reason = f"no spiking feed-forward block: {card.name} runs such blocks only"
        remedy = "use a spiking preset (`spikewfm-nano`), or --target jetson-orin-nano"
        return (PlanItem("model", type(model).__name__, REFUSED, "", reason, remedy),)
    cores = {island.path.removesuffix(".fc2"): island for island in mapping.islands}
    items = tuple(_items(model, "", card, cores))
    chips = f"{mapping.cores} cores of {mapping.cores_per_chip}: {mapping.chips} chip{'s' * (mapping.chips > 1)}"
    text = ". ".join((chips, *mapping.misfits))
    return (*items, PlanItem("model", "mapping", KEPT, "loihi-cores", text))


def _items(module: nn.Module, path: str, card: Card, cores: dict[str, IslandMapping]) -> Iterator[PlanItem]:
    for name, child in module.named_children():
        where = f"{path}.{name}" if path else name
        if isinstance(child, FeedForward) and isinstance(child.neuron, SpikingNeuron):
            yield from _feed_forward(child, where, card, cores[where])
        elif isinstance(child, SpikingNeuron):
            reason = "a spiking neuron outside a FeedForward has no weights after it to put on cores"
            yield PlanItem(
                where, child.config.kind, REFUSED, "", reason, "put it into a FeedForward (fc1, neuron, fc2)"
            )
        elif isinstance(child, Attention):
            yield _host(where, "attention", "the chip has no product of two signals and no softmax")
        elif isinstance(child, nn.LayerNorm):
            yield _host(where, "LayerNorm", "the chip has no statistics over features")
        elif next(child.children(), None) is not None and not isinstance(child, FeedForward):
            yield from _items(child, where, card, cores)
        elif next(child.parameters(), None) is not None:
            yield _host(where, type(child).__name__, "its input does not spike")


def _feed_forward(ffn: FeedForward, path: str, card: Card, cores: IslandMapping) -> Iterator[PlanItem]:
    neuron: Any = ffn.neuron.config
    if refused := loihi_refusal(neuron):
        yield PlanItem(f"{path}.neuron", neuron.kind, REFUSED, "", *refused)
        return
    if cores.cores > (most := int(card.limits["cores_per_chip"])):
        reason = f"{cores.summary()}; {card.id} has {most} cores, {cores.cores - most} too few"
        yield PlanItem(f"{path}.fc2", "linear", REFUSED, "", reason, "narrow d_ff, or use fewer weight bits")
        return
    yield _host(f"{path}.fc1", "linear", "its input does not spike; its result enters the chip as a 13-bit bias")
    kind = "graded payloads" if neuron.kind == "ilif" else f"hard reset, {neuron.steps} steps a token"
    _, _, where = cores.summary().partition(": ")
    text = f"LIF in integers ({kind}), fc2 in {cores.weight_bits} bits: {where}"
    yield PlanItem(path, f"{neuron.kind} feed-forward", REWRITTEN, "loihi-integer", text)


def loihi_refusal(neuron: NeuronConfig) -> tuple[str, str] | None:
    """Reason and remedy if Loihi's LIF cannot be `neuron`, None if it can."""
    if neuron.kind == "ilif" and neuron.steps > 1:
        reason = f"I-LIF with T = {neuron.steps} carries a membrane between counts, and the LIF of the chip does not"
        return reason, "train it with T = 1 (`spikewfm-nano-ilif`)"
    if neuron.kind != "ilif" and neuron.v_reset is None:
        return "soft reset: the LIF of the chip resets to 0", HARD_RESET
    if neuron.v_reset:
        return f"v_reset = {neuron.v_reset:g}: the LIF of the chip resets to 0", HARD_RESET
    return None


def _host(path: str, what: str, reason: str) -> PlanItem:
    return PlanItem(path, what, KEPT, "host", f"on the host: {reason}", "")
