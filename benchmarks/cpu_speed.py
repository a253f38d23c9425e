"""Folded spiking models in onnxruntime beside their ReLU twins, SpikingJelly and torch.compile; one thread.

    python benchmarks/cpu_speed.py --model spikewfm-20m --out build/speed      measure one model
    python benchmarks/cpu_speed.py --page docs/speed.md --out build/speed      write the page from all that was measured

All ways of running a model take turns, round by round, in one process, so that each sees the same machine; a time is
the least of its rounds, which other programs hardly touch, and a ratio is one of two such times. Batch 1 and 16 (80m:
batch 1). torch.compile needs a C++ compiler (g++ or clang++); without one its columns are left out. Weights are the
shipped ones or untrained: they move no time but that of nothing here, since every operation is dense.
"""

from __future__ import annotations

import argparse
import copy
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

from spikeport_converters.fold import fold_batchnorm, fold_time
from spikeport_converters.jetson import dense_graph
from spikeport_profiles.inputs import calibration_inputs
from spikeport_toolkit.files import write_text
from spikeport_toolkit.models.layers import FeedForward
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.models.neuron import SpikingNeuron

MODELS = {
    "spikewfm-nano": "spikewfm-nano",
    "spikewfm-3.5m": "spikewfm-3.5m",
    "spikewfm-20m": "spikewfm-20m",
    "spikewfm-80m": "spikewfm-80m",
    "lwm-1.0-spiking": "lwm-1.0-spiking",
}
BATCHES, ROUNDS, CALIBRATION = (1, 16), 15, 16
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
EAGER, COMPILED, COMPILED_MEAN, COMPILED_FOLDED = (
    "SpikingJelly, eager",
    "torch.compile, T steps, W2 on each",
    "torch.compile, T steps, W2 on the mean",
    "torch.compile, folded",
)


def main() -> None:
    if any(os.environ.get(name) != "1" for name in THREADS):  # read when numpy and torch are imported
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **dict.fromkeys(THREADS, "1")})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/speed"))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.model:
        batches = (1,) if options.model.endswith("80m") else BATCHES
        write_text(options.out / f"{options.model}.json", json.dumps(measure(options.model, batches, options.rounds)))
    if options.page:
        found = [json.loads(path.read_text()) for path in (options.out / f"{m}.json" for m in MODELS) if path.exists()]
        write_text(options.page, page(found))


def measure(name: str, batches: tuple[int, ...], rounds: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    network = load_model(name)
    samples, _ = calibration_inputs(name, network, CALIBRATION)
    ways: dict[str, Callable[[Any], Any]] = {}
    for kind, preset in (("LIF", name), ("I-LIF", f"{name}-ilif"), ("ReLU", f"{name}-relu")):
        reference = fold_batchnorm(load_model(preset))
        for precision in ("fp32", "int8"):
            ways[f"{kind}, {precision}"] = session(dense_graph(reference, samples, precision)[1].SerializeToString())
    reference = fold_batchnorm(network)
    ways[EAGER] = in_torch(reference)
    if shutil.which("g++") or shutil.which("clang++"):
        ways[COMPILED] = in_torch(torch.compile(unrolled(reference, each_step=True)))
        ways[COMPILED_MEAN] = in_torch(torch.compile(unrolled(reference, each_step=False)))
        ways[COMPILED_FOLDED] = in_torch(torch.compile(fold_time(reference)))
    return {
        "model": name,
        "parameters": sum(p.numel() for p in network.parameters()),
        "machine": f"{processor()}, onnxruntime {onnxruntime.__version__}, torch {torch.__version__.partition('+')[0]}",
        "rounds": rounds,
        "ms": {batch: interleaved(ways, samples[:batch], rounds) for batch in batches},
    }


def interleaved(ways: dict[str, Callable[[Any], Any]], given: Any, rounds: int) -> dict[str, float]:
    """Least time of every way, ms; they take turns."""
    best = {}
    for name, way in ways.items():
        way(given)
        way(given)
        best[name] = float("inf")
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way(given)
            best[name] = min(best[name], 1e3 * (time.perf_counter() - started))
    return best


def session(model: bytes) -> Callable[[Any], Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
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
    ]
    for batch in BATCHES:
        rows = [(each, each["ms"][str(batch)]) for each in found if str(batch) in each["ms"]]
        if not rows:
            continue
        names = list(rows[0][1])
        lines += [f"## Batch {batch}, ms", "", "| | " + " | ".join(each["model"] for each, _ in rows) + " |"]
        lines.append("|---|" + "---:|" * len(rows))
        lines += [f"| {name} | " + " | ".join(cell(ms.get(name)) for _, ms in rows) + " |" for name in names]
        lines += ["", f"Ratios at batch {batch}:", "", "| | " + " | ".join(each["model"] for each, _ in rows) + " |"]
        lines.append("|---|" + "---:|" * len(rows))
        for title, over, under in RATIOS:
            cells = [f"{ms[over] / ms[under]:.2f}" if over in ms and under in ms else "-" for _, ms in rows]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += NOTES
    lines += [
        f"- {each['model']}: {each['parameters']:,} parameters, {each['rounds']} rounds, {each['machine']}."
        for each in found
    ]
    return "\n".join(lines) + "\n"


RATIOS = (
    ("folded I-LIF over its ReLU twin, int8", "I-LIF, int8", "ReLU, int8"),
    ("folded LIF over its ReLU twin, int8", "LIF, int8", "ReLU, int8"),
    ("folded I-LIF over its ReLU twin, fp32", "I-LIF, fp32", "ReLU, fp32"),
    ("folded LIF over its ReLU twin, fp32", "LIF, fp32", "ReLU, fp32"),
    ("SpikingJelly over folded LIF, int8", EAGER, "LIF, int8"),
    ("torch.compile (T steps, W2 on each) over folded LIF, int8", COMPILED, "LIF, int8"),
    ("torch.compile (T steps, W2 on the mean) over folded LIF, int8", COMPILED_MEAN, "LIF, int8"),
    ("torch.compile (folded) over folded LIF, int8", COMPILED_FOLDED, "LIF, int8"),
)
NOTES = [
    "## What stands in the graph",
    "",
    "- LIF and I-LIF: time folded (docs/own-model.md says when that is proved), the counts equal to SpikingJelly's on "
    "every float32 current. The staircase is written as hard sigmoids, one pass over the currents each: one for an "
    "I-LIF, whose quantiser behind does the rounding, so that in INT8 it costs what a ReLU costs; two and a sum for a "
    "LIF of T = 4, whose thresholds are not evenly spaced.",
    "- ReLU: the same network with ReLU, quantised the same way.",
    "- SpikingJelly: the BatchNorm-folded module itself; W2 acts once, on the mean over time.",
    "- torch.compile, T steps: the LIF in plain operators, which its compiler fuses; needs a C++ compiler.",
    "- INT8: every linear layer, symmetric, TensorRT's rules; attention's products, LayerNorm and sums in float32.",
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
