"""Energy and latency of the spiking islands from a simulator that models a chip: SANA-FE, a Loihi 1.

A few tokens of every island run in the simulator; their mean times the tokens of one inference is the island's share.
Tokens follow one another on the same cores, islands too. Dynamic energy only: no static power, no host, no link.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import nir
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spikeport_converters.fold import fold_batchnorm
from spikeport_converters.islands import find_islands, golden, nir_from_island, record
from spikeport_converters.nir_plan import nir_plan
from spikeport_converters.nir_profiles import profile_of
from spikeport_converters.plan import Plan, model_name
from spikeport_targets.card import Card, Quantity
from spikeport_targets.runtime import get_runtime, require

from .estimate import Energy, Estimate

TOKENS = 64
"""Tokens of each island that are simulated."""
ENERGY_ERROR, LATENCY_ERROR = 0.12, 0.25
SOURCE = "SANA-FE 2.2.9, arch/loihi.yaml; error against Loihi as its authors state it (TCAD 44(8), 2025)"


def simulate(model: nn.Module, card: Card, patches: NDArray[np.float32], *, tokens: int = TOKENS) -> Estimate:
    """Simulate the islands of `model` on `tokens` tokens of `patches` [sample, token, value], evenly spread.

    low and high are what the simulator's authors state: 12 % on energy and 25 % on latency against the chip. Raises
    UnsupportedError where the plan refuses a part, MissingDependencyError without the simulator's environment.
    """
    Plan(model_name(model), card.id, nir_plan(model, card)).require()
    runtime, profile = get_runtime(str(card.runtime)), profile_of(card)
    require(runtime)
    folded = fold_batchnorm(model.eval())
    islands = find_islands(folded)
    entering, _ = record(folded, islands, torch.from_numpy(patches))
    wrong, spikes = 0, 0
    joules, seconds = [], []
    with tempfile.TemporaryDirectory(prefix="spikeport-") as folder:
        for island in islands:
            given = entering[island.name]
            chosen = torch.linspace(0, len(given) - 1, min(tokens, len(given))).long()
            want = golden(island, given[chosen], profile)
            path = Path(folder) / "island.nir"
            nir.write(path, nir_from_island(island, profile))
            got = runtime.run(path, {"input": want.input}).values
            wrong, spikes = wrong + int((got["spikes"] != want.spikes).sum()), spikes + want.spikes.size
            share = len(given) / len(patches)
            joules.append(float(got["energy_j"].sum(0).mean()) * share)
            seconds.append(float(got["latency_s"].sum(0).mean()) * share)
    return Estimate(
        id=card.id,
        name=card.name,
        klass=card.klass,
        scenario="none",
        boundary=card.boundary,
        precision="fp32",
        energy=Energy(_quantity(joules, "J", ENERGY_ERROR), None, None, None),
        latency=_quantity(seconds, "s", LATENCY_ERROR),
        twin=None,
        break_even_spike_rate=None,
        verdict=f"Simulated: dynamic energy of {len(islands)} islands on a Loihi 1. The twin does not spike, so it is "
        "not simulated.",
        notes=(
            f"{tokens} tokens of each island in {card.name}, {wrong} of {spikes:,} neuron-steps differ from "
            "SpikingJelly; tokens and islands follow one another.",
            "Static power, management processors, host and link are not in SANA-FE's model; attention, LayerNorm and "
            "W1 run on a host that is not costed.",
        ),
        constants=(),
    )


def _quantity(shares: Sequence[float], unit: str, error: float) -> Quantity:
    value = sum(shares)
    return Quantity(value * (1 - error), value, value * (1 + error), unit, "simulated", (SOURCE,))
