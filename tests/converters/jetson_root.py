"""A Jetson's /proc, /etc, /sys and tools below a folder, by the documented layout, and recorded tegrastats lines."""

from __future__ import annotations

from pathlib import Path

NANO = {"VDD_IN": (5000, 1600), "VDD_CPU_GPU_CV": (5000, 400), "VDD_SOC": (5000, 300)}
AGX = {"VDD_GPU_SOC": (19000, 200), "VDD_CPU_CV": (19000, 100), "VIN_SYS_5V0": (5000, 900)}
THOR = {"VDD_GPU": (12000, 500), "VDD_CPU_SOC_MSS": (12000, 400), "VIN_SYS_5V0": (5000, 1300)}
# Lines that tegrastats printed on real devices, as people have published them on GitHub.
ORIN_NANO_JETPACK_6 = (  # 2026-04: `RAIL now/average`
    "04-27-2026 15:00:54 RAM 779/7620MB (lfb 2x4MB) SWAP 0/3810MB (cached 0MB) CPU [0%@1344,0%@1344,0%@1344,0%@1344,"
    "0%@1344,0%@1344] GR3D_FREQ 0% cpu@50.125C soc2@49.125C soc0@49.25C gpu@50.562C tj@50.562C soc1@50.437C "
    "VDD_IN 6626mW/6625mW VDD_CPU_GPU_CV 1228mW/1230mW VDD_SOC 2380mW/2380mW "
)
AGX_ORIN_JETPACK_6 = (  # 2025-09, not as root
    "09-01-2025 10:55:25 RAM 1313/30697MB (lfb 37x4MB) SWAP 0/15348MB (cached 0MB) CPU [0%@729,0%@729,0%@729,0%@729,"
    "0%@729,0%@729,0%@729,0%@729,off,off,off,off] GR3D_FREQ 0% cpu@43.343C soc2@39.812C soc0@40.312C tj@43.343C "
    "soc1@38.843C VDD_GPU_SOC 1995mW/1995mW VDD_CPU_CV 0mW/0mW VIN_SYS_5V0 2524mW/2524mW"
)
ORIN_NANO_JETPACK_7 = (  # `RAIL now/average/most`
    "10-01-2026 20:36:32 RAM 974/7546MB (lfb 6x4MB) SWAP 0/5821MB (cached 0MB) CPU [0%@729,0%@729,0%@883,0%@883,0%@729,"
    "0%@729] GR3D_FREQ 12% cpu@49.843C/49.843C soc2@49.156C/49.156C soc0@50.187C/50.187C gpu@50.875C/50.875C "
    "tj@50.875C/50.875C soc1@50.218C/50.218C VDD_IN 4548mW/4548mW/4548mW VDD_CPU_GPU_CV 483mW/483mW/483mW "
    "VDD_SOC 1489mW/1489mW/1489mW"
)
AGX_ORIN_JETPACK_7 = (
    "10-01-2026 11:05:58 RAM 8207/62878MB (lfb 80x4MB) SWAP 85/6144MB (cached 0MB) CPU [9%@729,8%@729,9%@729,7%@729,"
    "3%@1190,19%@1190,3%@1190,57%@1190,6%@729,5%@729,1%@729,1%@729] GR3D_FREQ 0% cpu@47.906C/48.343C "
    "soc2@45.375C/45.406C soc0@45.5C/45.593C tj@47.906C/48.343C soc1@47.093C/47.25C VDD_GPU_SOC 3034mW/3049mW/3412mW "
    "VDD_CPU_CV 1137mW/1296mW/2273mW VIN_SYS_5V0 4939mW/4924mW/5040mW"
)
THOR_JETPACK_7_1 = (  # Jetson Linux 38.4, as root: clocks without a percentage
    "04-21-2026 15:50:52 RAM 105265/125772MB (lfb 34x4MB) CPU [0%@972,0%@972,0%@972,0%@972,0%@972,0%@972,1%@972,0%@972,"
    "0%@972,0%@972,0%@972,8%@972,0%@972,0%@972] EMC_FREQ 0%@2750 GR3D_FREQ @[314,314,314] NVENC0_FREQ @314 NVENC1_FREQ "
    "@314 NVDEC0_FREQ @314 NVDEC1_FREQ @314 NVJPG0_FREQ @314 VIC off OFA_FREQ @315 PVA0_FREQ off APE 300 cpu@37.343C "
    "tj@38.875C soc012@37.468C gpu@38.875C soc345@37.406C VDD_GPU 1962mW/1962mW VDD_CPU_SOC_MSS 5887mW/5887mW "
    "VIN_SYS_5V0 5635mW/5635mW VIN 19780mW/19780mW"
)
THOR_JETPACK_7_2 = (  # Jetson Linux 39.2, under load
    "07-02-2026 13:45:44 RAM 36529/125749MB (lfb 12x4MB) SWAP 11/4096MB (cached 9MB) CPU [2%@972,1%@972,0%@972,0%@972,"
    "0%@972,0%@972,0%@972,0%@972,0%@972,0%@972,0%@972,0%@972,0%@972,2%@972] cpu@60.406C tj@63.281C soc012@58.468C "
    "gpu@62.906C soc345@63.281C VDD_GPU 37528mW/37528mW/37528mW VDD_CPU_SOC_MSS 18961mW/18961mW/18961mW "
    "VIN_SYS_5V0 18331mW/18331mW/18331mW VIN 87426mW/43713mW/87426mW"
)
THOR_IDLE = (  # the end of a line: the rail of an idle GPU may read below zero
    "VDD_GPU -392mW/-392mW VDD_CPU_SOC_MSS 3924mW/3835mW VIN_SYS_5V0 5064mW/5055mW VIN 15004mW/15096mW"
)
UNCONNECTED = "VDD_GPU_SOC 2340mW/2340mW VDD_CPU_CV 390mW/390mW VIN_SYS_5V0 4025mW/4025mW NC 0mW/0mW"
"""By the documented grammar, not recorded."""


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
