"""nvidia-modelopt beside our own quantiser: its INT8 of our graph, made in its own environment, on our ladder.

modelopt pins other versions of onnx and onnxruntime than ours, so it runs in `spikeport env make modelopt`.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import UsageError, unknown_name
from spikeport_targets.environments import run_in
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime

from .fold import fold_batchnorm
from .jetson import dense_graph
from .ladder import Ladder, batch_profile, climb
from .onnx_graph import INPUT, OUTPUT, save_onnx
from .parity import ParityReport, gated, nmse_db
from .precision import PRESETS

if TYPE_CHECKING:
    from torch import nn

    from spikeport_targets.card import Card

METHODS = ("max", "entropy")
LIMIT_S = 900.0
_SCRIPT = """
import sys
import numpy as np
from modelopt.onnx.quantization import quantize
source, samples, out, method = sys.argv[1:]
quantize(
    source, quantize_mode="int8", calibration_data=dict(np.load(samples)), calibration_method=method,
    calibration_eps=["cpu"], output_path=out, op_types_to_quantize=["MatMul", "Gemm", "Conv"],
)
"""


def modelopt_int8(
    model: nn.Module, patches: NDArray[np.float32], card: Card, out: Path, *, method: str = "max", trained: bool = True
) -> Ladder:
    """Write to `out` what modelopt's ONNX quantiser makes of our fp32 graph of `model`, and climb our ladder with it.

    `patches` [sample, ...] calibrate. Parity holds the output against the float graph by the gate of `int8`; of an
    untrained model it is reported. Raises MissingDependencyError without the environment, InputError where modelopt
    fails, UsageError for an unknown `method`.
    """
    if method not in METHODS:
        raise unknown_name("calibration of modelopt", method, METHODS, "choose one")
    if out.suffix != ".onnx":
        raise UsageError(f"{out} is where the graph goes: give a name that ends with .onnx")
    _, graph = dense_graph(fold_batchnorm(model), patches, "fp32")
    with tempfile.TemporaryDirectory(prefix="spikeport-") as place:
        source, samples = Path(place) / "fp32.onnx", Path(place) / "samples.npz"
        save_onnx(graph, source)
        np.savez(samples, **{INPUT: patches})  # type: ignore[arg-type]
        script = Path(place) / "quantise.py"
        script.write_text(_SCRIPT, encoding="utf-8")
        made = Path(place) / "int8.onnx"
        run_in("modelopt", [str(script), str(source), str(samples), str(made), method], LIMIT_S)
        want = _run(source, patches)
        out.write_bytes(made.read_bytes())

    def parity() -> ParityReport:
        limit = PRESETS["int8"].gates.output_db
        return ParityReport((gated("output", "output", nmse_db(_run(out, patches), want), limit, "dB", gate=trained),))

    chosen = replace(PRESETS["int8"], summary=f"INT8 by nvidia-modelopt, {method}")
    return climb(out, card, chosen, parity=parity, shapes=batch_profile(patches.shape))


def _run(path: Path, patches: NDArray[np.float32]) -> NDArray[np.float32]:
    return OnnxRuntime().run(path, {INPUT: patches})[OUTPUT]
