"""The 45 nm operation table of the papers: a convention, not a device.

E = e_MAC * MACs on analog input + e_AC * SynOps,   e_MAC = e_mul + e_add,   e_AC = e_add
"""

from __future__ import annotations

from .bare import Counts
from .costs import Costs
from .counts import Trace
from .montecarlo import Draws

TABLE = (
    "A paper convention, not a device: no chip measures these joules, and data movement, static power and time are "
    "left out. On 33 measured Jetson runs the INT8 table was too low by 6 to 50 times."
)
ONCE = "W1 acts once on a constant input; the papers' habit of counting it T times would raise the spiking figure."
MOVEMENT = (
    "With data movement counted, a spiking network needs a mean rate below about 6 % to win (Yan et al., "
    "arXiv 2409.08290)."
)


def convention_costs(work: Trace | Counts, draws: Draws, precision: str) -> Costs:
    """Energy of a trace or of bare counts by the table of `precision` ('fp32' | 'fp16' | 'int8'); no latency exists.

    A product whose input repeats over the steps counts once: `macs_algebraic` of the trace.
    """
    add, multiply = draws(f"e_{precision}_add"), draws(f"e_{precision}_mul")
    if add is None or multiply is None:
        return Costs(unknown=draws.unknown(), notes=(TABLE,))
    notes = [TABLE]
    if isinstance(work, Counts):
        macs, synops = work.macs, work.synops
    else:
        analog = [layer for layer in work.layers if layer.input == "analog"]
        macs, synops = sum(layer.macs_algebraic for layer in analog), work.totals["synops"]
        if any(max(layer.macs_executed, layer.macs_unrolled) > layer.macs_algebraic for layer in analog):
            notes.append(ONCE)
    if work.spiking:
        notes.append(MOVEMENT)
    spikes = add * synops
    return Costs(
        total=(add + multiply) * macs + spikes, per_rate=spikes, constants={"total": draws.record()}, notes=tuple(notes)
    )
