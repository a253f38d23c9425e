"""What each part of a model becomes on a NIR target: an island, a part of a dense segment, or a refusal."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from spikeport_targets.card import Card
from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.layers import Attention, FeedForward
from spikeport_toolkit.models.neuron import SpikingNeuron

from .nir_profiles import Profile, profile_of
from .plan import PlanItem

HARD_RESET = "use a binary neuron with hard reset to 0 (`spikewfm-nano`), or --target norse"


def nir_plan(model: nn.Module, card: Card) -> tuple[PlanItem, ...]:
    """One item per part of `model`, in the order of its modules; `refused` items name the limit and the remedy."""
    profile = profile_of(card)
    items = tuple(_items(model, "", card, profile))
    if not any(isinstance(module, SpikingNeuron) for module in model.modules()):
        reason = f"no spiking neuron: {card.name} runs spiking feed-forward blocks only"
        remedy = "use a spiking preset (`spikewfm-nano`), or --target jetson-orin-nano"
        return (*items, PlanItem("model", type(model).__name__, "refused", "", reason, remedy))
    return items


def _items(module: nn.Module, path: str, card: Card, profile: Profile) -> Iterator[PlanItem]:
    for name, child in module.named_children():
        where = f"{path}.{name}" if path else name
        if isinstance(child, FeedForward):
            yield from _feed_forward(child, where, card, profile)
        elif isinstance(child, SpikingNeuron):
            reason = "a spiking neuron outside a FeedForward has no weights around it to make an island of"
            yield PlanItem(
                where, child.config.kind, "refused", "", reason, "put it into a FeedForward (fc1, neuron, fc2)"
            )
        elif isinstance(child, Attention):
            yield _dense(where, "attention", "NIR has no product of two signals and no softmax")
        elif isinstance(child, nn.LayerNorm):
            yield _dense(where, "LayerNorm", "NIR has no statistics over features")
        elif isinstance(child, nn.Linear):
            yield _dense(where, "linear", "it stands outside the islands")
        elif next(child.children(), None) is not None:
            yield from _items(child, where, card, profile)
        elif next(child.parameters(), None) is not None:
            yield _dense(where, type(child).__name__, "it stands outside the islands")


def _feed_forward(ffn: FeedForward, path: str, card: Card, profile: Profile) -> Iterator[PlanItem]:
    if not isinstance(ffn.neuron, SpikingNeuron):
        yield _dense(path, "feed-forward", "its activation does not spike")
        return
    neuron = ffn.neuron.config
    if refused := refusal(neuron, card):
        yield PlanItem(f"{path}.neuron", neuron.kind, "refused", "", *refused)
        return
    if isinstance(ffn.norm, nn.BatchNorm1d):
        yield PlanItem(
            f"{path}.norm", "BatchNorm", "rewritten", "fold-batchnorm", "folded into fc1: the same currents", ""
        )
    currents = isinstance(ffn.norm, nn.LayerNorm)
    if currents:
        yield _dense(f"{path}.fc1", "linear", "the LayerNorm after it is not in NIR")
        yield _dense(f"{path}.norm", "LayerNorm", "NIR has no statistics over features; the island takes its currents")
    chain = "LIF, Affine" if currents else "Affine, LIF, Affine"
    yield PlanItem(
        path, f"{neuron.kind} feed-forward", "rewritten", f"nir-{profile.name}", _how(neuron, chain, profile), ""
    )


def _how(neuron: NeuronConfig, chain: str, profile: Profile) -> str:
    if neuron.kind == "ilif":
        return (
            f"one NIR chain ({chain}); T = 1, so each neuron is {neuron.levels} memoryless slots with exact thresholds"
        )
    reset = "soft reset set after import" if neuron.v_reset is None else f"hard reset to {neuron.v_reset:g}"
    return (
        f"one NIR chain ({chain}); {reset}, current times {profile.gain(neuron):g}, threshold one float below for `>`"
    )


def refusal(neuron: NeuronConfig, card: Card) -> tuple[str, str] | None:
    """Reason and remedy if the limits of the target forbid `neuron`, None if it can be written exactly."""
    limits = card.limits
    if neuron.kind == "ilif" and neuron.steps > 1:
        reason = f"I-LIF with T = {neuron.steps} carries a membrane between integer counts; NIR has binary spikes"
        return reason, "train it with T = 1 (`spikewfm-nano-ilif`), or --target jetson-orin-nano"
    if neuron.kind == "ilif" and not limits.get("per_neuron_threshold", False):
        reason = f"I-LIF emits up to {neuron.levels} spikes a step, and {card.name} takes one threshold for all neurons"
        return reason, HARD_RESET
    if neuron.kind != "ilif" and neuron.v_reset is None and not limits.get("soft_reset", False):
        return f"soft reset: {card.name} reproduces hard reset only", HARD_RESET
    if neuron.v_reset and limits.get("v_reset", "any") == "0 only":
        return f"v_reset = {neuron.v_reset:g}: {card.name} resets to 0 only", HARD_RESET
    return None


def _dense(path: str, what: str, reason: str) -> PlanItem:
    return PlanItem(path, what, "kept", "dense-segment", f"in a dense segment (ONNX): {reason}", "")
