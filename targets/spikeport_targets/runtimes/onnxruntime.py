"""ONNX Runtime on the CPU: the stand-in that checks an ONNX file where no TensorRT is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikeport_errors import InputError

from ..runtime import Array, Availability, Outputs, installed, require


class OnnxRuntime:
    """ONNX Runtime, CPU provider, with its graph optimisations."""

    name = "onnxruntime"
    route = "onnx"

    def available(self) -> Availability:
        """Whether onnxruntime is installed, and which version."""
        return installed("onnxruntime", tested="1.31.1", extra="dev")

    def run(
        self, artefact: Path, inputs: Mapping[str, Array], taps: Sequence[str] = (), weights: Path | None = None
    ) -> Outputs:
        """Outputs of the graph by name, and of the intermediate tensors named in `taps`.

        Taps become graph outputs in memory; the file is not changed. Raises InputError for a missing, damaged or
        unfit file, for inputs that do not fit, and for a tap that the graph does not have. `weights` is the folder of
        the files with its weights, where they do not lie beside it.
        """
        return self.open(artefact, taps, weights).run(inputs)

    def open(self, artefact: Path, taps: Sequence[str] = (), weights: Path | None = None) -> Session:
        """The graph, loaded once for many runs; raises as `run` does for the file and its taps."""
        require(self)
        import onnxruntime

        path = Path(artefact)
        if not path.is_file():
            raise InputError(f"{path} does not exist; check the path")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        model: Any = _with_taps(path, taps) if taps or weights is not None else str(path)
        folder = str((path.parent if weights is None else weights).absolute())
        if isinstance(model, bytes):
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        try:
            return Session(path, onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]))
        except Exception as error:  # its exception classes are not public, and a hostile file can raise any of them
            if (decoded := _without_low_floats(model, folder, str(error))) is not None:
                return Session(path, onnxruntime.InferenceSession(decoded, options, providers=["CPUExecutionProvider"]))
            raise InputError(
                f"{path} is not an ONNX file that onnxruntime takes ({_line(error)}); export it again"
            ) from None


@dataclass(frozen=True)
class Session:
    """A loaded graph and the file it came from."""

    path: Path
    session: Any

    def run(self, inputs: Mapping[str, Array]) -> Outputs:
        """As OnnxRuntime.run."""
        _check(self.path, self.session, inputs)
        names = [output.name for output in self.session.get_outputs()]
        try:
            values = self.session.run(names, {k: np.ascontiguousarray(v) for k, v in inputs.items()})
        except Exception as error:  # see above
            raise InputError(f"{self.path} fails on these inputs ({_line(error)}); check shapes and types") from None
        return Outputs(dict(zip(names, values, strict=True)))


def _with_taps(path: Path, taps: Sequence[str]) -> bytes:
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises its own classes for a damaged file
        raise InputError(f"{path} is not a readable ONNX file ({_line(error)}); export it again") from None
    made = {name for node in model.graph.node for name in node.output}
    known = {output.name for output in model.graph.output}
    for tap in taps:
        if tap not in made:
            raise InputError(f"{path} has no tensor {tap!r}; taps are outputs of its nodes")
        if tap not in known:
            model.graph.output.add().name = tap
    data: bytes = model.SerializeToString()
    return data


def _without_low_floats(model: str | bytes, folder: str, refusal: str) -> bytes | None:
    """`model` with its FP8 and FP4 values decoded, where it is for them that onnxruntime refused it: see decode."""
    if not any(word in refusal for word in ("float8", "float4", "DequantizeLinear")):
        return None
    import onnx

    from .onnx_low_floats import decode

    loaded = onnx.load(model) if isinstance(model, str) else onnx.load_from_string(model)
    onnx.external_data_helper.load_external_data_for_model(loaded, folder)
    return decode(loaded)


def _check(path: Path, session: Any, inputs: Mapping[str, Array]) -> None:
    wanted = {i.name: i for i in session.get_inputs()}
    if set(inputs) != set(wanted):
        raise InputError(f"{path} takes {', '.join(wanted)}; got {', '.join(inputs) or 'nothing'}")
    for name, value in inputs.items():
        shape = wanted[name].shape
        sizes = [w if isinstance(w, int) else g for w, g in zip(shape, value.shape, strict=False)]
        if len(shape) != value.ndim or sizes != [*value.shape]:
            raise InputError(f"{path}: {name} has shape {[*value.shape]}; it takes {shape}")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise InputError(f"{path}: {name} holds values that are not finite; clean it first")


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
