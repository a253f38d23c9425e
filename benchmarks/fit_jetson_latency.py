"""Refit of the Jetson latency constants, and the model's error on points it never saw.

Prints the constants as the card holds them, then the share of held-out points within a factor 2 with one point, one
device and one model family left out, and four YOLOv8n measurements on an Orin Nano that no fit ever saw.

    python benchmarks/fit_jetson_latency.py
"""

from __future__ import annotations

import numpy as np

from spikeport_profiles.gpu import LATENCY_FACTOR
from spikeport_profiles.latency_fit import (
    NAMES,
    LatencyPoint,
    bootstrap,
    fit,
    held_out,
    latency_points,
    predict,
    within,
)
from spikeport_profiles.montecarlo import log_triangular

UNSEEN_SOURCE = "hokwangchoi/jetson-orin-nano-benchmarks@b7d1815 vision-benchmarks/assets/results"
UNSEEN_MS = {"fp32": 8.36, "fp16": 4.43, "int8": 3.49}


def main() -> None:
    points = latency_points()
    constants, spread = fit(points), bootstrap(points)
    print(f"constants from {len(points)} points (5th and 95th percentile of 200 bootstrap refits)")
    for name in NAMES:
        low, high = spread[name]
        value = constants[name]
        print(f"  {name:14} {value:.4g}   [{min(low, value):.4g}, {max(high, value):.4g}]")
    spread_of_draws = log_triangular("factor_latency", 1 / LATENCY_FACTOR, 1, LATENCY_FACTOR)[1:]
    inner = float(np.percentile(spread_of_draws, 90))
    print(f"held out (predicted / measured)          within x2   within x{inner:.2f}   geometric mean   worst")
    groups = {"one point": lambda p: p.id, "one device": lambda p: p.device, "one family": lambda p: p.family}
    for name, group in groups.items():
        ratios = held_out(points, group)
        mean, worst = np.exp(np.mean(np.log(ratios))), np.exp(np.max(np.abs(np.log(ratios))))
        print(f"  {name:38} {within(ratios, 2):8.1%}   {within(ratios, inner):10.1%}   {mean:14.2f}   x{worst:.2f}")
    print(f"(x{inner:.2f} is the p10-p90 interval of the structural factor alone; the constants' own ranges widen it)")
    print(f"unseen: YOLOv8n on the Orin Nano 8 GB, MAXN_SUPER, TensorRT 10.3 ({UNSEEN_SOURCE})")
    for precision, ms in UNSEEN_MS.items():
        width = {"int8": 1, "fp16": 2, "fp32": 4}[precision]
        # activations and kernels as gpu_latency.csv assumes them for YOLO11n, the net of the same size
        moved = 3.2e6 * width + 2 * 20e6 * width
        point = LatencyPoint("yolov8n", "YOLOv8", "orin_nano8_super", precision, 4.35e9, 100, moved, ms * 1e-3)
        print(f"  {precision}: predicted {1e3 * predict(constants, [point])[0]:.2f} ms, measured {ms:.2f} ms")


if __name__ == "__main__":
    main()
