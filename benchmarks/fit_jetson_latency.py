"""Refit of the Jetson latency constants, as the cards hold them.

Prints the constants, then three YOLOv8n measurements on an Orin Nano that no fit ever saw. What a fit says of points
that were left out of it stands in docs/validation.md (benchmarks/validation.py).

    python benchmarks/fit_jetson_latency.py
"""

from __future__ import annotations

from spikeport_profiles.latency_fit import NAMES, LatencyPoint, bootstrap, fit, latency_points, predict

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
    print(f"unseen: YOLOv8n on the Orin Nano 8 GB, MAXN_SUPER, TensorRT 10.3 ({UNSEEN_SOURCE})")
    for precision, ms in UNSEEN_MS.items():
        width = {"int8": 1, "fp16": 2, "fp32": 4}[precision]
        # activations and kernels as gpu_latency.csv assumes them for YOLO11n, the net of the same size
        moved = 3.2e6 * width + 2 * 20e6 * width
        point = LatencyPoint("yolov8n", "YOLOv8", "orin_nano8_super", precision, 4.35e9, 100, moved, ms * 1e-3)
        print(f"  {precision}: predicted {1e3 * predict(constants, [point])[0]:.2f} ms, measured {ms:.2f} ms")


if __name__ == "__main__":
    main()
