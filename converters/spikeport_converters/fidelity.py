"""What a target makes of a neuron, before anything is exported: exact, with a runtime patch, approximate, impossible.

The card says what its simulator can and cannot do; where the conformance run has measured the feature on that simulator
(`data/conformance.json`, from `spikeport conformance`), the measurement decides and is quoted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from spikeport_targets.card import Card

from .nir_profiles import NO_LEAK, Neuron, profile_of
from .plan import APPROXIMATE
from .spiking_graph import GraphNode, SpikingGraph

EXACT, PATCHED, IMPOSSIBLE = "exact", "exact with a runtime patch", "impossible"
GRADES = (EXACT, PATCHED, APPROXIMATE, IMPOSSIBLE)
HARD_RESET = "use a binary neuron with hard reset to 0 (`spikewfm-nano`), or --target norse"
_MEASURED = {"exact": EXACT, "patched": PATCHED, "approximate": APPROXIMATE, "refused": IMPOSSIBLE}


@dataclass(frozen=True)
class Fidelity:
    """How well a target reproduces something: `grade` is one of GRADES; `remedy` stands with impossible ones."""

    grade: str
    reason: str
    remedy: str = ""

    @property
    def worst(self) -> int:
        """Its place in GRADES: larger is worse."""
        return GRADES.index(self.grade)

    def to_dict(self) -> dict[str, str]:
        """Plain values."""
        return asdict(self)


def neuron_fidelity(neuron: Neuron, card: Card) -> Fidelity:
    """How `card`'s simulator runs `neuron`: the worst of what the card says and what was measured of its features."""
    if refused := refusal(neuron, card):
        return Fidelity(IMPOSSIBLE, *refused)
    soft = neuron.v_reset is None and neuron.kind != "ilif"
    if soft:
        said = Fidelity(PATCHED, "the runner sets soft reset after import: NIR cannot say it")
    elif neuron.v_reset and card.limits.get("patched_v_reset", card.runtime == "norse"):
        said = Fidelity(PATCHED, f"the runner sets v_reset = {neuron.v_reset:g} after import: the importer ignores it")
    else:
        said = Fidelity(EXACT, "")
    return max((said, *_measurements(neuron_features(neuron), card)), key=lambda f: f.worst)


def refusal(neuron: Neuron, card: Card) -> tuple[str, str] | None:
    """Reason and remedy if the limits of the target forbid `neuron`, None if they allow it."""
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


def graph_fidelity(graph: SpikingGraph, card: Card) -> Fidelity:
    """How `card`'s simulator runs the shape of `graph`: its kinds of nodes, depth and residual edges."""
    if refused := graph_refusal(graph, card):
        return Fidelity(IMPOSSIBLE, *refused)
    return max((Fidelity(EXACT, ""), *_measurements(graph_features(graph), card)), key=lambda f: f.worst)


def graph_refusal(graph: SpikingGraph, card: Card) -> tuple[str, str] | None:
    """Reason and remedy if the limits of the target forbid the shape of `graph`, None if they allow it."""
    limits, pools = card.limits, profile_of(card).pools
    kinds = {_written(n, pools): n for n in graph.nodes}
    known = limits.get("nodes")
    if missing := [node for kind, node in kinds.items() if known is not None and kind not in known]:
        remedy = "replace it, or take a target that runs it (`spikeport targets`)"
        return f"{card.name} has no {missing[0].kind} ({_where(missing[0])})", remedy
    if (most := str(limits.get("spiking_layers", "any"))) != "any" and len(graph.neurons) > int(most):
        reason = f"{len(graph.neurons)} spiking layers follow each other; {card.name} runs {most}"
        return reason, "put the mean over time between them, or --target snntorch"
    if any(len(n.sources) > 1 for n in graph.nodes) and not limits.get("residual", True):
        return f"a sum of signals (residual edge): {card.name} runs chains only", "remove it, or --target snntorch"
    return None


def neuron_features(neuron: Neuron) -> tuple[str, ...]:
    """The features of the conformance table that `neuron` uses."""
    if neuron.kind == "ilif":
        return ("integer, T = 1" if neuron.steps == 1 else "integer, T > 1",)
    if neuron.tau >= NO_LEAK:
        return ("IF",)
    if neuron.v_reset is None:
        return ("soft reset, input decay" if neuron.decay_input else "soft reset",)
    found = ["hard reset" if not neuron.v_reset else "v_reset -0.2"]
    found += ["input decay"] if neuron.decay_input else []
    return (*found, "tau 10/3") if neuron.tau != 2 else tuple(found)


def graph_features(graph: SpikingGraph) -> tuple[str, ...]:
    """The features of the conformance table that the shape of `graph` uses."""
    kinds = {node.kind for node in graph.nodes}
    wanted = {
        "several layers": len(graph.neurons) > 1,
        "convolution": "conv2d" in kinds,
        "convolution, 1-D": "conv1d" in kinds,
        "pooling": "avgpool2d" in kinds,
        "sum pooling": "sumpool2d" in kinds,
        "residual": any(len(node.sources) > 1 for node in graph.nodes),
        "residual from the input": len(graph.users("input")) > 1,
    }
    return tuple(name for name, used in wanted.items() if used)


def _measurements(features: Iterable[str], card: Card) -> list[Fidelity]:
    """What the conformance run found for `features` on the card's simulator; a feature never measured is left out."""
    found = []
    for feature in features:
        rows = [row for row in _rows() if row["simulator"] == card.id and row["feature"] == feature]
        graded = [row for row in rows if row["verdict"] in _MEASURED]
        if not graded:
            continue
        row = max(graded, key=lambda r: GRADES.index(_MEASURED[r["verdict"]]))
        grade = _MEASURED[row["verdict"]]
        rate = row["mismatches"] / row["spikes"] if row["spikes"] else 0.0
        reason = str(row["note"] or feature)
        if grade == APPROXIMATE:
            reason = f"{feature}: {rate:.2%} of spikes differ, measured on {card.name.split()[0]} {row['version']}"
        found.append(Fidelity(grade, reason, HARD_RESET if grade == IMPOSSIBLE else ""))
    return found


@cache
def _rows() -> tuple[Mapping[str, Any], ...]:
    path = files("spikeport_converters") / "data" / "conformance.json"
    if not path.is_file():
        return ()
    return tuple(json.loads(path.read_text(encoding="utf-8"))["rows"])


def _written(node: GraphNode, pools: bool) -> str:
    """The kind of NIR node that `node` becomes."""
    return {"neuron": "lif", "avgpool2d": "avgpool2d" if pools else "conv2d"}.get(node.kind, node.kind)


def _where(node: GraphNode) -> str:
    return node.path or node.name
