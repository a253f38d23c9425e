"""Builds one ONNX file with TensorRT-RTX and writes what became of it as JSON; run by tensorrt_rtx.py."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def build(path: str, capability: str, shapes: dict[str, list[list[int]]]) -> dict[str, Any]:
    """The fields of a Compilation but for its capability."""
    import tensorrt_rtx as trt

    class Logger(trt.ILogger):
        """Keeps what the compiler calls an error."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            """Called by the compiler."""
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(text.strip())

    started, logger = time.monotonic(), Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(path):
        first = parser.get_error(0)
        return _answer(started, trt, node=first.node_name(), reason=f"{first.node_operator()}: {_line(first.desc())}")
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    profile = builder.create_optimization_profile()
    for name, (least, best, most) in shapes.items():
        profile.set_shape(name, tuple(least), tuple(best), tuple(most))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return _answer(started, trt, reason=_line(logger.errors[0] if logger.errors else "no engine and no error"))
    return _answer(started, trt, ok=True, layers=network.num_layers, bytes=plan.nbytes)


def _answer(started: float, trt: Any, **found: Any) -> dict[str, Any]:
    return {"ok": False, **found, "seconds": round(time.monotonic() - started, 2), "version": trt.__version__}


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


if __name__ == "__main__":
    result = build(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
    Path(sys.argv[4]).write_text(json.dumps(result), encoding="utf-8")
