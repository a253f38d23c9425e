"""What the training core came to, on one page: writes docs/results.md from docs/results.json.

    python benchmarks/results.py train NAME ...     recipes at full length, into build/results/NAME where not there yet
    python benchmarks/results.py convert            the ReLU nano as a spiking one, as it is and tuned for 200 steps
    python benchmarks/results.py nmse               every channel predictor, shipped and trained, on the same links
    python benchmarks/results.py cost               a training step beside the ReLU twin's (alone on the machine)
    python benchmarks/results.py page               the page, of what docs/results.json, claims.md and lwm.json hold

One thread; `nmse` takes some minutes, `cost` five, a recipe what the page says.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claims_page import CLAIMS
from training_step import HEAD as COST_HEAD
from training_step import ratios
from training_step import row as cost_row

import spikeport
from spikeport_toolkit.files import write_json, write_text
from spikeport_toolkit.tasks.channel_prediction import METRIC
from spikeport_toolkit.training.recipe import load_recipe

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "docs" / "results.json", ROOT / "docs" / "results.md"
TRAINED = ROOT / "build" / "results"
SHIPPED = (
    "spikewfm-nano", "spikewfm-nano-ilif", "spikewfm-nano-relu", "spikewfm-nano-qrelu",
    "spikewfm-nano-wiener", "spikewfm-nano-wiener-relu",
)  # fmt: skip
TRAINED_HERE = ("spikewfm-nano-paper-in-domain", "spikewfm-nano-slots", "spikewfm-nano-carry")
CONVERTED = ("nano-relu-to-lif", "nano-relu-to-ilif", "nano-relu-to-ilif-tuned")
TUNING = """summary = "the converted nano, tuned"
model = "spikewfm-nano-ilif"
seed = 0

[[stage]]
objective = "prediction"
steps = 200
batch = 32
lr = 5e-4
warmup = 20
"""
SIZES, ROUNDS = ("3.5m", "nano", "20m"), 12
LINKS, SNRS = 200, "-10:30:20"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("train", "convert", "nmse", "cost", "page"))
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    if options.part == "train":
        for name in options.names:
            found.setdefault("recipes", {})[name] = trained(name)
            write_json(RESULTS, found)
    if options.part == "convert":
        converted()
    if options.part == "nmse":
        found["nmse"] = nmse()
    if options.part == "cost":
        found["cost"] = {size: ratios(size, ROUNDS) for size in SIZES}
    write_json(RESULTS, found)
    write_text(PAGE, page(found))


def trained(name: str) -> list[dict[str, Any]]:
    """One row a stage: how far it went and what it came to."""
    folder = TRAINED / name
    if not folder.is_dir():
        spikeport.train(name, out=folder, device="cpu")
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    rows, before = [], 0.0
    for stage in load_recipe(name).stages:
        own = [each for each in log if each["stage"] == stage.objective]
        steps = [each for each in own if "loss" in each]
        validated = [each["validation_loss"] for each in own if "validation_loss" in each]
        last = steps[-max(1, len(steps) // 10) :]  # a tenth of the stage
        rates = [each["spike_rate"] for each in last if each["spike_rate"] is not None]
        rows.append({
            "objective": stage.objective, "batch": stage.batch, "planned": stage.length, "steps": own[-1]["step"],
            "seconds": own[-1]["seconds"] - before, "first": steps[0]["loss"],
            "last": float(np.mean([each["loss"] for each in last])),
            "validation": min(validated) if validated else None, "rate": float(np.mean(rates)) if rates else None,
        })  # fmt: skip
        before = own[-1]["seconds"]
    return rows


def converted() -> None:
    """The shipped ReLU twin made to spike, into build/results."""
    to_lif, to_ilif, tuned = (TRAINED / name for name in CONVERTED)
    for out, neuron in ((to_lif, "lif"), (to_ilif, "ilif")):
        print(spikeport.ann_to_snn("spikewfm-nano-relu", neuron=neuron, out=out).summary())
    recipe = TRAINED / "tuning.toml"
    write_text(recipe, TUNING)
    spikeport.train(str(recipe), start=str(to_ilif), out=tuned, device="cpu")


def nmse() -> list[dict[str, Any]]:
    """NMSE of all that predict channels, {method, regime, split, snr_db, nmse_db} a curve."""
    others = [str(TRAINED / name) for name in (*TRAINED_HERE, *CONVERTED) if (TRAINED / name).is_dir()]
    result = spikeport.evaluate(
        SHIPPED[0], compare=[*SHIPPED[1:], *others], links=LINKS, snr=SNRS, baselines="wiener-mixture,lstm"
    )
    return [
        {"method": Path(c.method).name, "regime": c.regime, "split": c.split, "snr_db": c.snr_db, "nmse_db": c.nmse_db}
        for c in result.curves
    ]


def page(found: dict[str, Any]) -> str:
    lines = [
        "# Results of the training core",
        "",
        "Written by `benchmarks/results.py` (figures in `docs/results.json`), `benchmarks/claims.py` and "
        "`benchmarks/lwm.py`. Channels are ray-traced, so simulated; one CPU thread. What these pages say in full: "
        "[claims](claims.md), [nano](nano-accuracy.md), [Wiener skip](wiener-skip.md), [LWM](lwm.md), "
        "[tasks](tasks.md), [baselines](baselines.md).",
        "",
        *claims(),
    ]
    if "nmse" in found:
        lines += nmse_tables(found["nmse"])
    lines += lwm()
    if "cost" in found:
        lines += [
            "## Cost of a training step",
            "",
            "`benchmarks/training_step.py`: forward, loss and backward of all blocks, times the ReLU twin's; all take "
            f"turns, the fastest of {ROUNDS} rounds each. Goals at 3.5m: 1.05 for I-LIF, 1.25 for LIF at T = 4. The "
            "T-step loop is SpikingJelly's own neuron, W1 and W2 computed once.",
            "",
            *COST_HEAD,
            *(cost_row(size, values) for size, values in found["cost"].items()),
            "",
        ]
    if "recipes" in found:
        lines += recipe_table(found["recipes"])
    return "\n".join(lines)


def claims() -> list[str]:
    """The rows of docs/claims.md about the spiking model, against the twin with and without the norm."""
    text = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\| c\d+ \|", line)]
    others = ("ilif - ", "qrelu - ", "slots - ", "relu - relu_plain", ": relu |")
    rows = [row for row in rows if not any(other in row for other in others)]
    return [
        "## The paper's claims",
        "",
        "Micro nano (d 64, 2 layers), three seeds, mean and Student's 95 % interval; `lif - relu` changes the neuron "
        "alone, `lif - relu_plain` also drops the norm from the ReLU twin. In brackets the sign that the claim says.",
        "",
        "| claim | measured | mean | 95 % interval | verdict |",
        "|---|---|---|---|---|",
        *rows,
        "",
        *(f"- {name}: {what}." for name, what in CLAIMS.items()),
        "",
    ]


def nmse_tables(curves: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## NMSE of channel prediction",
        "",
        f"{METRIC}; {LINKS} links a point, seed 0, one training seed a model. R1: contiguous slots, R2: slots 5 ms "
        "apart. `-paper-in-domain`: the paper's protocol on a fifth of its samples, the head alone trained on the "
        "frozen backbone, in R1 only, so that R2 is outside its training; the cross-domain protocol trains to the same "
        "bits and is tested on the unseen cities. `-slots`, `-carry`: the other time axes. `*-wiener*` have the Wiener "
        "mixture as a skip. `nano-relu-to-*`: the ReLU twin made to spike by `spikeport models ann-to-snn`, without "
        "training or tuned for 200 steps.",
        "",
    ]
    places = list(dict.fromkeys((c["regime"], c["split"]) for c in curves))
    snrs = curves[0]["snr_db"]
    head = [f"{regime} {split}, {snr:g} dB" for regime, split in places for snr in snrs]
    lines += ["| | " + " | ".join(head) + " |", "|---|" + "---:|" * len(head)]
    for method in dict.fromkeys(c["method"] for c in curves):
        own = {(c["regime"], c["split"]): c["nmse_db"] for c in curves if c["method"] == method}
        values = [f"{value:.2f}" for place in places for value in own[place]]
        lines.append(f"| {method} | " + " | ".join(values) + " |")
    return [*lines, ""]


def lwm() -> list[str]:
    found = json.loads((ROOT / "docs" / "lwm.json").read_text(encoding="utf-8"))
    rows = [
        f"| {name} | {np.mean(row['pooled_db']):.2f} | {len(row['pooled_db'])} |" for name, row in found["nmse"].items()
    ]
    probe = next(curve for curve in found["los"]["ridge"] if curve["method"] == "cls")
    points = ", ".join(f"{100 * a:.1f} % with {n}" for a, n in zip(probe["accuracy"], probe["labels"], strict=True))
    spiking = [
        [name, *(f"{row['pooled_db'][city]:.2f}" for city in found["nmse"]),
         " / ".join(f"{100 * a:.1f}" for a in row["los"]["accuracy"])]
        for name, row in found["spiking"].items()
    ]  # fmt: skip
    return [
        "## LWM's published weights",
        "",
        "| city | masked NMSE, pooled, dB | mask seeds |",
        "|---|---|---|",
        *rows,
        "",
        f"Line of sight in Denver from [CLS], ridge probe, mean of 20 draws of labels: {points} labels.",
        "",
        "The same weights converted to spiking neurons without training (`ann-to-snn`; calibrated on other cities than "
        "tested on, mask seed 0; `ilif-4`: T = 1, D = 4; `lif`: T = 4):",
        "",
        "| neuron | " + ", dB | ".join(found["nmse"]) + ", dB | line of sight, %, 50 / 200 / 900 labels |",
        "|---|" + "---|" * (len(found["nmse"]) + 1),
        *(f"| {' | '.join(row)} |" for row in spiking),
        "",
    ]


def recipe_table(recipes: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = [
        "## Recipes run at full length here",
        "",
        "Loss as the objective defines it, of its first step and the mean of the last tenth of the stage; minutes on a "
        "machine that did other work too, up to four runs on two cores. Fewer steps than planned: early stopping. The "
        "shipped checkpoints are full-length runs of their recipes too. Every other recipe is run for two steps by the "
        "tests; `benchmarks/recipes.py` takes the first step of each at full width.",
        "",
        "| recipe | stage | steps x batch | minutes | first loss | last loss | best validation | spike rate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, stages in recipes.items():
        for row in stages:
            early = "" if row["steps"] == row["planned"] else f" of {row['planned']:,}"
            best, rate = ("-" if row[key] is None else f"{row[key]:.3f}" for key in ("validation", "rate"))
            lines.append(
                f"| {name} | {row['objective']} | {row['steps']:,}{early} x {row['batch']} | "
                f"{row['seconds'] / 60:.0f} | {row['first']:.3f} | {row['last']:.3f} | {best} | {rate} |"
            )
    return [*lines, ""]


if __name__ == "__main__":
    main()
