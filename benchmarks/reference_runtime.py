"""The numpy reference beside stepping snnTorch, and the floor of two matrix products; prints JSON, one thread each.

All three take the same 1,024 tokens of an island of the shipped nano (T = 4), in turn, in one process. snnTorch: the
network that its importer made, stepped, outputs averaged, spikes not even recorded. Reference: `simulate`, spikes and
output. Floor: x W1' and r W2' in numpy, once each, nothing else. Neither reading files nor importing is timed. Times
are CPU time of the one thread, the least of the rounds and their median, so that other programs hardly count.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from snntorch.import_nir import import_from_nir

from spikeport_converters.fold import fold_batchnorm
from spikeport_converters.islands import find_islands, golden, nir_from_island, record
from spikeport_converters.nir_profiles import PROFILES
from spikeport_targets.runtimes.nir_runner import read_island
from spikeport_targets.simulators import snntorch
from spikeport_targets.simulators.reference import simulate
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.tasks.channel_prediction import example_patches

SAMPLES, ROUNDS = 16, 30
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    if any(os.environ.get(name) != "1" for name in THREADS):  # numpy reads them when it is imported
        os.execve(sys.executable, [sys.executable, __file__], {**os.environ, **dict.fromkeys(THREADS, "1")})
    torch.set_num_threads(1)
    folded = fold_batchnorm(load_model("spikewfm-nano"))
    islands = find_islands(folded)
    entering, _ = record(folded, islands, torch.from_numpy(example_patches(folded.config, SAMPLES)))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "island.nir"
        rows = []
        for made in islands:
            nir.write(path, nir_from_island(made, PROFILES["generic"]))
            run = golden(made, entering[made.name], PROFILES["generic"])
            rows.append({"island": made.path, **measure(read_island(path), run)})
    total = {key: sum(row[key] for row in rows) for key in ("snntorch_ms", "reference_ms", "floor_ms")}
    print(json.dumps({"rows": rows, "total": total, "rounds": ROUNDS}, indent=2))


def measure(island: Any, run: Any) -> dict[str, Any]:
    with contextlib.redirect_stdout(io.StringIO()):
        net = import_from_nir(island.graph)
    x, rate = torch.from_numpy(run.input), run.spikes.mean(0, dtype=np.float32)
    first, second = (island.graph.nodes[name].weight.T for name in ("fc1", "fc2"))

    def stepped() -> Any:
        state, outputs = None, []
        with torch.no_grad():
            for _ in range(island.steps):
                out, state = net(x, state)
                outputs.append(out)
        return torch.stack(outputs).mean(0)

    def reference() -> Any:
        return simulate(island, run.input)

    def floor() -> Any:
        return run.input @ first, rate @ second

    took: dict[Callable[[], Any], list[float]] = {stepped: [], reference: [], floor: []}
    for _ in range(ROUNDS):
        for work, times in took.items():
            start = time.thread_time()
            work()
            times.append(1e3 * (time.thread_time() - start))
    spikes, output = reference()
    theirs, _ = snntorch.simulate(island, run.input)
    best = {name: min(took[work]) for name, work in (("snntorch", stepped), ("reference", reference), ("floor", floor))}
    return {
        **{f"{name}_ms": value for name, value in best.items()},
        "median_ms": {work.__name__: float(np.median(times)) for work, times in took.items()},
        "times": best["snntorch"] / best["reference"],
        "tokens": len(run.input),
        "spikes": run.spikes.size,
        "differ_from_snntorch": int((spikes != theirs).sum()),
        "differ_from_spikingjelly": int((spikes != run.spikes).sum()),
        "output_error": float(np.abs(output - run.output).max() / np.abs(run.output).max()),
    }


if __name__ == "__main__":
    main()
