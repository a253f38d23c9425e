"""A Jetson's /proc, /etc, /sys and tools below a folder, by the documented layout; no device was at hand."""

from __future__ import annotations

from pathlib import Path

NANO = {"VDD_IN": (5000, 1600), "VDD_CPU_GPU_CV": (5000, 400), "VDD_SOC": (5000, 300)}
AGX = {"VDD_GPU_SOC": (19000, 200), "VDD_CPU_CV": (19000, 100), "VIN_SYS_5V0": (5000, 900)}
THOR = {"VDD_GPU": (12000, 500), "VDD_CPU_SOC_MSS": (12000, 400), "VIN_SYS_5V0": (5000, 1300)}
JETPACK_6 = (  # `RAIL now/average`, clocks without brackets or with
    "11-21-2026 10:00:00 RAM 3162/7620MB (lfb 8x4MB) SWAP 0/3810MB (cached 0MB) CPU [1%@1510,off] EMC_FREQ 3%@2133 "
    "GR3D_FREQ 10%@1300 NVDEC off VIC off APE 200 cpu@50.031C tj@50.031C "
    "VDD_IN 4952mW/4900mW VDD_CPU_GPU_CV 1013mW/1000mW VDD_SOC 1544mW/1500mW"
)
JETPACK_6_AGX = (
    "RAM 4321/62801MB (lfb 1759x4MB) CPU [0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 0%@[0,0] APE 174 GPU@-256C tj@44.3C "
    "VDD_GPU_SOC 2340mW/2340mW VDD_CPU_CV 390mW/390mW VIN_SYS_5V0 4025mW/4025mW NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW"
)
JETPACK_7_ORIN = (  # `RAIL now/average/most`
    "RAM 5000/62000MB CPU [3%@1300] GR3D_FREQ 12%@[1300,1300] tj@51C "
    "VDD_GPU_SOC 5000mW/4800mW/6000mW VDD_CPU_CV 900mW/880mW/1200mW VIN_SYS_5V0 4000mW/3900mW/4500mW"
)
JETPACK_7_THOR = (  # the percent sign may be missing; an idle rail may read below zero
    "RAM 9000/125000MB CPU [1%@972] gr3d_freq @[1575,1575,1575] tj@48.2C "
    "VDD_GPU -392mW/0mW/3000mW VDD_CPU_SOC_MSS 3924mW/3924mW/5000mW VIN_SYS_5V0 6500mW/6500mW/7000mW "
    "VIN 23000mW/22800mW/30000mW"
)


def write(root: Path, name: str, text: str | int) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def program(root: Path, name: str, text: str) -> None:
    write(root, f"usr/bin/{name}", f"#!/bin/sh\n{text}")
    (root / "usr/bin" / name).chmod(0o755)


def rails(root: Path, channels: dict[str, tuple[int, int]], bus: str = "1-0040") -> None:
    """An INA3221: millivolts and milliamperes by label, an unconnected channel and the sum of shunt voltages."""
    chip = f"sys/bus/i2c/devices/{bus}"
    write(root, f"{chip}/name", "ina3221")
    for channel, (label, (millivolts, milliamperes)) in enumerate(channels.items(), 1):
        write(root, f"{chip}/hwmon/hwmon3/in{channel}_label", label)
        write(root, f"{chip}/hwmon/hwmon3/in{channel}_input", millivolts)
        write(root, f"{chip}/hwmon/hwmon3/curr{channel}_input", milliamperes)
    write(root, f"{chip}/hwmon/hwmon3/in7_label", "sum of shunt voltages")
    write(root, f"{chip}/hwmon/hwmon3/in7_input", 9999)


def jetson(root: Path, *, pinned: bool = True) -> Path:
    """An Orin Nano developer kit with JetPack 6.2.1 in its mode MAXN_SUPER."""
    write(root, "proc/device-tree/model", "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0")
    write(root, "proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234")
    write(root, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64")
    write(root, "var/lib/nvpmodel/status", "pmode:0002 fmode:quiet")
    write(root, "etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >\nx\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n")
    for name, value in (
        ("cur", 1_020_000_000),
        ("min", 1_020_000_000 if pinned else 306_000_000),
        ("max", 1_020_000_000),
    ):
        write(root, f"sys/class/devfreq/17000000.gpu/{name}_freq", value)
    write(root, "sys/class/thermal/thermal_zone0/type", "tj-thermal")
    write(root, "sys/class/thermal/thermal_zone0/temp", 50_031)
    write(root, "sys/class/thermal/thermal_zone1/type", "cv0-thermal")
    write(root, "sys/class/thermal/thermal_zone1/temp", -256_000)
    rails(root, NANO)
    return root
