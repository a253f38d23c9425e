"""Latency, and energy where a counter can be read, measured on this machine's CPU through ONNX Runtime.

Model and twin take turns in short blocks of runs on one pinned core, so that both see the same machine. Energy is the
processor package's own counter (RAPL) over a block, idle power included.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from torch import nn

from spikeport_converters.fold import fold_batchnorm
from spikeport_converters.jetson import dense_graph
from spikeport_targets.card import Card, Quantity
from spikeport_toolkit.models.neuron import SpikingNeuron

from .estimate import Energy, Estimate, TwinCost
from .text import percent_more, si

POWERCAP = Path("/sys/class/powercap")
WARM_UP, BLOCKS = 3, 10
BLOCK_S, LEAST_RUNS = 0.25, 3
"""A block lasts this long or this many runs, whichever is more."""
CLOSE = 0.05
"""Medians nearer than this are called equal: they move that much from one call to the next."""


@dataclass
class Timings:
    """Seconds of every run, and of every block its median and the joules a run."""

    seconds: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)


def measure(
    model: nn.Module,
    twin: nn.Module | None,
    card: Card,
    patches: NDArray[np.float32],
    precision: str,
    *,
    powercap: Path = POWERCAP,
) -> Estimate:
    """Time `model` and its `twin` in `precision` on the first of `patches` [sample, token, value], batch 1.

    Inputs of a multi-step module are [T, sample, ...]: the first sample with all its steps.
    All patches calibrate INT8. low, nominal and high are the 10th, 50th and 90th percentile of the runs. Energy is
    None where the counter below `powercap` cannot be read.
    """
    networks = [model] if twin is None else [model, twin]
    runs = [_session(network, patches, precision) for network in networks]
    counter = Counter(powercap)
    timings = [Timings() for _ in runs]
    with _pinned() as core:
        for run in runs:
            for _ in range(WARM_UP):
                run()
        for _ in range(BLOCKS):
            for run, found in zip(runs, timings, strict=True):
                _block(run, found, counter)
    machine = f"{_cpu()}, core {core}, one thread, onnxruntime {onnxruntime.__version__}"
    latency = [_quantity(t.seconds, "s", machine) for t in timings]
    energy = [Energy(None, None, None, _quantity(t.joules, "J", machine)) for t in timings]
    return Estimate(
        id=card.id,
        name=card.name,
        klass=card.klass,
        scenario=str(card.limits.get("default_scenario", "none")),
        boundary=card.boundary,
        precision=precision,
        energy=energy[0],
        latency=latency[0],
        twin=TwinCost(energy[1], latency[1]) if twin is not None else None,
        break_even_spike_rate=None,
        verdict=_verdict(latency, timings),
        notes=_notes(machine, timings[0], counter, any(isinstance(m, SpikingNeuron) for m in model.modules())),
        constants=(),
    )


class Counter:
    """The package energy counter of the first processor (RAPL), J; None where it cannot be read."""

    def __init__(self, powercap: Path):
        folder = powercap / "intel-rapl:0"
        self._file, self.why = folder / "energy_uj", ""
        try:
            self._range = int((folder / "max_energy_range_uj").read_text())
            int(self._file.read_text())
        except (OSError, ValueError) as error:
            self._range = 0
            self.why = f"no energy: {self._file} cannot be read ({type(error).__name__})"

    def read(self) -> int | None:
        """Microjoules since an unknown start."""
        return int(self._file.read_text()) if self._range else None

    def since(self, start: int | None) -> float | None:
        """Joules since `start`, over at most one wrap of the counter."""
        now = self.read()
        return None if now is None or start is None else (now - start) % (self._range + 1) * 1e-6


def _session(network: nn.Module, patches: NDArray[np.float32], precision: str) -> Callable[[], object]:
    _, graph = dense_graph(fold_batchnorm(network.eval()), patches, precision, processor=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])
    takes = session.get_inputs()[0]
    sizes = (size if isinstance(size, int) else 1 for size in takes.shape)  # the batch is the axis that has a name
    one = np.ascontiguousarray(patches[tuple(slice(size) for size in sizes)])
    return lambda: session.run(None, {takes.name: one})


def _block(run: Callable[[], object], found: Timings, counter: Counter) -> None:
    count, started, energy = 0, time.perf_counter(), counter.read()
    while count < LEAST_RUNS or time.perf_counter() - started < BLOCK_S:
        before = time.perf_counter()
        run()
        found.seconds.append(time.perf_counter() - before)
        count += 1
    found.medians.append(float(np.median(found.seconds[-count:])))
    joules = counter.since(energy)
    if joules is not None:
        found.joules.append(joules / count)


@contextmanager
def _pinned() -> Iterator[int | str]:
    """This thread on one of its cores, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield "not pinned"
        return
    before = os.sched_getaffinity(0)
    core = max(before)
    os.sched_setaffinity(0, {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, before)


def _quantity(values: list[float], unit: str, machine: str) -> Quantity | None:
    if not values:
        return None
    low, middle, high = (float(v) for v in np.percentile(values, [10, 50, 90]))
    return Quantity(low, middle, high, unit, "measured", (f"{len(values)} samples on {machine}",))


def _verdict(latency: list[Quantity | None], timings: list[Timings]) -> str:
    """A difference is claimed where the 10th to 90th percentiles stand apart, or those of the ratios of paired blocks.

    A block of the model and the block of the twin beside it saw the same machine: their ratio is the paired interval.
    """
    mine = latency[0]
    assert mine is not None
    assert mine.nominal is not None
    other = latency[1] if len(latency) > 1 else None
    if other is None or other.nominal is None:
        return f"Measured here: {si(mine.nominal, 's')}; no twin was given."
    ratio = mine.nominal / other.nominal
    figures = f"{si(mine.nominal, 's')} against {si(other.nominal, 's')} for the quantised twin"
    assert mine.low is not None
    assert mine.high is not None
    assert other.low is not None
    assert other.high is not None
    low, middle, high = np.percentile(np.divide(timings[0].medians, timings[1].medians), [10, 50, 90])
    apart, paired = mine.high < other.low or other.high < mine.low, not low <= 1 <= high
    if not apart and not paired:
        return f"Measured here, no difference can be told: {figures}, and the intervals overlap."
    ratio = ratio if apart else float(middle)
    pays = "costs time" if ratio > 1 + CLOSE else "saves time" if ratio < 1 - CLOSE else "makes no difference"
    why = "" if apart else f"; the runs overlap, the ratios of blocks in turns, {low:.2f} to {high:.2f}, do not reach 1"
    return f"Measured here, spiking {pays}: {figures} ({percent_more(ratio)}{why})."


def _notes(machine: str, found: Timings, counter: Counter, folded: bool) -> tuple[str, ...]:
    notes = [
        f"Measured on {machine}: median of {len(found.seconds)} runs at batch 1, 10th to 90th percentile"
        + ("; time folded." if folded else "."),
        "A desktop or server core says nothing about a Jetson or a chip; it is here so that one column is real.",
    ]
    return (*notes, counter.why) if counter.why else tuple(notes)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "an unnamed CPU"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "an unnamed CPU")
