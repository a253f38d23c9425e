"""Latency and energy on a GPU that runs one fused engine.

    t = (t0 + n_k t_k + FLOP / (eta_p peak_p) + bytes / (eta_b BW)) * structural factor
    E = P_active(precision, mode, boundary) * t

Time is folded under direct coding: W1, the staircase and W2 run once. Other networks are costed as they
ran. Sparse spikes earn no credit: dense kernels do the zeros too.
Where a card has `p_base`, E = p_base * t + e_flop(precision) * FLOP instead.
"""

from __future__ import annotations

from collections.abc import Iterable

from spikeport_targets.card import Constant

from .bare import Counts
from .costs import Costs
from .counts import LayerCounts
from .montecarlo import Draws, Values, total

TRACED_BYTES = 4
WIDTH = {"nvfp4": 0.5625, "fp8": 1, "int8": 1, "fp16": 2, "fp32": 4}
"""Bytes of a value; NVFP4 has a scale of a byte for each 16 values."""
LOW = ("int8", "fp8", "nvfp4")
"""Only matrix products run in these; everything beside them runs in FP16."""
KNOWN_FAMILY, LATENCY_FACTOR = 1.65, 2.5
"""p10-p90 factors that cover four fifths of published points: family seen in the fit, or not (docs/validation.md)."""
KERNELS = {
    "linear": (1, 1, 1),
    "convolution": (1, 1, 1),
    "attention": (1, 1, 4),
    "layernorm": (1, 1, 2),
    "spiking": (0, 1, 4),
    "activation": (0, 0, 1),
    "batchnorm": (0, 0, 0),
    "embedding": (0, 0, 0),
}
"""Kernels a layer becomes after fusion (low, nominal, high): bias, residual and ReLU ride in the GEMM, BN folds."""

UNFUSED_ATTENTION = (1, 3, 4)
FOLDED = "Time is folded (exact staircase, W1 and W2 once)"
UNFOLDED = "The T steps are costed as they ran here, not folded into one"
NO_CREDIT = (
    "{time} and spike sparsity earns no credit: the only published pair on an Orin Nano, VS-WNO (arXiv 2604.17040), "
    "ran 12 % slower and took 26 % more energy spiking than dense."
)
FAMILY = (
    "No measurement of this model family exists here: the latency interval carries a factor 2.5 for an unseen family."
)


def gpu_costs(work: Iterable[LayerCounts] | Counts, draws: Draws, precision: str) -> Costs:
    """Costs of traced layers, or of bare counts, at batch 1 in `precision`; None where the card lacks a constant."""
    flop = dict.fromkeys(WIDTH, 0.0)
    moved = 0.0
    if isinstance(work, Counts):
        flop[precision], moved = 2 * work.macs, work.bytes
        kernels = Constant(
            "kernels", work.kernels, work.kernels, work.kernels, "1", "assumed", ("the counts that were given",)
        )
    else:
        rows = list(work)
        kernels = _kernels(rows, precision)
        for layer in rows:
            inner = precision if layer.kind in ("linear", "convolution") or precision not in LOW else "fp16"
            flop[inner] += 2 * layer.macs_executed
            if KERNELS[layer.kind][1]:
                moved += (layer.weight_bytes + layer.activation_bytes) * WIDTH[inner] / TRACED_BYTES
    latency = _latency(draws, kernels, flop, moved)
    time = draws.record()
    event, system, energy, note = _energy(draws, precision, latency, sum(flop.values()))
    power = draws.record()
    groups = {"latency": time, "event": power, "system": time + power, "total": time + power}
    unknown = draws.unknown()
    time_note = () if isinstance(work, Counts) else _time_note(rows)
    missing = tuple(f"{c.name}: {c.source[0]}; what needs it is null." for c in unknown)
    return Costs(
        event=event,
        system=system,
        total=energy,
        latency=latency,
        constants=groups,
        unknown=unknown,
        notes=(*time_note, *(() if draws.calibrated("factor_latency") else (FAMILY,)), *missing),
        energy_notes=(note,),
    )


def _latency(draws: Draws, kernels: Constant, flop: dict[str, float], moved: float) -> Values | None:
    launch, each = draws("t_fixed"), draws("t_kernel")
    terms: list[Values | None] = [launch, None if each is None else each * draws.derived(kernels)]
    for precision, count in flop.items():
        if count:
            terms.append(_over(count, draws(f"eta_{precision}"), draws(f"peak_{precision}")))
    terms.append(_over(moved, draws("eta_bandwidth"), draws("bandwidth")))
    ideal = total(*terms)
    if ideal is None:
        return None
    return ideal * draws.factor("factor_latency", LATENCY_FACTOR, "model family without a measurement on this device")


def _energy(
    draws: Draws, precision: str, latency: Values | None, flop: float
) -> tuple[Values | None, Values | None, Values | None, str]:
    """Event, system and total, and a note: the first two only where a card can tell them apart."""
    if "p_base" in draws.known:
        base, each = draws("p_base"), draws(f"e_flop_{precision}")
        event = None if each is None else each * flop
        system = None if base is None or latency is None else base * latency
        return event, system, total(event, system), "Energy is the base power over the time plus that of operations."
    active = draws(f"p_active_{precision}")
    conditions = draws.known[f"p_active_{precision}"].conditions if active is not None else ""
    measured = (
        "that power was measured by the runs on the device"
        if draws.calibrated("factor_power")
        else f"the power was measured on other networks ({conditions})"
    )
    note = (
        f"Energy is a measured power times the estimated time, and {measured}. The energy of one operation is not "
        "published here, so event and system stay together."
        if active is not None
        else "No power is published for this mode, so there is no energy."
    )
    if active is None or latency is None:
        return None, None, None, note
    energy = active * latency
    if draws.calibrated("factor_power"):
        energy = energy * draws.factor("factor_power", 1.0, "power of the runs on the device")
    return None, None, energy, note


def _kernels(rows: list[LayerCounts], precision: str) -> Constant:
    counts = dict(KERNELS) | ({"attention": UNFUSED_ATTENTION} if precision == "fp32" else {})
    low, nominal, high = (float(sum(counts[r.kind][i] for r in rows)) for i in range(3))
    source = ("fusion rule of spikeport_profiles.gpu, counted on the traced layers",)
    return Constant("kernels", low, nominal, high, "1", "assumed", source, "TensorRT, one engine")


def _time_note(rows: list[LayerCounts]) -> tuple[str, ...]:
    if not any(row.kind == "spiking" for row in rows):
        return ()
    once = any(row.macs_unrolled > row.macs_executed for row in rows)
    stepwise = any(len(row.spikes_per_step) > 1 for row in rows)
    return (NO_CREDIT.format(time=FOLDED if once or not stepwise else UNFOLDED),)


def _over(amount: float, efficiency: Values | None, peak: Values | None) -> Values | None:
    return None if efficiency is None or peak is None else amount / (efficiency * peak)
