"""The shipped nano as it would be deployed: parity, traffic, NMSE over SNR, speed; writes docs/coexecution.md."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import spikeport
from spikeport_converters.coexecution import Coexecution, coexecute
from spikeport_converters.traffic import Traffic, traffic
from spikeport_targets.runtime import get_runtime
from spikeport_toolkit.models.load import load_model

MODEL, LINKS, SEEDS = "spikewfm-nano", 200, (0, 1, 2)
SIMULATORS = ("snntorch", "norse", "spikingjelly", "sinabs")
HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "coexecution.md"


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        page = write(Path(place))
    PAGE.write_text("\n".join(page) + "\n", encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def write(place: Path) -> list[str]:
    runs = []
    for name in SIMULATORS:
        for seed in SEEDS if name == SIMULATORS[0] else SEEDS[:1]:
            bundle = spikeport.export(MODEL, target=name, out=place / f"{name}-{seed}", seed=seed)
            for model in (load_model(MODEL), None):
                runs.append((seed, coexecute(bundle.folder, bundle.manifest, get_runtime(name), model=model)))
    int8 = spikeport.export(MODEL, target="jetson-orin-nano", precision="int8", out=place / "int8")
    hybrid = place / "snntorch-0"
    moved = traffic(hybrid, json.loads((hybrid / "manifest.json").read_text(encoding="utf-8")))
    result = spikeport.evaluate(str(hybrid), compare=[str(int8.folder)], links=LINKS)
    speed = json.loads(subprocess.check_output([sys.executable, HERE / "reference_runtime.py"]))
    return [
        "# The nano as it would be deployed",
        "",
        f"Written by `benchmarks/coexecution.py`; `{MODEL}`, the shipped hard-reset checkpoint: T = 4, 7 islands of",
        f"512 neurons. Everything here ran on the CPU of one {platform.machine()} computer: there was no Jetson and no",
        "neuromorphic chip. `int8` is the bundle for the Jetson in onnxruntime, not in TensorRT; islands in a",
        "simulator are what a chip with the same neuron would give.",
        "",
        "## Spikes and output of the whole model",
        "",
        "16 samples a row: 1,024 tokens, 14,680,064 neuron steps. With dense segments in torch, these are the folded",
        "model's own modules, and the reference is SpikingJelly stepped as a simulator steps (W2 in every step). In",
        "onnxruntime, the reference is the golden run of the bundle (W2 once, on the mean). End to end: the model runs",
        "as a user runs it; a spike that differs changes what later layers see. Layer by layer: what every island gave",
        "is replaced by what the reference gave there. Distance: of the membrane from its threshold, relative to it,",
        "for the spikes that differ layer by layer. Output: largest difference as a part of the largest output.",
        "",
        *parity(runs),
        "",
        "## Traffic between host and chip",
        "",
        *crossing(moved),
        "",
        "## Accuracy of what is deployed",
        "",
        f"{result.to_dict()['metric']}; {LINKS} links a point, seed {result.seed}, {result.data}, simulated channels.",
        "",
        *accuracy(result),
        "",
        "## Speed of the reference runtime",
        "",
        *runtime(speed),
    ]


def parity(runs: list[tuple[int, Coexecution]]) -> list[str]:
    rows = [
        "| dense segments | islands | seed | end to end | layer by layer | distance | output | task NMSE |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for seed, run in runs:
        far = f"{run.distance:.1e}" if run.alone else "-"
        rows.append(
            f"| {run.dense} | {run.islands} | {seed} | {run.end_to_end} | {run.alone} | {far} | "
            f"{run.output_error:.1e} | {run.task_db or 0.0:+.6f} dB |"
        )
    return rows


def crossing(moved: Traffic) -> list[str]:
    first, inside = moved.islands[0], sum(island.spikes for island in moved.islands)
    keep_up = {name: (moved.rate(name) or 0.0) / 1e9 for name in ("currents", "features")}
    return [
        "Per predicted OFDM slot: one inference reads three observed slots and predicts the next one, over 64 tokens;",
        f"a slot is 14 symbols, 0.5 ms at 30 kHz. Spikes are measured on {moved.samples} golden samples, the rest is",
        "fixed by the shapes. kB is 1,000 bytes.",
        "",
        moved.markdown(),
        "",
        f"To predict every slot, both directions together carry {keep_up['currents']:.2f} GB/s with currents in and",
        f"{keep_up['features']:.2f} GB/s with features in. The spikes, {inside:,.0f} a slot, never leave the chip: as",
        f"address events they are {(moved.total('spikes') or 0) / (moved.total('currents') or 1):.0%} of the currents",
        f"that cause them. An island of {first.neurons} neurons is fed anew for every token: it takes and gives",
        f"{first.currents or 0:,.0f} + {first.outputs:,.0f} values for {first.spikes:,.0f} spikes: the link, not the",
        "spikes, is what a split of this model between host and chip pays for.",
    ]


def accuracy(result: Any) -> list[str]:
    lines = []
    shown = [c for c in result.curves if c.role in ("model", "deployed")]
    for place in dict.fromkeys((c.regime, c.split) for c in shown):
        curves = [c for c in shown if (c.regime, c.split) == place]
        lines += [f"### {place[0]}, {place[1]}", ""]
        lines += ["| SNR, dB | " + " | ".join(f"{snr:g}" for snr in curves[0].snr_db) + " |"]
        lines += ["|---|" + "---|" * len(curves[0].snr_db)]
        lines += [f"| {c.method} | " + " | ".join(f"{value:.3f}" for value in c.nmse_db) + " |" for c in curves]
        lines += [""]
    model = {(c.regime, c.split): c for c in shown if c.role == "model"}
    for name in dict.fromkeys(c.method for c in shown if c.role == "deployed"):
        gaps = [
            after - before
            for c in shown
            if c.method == name
            for after, before in zip(c.nmse_db, model[c.regime, c.split].nmse_db, strict=True)
        ]
        lines.append(f"- {name}: {min(gaps):+.4f} to {max(gaps):+.4f} dB against the float model, over all points.")
    return lines


def runtime(speed: dict[str, Any]) -> list[str]:
    total = speed["total"]
    rows = [
        "`benchmarks/reference_runtime.py`: 1,024 tokens of each island, one thread, CPU time, the least of",
        f"{speed['rounds']} rounds in turn. Floor: the two matrix products alone, once each, in numpy.",
        "",
        "| island | stepping snnTorch, ms | reference, ms | floor, ms | times faster | spikes that differ |",
        "|---|---|---|---|---|---|",
    ]
    for row in speed["rows"]:
        rows.append(
            f"| {row['island']} | {row['snntorch_ms']:.1f} | {row['reference_ms']:.2f} | {row['floor_ms']:.2f} | "
            f"{row['times']:.1f} | {row['differ_from_snntorch']} from snnTorch, {row['differ_from_spikingjelly']} from "
            f"SpikingJelly, of {row['spikes']:,} |"
        )
    return [
        *rows,
        f"| all | {total['snntorch_ms']:.1f} | {total['reference_ms']:.2f} | {total['floor_ms']:.2f} | "
        f"{total['snntorch_ms'] / total['reference_ms']:.1f} | |",
    ]


if __name__ == "__main__":
    main()
