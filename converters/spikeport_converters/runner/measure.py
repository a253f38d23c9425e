"""measured.json: what one bundle takes on this device, or two of them side by side. Python 3.10.

Latency is the time from the launch of an inference until its stream is idle, inputs and outputs in device memory. Two
bundles take turns, so that both see the same clocks.
"""

from __future__ import annotations

import json
import math
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from runner import device, power
from runner.engine import write_atomic

SCHEMA = "spikeport.measured/1"
ROUNDS = 3
KEEP = 1.02
"""INT8 is worth keeping where it is at least this much faster: below it, the error buys nothing."""


def measure(
    bundles: list[Any], root: Path = Path("/"), idle_s: float = 10.0, load_s: float = 30.0
) -> list[dict[str, Any]]:
    """Time every bundle at batch 1 and at the best batch of its profile, then read the power of each; one record each.

    A bundle has `network` (a TensorRTNetwork), `manifest`, `verdict` (of its verification) and `folder`.
    """
    machine = device.describe(root)
    source = power.reader(root)
    records = [_record(bundle, machine, root) for bundle in bundles]
    batches = {1} | {int(next(iter(b.network.shapes.values()))[1][0]) for b in bundles}
    for batch in sorted(batches):
        for graph in (True, False):
            _time(bundles, records, batch, graph)
    for bundle, record in zip(bundles, records, strict=True):
        first = next(row for row in record["timing"] if row["batch"] == 1 and row["graph"] == record["cuda_graph"])
        record["latency_s"] = first["latency_s"]["median"]
        record["power"] = [_power(bundle, source, batch, idle_s, load_s) for batch in sorted(batches)]
        record["energy_j"] = record["power"][0]["energy_j"] if source is not None else None
        record["temperatures_after_c"] = device.temperatures(root)
        record["gpu_clock_after"] = device.gpu_clock(root)
        record["warnings"] += [] if source is not None else ["no power: neither INA sensors nor tegrastats are here"]
    return records


def _record(bundle: Any, machine: dict[str, Any], root: Path) -> dict[str, Any]:
    manifest, network = bundle.manifest, bundle.network
    return {
        "schema": SCHEMA,
        "kind": "measured",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),  # noqa: UP017 (Python 3.10)
        "bundle": {
            "name": bundle.folder.name,
            "digest": manifest.get("digest"),
            "spikeport": manifest.get("spikeport"),
        },
        "model": {
            "name": manifest["model"]["name"],
            "sha256": manifest["model"].get("sha256"),
            "graph_sha256": manifest["files"][manifest["dense"]["model"]]["sha256"],
        },
        "target": manifest["target"],
        "precision": manifest["precision"],
        "kind_of_arithmetic": manifest["dense"]["assignment"]["kind"] or manifest["dense"]["assignment"]["rest"],
        "device": {**machine, "cuda": network.cuda.hardware()},
        "tensorrt": str(network.trt.__version__),
        "build_s": network.build_s,
        "verification": bundle.verdict,
        "timing": [],
        "cuda_graph": True,
        "warnings": device.warnings(machine),
    }


def _time(bundles: list[Any], records: list[dict[str, Any]], batch: int, graph: bool) -> None:
    sessions = [bundle.network.session(batch) for bundle in bundles]
    try:
        why = [session.capture() if graph else "" for session in sessions]
        found: list[list[float]] = [[] for _ in bundles]
        for _ in range(ROUNDS):
            for session, seconds, reason in zip(sessions, found, why, strict=True):
                seconds += [] if reason else session.time()
        for record, seconds, reason in zip(records, found, why, strict=True):
            if reason:
                record["cuda_graph"] = False
                record["warnings"].append(f"batch {batch}: no CUDA graph: {reason}")
            else:
                record["timing"].append({"batch": batch, "graph": graph, "latency_s": percentiles(seconds)})
    finally:
        for session in sessions:
            session.__exit__()


def percentiles(seconds: list[float]) -> dict[str, Any]:
    """Runs, least, 10th, 50th (median), 90th and 99th percentile."""
    low, middle, high, rare = (float(value) for value in np.percentile(seconds, [10, 50, 90, 99]))
    return {"runs": len(seconds), "least": min(seconds), "p10": low, "median": middle, "p90": high, "p99": rare}


def _power(bundle: Any, source: Any, batch: int, idle_s: float, load_s: float) -> dict[str, Any] | None:
    if source is None:
        return None
    source.start()
    try:
        with bundle.network.session(batch) as session:
            reason = session.capture()
            with power.Window(source) as idle:
                time.sleep(idle_s)
            runs, until = 0, time.perf_counter() + load_s
            with power.Window(source) as load:
                while runs == 0 or time.perf_counter() < until:
                    session.launch()
                    session.wait()
                    runs += 1
    finally:
        source.stop()
    return {"batch": batch, "graph": not reason, "source": source.name, **power.energy(idle, load, runs * batch)}


def write(path: Path, record: dict[str, Any]) -> None:
    """Write the record as JSON, whole or not at all; what is not finite becomes null."""
    write_atomic(path, (json.dumps(_finite(record), indent=2, allow_nan=False) + "\n").encode())


def summary(record: dict[str, Any]) -> str:
    """The record in lines for people."""
    where = record["device"]
    mode = where["power_mode"]["name"] if where["power_mode"] else "unknown"
    lines = [
        f"{record['model']['name']}, {record['precision']}, on {where['model']} (power mode {mode}, JetPack "
        f"{where['jetpack'] or 'unknown'}, TensorRT {record['tensorrt']})"
    ]
    for row in record["timing"]:
        took, how = row["latency_s"], "CUDA graph" if row["graph"] else "no CUDA graph"
        low, middle, high = (1e3 * took[name] for name in ("p10", "median", "p90"))
        lines.append(
            f"  batch {row['batch']:3d}, {how:13}: {middle:8.3f} ms ({low:.3f} to {high:.3f}; {took['runs']} runs)"
        )
    for row in filter(None, record["power"]):
        if row["energy_j"] is not None:
            whole, above = 1e3 * row["energy_j"], 1e3 * row["energy_above_idle_j"]
            lines.append(
                f"  batch {row['batch']:3d}: {whole:.3f} mJ an inference, {above:.3f} above idle ({row['boundary']})"
            )
    return "\n".join(lines + [f"  warning: {warning}" for warning in record["warnings"]])


def compare(records: list[dict[str, Any]]) -> str:
    """Two records side by side, and whether the one in INT8 is worth keeping."""
    lines = [summary(record) for record in records]
    arithmetic = [record["kind_of_arithmetic"] for record in records]
    if arithmetic.count("int8") != 1:
        first, second = (record["latency_s"] for record in records)
        lines.append(f"{records[0]['precision']} takes {first / second:.2f} times as long as {records[1]['precision']}")
        return "\n".join(lines)
    small = records[arithmetic.index("int8")]
    other = records[1 - arithmetic.index("int8")]
    ratio = other["latency_s"] / small["latency_s"]
    for row in filter(lambda row: row["batch"] > 1 and row["graph"] == small["cuda_graph"], small["timing"]):
        against = [r for r in other["timing"] if (r["batch"], r["graph"]) == (row["batch"], other["cuda_graph"])]
        if against:
            much = against[0]["latency_s"]["median"] / row["latency_s"]["median"]
            lines.append(
                f"batch {row['batch']}: {small['precision']} is {much:.2f} times as fast as {other['precision']}"
            )
    keep = ratio >= KEEP
    said = f"keep {small['precision']}" if keep else f"keep {other['precision']}: {small['precision']} buys too little"
    lines.append(f"verdict: {said} ({ratio:.2f} times as fast at batch 1; {KEEP:g} is the least that counts)")
    return "\n".join(lines)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
