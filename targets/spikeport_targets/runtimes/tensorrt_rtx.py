"""TensorRT-RTX as a compiler: its real parser and builder take a graph, without a GPU, for a named GPU generation.

It builds for SM86 (the nearest it has to Orin's SM87) and SM120 (to Thor's SM110) among others; what it builds is
thrown away, since engines belong to their device. It runs in its own process: a graph that brings the compiler down, or
takes all memory, is a verdict and not the end of ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..runtime import Availability

PACKAGE, TESTED = "tensorrt-rtx-cu12", "1.7.1.116"
CAPABILITIES = ("SM86", "SM120")
LIMIT_S = 900.0
Shapes = Mapping[str, Sequence[Sequence[int]]]
"""Least, best and most shape of every input of the graph."""


@dataclass(frozen=True)
class Compilation:
    """What became of one graph for one `capability`: an engine of so many bytes in so many seconds, or the reason."""

    capability: str
    ok: bool
    seconds: float
    layers: int = 0
    bytes: int = 0
    node: str = ""
    reason: str = ""
    version: str = ""

    def __bool__(self) -> bool:
        return self.ok

    def summary(self) -> str:
        """One line."""
        if self.ok:
            return f"{self.capability}: {self.layers} layers, {self.bytes / 1e6:.1f} MB, {self.seconds:.1f} s"
        return f"{self.capability}: refused{f' at {self.node}' if self.node else ''}: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def available() -> Availability:
    """Whether TensorRT-RTX is installed."""
    if find_spec("tensorrt_rtx") is None:
        return Availability(False, f"{PACKAGE} is not installed", "pip install spikeport[verify]")
    return Availability(True, PACKAGE)


def compile_onnx(path: Path, capability: str, shapes: Shapes, limit_s: float = LIMIT_S) -> Compilation:
    """Parse and build the graph at `path`, strongly typed, for `capability` (SM80, SM86, SM89, SM120).

    A graph that it refuses gives a falsy result with its reason and, where the parser says so, the node.
    """
    runner = Path(__file__).with_name("tensorrt_rtx_runner.py")
    with tempfile.TemporaryDirectory(prefix="spikeport-") as place:
        answer = Path(place) / "answer.json"
        command = [sys.executable, "-P", str(runner), str(path), capability, json.dumps(dict(shapes)), str(answer)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=limit_s, check=False, cwd=place)
        except subprocess.TimeoutExpired:
            return Compilation(capability, False, limit_s, reason=f"not built within {limit_s:g} s")
        if not answer.is_file():
            code = done.returncode
            how = f"the compiler itself crashed (signal {-code})" if code < 0 else f"its process ended with code {code}"
            return Compilation(capability, False, 0.0, reason=how)
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return Compilation(capability, **found)
