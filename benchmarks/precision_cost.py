"""What each precision costs and which the compiler takes: writes docs/precision.md.

    python benchmarks/precision_cost.py accuracy --cache DIR    NMSE of the shipped nano models at every SNR
    python benchmarks/precision_cost.py compile --cache DIR     TensorRT-RTX on every preset (needs spikeport[verify])
    python benchmarks/precision_cost.py modelopt --cache DIR    nvidia-modelopt on nano (spikeport env make modelopt)
    python benchmarks/precision_cost.py memory --cache DIR      peak memory of an export of 80m (export_80m.py)
    python benchmarks/precision_cost.py page --cache DIR        docs/precision.md of what is in DIR

All are resumable: every model and precision leaves a JSON file in DIR and is skipped where that is there. One thread,
seed 0. The first two run all, or `--models` and `--precisions`; each ends by writing the page.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from spikeport_converters.fold import fold_batchnorm
from spikeport_converters.jetson import dense_graph
from spikeport_converters.ladder import batch_profile
from spikeport_converters.modelopt import modelopt_int8
from spikeport_converters.onnx_graph import INPUT, OUTPUT, save_onnx
from spikeport_converters.onnx_legal import onnx_legal
from spikeport_converters.parity import nmse_db
from spikeport_converters.precision import PRESETS, assignment
from spikeport_converters.precision_graph import precision_graph
from spikeport_converters.quantize_aware import LEARNING_RATE, quantize_aware
from spikeport_converters.spiking_taps import spiking_taps
from spikeport_converters.stair_form import write_stairs
from spikeport_converters.static_model import StaticModel, example_of, static_model
from spikeport_converters.tailor import QAT_BATCH
from spikeport_errors import SpikeportError
from spikeport_targets.card import load_card
from spikeport_targets.runtimes import tensorrt_rtx
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime
from spikeport_toolkit.data.sampler import draw, embedded_split
from spikeport_toolkit.files import write_json
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.models.spikewfm import ChannelPredictor
from spikeport_toolkit.tasks.channel_prediction import REGIMES, SNRS_DB, example_patches

PAGE = Path(__file__).parent.parent / "docs" / "precision.md"
MODELS = ("spikewfm-nano", "spikewfm-nano-ilif")
COMPILED = (
    "spikewfm-nano", "spikewfm-nano-ilif", "lwm-1.0-code", "lwm-1.0-spiking", "spikewfm-3.5m", "spikewfm-20m",
    "spikewfm-80m",
)  # fmt: skip
COMPILE_LIMIT_S = 480.0
LARGE, EXPORTED = "spikewfm-80m", ("fp32", "fp16", "int8")
QAT = "int8 QAT"
GOALS = {"fp16": 0.02, "int8-safe": 0.1, "int8": 0.25, QAT: 0.05}
FURTHER = ("int8 entropy", "int8 mse", "int8-fp16", "fp8", "nvfp4")
SAMPLES, LINKS, QAT_STEPS, PARITY, SEED = 64, 100, 150, 16, 0
HEAD = """# What a precision costs

Written by `benchmarks/precision_cost.py`; simulated channels, one training seed of each model. `int8-safe` quantises
what reads spike counts and attention's projections, `int8` every linear layer, `int8-fp16` the same with the rest in
float16; `fp8` and `nvfp4` (weights only) are for devices newer than an Orin. The cheapest assignment within a budget is
found by `spikeport export MODEL --target ID --max-nmse-loss 0.05dB --out DIR`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("accuracy", "compile", "modelopt", "memory", "page"))
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--precisions", nargs="*")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if options.part == "accuracy":
        for name in options.models or MODELS:
            costs(name, options.precisions or [*GOALS, *FURTHER], options.cache)
    if options.part == "compile":
        for name in options.models or COMPILED:
            compile_all(name, options.precisions or list(PRESETS), options.cache)
    if options.part == "modelopt":
        by_modelopt(options.cache)
    if options.part == "memory":
        memory(options.precisions or list(EXPORTED), options.cache)
    sections = (accuracy, memory_rows, compiled, modelopt_rows)
    parts = [HEAD, *(line for section in sections for line in section(options.cache))]
    PAGE.write_text("\n".join(parts) + "\n", encoding="utf-8")


def costs(name: str, precisions: list[str], cache: Path) -> None:
    """Per-link NMSE of `name` in float32 and in every precision, [regime][SNR][link], into `cache`."""
    missing = [p for p in ("fp32", *precisions) if not stored(cache, name, p).is_file()]
    if not missing:
        return
    network = load_model(name)
    assert isinstance(network, ChannelPredictor)
    patches = example_patches(network.config, SAMPLES, SEED)
    reference = fold_batchnorm(network)
    static = static_model(reference, torch.from_numpy(patches[:2]))
    trials = list(links(network))
    with tempfile.TemporaryDirectory() as place:
        plain = Path(place) / "plain.onnx"
        counts = save(static, patches, "fp32", plain)
        expected = OnnxRuntime().run(plain, {INPUT: patches[:PARITY]}, taps=counts).values
        for precision in missing:
            begun, made, path = time.process_time(), static, Path(place) / "model.onnx"
            if precision == QAT:
                batches = (example_patches(network.config, QAT_BATCH, SEED + 1 + step) for step in itertools.count())
                tuned = quantize_aware(reference, PRESETS["int8"], batches, QAT_STEPS)
                made = static_model(tuned, torch.from_numpy(patches[:2]))
            taps = save(made, patches, precision, path)
            got = OnnxRuntime().run(path, {INPUT: patches[:PARITY]}, taps=taps).values
            session = OnnxRuntime().open(path)
            found: dict[str, Any] = {regime: [] for regime in REGIMES}
            for regime, given, target in trials:
                predicted = session.run({INPUT: given}).values[OUTPUT].astype(np.float64)
                error = np.square(predicted - target).sum((1, 2)) / np.square(target.astype(np.float64)).sum((1, 2))
                found[regime].append(error.tolist())
            found["spikes"] = moved(static, [got[t] for t in taps], [expected[t] for t in counts])
            found["output_db"] = max(nmse_db(got[OUTPUT], expected[OUTPUT]), -200.0)
            write_json(stored(cache, name, precision), found)
            print(name, precision, f"{time.process_time() - begun:.0f} s of CPU", flush=True)


def links(network: ChannelPredictor) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    """Regime, inputs and clean targets of the same held-out links at every SNR."""
    paths = embedded_split("in-domain")
    chosen = np.sort(np.random.default_rng(SEED).permutation(paths.links)[:LINKS])
    for index, regime in enumerate(REGIMES):
        for snr in SNRS_DB:
            rng = np.random.default_rng((SEED, index))
            batch = draw(paths, chosen, network.config.grid, regime, (float(snr), float(snr)), rng)
            yield regime, batch.patches(), batch.target_patches()


def save(static: StaticModel, patches: NDArray[np.float32], precision: str, path: Path) -> list[str]:
    """Write the graph of `static` in `precision`; the names of the tensors that hold its spike counts."""
    name, _, method = precision.partition(" ")
    chosen = assignment(name, method if method and not method.startswith("QAT") else "minmax")
    graph = precision_graph(static.program, torch.from_numpy(patches), chosen)
    stairs = {path: neuron.stairs for path, neuron in static.stairs.items()}
    if chosen.rest == "fp32":
        write_stairs(graph, stairs)
    graph = onnx_legal(graph, chosen.versions)
    save_onnx(graph, path)
    return [tap.count for tap in spiking_taps(graph.graph, stairs)]


def moved(static: StaticModel, got: list[NDArray[Any]], expected: list[NDArray[Any]]) -> float:
    """Spikes gained or lost per neuron-step against the float32 graph."""
    slots = [neuron.stairs.steps * neuron.stairs.levels for neuron in static.stairs.values()]
    off = sum(np.abs(a.astype(float) - b).sum() / s for a, b, s in zip(got, expected, slots, strict=True))
    return float(off / sum(a.size for a in got))


def accuracy(cache: Path) -> list[str]:
    """The section on NMSE, of every result there is."""
    lines = [
        "## NMSE of the shipped nano models", "",
        "`python benchmarks/precision_cost.py accuracy --cache DIR`. Cost: mean NMSE less that of the float32 graph,",
        f"in dB, on the same {LINKS} links of the embedded `in-domain` split a point; in brackets its 95 % interval",
        "(paired bootstrap over links). R1: contiguous slots, R2: slots 5 ms apart. Graphs run in onnxruntime;",
        f"{SAMPLES} training links calibrate by min-max. QAT: {QAT_STEPS} steps of {QAT_BATCH} other training links,",
        f"distilled from the float model at a learning rate of {LEARNING_RATE:g}; seed {SEED}. Spikes moved (share of",
        f"neuron-steps gained or lost) and output NMSE are against float32, on {PARITY} of the calibration links.",
        "That recipe was chosen on training links held out from it; where the interval of QAT overlaps that of `int8`,",
        "it has not been shown to help.",
        "onnxruntime has no FP8 or FP4 arithmetic: there the coded values are decoded first.",
    ]  # fmt: skip
    for name in MODELS:
        kept = ("fp32", *GOALS, *FURTHER)
        results = {p: json.loads(stored(cache, name, p).read_text()) for p in kept if stored(cache, name, p).is_file()}
        if "fp32" in results:
            lines += ["", f"### {name}", *tables(results)]
    return lines


def tables(results: dict[str, Any]) -> list[str]:
    base, names = results["fp32"], [name for name in results if name != "fp32"]
    lines, worst = list[str](), dict.fromkeys(names, (-np.inf, ""))
    for regime in REGIMES:
        lines += ["", f"| {regime}, SNR, dB | float32 NMSE, dB | " + " | ".join(names) + " |"]
        lines += ["|---|---|" + "---|" * len(names)]
        for index, snr in enumerate(SNRS_DB):
            cells = []
            for name in names:
                cost, low, high = paired(results[name][regime][index], base[regime][index])
                cells.append(f"{cost:+.3f} [{low:+.3f}, {high:+.3f}]")
                worst[name] = max(worst[name], (cost, f"{regime}, {snr} dB"))
            plain = 10 * np.log10(np.mean(base[regime][index]))
            lines.append(f"| {snr} | {plain:.2f} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| precision | largest cost, dB | where | goal, dB | output NMSE, dB | spikes moved |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        (cost, where), goal = worst[name], GOALS.get(name)
        met = "" if goal is None else f"{goal:g} ({'met' if cost <= goal else 'not met'})"
        moved_, output = results[name]["spikes"], results[name]["output_db"]
        lines.append(f"| {name} | {cost:+.3f} | {where} | {met} | {output:.1f} | {moved_:.2g} |")
    return lines


def paired(got: list[float], plain: list[float]) -> tuple[float, float, float]:
    """Change of the mean NMSE in dB and its 95 % bootstrap interval over links."""
    a, b = np.array(got), np.array(plain)
    draws = np.random.default_rng(SEED).integers(0, len(a), (1000, len(a)))
    low, high = np.quantile(10 * np.log10(a[draws].mean(1) / b[draws].mean(1)), (0.025, 0.975))
    return float(10 * np.log10(a.mean() / b.mean())), float(low), float(high)


def stored(cache: Path, name: str, precision: str, part: str = "accuracy") -> Path:
    return cache / f"{part}-{name}-{precision.replace(' ', '-')}.json"


def compile_all(name: str, precisions: list[str], cache: Path) -> None:
    """Compile `name` in every precision; what came of it goes into `cache`."""
    missing = [p for p in precisions if not stored(cache, name, p, "compile").is_file()]
    if not missing:
        return
    network = load_model(name)
    samples, reference = example_of(network), fold_batchnorm(network)
    for precision in missing:
        found: dict[str, Any] = {}
        try:
            with tempfile.TemporaryDirectory() as place:
                path = Path(place) / "model.onnx"
                graph: onnx.ModelProto = dense_graph(reference, samples.numpy(), precision)[1]
                found["bytes"] = graph.ByteSize()
                save_onnx(graph, path)
                for capability in tensorrt_rtx.CAPABILITIES:
                    if PRESETS[precision].capability * 10 <= int(capability.removeprefix("SM")):
                        shapes = batch_profile(tuple(samples.shape))
                        found[capability] = tensorrt_rtx.compile_onnx(
                            path, capability, shapes, COMPILE_LIMIT_S
                        ).to_dict()
        except SpikeportError as error:
            found["refused"] = str(error)
        write_json(stored(cache, name, precision, "compile"), found)
        print(name, precision, found, flush=True)


def compiled(cache: Path) -> list[str]:
    """The section on the compiler, of every result there is."""
    lines = [
        "", "## What TensorRT-RTX compiles", "",
        "`python benchmarks/precision_cost.py compile --cache DIR`: layers of the engine and seconds of building it,",
        f"for SM86 (nearest to Orin) and SM120 (to Thor), TensorRT-RTX {tensorrt_rtx.TESTED}, without a GPU, batch 1",
        f"to 32, within {COMPILE_LIMIT_S / 60:g} minutes; seconds on a busy machine, which tell minutes from hours",
        "only. A dash: refused for its compute capability before any compiler. Random inputs calibrate; initial",
        "weights where none are shipped.", "",
        "| model | precision | graph, MB | SM86 | SM120 |", "|---|---|---|---|---|",
    ]  # fmt: skip
    rows, left_out = list[str](), list[str]()
    for name in COMPILED:
        done = [precision for precision in PRESETS if stored(cache, name, precision, "compile").is_file()]
        for precision in done:
            row = compile_row(json.loads(stored(cache, name, precision, "compile").read_text()))
            rows.append(f"| {name} | {precision} | {row} |")
        if len(done) < len(PRESETS):
            left_out.append(f"{name} in {', '.join(p for p in PRESETS if p not in done) if done else 'all precisions'}")
    if left_out:
        rows += ["", f"Not run yet: {'; '.join(left_out)}."]
    return [*lines, *rows] if rows else []


def compile_row(found: dict[str, Any]) -> str:
    if "refused" in found:
        return f"| {found['refused']} |"
    cells = [f"{found['bytes'] / 1e6:.1f}"]
    for capability in tensorrt_rtx.CAPABILITIES:
        made = found.get(capability)
        if made is None:
            cells.append("-")
        else:
            cells.append(f"{made['layers']} layers, {made['seconds']:.0f} s" if made["ok"] else made["reason"])
    return " | ".join(cells)


def memory(precisions: list[str], cache: Path) -> None:
    """Peak memory of exporting LARGE in every precision, each in a process of its own, into `cache`."""
    for precision in precisions:
        path = stored(cache, LARGE, precision, "memory")
        if path.is_file():
            continue
        command = [sys.executable, Path(__file__).with_name("export_80m.py"), "--precision", precision]
        done = subprocess.run([*command, "--model", LARGE], stdout=subprocess.PIPE, check=True)
        write_json(path, json.loads(done.stdout))


def memory_rows(cache: Path) -> list[str]:
    """The section on memory, of every result there is."""
    kept = [path for p in EXPORTED if (path := stored(cache, LARGE, p, "memory")).is_file()]
    if not kept:
        return []
    rows = []
    for found in (json.loads(path.read_text()) for path in kept):
        cells = [str(found[key]) for key in ("precision", "weights_mb", "imported_mb", "export_peak_mb")]
        cells += [f"{found[key]:.2f}" for key in ("times_weights", "times_weights_in_all")]
        rows.append(f"| {' | '.join(cells)} |")
    return [
        "", "## Memory of an export", "",
        f"`python benchmarks/precision_cost.py memory --cache DIR`: {LARGE} for jetson-orin-nano, measured with one",
        "thread, from the folding to the bundle and its parity in onnxruntime. Weights: those of the model in float32,",
        "10^6 bytes; the rest in MiB: what the process has after its imports, and its peak. The goal is a peak of less",
        "than four times the weights, above what the imports take.", "",
        "| precision | weights, MB | imports, MiB | peak, MiB | peak less imports / weights | whole peak / weights |",
        "|---|---|---|---|---|---|", *rows,
    ]  # fmt: skip


def by_modelopt(cache: Path) -> None:
    """Our ladder with what nvidia-modelopt makes of nano."""
    path = stored(cache, MODELS[0], "int8", "modelopt")
    if path.is_file():
        return
    network = load_model(MODELS[0])
    assert isinstance(network, ChannelPredictor)
    with tempfile.TemporaryDirectory() as place:
        patches, card = example_patches(network.config, SAMPLES // 2, SEED), load_card("jetson-orin-nano")
        found = modelopt_int8(network, patches, card, Path(place) / "int8.onnx")
    write_json(path, {"ladder": found.to_dict()})
    print(found.summary())


def modelopt_rows(cache: Path) -> list[str]:
    """The section on nvidia-modelopt, where it was run."""
    path = stored(cache, MODELS[0], "int8", "modelopt")
    if not path.is_file():
        return []
    rungs = json.loads(path.read_text())["ladder"]
    rows = [f"| {r['name']} | {r['verdict']} | {r['detail'].replace(' | ', ', ')} |" for r in rungs]
    return [
        "", "## nvidia-modelopt", "",
        f"`python benchmarks/precision_cost.py modelopt --cache DIR`: {MODELS[0]} in INT8 by nvidia-modelopt's ONNX",
        f"quantiser (max) in its own environment, {SAMPLES // 2} training links, on our verify ladder; its output is",
        "compared with that of our float32 graph on the links that calibrate.", "",
        "| rung | verdict | |", "|---|---|---|", *rows,
    ]  # fmt: skip


if __name__ == "__main__":
    main()
