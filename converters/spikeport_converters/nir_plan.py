"""What each part of a model becomes on a NIR target: an island, a part of a dense segment, or a refusal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import nn

from spikeport_targets.card import Card
from spikeport_toolkit.models.layers import Attention, FeedForward
from spikeport_toolkit.models.neuron import SpikingNeuron, SteppedNeuron

from .fidelity import IMPOSSIBLE, graph_fidelity, neuron_fidelity, refusal
from .module_graph import module_kinds, own_neurons, trace_module
from .nir_profiles import Neuron, Profile, profile_of
from .operators import module_path, op_name
from .partition import Part, partition
from .plan import PlanItem, refused_step

__all__ = ["nir_plan", "refusal"]
AVERAGED = "forward returns every step; a runtime returns, and golden holds, the mean over the T steps"


def nir_plan(model: nn.Module, card: Card) -> tuple[PlanItem, ...]:
    """One item per part of `model`, in the order of its modules; `refused` items name the limit and the remedy."""
    profile = profile_of(card)
    if own_neurons(model):
        return tuple(_module_items(model, card, profile))
    items = tuple(_items(model, "", card, profile))
    if not any(isinstance(module, SpikingNeuron | SteppedNeuron) for module in model.modules()):
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
    if isinstance(ffn.neuron, SteppedNeuron):
        yield refused_step(f"{path}.neuron", ffn.neuron, card)
        return
    if not isinstance(ffn.neuron, SpikingNeuron):
        yield _dense(path, "feed-forward", "its activation does not spike")
        return
    neuron = ffn.neuron.config
    fidelity = neuron_fidelity(neuron, card)
    if fidelity.grade == IMPOSSIBLE:
        yield PlanItem(f"{path}.neuron", neuron.kind, "refused", "", fidelity.reason, fidelity.remedy)
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
    how = _how(neuron, f"one NIR chain ({chain})", profile)
    why = f"{fidelity.reason}; {how}" if fidelity.reason else how
    yield PlanItem(path, f"{neuron.kind} feed-forward", "rewritten", f"nir-{profile.name}", why, "", fidelity.grade)


def _how(neuron: Neuron, chain: str, profile: Profile) -> str:
    if neuron.kind == "ilif":
        return f"{chain}; T = 1, so each neuron is {neuron.levels} memoryless slots with exact thresholds"
    reset = "soft reset set after import" if neuron.v_reset is None else f"hard reset to {neuron.v_reset:g}"
    compare = "threshold one float below for `>`" if profile.strict else "its own `>=`"
    return f"{chain}; {reset}, current times {profile.gain(neuron):g}, {compare}"


def _module_items(model: nn.Module, card: Card, profile: Profile) -> Iterator[PlanItem]:
    """The plan of a user's own module, from its traced operators."""
    traced = trace_module(model)
    split = partition(traced)
    for refusal_ in split.refused:
        yield PlanItem(refusal_.path, refusal_.what, "refused", "", refusal_.reason, refusal_.remedy)
    for part in split.parts:
        yield from _part_items(part, card, profile)
    dense: dict[str, list[str]] = {}
    for node in split.dense if split.parts else ():
        dense.setdefault(module_path(node) or "forward", []).append(op_name(node))
    if any(part.averages for part in split.parts):
        yield PlanItem("forward", type(model).__name__, "rewritten", "mean-over-time", AVERAGED, "")
    for path, names in dense.items():
        what = module_kinds(model, path) or ", ".join(dict.fromkeys(names))
        yield _dense(path, what, "it stands outside the islands")


def _part_items(part: Part, card: Card, profile: Profile) -> Iterator[PlanItem]:
    shape = graph_fidelity(part.graph, card)
    grades = [shape]
    for node in part.graph.neurons:
        assert node.neuron is not None
        kind, fidelity = type(node.node).__name__, neuron_fidelity(node.neuron, card)
        grades.append(fidelity)
        if fidelity.grade == IMPOSSIBLE:
            yield PlanItem(node.path, kind, "refused", "", fidelity.reason, fidelity.remedy)
            continue
        how = _how(node.neuron, _origin(node.neuron), profile)
        yield PlanItem(node.path, node.neuron.kind, "rewritten", f"nir-{profile.name}", how, "", fidelity.grade)
    if shape.grade == IMPOSSIBLE:
        yield PlanItem(part.path, "spiking graph", "refused", "", shape.reason, shape.remedy)
        return
    for path in part.folded:
        yield PlanItem(path, "BatchNorm", "rewritten", "fold-batchnorm", "folded into the layer before it", "")
    worst = max(grades, key=lambda f: f.worst)
    if worst.grade != IMPOSSIBLE:
        why = "; ".join(dict.fromkeys(text for text in (worst.reason, _inventory(part)) if text))
        yield PlanItem(part.name, "spiking graph", "rewritten", f"nir-{profile.name}", why, "", worst.grade)


def _origin(neuron: Neuron) -> str:
    if neuron.kind == "plif":
        return f"LIF with its trained tau = {neuron.tau:.6g}"
    return "LIF with tau = 2^40, which does not leak" if neuron.kind == "if" else "LIF"


def _inventory(part: Part) -> str:
    counts = Counter("LIF" if node.kind == "neuron" else node.kind for node in part.graph.nodes)
    nodes = ", ".join(f"{n} {kind}" for kind, n in counts.items())
    time = "one input per step" if part.per_step else "the same input at every step"
    return f"one NIR graph ({nodes}), T = {part.graph.steps}, {time}; its output is the mean over time"


def _dense(path: str, what: str, reason: str) -> PlanItem:
    return PlanItem(path, what, "kept", "dense-segment", f"in a dense segment (ONNX): {reason}", "")
