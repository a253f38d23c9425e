"""What this machine is: its model, JetPack, power mode, clocks and temperatures, read below `root`.

Every reading is None where the machine does not say; nothing here needs root rights. Runs on Python 3.10.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

JETPACK = {
    "36.3": "6.0", "36.4.0": "6.1", "36.4.3": "6.2", "36.4.4": "6.2.1", "36.4.7": "6.2.1", "36.5.0": "6.2.2",
    "36.5.2": "6.2.3", "38.2": "7.0", "38.4": "7.1", "39.2.0": "7.2", "39.2.2": "7.2.2",
}  # fmt: skip
"""JetPack by the release of Jetson Linux."""
CHIPS = {"tegra234": 8.7, "tegra264": 11.0}
"""Compute capability by the chip that the device tree names."""


class StopError(Exception):
    """Ends the program with exit code 2 and one message."""


def describe(root: Path = Path("/")) -> dict[str, Any]:
    """Model, chip, Jetson Linux, JetPack, power mode, clocks (Hz) and temperatures (degrees C) of this machine."""
    model = text(root / "proc/device-tree/model") or platform.machine()
    compatible = (text(root / "proc/device-tree/compatible") or "").split("\0")
    chip = next((c for c in CHIPS for name in compatible if name.endswith(c)), None)
    l4t = _l4t(text(root / "etc/nv_tegra_release"))
    return {
        "model": model.replace("\0", " ").strip(),
        "chip": chip,
        "compute_capability": CHIPS.get(chip) if chip else None,
        "l4t": l4t,
        "jetpack": None if l4t is None else _jetpack(l4t),
        "power_mode": power_mode(root),
        "gpu_clock": gpu_clock(root),
        "memory_clock_hz": _integer(root / "sys/kernel/debug/bpmp/debug/clk/emc/rate"),
        "temperatures_c": temperatures(root),
    }


def slug(name: str) -> str:
    """A name for files: lower case, words joined by hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def power_mode(root: Path = Path("/")) -> dict[str, Any] | None:
    """Id and name of the power mode: nvpmodel's own state and configuration, or what `nvpmodel -q` says."""
    found = re.search(r"pmode:(\d+)", text(root / "var/lib/nvpmodel/status") or "")
    if found:
        number = int(found.group(1))
        modes = re.findall(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", text(root / "etc/nvpmodel.conf") or "")
        name = next((name for each, name in modes if int(each) == number), None)
        if name is not None:
            return {"id": number, "name": name}
    program = tool("nvpmodel", root)
    if program is None:
        return None
    try:
        done = subprocess.run([program, "-q"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    said = re.search(r"NV Power Mode:\s*(\S+)\s+(\d+)", done.stdout)
    return {"id": int(said.group(2)), "name": said.group(1)} if said else None


def gpu_clock(root: Path = Path("/")) -> dict[str, Any] | None:
    """Current, least and most clock of the GPU in Hz; `pinned` where jetson_clocks holds it at the most."""
    for folder in sorted((root / "sys/class/devfreq").glob("*")):
        if "gpu" not in folder.name and "ga10b" not in folder.name:
            continue
        now, least, most = (_integer(folder / f"{name}_freq") for name in ("cur", "min", "max"))
        if now is not None and least is not None and most is not None:
            return {"now_hz": now, "least_hz": least, "most_hz": most, "pinned": least == most}
    return None


def temperatures(root: Path = Path("/")) -> dict[str, float]:
    """Degrees Celsius by thermal zone; zones that are switched off are left out."""
    found = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        value, name = _integer(zone / "temp"), text(zone / "type")
        if value is not None and name and value > -100_000:
            found[name] = value / 1000
    return found


def tool(name: str, root: Path = Path("/")) -> str | None:
    """Path of a program of the system, looked for below `root` where that is not the real one."""
    if root == Path("/"):
        return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin")
    return shutil.which(name, path=f"{root}/usr/sbin:{root}/usr/bin")


def text(path: Path) -> str | None:
    """The text of a file of the system; None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def warnings(device: dict[str, Any]) -> list[str]:
    """What makes figures of this machine wander, in words."""
    clock = device["gpu_clock"]
    if device["chip"] is None:
        return []
    if clock is None:
        return ["the GPU clock cannot be read: whether jetson_clocks is on is not known"]
    if clock["pinned"]:
        return []
    least, most = (clock[name] / 1e6 for name in ("least_hz", "most_hz"))
    return [f"jetson_clocks is off: the GPU clock wanders between {least:.0f} and {most:.0f} MHz; sudo jetson_clocks"]


def _integer(path: Path) -> int | None:
    try:
        return int(text(path) or "")
    except ValueError:
        return None


def _l4t(release: str | None) -> str | None:
    found = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", release or "")
    return f"{found.group(1)}.{found.group(2)}" if found else None


def _jetpack(l4t: str) -> str | None:
    fits = [known for known in JETPACK if l4t == known or l4t.startswith(f"{known}.")]
    return JETPACK[max(fits, key=len)] if fits else None
