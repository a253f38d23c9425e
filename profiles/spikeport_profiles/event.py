"""Energy and latency on an event-driven chip that runs the spiking feed-forward islands of a hybrid model.

    E_event  = e_synop S + e_neuron_step N + e_spike_out O                     (times a structural factor)
    E_system = n_chip (P_static + P_management) t
    t        = sum_layers [ (t_synop S + t_neuron N) / cores + steps (t_barrier + t_mgmt) ] + messages / link rate

e_spike_out, P_management and the link count where a card has them; a card says so where they are not published.

Partition: softmax attention, LayerNorm and W1 stay on a host, which computes W1 once and injects one bias current per
neuron and token; neurons and W2 run on the chip. Tokens share the cores and follow one another; every token takes T
steps and one more for its last spikes. S counts graded spikes once where the chip has them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np

from spikeport_errors import CardError
from spikeport_targets.card import Card, Constant

from .bare import Counts
from .costs import Costs
from .counts import LayerCounts, Trace
from .montecarlo import DRAWS, Draws, Values, total

EVENT_FACTOR, SYSTEM_FACTOR = 1.4, 1.25
CORE_BOUND_FACTOR, OTHER_FACTOR = 1.5, 10.0
CORE_BOUND_SYNOPS = 1e5
AWAY = {
    "attention": "attention",
    "layernorm": "LayerNorm",
    "embedding": "embeddings",
    "linear": "the other linear layers",
    "convolution": "the other convolutions",
}
"""Words for the kinds of layers that a host takes; BatchNorm folds, and what neither feeds nor is fed costs nothing."""
LIMITS = ("weights_per_core", "neurons_per_core", "cores_per_chip", "graded_spikes")


@dataclass(frozen=True)
class Island:
    """One activation and the layer it feeds, as the chip runs them for one sample."""

    path: str
    cores: int
    synops: float
    updates: float
    steps: float
    messages: float
    busiest_core: float
    spikes: float
    busiest_per_step: tuple[float, ...] = ()
    """SynOps of the busiest core at each of T steps, where the steps are known."""

    def to_dict(self) -> dict[str, Any]:
        """One entry of `cores` in profile.json."""
        return {
            "path": self.path,
            "cores": self.cores,
            "busiest_core_synops": self.busiest_core,
            "busiest_core_synops_per_step": list(self.busiest_per_step),
        }


def islands(trace: Trace, card: Card) -> list[Island]:
    """The islands of `trace` on the cores of `card`: T steps a token, or one for the activations of a twin.

    Raises CardError if the card lacks one of LIMITS.
    """
    limits, steps = card.limits, trace.steps if trace.spiking else 1
    for name in LIMITS:
        if name not in limits:
            raise CardError(
                f"{card.path or card.id}: limits.{name} is missing; an event target needs it for a partition"
            )
    by_path = {layer.path: layer for layer in trace.layers}
    found = []
    for layer in trace.layers:
        source = by_path.get(layer.fed_by or "")
        if source is None:
            continue
        width = source.outputs
        graded = source.kind == "activation" or (limits["graded_spikes"] and trace.levels > 1)
        synops = layer.graded_synops if graded else layer.synops
        slots = (source.neuron_updates or source.elements) / width  # tokens times steps that the layer ran here
        tokens = slots / (trace.steps if source.kind == "spiking" else 1)
        cores = max(
            ceil(layer.weights / limits["weights_per_core"]), ceil((width + layer.outputs) / limits["neurons_per_core"])
        )
        share = ceil(layer.outputs / cores) / layer.outputs  # the outputs are shared out, a core hears every event
        found.append(
            Island(
                path=layer.path,
                cores=cores,
                synops=synops,
                updates=(width + layer.outputs) * tokens * steps,
                steps=tokens * (steps + 1),
                messages=(width + layer.outputs) * tokens,
                busiest_core=(layer.busiest_unit_per_step or synops / tokens) * share,
                spikes=source.nonzero if source.kind == "activation" else source.spikes,
                busiest_per_step=tuple(value * share for value in layer.busiest_per_step),
            )
        )
    return found


def on_chip(trace: Trace) -> list[LayerCounts]:
    """Layers that an event chip takes: activations that feed a layer, and the layers they feed."""
    sources = {layer.fed_by for layer in trace.layers if layer.fed_by}
    return [layer for layer in trace.layers if layer.fed_by or layer.path in sources]


def event_costs(
    work: Trace | Counts,
    draws: Draws,
    host: Costs | None = None,
    idle: Values | None = None,
    idle_from: tuple[Constant, ...] = (),
    compared: bool = False,
) -> Costs:
    """Costs of a trace or of bare counts; `host` is what the rest of the model costs on its host, if one was named.

    `idle` is the power of the host while it waits for the chip, which its energy then holds over the chip's latency;
    `compared` whether a twin of graded values stands beside it, of which the notes then speak.
    """
    if isinstance(work, Counts):
        parts, chips = [_whole(work)], work.chips
    else:
        parts = islands(work, draws.card)
        chips = ceil(sum(p.cores for p in parts) / draws.card.limits["cores_per_chip"])
    if not parts:
        nothing = f"Nothing of this model runs on {draws.card.name}: no neuron or activation feeds a layer."
        return Costs(notes=(nothing,))
    given = work.latency_s if isinstance(work, Counts) else None
    latency = _latency(parts, draws) if given is None else np.full(1 + DRAWS, given)
    time = draws.record()
    structural = draws.factor("factor_event", EVENT_FACTOR, "event energy with a known spike census")
    per_rate = _times(draws("e_synop"), sum(p.synops for p in parts) * structural)
    updates = _times(draws("e_neuron_step"), sum(p.updates for p in parts) * structural)
    sent = _optional("e_spike_out", draws)
    if per_rate is not None and sent is not None:
        per_rate = per_rate + sent * sum(p.spikes for p in parts) * structural
    event = total(per_rate, updates)
    operations = draws.record()
    management = _optional("p_management", draws)
    power = draws("p_static_chip")
    if power is not None and management is not None:
        power = power + management
    system = None
    if power is not None and latency is not None:
        system = chips * power * latency * draws.factor("factor_system", SYSTEM_FACTOR, "system energy, time given")
    powered = time + draws.record()
    groups = {"latency": time, "event": operations, "system": powered, "total": operations + powered}
    away: Values | None = None
    if host is not None:
        away = host.total
        if idle is not None and latency is not None and away is not None:
            away = away + idle * latency
        theirs = tuple(replace(c, name=f"host.{c.name}") for c in (*host.used(), *idle_from))
        groups = {
            **groups, "latency": time + theirs, "host": theirs + time, "total": operations + powered + theirs,
        }  # fmt: skip
    return Costs(
        event=event,
        system=system,
        host=away,
        total=None if host is None else total(event, system, away),
        latency=latency if host is None else total(latency, host.latency),
        per_rate=per_rate,
        constants=groups,
        unknown=draws.unknown(),
        notes=_bare_notes(work) if isinstance(work, Counts) else _notes(parts, chips, work, draws, compared),
        energy_notes=() if isinstance(work, Counts) else _host_notes(host, idle),
    )


def _whole(counts: Counts) -> Island:
    """Bare counts as one island that is alone on its cores."""
    busiest = counts.busiest_core_synops or counts.synops / (counts.steps * counts.cores)
    return Island(
        "network", counts.cores, counts.synops, counts.neuron_updates, counts.steps, 0.0, busiest, counts.spikes
    )


def _times(values: Values | None, factor: Values) -> Values | None:
    return None if values is None else values * factor


def _optional(name: str, draws: Draws) -> Values | None:
    """A constant that an estimate uses where it is published, and goes without where it is not."""
    return draws(name) if _published(name, draws) else None


def _published(name: str, draws: Draws) -> bool:
    constant = draws.known.get(name)
    return constant is not None and not constant.unknown


def _latency(parts: list[Island], draws: Draws) -> Values | None:
    t_synop, t_neuron, link = draws("t_synop"), draws("t_neuron"), _optional("link_remote_spikes", draws)
    barrier, management = draws("t_barrier"), draws("t_mgmt")
    if t_synop is None or t_neuron is None or barrier is None or management is None:
        return None
    core = sum(t_synop * (p.synops / p.cores) + t_neuron * (p.updates / p.cores) for p in parts)
    time = core + sum(p.steps for p in parts) * (barrier + management)
    if link is not None:
        time = time + sum(p.messages for p in parts) / link
    bound = min((p.busiest_core for p in parts), default=0.0) > CORE_BOUND_SYNOPS
    size, why = (CORE_BOUND_FACTOR, "core-bound") if bound else (OTHER_FACTOR, "not core-bound")
    return time * draws.factor("factor_latency", size, f"latency of a {why} network")


def _bare_notes(counts: Counts) -> tuple[str, ...]:
    time = "estimated here" if counts.latency_s is None else "the one given"
    return (f"From bare counts: no partition was made, nothing stands for a host or its link; the latency is {time}.",)


def _notes(parts: list[Island], chips: int, trace: Trace, draws: Draws, compared: bool) -> tuple[str, ...]:
    """What the partition of this model leaves out or assumes; nothing about parts that it has not."""
    cores, per_chip = sum(p.cores for p in parts), draws.card.limits["cores_per_chip"]
    chip = on_chip(trace)
    rest = [layer for layer in trace.layers if layer not in chip]
    away = [words for kind, words in AWAY.items() if any(layer.kind == kind for layer in rest)]
    listed = " and ".join(filter(None, (", ".join(away[:-1]), *away[-1:])))
    fed = "neurons" if trace.spiking else "activations"
    notes = [
        f"Only the {len(parts)} layer{'s' if len(parts) > 1 else ''} that {fed} feed run{'s' * (len(parts) == 1)} on "
        f"the chip ({cores} of {chips * per_chip} cores, {chips} chip{'s' if chips > 1 else ''})"
        + (f"; {listed} need a host." if listed else ".")
    ]
    if trace.spiking and any(max(layer.macs_executed, layer.macs_unrolled) > layer.macs_algebraic for layer in rest):
        notes.append("W1 is computed once on the host and injected as bias currents.")
    if trace.tokens > 1:
        notes.append(
            f"Tokens follow one another on the same cores (all {trace.tokens} side by side would need "
            f"{cores * trace.tokens} cores)."
        )
    graded = not trace.spiking or (trace.levels > 1 and draws.card.limits["graded_spikes"])
    if graded or compared:
        favours = ": that favours the twin" if compared else ""
        notes.append(f"A graded SynOp is charged like a binary one, for which alone an energy is published{favours}.")
    if not draws.card.limits["graded_spikes"] and (compared or not trace.spiking):
        who = "a twin" if trace.spiking else "this model"
        notes.append(
            f"{draws.card.name} has no graded spikes: {who} in one pass could not run there, its figure is what it "
            "would take."
        )
    if not _published("e_spike_out", draws):
        notes.append(
            "Spike generation and transport have no published constant of their own; a SynOp energy that was fitted on "
            "a whole run holds them."
        )
    if not _published("p_management", draws):
        notes.append(
            "Management processors, board and host link have no published power here: system is the static power of "
            "the chips over the time."
        )
    if not _published("link_remote_spikes", draws):
        notes.append("No rate of the link is published: messages take no time here beyond the scenario's management.")
    return tuple(notes)


def _host_notes(host: Costs | None, idle: Values | None) -> tuple[str, ...]:
    if host is None:
        return ("No host was given: host energy and total are null, and latency is that of the islands alone.",)
    return (
        "The total is composed of chip and host and was never measured: composed, unvalidated.",
        "The host's energy holds its idle power while it waits for the chip."
        if idle is not None
        else "The host's idle power is not published: while it waits for the chip it counts as switched off, so "
        "host and total are lower bounds.",
    )
