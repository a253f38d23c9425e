"""The worked example of docs/what-spiking-costs.md: four sizes beside their quantised twins on five targets.

python benchmarks/what_spiking_costs.py
"""

from __future__ import annotations

from pathlib import Path

import spikeport
from spikeport_profiles.profile import Profile
from spikeport_profiles.text import si
from spikeport_targets.card import Quantity

PAGE = Path(__file__).parent.parent / "docs" / "what-spiking-costs.md"
SIZES = {"nano": 16, "3.5m": 4, "20m": 2, "80m": 1}
"""Samples traced per size."""
TARGETS = ("jetson-orin-nano", "jetson-agx-orin", "loihi1", "loihi2", "cmos45")
HEAD = """# What spiking costs: four sizes, five targets

Written by `python benchmarks/what_spiking_costs.py` ({samples} traced samples for {sizes}). The twin is the same
network with a 5-level quantised ReLU in place of the neurons. Jetsons run INT8; the rows of the Loihis hold no host and
no link (they are composed for nano below). Ranges are the 10th to 90th percentile. Only nano ships trained weights:
**the spike rates of the other sizes are those of random weights**, so read their break-even rate, which hardly depends
on them.
"""
TAIL = """
## What to conclude

- **On a Jetson spiking never pays.** Folded in time it is one pass with a staircase for an activation: 7 to 10 % dearer
  than the twin here, by the kernels assumed for that staircase. Take the twin, unless the folded model predicts better.
- **On Loihi it pays below the break-even rate and not above it.** The trained nano fires at {rate:.3f} per neuron and
  step over T = 4 steps; a graded twin needs one pass. A network for such a chip must fire less, or use T = 1.
- **By the 45 nm convention it looks better than it is**: that table has no memory, no neuron updates and no time.
- **Only W2 receives spikes.** Attention, LayerNorm and W1 stay on a host: less than a third of the MACs can become
  additions at any size.
- Latency on a chip is set by its management between steps, which a scenario names; no figure here was measured on
  hardware.
"""


def text(value: Quantity | None) -> str:
    if value is None or value.nominal is None or value.low is None or value.high is None:
        return "not known"
    return f"{si(value.nominal, value.unit)} ({si(value.low, value.unit)} to {si(value.high, value.unit)})"


def joules(energy: object) -> Quantity | None:
    total, event = getattr(energy, "total", None), getattr(energy, "event", None)
    return total if total is not None else event


def rows(size: str, found: Profile) -> list[str]:
    lines = []
    for target in found.targets:
        assert target.twin is not None
        even = target.break_even_spike_rate
        lines.append(
            f"| {size} | {target.id}, {target.precision} | {text(joules(target.energy))} | "
            f"{text(joules(target.twin.energy))} | {text(target.latency)} | {text(target.twin.latency)} | "
            f"{'-' if even is None else f'{even:.3f}'} |"
        )
    return lines


def main() -> None:
    counts = [
        "| size | parameters with head | MACs | spike rate | SynOps | MACs that receive spikes |",
        "|---|---|---|---|---|---|",
    ]
    costs = [
        "| size | target | energy (event energy on Loihi) | twin | latency | twin | break-even spike rate |",
        "|---|---|---|---|---|---|---|",
    ]
    rate, composed = 0.0, ""
    for size, samples in SIZES.items():
        found = spikeport.profile(f"spikewfm-{size}", targets=TARGETS, precision="int8", samples=samples)
        totals = found.trace.totals
        fed = sum(layer.macs_executed for layer in found.trace.layers if layer.input == "spikes")
        if size == "nano":
            rate = totals["spike_rate"]
            chip = spikeport.profile("spikewfm-nano", targets=["loihi2"], host="jetson-orin-nano", samples=samples)
            composed = chip.targets[0].summary()
        trained = "" if found.model["trained"] else " (random weights)"
        parameters = found.model["parameters"] + found.model["head_parameters"]
        counts.append(
            f"| {size} | {parameters:,} | {totals['macs_executed']:,.0f} | {totals['spike_rate']:.3f}{trained} | "
            f"{totals['synops']:,.0f} | {fed / totals['macs_executed']:.0%} |"
        )
        costs += rows(size, found)
        print("\n".join([counts[-1], *costs[-len(TARGETS) :]]), flush=True)
    head = HEAD.format(samples=", ".join(map(str, SIZES.values())), sizes=", ".join(SIZES))
    page = [head, "## Counts", "", *counts, "", "## Costs", "", *costs, ""]
    page += [
        "Nano on Loihi 2 with a Jetson Orin Nano as its host, composed, unvalidated:",
        "",
        "```",
        composed,
    ]
    page += ["```", TAIL.format(rate=rate)]
    PAGE.write_text("\n".join(page))


if __name__ == "__main__":
    main()
