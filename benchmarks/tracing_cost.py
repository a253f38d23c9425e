"""What a trace costs beside a plain forward pass, and what a whole profile of the 80m preset takes.

    python benchmarks/tracing_cost.py

CPU seconds of this process, one thread, model and trace in turns, fastest of the rounds; the 80m profile (trace of the
model and of its twin, five targets) runs in a process of its own.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import numpy as np
import torch

from spikeport_profiles.trace import trace
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.tasks.channel_prediction import example_patches

CASES = {"spikewfm-nano": (16, 12), "spikewfm-nano-ilif": (16, 12), "spikewfm-nano-relu": (16, 12),
         "spikewfm-3.5m": (4, 4)}  # fmt: skip
"""Samples in the batch, and rounds."""
WHOLE = """
import resource, time, spikeport
started = time.perf_counter()
targets = ["jetson-orin-nano", "jetson-agx-orin", "loihi1", "loihi2", "cmos45"]
spikeport.profile("spikewfm-80m", targets=targets, samples=2)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def ratio(name: str, samples: int, rounds: int) -> tuple[float, float]:
    model = load_model(name).eval()
    patches = example_patches(model.config, samples)
    plain, traced = [], []
    for _ in range(rounds):
        started = time.process_time()
        with torch.no_grad():
            model(torch.from_numpy(patches))
        plain.append(time.process_time() - started)
        started = time.process_time()
        trace(model, [patches])
        traced.append(time.process_time() - started)
    return min(plain), min(traced) / min(plain)


def main() -> None:
    torch.set_num_threads(1)
    print("| model | samples | forward, CPU s | trace / forward |\n|---|---|---|---|")
    for name, (samples, rounds) in CASES.items():
        seconds, times = ratio(name, samples, rounds)
        print(f"| {name} | {samples} | {seconds:.3f} | {times:.2f} |", flush=True)
    model = load_model("spikewfm-nano")
    one = np.asarray(example_patches(model.config, 8))
    peaks = []
    for batches in (2, 40):
        trace(model, (one for _ in range(batches)))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    print(f"peak memory after 2 batches {peaks[0] / 1e6:.2f} GB, after 40 {peaks[1] / 1e6:.2f} GB")
    seconds, peak = subprocess.run(
        [sys.executable, "-c", WHOLE], capture_output=True, text=True, check=True
    ).stdout.split()
    print(f"profile of spikewfm-80m, 2 samples, five targets: {float(seconds):.0f} s, peak {float(peak) / 1e6:.1f} GB")


if __name__ == "__main__":
    main()
