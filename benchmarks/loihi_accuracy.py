"""What 8-bit Loihi islands cost the shipped nano, and how models map onto cores: writes docs/loihi-accuracy.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spikeport_converters.fold import fold_batchnorm, fold_time
from spikeport_converters.loihi import LoihiIsland, block_inputs, loihi_model
from spikeport_converters.loihi_mapping import loihi_mapping
from spikeport_converters.loihi_scaling import quantize_islands
from spikeport_targets.card import load_card
from spikeport_targets.runtimes.loihi_runner import run_island
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.tasks.channel_prediction import METRIC, Curve, Evaluation, evaluate, example_pairs

LINKS, SAMPLES, FRESH = 200, 16, 8
MODEL, GRADED = "spikewfm-nano", "spikewfm-nano-ilif"
CASES = ((8, "max"), (8, "task"), (4, "max"), (4, "task"))
SIZES = ("spikewfm-nano", "spikewfm-3.5m", "spikewfm-20m", "spikewfm-80m")
PAGE = Path(__file__).parent.parent / "docs" / "loihi-accuracy.md"

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def main() -> None:
    predictors: dict[str, tuple[str, Predict]] = {}
    mismatches = []
    for name, cases in ((MODEL, CASES), (GRADED, ((8, "task"),))):
        model = load_model(name)
        folded, (patches, target) = fold_batchnorm(model), example_pairs(model.config, SAMPLES, 0)
        predictors[name] = ("model", predictor(fold_time(folded)))
        for bits, scaling in cases:
            islands = quantize_islands(folded, patches, target, bits=bits, scaling=scaling)
            label = f"{name}, {bits} bits, {scaling}"
            predictors[label] = ("twin", predictor(loihi_model(folded, islands)))
            if bits == 8:
                mismatches.append((label, mismatch(folded, islands, example_pairs(model.config, FRESH, 1)[0])))
    grid = load_model(MODEL).config.grid
    result = evaluate(MODEL, predictors, grid, links=LINKS, progress=lambda done, total: print(done, "of", total))
    PAGE.write_text("\n".join(page(result, mismatches)) + "\n", encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def predictor(model: nn.Module) -> Predict:
    def predict(patches: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(model(torch.from_numpy(patches)).numpy())

    return predict


def mismatch(
    folded: nn.Module, islands: tuple[LoihiIsland, ...], patches: NDArray[np.float32]
) -> list[tuple[int, int]]:
    """Spikes that differ from SpikingJelly's on the same currents, and how many were compared, per island."""
    entering = block_inputs(folded, tuple(island.block for island in islands), torch.from_numpy(patches))
    rows = []
    for island in islands:
        current = entering[island.block.name]
        with torch.no_grad():
            wanted = island.block.ffn.neuron.spikes(current).numpy()
        got = run_island(island.net, current.numpy())["spikes"]
        rows.append((int(np.abs(got - wanted).sum()), wanted.size))
    return rows


def page(result: Evaluation, mismatches: list[tuple[str, list[tuple[int, int]]]]) -> list[str]:
    lines = [
        "# Loihi: accuracy and mapping",
        "",
        f"Written by `benchmarks/loihi_accuracy.py`. {METRIC}; {LINKS} links a point, seed {result.seed}.",
        "Integer islands, everything else in float, computed by the integer model that equals Lava bit for bit; no",
        f"chip was run. Scales were chosen on {SAMPLES} samples of the training cities. `max`: the largest weight of a",
        "layer and the largest current fill their integers. `task`: thresholds aligned, weight scales chosen by the",
        "error of each output, then by the NMSE that the model's prediction gains. The rows of a quantised model are",
        "what it loses against its float model, in dB (positive: worse).",
    ]
    for regime, split in dict.fromkeys((c.regime, c.split) for c in result.curves):
        curves = {c.method: c for c in result.curves if (c.regime, c.split) == (regime, split)}
        lines += ["", f"## NMSE, {regime}, {split}", "", *table(curves)]
    lines += ["", "## Spikes that differ from SpikingJelly's", ""]
    lines += [f"On the same currents, {FRESH} fresh samples, island by island.", ""]
    lines += ["| | differing spikes per island | of neuron-steps | rate |", "|---|---|---|---|"]
    for label, rows in mismatches:
        wrong, total = sum(w for w, _ in rows), sum(n for _, n in rows)
        lines.append(f"| {label} | {', '.join(f'{w:,}' for w, _ in rows)} | {total:,} | {wrong / total:.2g} |")
    lines += ["", "## Mapping onto cores", ""]
    lines += ["| model | target | bits | cores | chips | largest island |", "|---|---|---|---|---|---|"]
    misfits = []
    for target in ("loihi2", "loihi1"):
        card = load_card(target)
        for size in SIZES:
            with torch.device("meta"):
                model = load_model(size) if size == MODEL else untrained(size)
            for bits in (8, 4):
                found = loihi_mapping(model, card, weight_bits=bits)
                largest = max(found.islands, key=lambda island: island.cores)
                lines.append(f"| {size} | {target} | {bits} | {found.cores} | {found.chips} | {largest.summary()} |")
                if bits == 8 and found.misfits:
                    misfits.append(f"- {size} on {target}: {'. '.join(found.misfits)}.")
    return [*lines, "", "What does not fit on one chip, and what would make it fit:", "", *misfits]


def untrained(size: str) -> nn.Module:
    from spikeport_toolkit.models.presets import preset
    from spikeport_toolkit.models.spikewfm import ChannelPredictor

    return ChannelPredictor(preset(size).config)


def table(curves: dict[str, Curve]) -> list[str]:
    snrs = next(iter(curves.values())).snr_db
    rows = ["| SNR, dB | " + " | ".join(f"{snr:g}" for snr in snrs) + " |", "|---|" + "---|" * len(snrs)]
    for name, curve in curves.items():
        if curve.role == "model":
            rows.append(f"| {name}, float: NMSE | " + " | ".join(f"{v:.2f}" for v in curve.nmse_db) + " |")
        elif curve.role == "twin":
            own = curves[name.partition(",")[0]].nmse_db
            losses = [a - b for a, b in zip(curve.nmse_db, own, strict=True)]
            rows.append(f"| {name}: loss | " + " | ".join(f"{v:+.3f}" for v in losses) + " |")
    return rows


if __name__ == "__main__":
    main()
