"""Electrical power while something runs: the INA sensors of a Jetson in sysfs, or tegrastats. Python 3.10.

    E_inference = P_load T / inferences          above idle: (P_load - P_idle) T / inferences

P is the mean over a window, T the length of the window under load.

The rails end at the module or its carrier's input: they are not the wall.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from runner.device import text, tool

HZ = 15.0
TOTALS = (
    ("VDD_IN",),
    ("VIN",),
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),
)
"""Rails that together are the total, first match: Orin Nano and NX, Thor with its carrier, AGX Orin, Thor's module."""
MEASURED_RAIL = re.compile(r"\b([A-Za-z][A-Za-z0-9_]*)\s+(-?\d+)mW(?:/-?\d+mW){0,2}")


def tegrastats_rails(line: str) -> dict[str, float]:
    """Watts by rail of one line of tegrastats, `RAIL nowmW[/averagemW[/mostmW]]`, without what is not connected."""
    found = MEASURED_RAIL.findall(line)
    return {name.upper(): int(value) / 1000 for name, value in found if name.upper() != "NC"}


def total_rails(names: Any) -> tuple[str, ...]:
    """The rails whose sum is the power of the module, or of Thor's carrier; empty where no known set is there."""
    return next((rails for rails in TOTALS if set(rails) <= set(names)), ())


class Sensors:
    """The INA3221 and INA238 chips in sysfs."""

    name = "hwmon"

    def __init__(self, root: Path = Path("/")) -> None:
        self.channels: dict[str, tuple[Path, ...]] = {}
        for chip in sorted((root / "sys/bus/i2c/devices").glob("*")):
            kind = text(chip / "name") or ""
            for folder in sorted((chip / "hwmon").glob("hwmon*")) if kind.startswith(("ina3221", "ina238")) else ():
                self._add(folder, kind)

    def _add(self, folder: Path, kind: str) -> None:
        if kind.startswith("ina238"):
            if text(folder / "power1_input"):
                self.channels[(text(folder / "power1_label") or "VIN").upper()] = (folder / "power1_input",)
            return
        for channel in range(1, 7):  # channel 7 is the sum of the shunt voltages
            label = (text(folder / f"in{channel}_label") or "NC").upper()
            volts, amperes = folder / f"in{channel}_input", folder / f"curr{channel}_input"
            if not label.startswith("NC") and text(volts) and text(amperes):
                self.channels[label] = (volts, amperes)

    def start(self) -> None:
        """Nothing to start."""

    def read(self) -> dict[str, float]:
        """Watts by rail now; a rail that cannot be read this time is left out."""
        found = {}
        for label, files in self.channels.items():
            try:
                values = [int(file.read_text()) for file in files]
            except (OSError, ValueError):
                continue
            found[label] = values[0] * 1e-6 if len(values) == 1 else values[0] * values[1] * 1e-6  # uW, or mV mA
        return found

    def stop(self) -> None:
        """Nothing to stop."""


class Tegrastats:
    """The lines of NVIDIA's tegrastats, the latest of which counts."""

    name = "tegrastats"

    def __init__(self, root: Path = Path("/")) -> None:
        self.program = tool("tegrastats", root)
        self.latest: dict[str, float] = {}
        self.process: Any = None

    def start(self) -> None:
        """Start it, and wait up to 3 s for its first line."""
        command = [str(self.program), "--interval", "100"]
        try:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            return
        threading.Thread(target=self._follow, daemon=True).start()
        until = time.monotonic() + 3
        while not self.latest and time.monotonic() < until and self.process.poll() is None:
            time.sleep(0.02)

    def _follow(self) -> None:
        for line in self.process.stdout:
            self.latest = tegrastats_rails(line) or self.latest

    def read(self) -> dict[str, float]:
        """Watts by rail of the latest line."""
        return dict(self.latest)

    def stop(self) -> None:
        """End the program."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(5)
            self.process.stdout.close()
            self.process = None


def reader(root: Path = Path("/")) -> Any:
    """What reads power here: the sensors, else tegrastats; None where neither is."""
    sensors = Sensors(root)
    if sensors.channels:
        return sensors
    stats = Tegrastats(root)
    return stats if stats.program is not None else None


class Window:
    """Samples of every rail while a `with` block runs: `with Window(reader) as window: ...; window.mean_w`."""

    def __init__(self, source: Any, hz: float = HZ) -> None:
        self.source, self.pause = source, 1 / hz
        self.samples: list[dict[str, float]] = []
        self.seconds = 0.0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self.done.is_set():
            self.samples.append(self.source.read())
            self.done.wait(self.pause)

    def __enter__(self) -> Window:
        self.started = time.perf_counter()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.started
        self.done.set()
        self.thread.join(5)

    @property
    def mean_w(self) -> dict[str, float]:
        """Mean watts of every rail that was there in each sample."""
        names = set.intersection(*(set(sample) for sample in self.samples)) if self.samples else set()
        return {n: sum(sample[n] for sample in self.samples) / len(self.samples) for n in sorted(names)}


def energy(idle: Window, load: Window, inferences: int) -> dict[str, Any]:
    """Joules per inference over the load window, whole and above idle, of the total rails and of each rail."""
    rest, busy = idle.mean_w, load.mean_w
    rails = total_rails(set(rest) & set(busy))
    found: dict[str, Any] = {
        "total_rails": list(rails),
        "boundary": f"{' + '.join(rails)}: {'carrier input' if rails == ('VIN',) else 'module rails'}, not the wall"
        if rails
        else "rails of an unknown set: no total",
        "idle_w": rest,
        "load_w": busy,
        "idle_s": idle.seconds,
        "load_s": load.seconds,
        "samples": [len(idle.samples), len(load.samples)],
        "inferences": inferences,
        "energy_j": None,
        "energy_above_idle_j": None,
    }
    if rails and inferences:
        each = load.seconds / inferences
        power, still = (sum(watts[name] for name in rails) for watts in (busy, rest))
        found |= {"energy_j": power * each, "energy_above_idle_j": (power - still) * each}
    return found
