"""Energy and latency on an event-driven chip that runs the spiking feed-forward islands of a hybrid model.

    E_event  = e_synop S + e_neuron_step N                                     (times a structural factor)
    E_system = n_chip P_static t
    t        = sum_layers [ (t_synop S + t_neuron N) / cores + steps (t_barrier + t_mgmt) ] + messages / link rate

Partition: softmax attention, LayerNorm and W1 stay on a host, which computes W1 once and injects one bias current per
neuron and token; neurons and W2 run on the chip. Tokens share the cores and follow one another; every token takes T
steps and one more for its last spikes. S counts graded spikes once where the chip has them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from spikeport_errors import CardError
from spikeport_targets.card import Card

from .costs import Costs
from .counts import LayerCounts, Trace
from .montecarlo import Draws, Values, total

EVENT_FACTOR, SYSTEM_FACTOR = 1.4, 1.25
CORE_BOUND_FACTOR, OTHER_FACTOR = 1.5, 10.0
CORE_BOUND_SYNOPS = 1e5
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
        found.append(
            Island(
                path=layer.path,
                cores=cores,
                synops=synops,
                updates=(width + layer.outputs) * tokens * steps,
                steps=tokens * (steps + 1),
                messages=(width + layer.outputs) * tokens,
                busiest_core=(layer.busiest_unit_per_step or synops / tokens) / cores,
            )
        )
    return found


def on_chip(trace: Trace) -> list[LayerCounts]:
    """Layers that an event chip takes: activations that feed a layer, and the layers they feed."""
    sources = {layer.fed_by for layer in trace.layers if layer.fed_by}
    return [layer for layer in trace.layers if layer.fed_by or layer.path in sources]


def event_costs(trace: Trace, draws: Draws, host: Costs | None = None) -> Costs:
    """Costs of `trace`; `host` is what the rest of the model costs on its host, None if the user named none."""
    parts = islands(trace, draws.card)
    synops, updates = sum(p.synops for p in parts), sum(p.updates for p in parts)
    chips = ceil(sum(p.cores for p in parts) / draws.card.limits["cores_per_chip"])
    latency = _latency(parts, draws)
    time = draws.record()
    e_synop, e_neuron = draws("e_synop"), draws("e_neuron_step")
    structural = draws.factor("factor_event", EVENT_FACTOR, "event energy with a known spike census")
    per_rate = None if e_synop is None else e_synop * synops * structural
    event = total(per_rate, None if e_neuron is None else e_neuron * updates * structural)
    operations = draws.record()
    static = draws("p_static_chip")
    system = None
    if static is not None and latency is not None:
        system = chips * static * latency * draws.factor("factor_system", SYSTEM_FACTOR, "system energy, time given")
    powered = time + draws.record()
    groups = {"latency": time, "event": operations, "system": powered, "total": operations + powered}
    if host is not None:
        away = tuple(replace(c, name=f"host.{c.name}") for c in host.used())
        groups = {**groups, "latency": time + away, "host": away, "total": operations + powered + away}
    return Costs(
        event=event,
        system=system,
        host=None if host is None else host.total,
        total=None if host is None else total(event, system, host.total),
        latency=latency if host is None else total(latency, host.latency),
        per_rate=per_rate,
        constants=groups,
        unknown=draws.unknown(),
        notes=_notes(parts, chips, trace, draws.card, host),
    )


def _latency(parts: list[Island], draws: Draws) -> Values | None:
    t_synop, t_neuron, link = draws("t_synop"), draws("t_neuron"), draws("link_remote_spikes")
    barrier, management = draws("t_barrier"), draws("t_mgmt")
    if t_synop is None or t_neuron is None or link is None or barrier is None or management is None:
        return None
    core = sum(t_synop * (p.synops / p.cores) + t_neuron * (p.updates / p.cores) for p in parts)
    time = core + sum(p.steps for p in parts) * (barrier + management) + sum(p.messages for p in parts) / link
    bound = min((p.busiest_core for p in parts), default=0.0) > CORE_BOUND_SYNOPS
    size, why = (CORE_BOUND_FACTOR, "core-bound") if bound else (OTHER_FACTOR, "not core-bound")
    return time * draws.factor("factor_latency", size, f"latency of a {why} network")


def _notes(parts: list[Island], chips: int, trace: Trace, card: Card, host: Costs | None) -> tuple[str, ...]:
    cores, per_chip = sum(p.cores for p in parts), card.limits["cores_per_chip"]
    notes = [
        f"Only the {len(parts)} feed-forward islands run on the chip ({cores} of {chips * per_chip} cores, "
        f"{chips} chip{'s' if chips > 1 else ''}); attention, LayerNorm and W1 need a host.",
        "W1 is computed once on the host and injected as bias currents; tokens follow one another on the same cores "
        f"(all {trace.tokens} side by side would need {cores * trace.tokens} cores).",
        "Spike generation and transport have no published constant; the SynOp energy, fitted on a whole run, "
        "holds them.",
        "A graded SynOp is charged like a binary one, for which alone an energy is published: that favours the twin.",
        "Management processors, board and host link have no published power here: system is the static power of the "
        "chips over the time.",
    ]
    if host is None:
        notes.append("No host was given: host energy and total are null, and latency is that of the islands alone.")
    else:
        notes.append("The total is composed of chip and host and was never measured: composed, unvalidated.")
    return tuple(notes)
