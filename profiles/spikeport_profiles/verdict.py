"""Whether spiking pays on a target, in plain words, against the quantised twin on the same target."""

from __future__ import annotations

from spikeport_targets.card import Card

from .bare import Counts
from .costs import Costs
from .counts import Trace
from .montecarlo import Values, total
from .text import percent_more, si

CLOSE = 0.02


def break_even(mine: Costs, twin: Costs, rate: float) -> float | None:
    """Spike rate at which the nominal event energy (or the total, if there are no parts) equals the twin's.

    Energy is linear in the rate: E(r) = E_fixed + (r / rate) E_per_rate. None where the rate changes nothing.
    """
    own, other = (mine.event, twin.event) if mine.event is not None else (mine.total, twin.total)
    if own is None or other is None or mine.per_rate is None or not rate or not mine.per_rate[0]:
        return None
    fixed = own[0] - mine.per_rate[0]
    return float(rate * (other[0] - fixed) / mine.per_rate[0])


def verdict(card: Card, work: Trace | Counts, mine: Costs, twin: Costs | None, even: float | None) -> str:
    """One or two sentences for the report."""
    if not work.spiking and card.klass == "event":
        return f"This model does not spike: {card.name} is costed for one pass of graded values behind its activations."
    if not work.spiking:
        return f"This model does not spike; it is costed on {card.name} as the dense network it is."
    if twin is None:
        return "No quantised twin was given, so whether spiking pays here is open."
    rate = work.spike_rate
    if card.klass == "gpu":
        return _gpu(card, mine, twin)
    if card.klass == "convention":
        return _convention(mine, twin, rate, even)
    return _event(card, mine, twin, rate, even)


def _gpu(card: Card, mine: Costs, twin: Costs) -> str:
    what, own, other, unit = "energy", mine.total, twin.total, "J"
    if own is None or other is None:
        what, own, other, unit = "time", mine.latency, twin.latency, "s"
    if own is None or other is None:
        return f"The constants of {card.name} that a comparison needs are not published."
    figures = f"{si(own[0], unit)} against {si(other[0], unit)} of {what} for the quantised twin"
    if own[0] > other[0] * (1 - CLOSE):
        return (
            f"Spiking does not pay on {card.name}: {figures} ({_compared(own, other)}). A dense engine gains "
            "nothing from spikes that are absent, so no spike rate changes this."
        )
    return f"Spiking pays on {card.name}: {figures} ({_compared(own, other)})."


def _event(card: Card, mine: Costs, twin: Costs, rate: float, even: float | None) -> str:
    if mine.event is None or twin.event is None:
        return f"The event energy of {card.name} is not published, so whether spiking pays there cannot be said."
    own, other = total(mine.event, mine.system), total(twin.event, twin.system)
    events = (
        f"events take {si(mine.event[0], 'J')} against {si(twin.event[0], 'J')} for the quantised twin in one pass of "
        f"graded spikes ({_compared(mine.event, twin.event)})"
    )
    static = ""
    if own is not None and other is not None:
        static = (
            f"; with the chip's static power over the time, {si(own[0], 'J')} against {si(other[0], 'J')} "
            f"({_compared(own, other)})"
        )
        ratio = own[0] / other[0]
    else:
        ratio = mine.event[0] / twin.event[0]
    pays = "makes no difference" if abs(ratio - 1) < CLOSE else "pays" if ratio < 1 else "does not pay"
    return f"Spiking {pays} on {card.name}: {events}{static}. {_even(rate, even)}"


def _convention(mine: Costs, twin: Costs, rate: float, even: float | None) -> str:
    if mine.total is None or twin.total is None:
        return "The table has no entry for this precision."
    return (
        f"By the paper convention, which is not a device, spiking takes {si(mine.total[0], 'J')} against "
        f"{si(twin.total[0], 'J')} of the quantised twin at the same precision ({_compared(mine.total, twin.total)}); "
        f"whether it pays on hardware does not follow. {_even(rate, even)}"
    )


def _even(rate: float, even: float | None) -> str:
    if even is None:
        return "No spike rate decides it."
    if even <= 0:
        return f"Even without a spike the operations cost more than the twin's (measured rate {rate:.3f})."
    if even >= 1:
        return f"At any spike rate the operations cost less than the twin's (measured rate {rate:.3f})."
    return f"Break-even of the operations at a spike rate of {even:.3f}; measured {rate:.3f}."


def _compared(own: Values, other: Values) -> str:
    share = float((own[1:] < other[1:]).mean())
    return f"{percent_more(float(own[0] / other[0]))}; lower in {share:.0%} of draws".replace("% of", " % of")
