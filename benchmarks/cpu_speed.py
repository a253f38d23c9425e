"""Folded spiking models in onnxruntime beside their ReLU twins, SpikingJelly and torch.compile; one thread.

    python benchmarks/cpu_speed.py --model spikewfm-20m --out build/speed      measure one model
    python benchmarks/cpu_speed.py --page docs/speed.md --out build/speed      write the page from all that was measured

All ways of running a model take turns, round by round, in one process, so that each sees the same machine; a time is
the least of its rounds, which other programs hardly touch, and a ratio is one of two such times. Batch 1 and 16 (80m:
batch 1). Rounds go on for --seconds a batch, or are --rounds. torch.compile needs a C++ compiler (g++ or clang++);
without one its columns are left out. Weights are the shipped ones or untrained: they move no time but that of nothing
here, since every operation is dense.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from spikeport_converters.fold import fold_batchnorm
from spikeport_converters.jetson import dense_graph
from spikeport_profiles.inputs import calibration_inputs
from spikeport_toolkit.files import write_text
from spikeport_toolkit.models.layers import FeedForward
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.models.neuron import SpikingNeuron

MODELS = ("spikewfm-nano", "spikewfm-3.5m", "spikewfm-20m", "spikewfm-80m", "lwm-1.0-spiking")
BATCHES, SECONDS, LEAST_ROUNDS, MOST_ROUNDS = (1, 16), 90.0, 3, 300
CALIBRATION = 2
"""Samples that calibrate INT8: their number changes scales, and no time."""
WITHIN, FASTER = 1.05, 2.5
"""The goals: folded over its twin at most, torch.compile over folded at least (batch 16)."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
EAGER, COMPILED, COMPILED_MEAN = (
    "SpikingJelly, eager",
    "torch.compile, T steps, W2 on each",
    "torch.compile, T steps, W2 on their mean",
)


def main() -> None:
    if any(os.environ.get(name) != "1" for name in THREADS):  # read when numpy and torch are imported
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **dict.fromkeys(THREADS, "1")})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/speed"))
    parser.add_argument("--rounds", type=int, help="so many rounds, however long they take")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of rounds a batch; three at least")
    options = parser.parse_args()
    if options.model:
        batches = (1,) if options.model.endswith("80m") else BATCHES
        found = measure(options.model, batches, options.rounds, options.seconds)
        write_text(options.out / f"{options.model}.json", json.dumps(found))
    if options.page:
        paths = (options.out / f"{model}.json" for model in MODELS)
        write_text(options.page, page([json.loads(path.read_text()) for path in paths if path.exists()]))


def measure(name: str, batches: tuple[int, ...], rounds: int | None, seconds: float) -> dict[str, Any]:
    torch.set_num_threads(1)
    network = load_model(name)
    samples, _ = calibration_inputs(name, network, max(batches))
    if len(samples) < CALIBRATION:
        samples = samples.repeat(CALIBRATION, 0)
    ways: dict[str, Callable[[Any], Any]] = {}
    share_memory()
    for kind, preset in (("LIF", name), ("I-LIF", f"{name}-ilif"), ("ReLU", f"{name}-relu")):
        reference = fold_batchnorm(load_model(preset))
        for precision in ("fp32", "int8"):
            graph = dense_graph(reference, samples[:CALIBRATION], precision, processor=True)[1]
            ways[f"{kind}, {precision}"] = session(graph.SerializeToString())
            del graph
            gc.collect()  # traced graphs are cycles, and hold copies of weights
    reference = fold_batchnorm(network)
    ways[EAGER] = in_torch(reference)
    if shutil.which("g++") or shutil.which("clang++"):
        ways[COMPILED] = in_torch(torch.compile(unrolled(reference, each_step=True)))
        ways[COMPILED_MEAN] = in_torch(torch.compile(unrolled(reference, each_step=False)))
    found: dict[str, Any] = {
        "model": name,
        "parameters": sum(p.numel() for p in network.parameters()),
        "tokens": int(samples.shape[1]),
        "machine": f"{processor()}, onnxruntime {onnxruntime.__version__}, torch {torch.__version__.partition('+')[0]}",
        "load": round(os.getloadavg()[0], 1),
        "ms": {},
        "rounds": {},
    }
    for batch in batches:
        found["ms"][batch], found["rounds"][batch] = interleaved(ways, samples[:batch], rounds, seconds)
    return found


def interleaved(
    ways: dict[str, Callable[[Any], Any]], given: Any, rounds: int | None, seconds: float
) -> tuple[dict[str, float], int]:
    """Least time of every way, ms, and the number of rounds; they take turns."""
    best = dict.fromkeys(ways, float("inf"))
    for way in ways.values():
        way(given)
    started, done = time.perf_counter(), 0
    while done < (rounds or LEAST_ROUNDS) or (
        rounds is None and done < MOST_ROUNDS and time.perf_counter() - started < seconds
    ):
        for name, way in ways.items():
            before = time.perf_counter()
            way(given)
            best[name] = min(best[name], 1e3 * (time.perf_counter() - before))
        done += 1
    return best, done


def share_memory() -> None:
    """One arena for all sessions: one each would hold the largest batch of every one of them at once."""
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, None)


def session(model: bytes) -> Callable[[Any], Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.use_env_allocators", "1")
    opened = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    feed = opened.get_inputs()[0].name
    return lambda given: opened.run(None, {feed: given})


def in_torch(model: Any) -> Callable[[Any], Any]:
    def run(given: Any) -> Any:
        with torch.no_grad():
            return model(torch.from_numpy(given))

    return run


class Steps(nn.Module):
    """T steps of a LIF in plain operators, which a compiler can fuse: the spikes [T, ...] of a constant current."""

    def __init__(self, neuron: SpikingNeuron):
        super().__init__()
        config = neuron.config
        self.steps, self.tau, self.decay = config.steps, config.tau, config.decay_input
        self.threshold, self.reset = config.v_threshold, config.v_reset

    def forward(self, current: Tensor) -> list[Tensor]:
        """One tensor of zeros and ones a step."""
        v, spikes = torch.full_like(current, self.reset or 0.0), []
        for _ in range(self.steps):
            rest = v - (self.reset or 0.0)
            v = v + (current - rest) / self.tau if self.decay else v - rest / self.tau + current
            spike = (v >= self.threshold).to(v.dtype)
            v = v - spike * self.threshold if self.reset is None else (1 - spike) * v + spike * self.reset
            spikes.append(spike)
        return spikes


class Stepped(nn.Module):
    """A feed-forward part with its steps in the open; W2 acts on each of them, or once on their mean."""

    def __init__(self, ffn: FeedForward, each_step: bool):
        super().__init__()
        self.fc1, self.norm, self.fc2, self.each_step = ffn.fc1, ffn.norm, ffn.fc2, each_step
        self.steps = Steps(ffn.neuron)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, token, d]` to the same shape."""
        spikes = self.steps(self.norm(self.fc1(x)))
        if self.each_step:
            return torch.stack([self.fc2(spike) for spike in spikes]).mean(0)
        return self.fc2(torch.stack(spikes).mean(0))  # type: ignore[no-any-return]


def unrolled(reference: nn.Module, *, each_step: bool) -> nn.Module:
    made = copy.deepcopy(reference)
    for module in list(made.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, FeedForward):
                setattr(module, name, Stepped(child, each_step))
    return made


def page(found: list[dict[str, Any]]) -> str:
    lines = [
        "# Speed on a CPU",
        "",
        "Measured, one thread, by `python benchmarks/cpu_speed.py --model MODEL` for each model and `--page` for this "
        "page: all ways of running a model take turns in one process; a time is the least of its rounds.",
        "",
        "## Goals",
        "",
        f"A folded spiking model takes at most {WITHIN} times what its ReLU twin takes at the same precision, and at "
        f"batch 16 torch.compile of the model with its T steps takes at least {FASTER} times what the folded model "
        "takes in INT8.",
        "",
        *goals(found),
        "",
    ]
    for batch in BATCHES:
        rows = [(each, each["ms"][str(batch)]) for each in found if str(batch) in each["ms"]]
        if not rows:
            continue
        names = list(rows[0][1])
        lines += [f"## Batch {batch}, ms", "", *heading(rows)]
        lines += [f"| {name} | " + " | ".join(cell(ms.get(name)) for _, ms in rows) + " |" for name in names]
        lines += ["", f"Ratios at batch {batch}:", "", *heading(rows)]
        for title, over, under in RATIOS:
            lines.append(f"| {title} | " + " | ".join(cell(ratio(ms, over, under)) for _, ms in rows) + " |")
        lines.append("")
    lines += NOTES
    for each in found:
        rounds = ", ".join(f"{count} rounds at batch {batch}" for batch, count in each["rounds"].items())
        lines.append(
            f"- {each['model']}: {each['parameters']:,} parameters, {each['tokens']} tokens, {rounds}, load average "
            f"{each['load']} as it began; {each['machine']}."
        )
    return "\n".join(lines) + "\n"


def goals(found: list[dict[str, Any]]) -> list[str]:
    """A row for every goal: how many of the measured cases meet it, and which do not."""
    lines = ["| goal | met in | not met |", "|---|---:|---|"]
    for title, over, under, limit, batches in GOALS:
        cases = [
            (f"{each['model']} at batch {batch}", ratio(each["ms"][str(batch)], over, under))
            for each in found
            for batch in batches
            if str(batch) in each["ms"]
        ]
        known = [(where, value) for where, value in cases if value is not None]
        missed = [f"{where}: {value:.3f}" for where, value in known if (value > limit) == (limit == WITHIN)]
        lines.append(f"| {title} | {len(known) - len(missed)} of {len(known)} | {'; '.join(missed) or '-'} |")
    return lines


def heading(rows: list[tuple[dict[str, Any], dict[str, float]]]) -> list[str]:
    return ["| | " + " | ".join(each["model"] for each, _ in rows) + " |", "|---|" + "---:|" * len(rows)]


def ratio(ms: dict[str, float], over: str, under: str) -> float | None:
    return ms[over] / ms[under] if over in ms and under in ms else None


TWINS = tuple(
    (f"folded {kind} over its ReLU twin, {precision}", f"{kind}, {precision}", f"ReLU, {precision}")
    for precision in ("int8", "fp32")
    for kind in ("LIF", "I-LIF")
)
STEPPED = tuple((f"{way} over folded LIF, int8", way, "LIF, int8") for way in (COMPILED, COMPILED_MEAN))
RATIOS = (*TWINS, (f"{EAGER} over folded LIF, int8", EAGER, "LIF, int8"), *STEPPED)
GOALS = (
    *((f"{title}: at most {WITHIN}", over, under, WITHIN, BATCHES) for title, over, under in TWINS),
    *((f"{title}, batch 16: at least {FASTER}", over, under, FASTER, (16,)) for title, over, under in STEPPED),
)
NOTES = [
    "## What stands in the graph",
    "",
    "- LIF and I-LIF: time folded (docs/own-model.md says when that is proved), written for onnxruntime on a CPU, as "
    "an export for `cpu-onnxruntime` is. An I-LIF is one quantiser and a minimum on bytes, its counts equal to "
    "SpikingJelly's on every float32 current. A LIF of T = 4 is exact in FP32 too, as two hard sigmoids and their "
    "rounded sum; in INT8 it is two quantisers and a sum that saturates, a shift of the current stands in the bias of "
    "W1, and a step lies at most one float32 beside its threshold. TensorRT takes no such bytes: graphs for Jetson "
    "have hard sigmoids there.",
    "- ReLU: the same network with ReLU, quantised the same way.",
    "- SpikingJelly: the BatchNorm-folded module itself; W2 acts once, on the mean over time.",
    "- torch.compile, T steps: the LIF in plain operators, which its compiler fuses; W2 acts on each step's spikes, or "
    "once on their mean, as the SpikingJelly model has it.",
    "- INT8: every linear layer, symmetric weights; attention's products, LayerNorm and sums in float32.",
    "",
]


def cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    main()
