"""Run folders as the producers write them, with realistic made-up numbers: schemas as in docs, no model needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SNR = [-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]
NMSE = {
    ("R1", "in-domain"): {
        "model": [-11.2, -15.1, -18.0, -19.6, -20.2, -20.4, -20.5, -20.5, -20.5],
        "last-value": [-1.4, -6.3, -11.1, -15.4, -18.6, -20.6, -21.4, -21.7, -21.8],
        "wiener": [-14.0, -17.1, -20.5, -24.3, -28.5, -32.2, -35.5, -38.8, -42.5],
    },
    ("R1", "unseen"): {
        "model": [-10.8, -14.3, -16.6, -17.8, -18.2, -18.4, -18.4, -18.5, -18.4],
        "last-value": [-1.3, -6.2, -11.0, -15.2, -18.3, -20.1, -20.9, -21.2, -21.3],
        "wiener": [-13.8, -16.8, -20.1, -23.8, -27.9, -31.6, -34.8, -38.0, -41.1],
    },
    ("R2", "in-domain"): {
        "model": [-5.6, -7.4, -8.5, -9.0, -9.2, -9.3, -9.3, -9.3, -9.3],
        "last-value": [2.4, 0.1, -1.6, -2.5, -2.9, -3.1, -3.2, -3.3, -3.3],
        "wiener": [-4.7, -5.8, -6.8, -7.1, -7.6, -8.8, -10.0, -12.0, -14.0],
    },
    ("R2", "unseen"): {
        "model": [-5.1, -6.5, -7.2, -7.6, -7.7, -7.8, -7.8, -7.8, -7.8],
        "last-value": [2.5, 0.2, -1.5, -2.4, -2.8, -3.0, -3.1, -3.1, -3.2],
        "wiener": [-4.6, -5.6, -6.6, -7.0, -7.4, -8.5, -9.7, -11.6, -13.4],
    },
}
TWIN_GAIN = {"spikewfm-nano-relu": 0.7, "spikewfm-nano-qrelu": 0.4}
RATES = [0.21, 0.18, 0.16, 0.12, 0.19, 0.24, 0.31]


def evaluation(model: str = "spikewfm-nano", shift: float = 0.0) -> dict[str, Any]:
    """evaluation.json."""
    curves = []
    for (regime, split), methods in NMSE.items():
        rows = [(model, "model", [v + shift for v in methods["model"]])]
        rows += [(name, "twin", [v - gain for v in methods["model"]]) for name, gain in TWIN_GAIN.items()]
        rows += [(name, "baseline", methods[name]) for name in ("last-value", "wiener")]
        for method, role, values in rows:
            curves.append({
                "method": method, "role": role, "regime": regime, "split": split, "snr_db": SNR, "nmse_db": values,
                "low_db": [v - 0.35 for v in values], "high_db": [v + 0.35 for v in values],
            })  # fmt: skip
    return {
        "schema": "spikeport.evaluation/1", "task": "channel-prediction", "model": model,
        "metric": "NMSE against the clean channel, mean over links", "links": 512, "seed": 0, "kind": "simulated",
        "data": "embedded cities, ray traced, 3.5 and 28 GHz", "curves": curves,
    }  # fmt: skip


def profile(model: str = "spikewfm-nano") -> dict[str, Any]:
    """profile.json with a GPU, an event-driven chip without a latency constant, and the 45 nm convention."""
    return {
        "schema": "spikeport.profile/1",
        "model": {"name": model, "parameters": 889424, "head_parameters": 658000, "trained": True,
                  "config": {"d": 128, "layers": 4}},
        "trace": trace(spiking=True),
        "twin": {"name": "spikewfm-nano-qrelu", "trained": True, "trace": trace(spiking=False)},
        "targets": [jetson(), loihi(), convention()],
    }  # fmt: skip


def trace(spiking: bool) -> dict[str, Any]:
    """Counts of nano on its grid of 64 tokens."""
    layers = [_linear("backbone.embed", 48, 336, 128, False)]
    for n in range(7):
        path = f"backbone.blocks.{n}" if n < 4 else f"head.blocks.{n - 4}"
        layers += [
            _linear(f"{path}.attention.qkv", 64, 128, 384, False),
            _layer(f"{path}.attention", "attention", macs_executed=1048576, macs_algebraic=1048576),
            _linear(f"{path}.attention.out", 64, 128, 128, False),
            _linear(f"{path}.ffn.fc1", 64, 128, 512, False),
            _neuron(f"{path}.ffn.neuron", RATES[n]) if spiking else _layer(f"{path}.ffn.neuron", "activation"),
            _linear(f"{path}.ffn.fc2", 64, 512, 128, spiking, RATES[n]),
        ]
    layers += [_linear("head.decoder", 16, 128, 336, False)]
    keys = [key for key in layers[0] if key not in {"path", "kind", "spike_rate"}]
    return {
        "samples": 32, "tokens": 64, "steps": 4 if spiking else 1, "levels": 1 if spiking else 4,
        "source": "calibration links of the embedded cities, seed 0", "kind": "measured", "layers": layers,
        "totals": {key: sum(layer[key] or 0 for layer in layers) for key in keys}, "unaccounted": [],
    }  # fmt: skip


def _layer(path: str, kind: str, **counts: float | None) -> dict[str, Any]:
    keys = ("macs_executed", "macs_algebraic", "spikes", "spike_rate", "synops", "neuron_updates", "neurons",
            "weight_bytes", "activation_bytes", "state_bytes", "busiest_unit_per_step")  # fmt: skip
    return {"path": path, "kind": kind, **{key: counts.get(key) for key in keys}}


def _linear(path: str, rows: int, fan_in: int, fan_out: int, spikes: bool, rate: float = 0.0) -> dict[str, Any]:
    macs = rows * fan_in * fan_out
    return _layer(path, "linear", macs_executed=macs, macs_algebraic=macs, weight_bytes=4 * fan_in * fan_out,
                  activation_bytes=4 * rows * (fan_in + fan_out),
                  synops=4 * rate * macs if spikes else None)  # fmt: skip


def _neuron(path: str, rate: float) -> dict[str, Any]:
    neurons = 64 * 512
    return _layer(path, "spiking", spikes=4 * rate * neurons, spike_rate=rate, neuron_updates=4 * neurons,
                  neurons=neurons, state_bytes=4 * neurons, busiest_unit_per_step=190.0)  # fmt: skip


def quantity(nominal: float | None, factor: float, unit: str = "J", *source: str) -> dict[str, Any]:
    """An estimated quantity with a multiplicative interval."""
    known = nominal is not None
    return {"low": nominal / factor if known else None, "nominal": nominal, "high": nominal * factor if known else None,
            "unit": unit, "kind": "estimated", "source": list(source) or ["gpu_latency.csv refit"]}  # fmt: skip


def jetson() -> dict[str, Any]:
    """A board with everything known."""
    part = {"event": None, "system": quantity(7.9e-3, 2.1), "host": None, "total": quantity(7.9e-3, 2.1)}
    twin = {"event": None, "system": quantity(7.6e-3, 2.1), "host": None, "total": quantity(7.6e-3, 2.1)}
    return {
        "id": "jetson-orin-nano", "name": "Jetson Orin Nano 8 GB", "class": "gpu", "scenario": "trt, 15 W mode",
        "boundary": "board (VDD_IN)", "precision": "fp16", "energy": part, "latency": quantity(1.02e-3, 2.0, "s"),
        "twin": {"energy": twin, "latency": quantity(0.98e-3, 2.0, "s")}, "break_even_spike_rate": None,
        "verdict": "No difference beyond the intervals: spikes save nothing on a GPU.",
        "notes": ["Launch overhead dominates: 43 kernels."],
        "constants": [_constant("idle_power", 4.9, 4.4, 5.6, "W"), _constant("kernel_time", 8e-6, 5e-6, 1.2e-5, "s")],
    }  # fmt: skip


def loihi() -> dict[str, Any]:
    """A chip without a host, whose latency needs an unpublished constant."""
    part = {"event": quantity(4.4e-4, 1.4), "system": quantity(1.3e-2, 10), "host": None, "total": None}
    twin = {"event": quantity(2.6e-4, 1.4), "system": quantity(None, 1), "host": None, "total": None}
    return {
        "id": "loihi2", "name": "Loihi 2 (one chip)", "class": "event", "scenario": "embedded",
        "boundary": "chip, spiking feed-forward islands only", "precision": "int8", "energy": part,
        "latency": quantity(None, 1, "s", "no published constant for t_mgmt"),
        "twin": {"energy": twin, "latency": None}, "break_even_spike_rate": 0.064,
        "verdict": "No claim: the chip runs the feed-forward parts only, attention stays on the host.",
        "notes": ["Composed, unvalidated: no end-to-end number has been published for such a split."],
        "constants": [_constant("e_syn", 24e-12, 20e-12, 35.5e-12, "J/synop"),
                      {**_constant("t_mgmt", 0, 0, 0, "s/step"), "low": None, "nominal": None, "high": None}],
    }  # fmt: skip


def convention() -> dict[str, Any]:
    """The operation-count table that papers use."""
    part = {"event": None, "system": None, "host": None, "total": quantity(2.4e-4, 1)}
    twin = {"event": None, "system": None, "host": None, "total": quantity(2.9e-4, 1)}
    return {
        "id": "cmos45", "name": "45 nm operation table", "class": "convention", "scenario": "no memory",
        "boundary": "arithmetic only", "precision": "fp32", "energy": part, "latency": None,
        "twin": {"energy": twin, "latency": None}, "break_even_spike_rate": 1.28,
        "verdict": "1.2 times less than the twin by this convention, inside its interval.", "notes": [],
        "constants": [_constant("mac_fp32", 4.6e-12, 4.6e-12, 4.6e-12, "J/op")],
    }  # fmt: skip


def _constant(name: str, nominal: float, low: float, high: float, unit: str) -> dict[str, Any]:
    return {"name": name, "low": low, "nominal": nominal, "high": high, "unit": unit, "basis": "derived",
            "source": ["lava-nc/lava-dl benchmark notebook at d825ac5", "Davies 2018, table 2"]}  # fmt: skip


def manifest(route: str = "onnx", ok: bool = True, model: str = "spikewfm-nano") -> dict[str, Any]:
    """manifest.json of a bundle."""
    plan = [
        {"path": "backbone.embed", "what": "Linear 336 to 128", "action": "kept", "rule": "dense", "reason": None,
         "remedy": None},
        *({"path": f"backbone.blocks.{n}.ffn.neuron", "what": "LIF, T=4", "action": "rewritten", "rule": "staircase",
           "reason": "4 steps on a constant current are a staircase of 4 thresholds", "remedy": None}
          for n in range(4)),
    ]  # fmt: skip
    if route == "nir":
        plan.append({
            "path": "backbone.blocks.0.attention", "what": "softmax attention", "action": "refused", "rule": None,
            "reason": "NIR has no softmax", "remedy": "runs on the host as a dense segment",
        })  # fmt: skip
    rows = [
        {"name": "backbone.blocks.0.ffn.neuron", "kind": "spikes", "value": 0 if ok else 17, "limit": 0,
         "unit": "mismatches", "ok": ok, "detail": "of 131,072 spikes"},
        {"name": "output", "kind": "output", "value": 3.1e-6, "limit": 1e-4, "unit": "", "ok": True,
         "detail": "largest relative difference"},
        {"name": "NMSE", "kind": "task", "value": 2.0e-5, "limit": 0.01, "unit": "dB", "ok": True,
         "detail": "difference over 64 links"},
    ]  # fmt: skip
    return {
        "schema": "spikeport.bundle/1", "spikeport": "0.1.0", "created": "2026-01-05T10:00:00+00:00",
        "model": {"name": model, "config": {}, "parameters": 889424, "trained": True},
        "target": {"id": "jetson-orin-nano" if route == "onnx" else "snntorch", "card_sha256": "0" * 64},
        "route": route, "precision": "fp16" if route == "onnx" else "fp32", "steps": 4, "levels": 1,
        "time_axis": "direct", "versions": {"torch": "2.13.0"}, "seeds": {}, "licences": {}, "plan": plan,
        "parity": {"ok": ok, "rows": rows},
        "files": {"dense/model.onnx": {"sha256": "0" * 64, "bytes": 6302144},
                  "golden/model.npz": {"sha256": "0" * 64, "bytes": 688640}},
    }  # fmt: skip


def detailed(model: str = "spikewfm-nano") -> dict[str, Any]:
    """profile.json with everything optional: rates over SNR and steps, rasters, potentials, accuracy and a budget."""
    data = profile(model)
    layers = [layer for layer in data["trace"]["layers"] if layer["kind"] == "spiking"]
    for layer in layers:
        layer["rate_per_step"] = [layer["spike_rate"] * factor for factor in (0.7, 1.1, 0.9, 1.3)]
    data["trace"]["over_snr"] = [
        {"snr_db": snr, "samples": 8, "spike_rate": 0.2 + snr / 500, "synops": 2.5e7,
         "layers": {layer["path"]: layer["spike_rate"] + snr / 500 for layer in layers}}
        for snr in (-10.0, 10.0, 30.0)
    ]  # fmt: skip
    rows = ["10100z00", "00000000", "1-10021a"]
    edges = [n / 4 for n in range(-8, 13)]
    data["trace"]["detail"] = {
        "sample": 0,
        "rasters": [{"path": layer["path"], "steps": 4, "levels": 1, "tokens": [0, 63], "neurons": [0, 170, 511],
                     "rows": rows} for layer in layers],
        "membranes": [{"path": layer["path"], "threshold": 1.0, "edges": edges, "counts": [10 * n for n in range(20)],
                       "below": 5, "above": 95} for layer in layers],
    }  # fmt: skip
    curves = [
        {"regime": regime, "split": "unseen", "snr_db": [0.0, 20.0], "nmse_db": [-15.0, -19.0],
         "low_db": [-16.0, -21.0], "high_db": [-14.0, -17.0]} for regime in ("R1", "R2")
    ]  # fmt: skip
    data["accuracy"] = {
        "links": 50, "seed": 0, "data": "embedded cities", "metric": "NMSE", "slot_s": 0.0005,
        "slot": "5G slot at 30 kHz subcarrier spacing", "model": curves,
        "twin": [{**curve, "nmse_db": [-14.0, -18.0]} for curve in curves],
    }  # fmt: skip
    for target, known in zip(data["targets"], (True, True, False), strict=True):
        target["accuracy"] = {
            "kind": "simulated", "runtime": "onnxruntime" if known else None, "precision": target["precision"],
            "same_as": None, "parity": True if known else None, "nmse_db": -17.0 if known else None,
            "reason": "" if known else "no artefact is made for cmos45: it is only costed",
            "curves": curves if known else [],
        }  # fmt: skip
    data["budget"] = {
        "gate": "nominal", "ok": False, "limits": {"latency_s": 0.002, "energy_j": None, "nmse_db": None},
        "rows": [
            {"target": "jetson-orin-nano", "precision": "fp16", "figure": "latency", "value": 1.02e-3, "limit": 2e-3,
             "unit": "s", "kind": "estimated", "ok": True, "message": "jetson-orin-nano: latency 1.02 ms within 2 ms"},
            {"target": "loihi2", "precision": "int8", "figure": "latency", "value": None, "limit": 2e-3, "unit": "s",
             "kind": "none", "ok": False, "message": "loihi2: latency is not known, so it cannot be held to 2 ms"},
        ],
    }  # fmt: skip
    return data


def sweep() -> dict[str, Any]:
    """sweep.json of four points on a board, one of them refused."""
    points = []
    for number, steps in enumerate((2, 4, 8)):
        nmse = -14.0 - number if steps < 8 else -14.5
        points.append({
            "id": f"lif-T{steps}-D1-fp16-jetson-orin-nano", "neuron": "lif", "steps": steps, "levels": 1,
            "precision": "fp16", "target": "jetson-orin-nano", "status": "done", "reason": "",
            "note": "not retrained: the weights are those of T = 4", "weights": "spikewfm-nano", "retrained": False,
            "nmse_db": nmse, "nmse_of": "artefact", "spike_rate": 0.2, "synops": 1e7, "macs": 5e7,
            "curves": [{"regime": "R1", "split": "unseen", "snr_db": [10.0], "nmse_db": [nmse],
                        "low_db": [nmse - 1], "high_db": [nmse + 1]}],
            "latency": quantity(3e-4 * steps, 2.0, "s"), "energy": quantity(2e-3 * steps, 2.0),
            "energy_part": "total", "boundary": "board (VDD_IN)", "front_energy": steps < 8, "front_latency": steps < 8,
        })  # fmt: skip
    refused = {**points[0], "id": "lif-T2-D1-int4-jetson-orin-nano", "precision": "int4", "status": "refused",
               "reason": "jetson-orin-nano does not run int4", "curves": [], "latency": None, "energy": None,
               "energy_part": None, "nmse_db": None, "nmse_of": None, "front_energy": False,
               "front_latency": False, "boundary": None}  # fmt: skip
    return {
        "schema": "spikeport.sweep/1", "model": "spikewfm-nano",
        "axes": {"steps": ["2", "4", "8"], "precision": ["fp16", "int4"], "target": ["jetson-orin-nano"]},
        "settings": {"model": "spikewfm-nano", "weights_sha256": "0" * 64, "samples": 4, "seed": 0,
                     "snrs_db": [10.0], "links": 20, "host": None},
        "points": [*points, refused],
    }  # fmt: skip


def scores() -> dict[str, Any]:
    """evaluation.json of positioning."""
    values = {"median": {"mean": 12.5, "low": 9.0, "high": 20.25}}
    return {
        "schema": "spikeport.scores/1", "task": "positioning", "model": "spikewfm-nano", "adaptation": "probe",
        "data": "embedded cities", "places": 3, "links": 200, "snr_db": 20.0, "seed": 0, "seeds": 5,
        "kind": "simulated", "notes": ["Error in the plane."],
        "metrics": [{"name": "median", "unit": "m", "better": "lower"}],
        "scores": [{"method": "spikewfm-nano", "role": "model", "setting": "", "labels": 50, "values": values},
                   {"method": "centre", "role": "baseline", "setting": "", "labels": None, "values": values}],
    }  # fmt: skip


def classification() -> dict[str, Any]:
    """evaluation.json of line of sight."""
    return {
        "schema": "spikeport.classification/1", "task": "los", "model": "spikewfm-nano", "data": "embedded cities",
        "links": 500, "classes": 2, "draws": 20, "seed": 0, "kind": "simulated", "notes": [],
        "curves": [{"method": "spikewfm-nano", "features": "channel", "labels": [16, 64], "accuracy": [0.8, 0.91],
                    "spread": [0.05, 0.02], "f1": [0.79, 0.9]}],
    }  # fmt: skip


def write_run(folder: Path, model: str = "spikewfm-nano", shift: float = 0.0) -> Path:
    """A run folder with an evaluation, a profile and two bundles."""
    dump(folder / "evaluation.json", evaluation(model, shift))
    dump(folder / "profile.json", profile(model))
    dump(folder / "jetson" / "manifest.json", manifest("onnx", model=model))
    dump(folder / "snntorch" / "manifest.json", manifest("nir", model=model))
    return folder


def dump(file: Path, value: Any) -> None:
    """Write JSON, making parents."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))
