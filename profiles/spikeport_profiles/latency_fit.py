"""Fit of the GPU latency model to published measurements, and how far off it is on points it never saw.

    t = t0 + n_k t_k + FLOP / (eta_p peak_p) + bytes / (eta_b BW)

Six constants: t0, t_k, eta for int8, fp16 and fp32 (TF32 on Orin), eta_b. Logarithmic residuals, Levenberg-Marquardt
on the logarithms of the constants, with a weak log-normal prior (factor 5) that keeps each one in a physical range.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NAMES = ("t_fixed", "t_kernel", "eta_int8", "eta_fp16", "eta_fp32", "eta_bandwidth")
PRIOR = np.log([2e-4, 5e-6, 1 / 0.3, 1 / 0.3, 1 / 0.3, 1 / 0.7])
PRIOR_SIGMA = float(np.log(5.0))
BYTES = {"int8": 1.0, "fp16": 2.0, "fp32": 4.0, "int4w": 2.0}

DEVICES = {
    "agx_orin_maxn": (85.2e12, 204.8e9),
    "orin_nano8_super": (33.4e12, 102.4e9),
    "orin_nano8_15w": (20.5e12, 68.3e9),
}
"""Dense INT8 peak (ops/s) and memory bandwidth (B/s); FP16 is half of the peak, TF32 a quarter. facts: energy 4.1."""


@dataclass(frozen=True)
class LatencyPoint:
    """One published measurement: `macs` and `kernels` per inference, `bytes` moved, `seconds` measured."""

    id: str
    family: str
    device: str
    precision: str
    macs: float
    kernels: float
    bytes: float
    seconds: float


def latency_points() -> list[LatencyPoint]:
    """The points of calibration/gpu_latency.csv; activations are written once and read once, weights read once."""
    text = (files("spikeport_profiles") / "calibration" / "gpu_latency.csv").read_text(encoding="utf-8")
    points = []
    for row in csv.DictReader(text.splitlines()):
        width = BYTES[row["precision"]]
        weights = float(row["wbytes"]) if row["wbytes"] else float(row["params"]) * width
        points.append(
            LatencyPoint(
                id=row["id"],
                family=row["family"],
                device=row["device"],
                precision=row["precision"],
                macs=float(row["macs"]) * float(row["batch"]),
                kernels=float(row["nk"]),
                bytes=weights + 2 * float(row["acts"] or 0) * width * float(row["batch"]),
                seconds=float(row["lat_ms"]) * 1e-3,
            )
        )
    return points


def fit(points: Sequence[LatencyPoint]) -> dict[str, float]:
    """The six constants, by name; seconds for t_fixed and t_kernel, fractions for the etas."""
    x, y = _design(points), np.log([p.seconds for p in points])
    theta, damping = PRIOR.copy(), 1e-2
    cost = _cost(x, y, theta)
    for _ in range(200):
        terms = x * np.exp(theta)
        jacobian = terms / terms.sum(1, keepdims=True)
        residual = np.log(terms.sum(1)) - y
        gradient = jacobian.T @ residual + (theta - PRIOR) / PRIOR_SIGMA**2
        hessian = jacobian.T @ jacobian + np.eye(len(theta)) / PRIOR_SIGMA**2
        step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), -gradient)
        trial = _cost(x, y, theta + step)
        if trial < cost:
            converged = cost - trial < 1e-12
            theta, cost, damping = theta + step, trial, damping / 3
            if converged:
                break
        else:
            damping *= 4
    values = np.exp(theta)
    values[2:] = 1 / values[2:]
    return dict(zip(NAMES, map(float, values), strict=True))


def predict(constants: dict[str, float], points: Sequence[LatencyPoint]) -> Array:
    """Seconds of each point by the model."""
    values = np.array([constants[name] for name in NAMES])
    values[2:] = 1 / values[2:]
    return np.asarray(_design(points) @ values, np.float64)


def held_out(points: Sequence[LatencyPoint], group: Callable[[LatencyPoint], str]) -> Array:
    """Predicted over measured seconds for each point, by a fit that saw no point of its group."""
    ratios = np.empty(len(points))
    for name in dict.fromkeys(map(group, points)):
        inside = [i for i, p in enumerate(points) if group(p) == name]
        rest = [p for p in points if group(p) != name]
        held = [points[i] for i in inside]
        ratios[inside] = predict(fit(rest), held) / np.array([p.seconds for p in held])
    return ratios


def within(ratios: Array, factor: float) -> float:
    """Share of ratios inside [1 / factor, factor]."""
    return float(np.mean(np.abs(np.log(ratios)) <= np.log(factor)))


def bootstrap(points: Sequence[LatencyPoint], draws: int = 200, seed: int = 0) -> dict[str, tuple[float, float]]:
    """5th and 95th percentile of each constant over refits on points drawn with replacement."""
    rng = np.random.default_rng(seed)
    fits = [fit([points[i] for i in rng.integers(0, len(points), len(points))]) for _ in range(draws)]
    table = np.array([[f[name] for name in NAMES] for f in fits])
    low, high = np.percentile(table, [5, 95], axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(NAMES, low, high, strict=True)}


def _design(points: Sequence[LatencyPoint]) -> Array:
    rows = []
    for p in points:
        peak, bandwidth = DEVICES[p.device]
        flop = 2 * p.macs
        precision = "fp16" if p.precision == "int4w" else p.precision
        peaks = {"int8": peak, "fp16": peak / 2, "fp32": peak / 4}
        compute = [flop / peaks[name] if name == precision else 0.0 for name in peaks]
        rows.append([1.0, p.kernels, *compute, p.bytes / bandwidth])
    return np.array(rows)


def _cost(x: Array, y: Array, theta: Array) -> float:
    residual = np.log(x @ np.exp(theta)) - y
    return float(residual @ residual + np.sum(((theta - PRIOR) / PRIOR_SIGMA) ** 2))
