"""Run this bundle's network where it stands. Needs numpy and one runtime: TensorRT on a Jetson, or onnxruntime.

    python run.py                                      verify against the golden inputs and outputs
    python run.py --channel in.npy --out out.npy       predict the next slot of measured channels
    python run.py --trtexec                            print the trtexec lines that build and time an engine

in.npy: complex64 H[batch, time, antenna, frequency], the observed slots of 14 symbols (a last, unobserved slot may
follow and is not read). out.npy: the predicted slot, complex64 [batch, 14, antenna, frequency].
Exit code 0: fine; 1: the outputs differ from the golden ones; 2: something is missing. Runs on Python 3.10.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
SYMBOLS, SUBCARRIERS = 14, 12
HALF = SYMBOLS * SUBCARRIERS
LIMITS_DB = {"fp32": -60.0, "fp16": -38.0, "int8": -28.0}
MAX_BATCH = 32


class StopError(Exception):
    """Ends the program with exit code 2 and one message."""


def patches_from_channel(channel: Any) -> Any:
    """H[batch, time, antenna, frequency] to patches [batch, token, 336]: tokens (slot, antenna, block)."""
    batch, time_, antennas, carriers = channel.shape
    slots, blocks = time_ // SYMBOLS, carriers // SUBCARRIERS
    split = channel.reshape(batch, slots, SYMBOLS, antennas, blocks, SUBCARRIERS).transpose(0, 1, 3, 4, 2, 5)
    flat = split.reshape(batch, slots * antennas * blocks, HALF)
    return np.concatenate((flat.real, flat.imag), -1).astype(np.float32)


def channel_from_patches(patches: Any, antennas: int, blocks: int) -> Any:
    """Inverse of patches_from_channel for whole slots."""
    batch, tokens, _ = patches.shape
    slots = tokens // (antennas * blocks)
    values = patches[..., :HALF] + 1j * patches[..., HALF:]
    split = values.reshape(batch, slots, antennas, blocks, SYMBOLS, SUBCARRIERS).transpose(0, 1, 4, 2, 3, 5)
    return split.reshape(batch, slots * SYMBOLS, antennas, blocks * SUBCARRIERS).astype(np.complex64)


def predict_channel(network: Any, channel: Any, grid: dict[str, int]) -> Any:
    """Scale the observed slots by their RMS, run, and scale the predicted slot back."""
    observed = (grid["slots"] - grid["predicted_slots"]) * SYMBOLS
    wanted = (grid["antennas"], grid["blocks"] * SUBCARRIERS)
    if channel.ndim != 4 or channel.shape[1] < observed or channel.shape[2:] != wanted:
        raise StopError(
            f"the channel is {list(channel.shape)}; this model takes [batch, {observed}, {wanted[0]}, {wanted[1]}]"
        )
    if channel.dtype.kind != "c" or len(channel) == 0:
        raise StopError(
            f"the channel is {channel.dtype} of {len(channel)} samples; it takes complex values, at least one sample"
        )
    channel = channel[:, :observed].astype(np.complex64)
    power = np.mean(np.abs(channel) ** 2, axis=(1, 2, 3), keepdims=True, dtype=np.float64)
    scale = np.sqrt(power).astype(np.float32)
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise StopError("a sample of the channel is zero or not finite: remove it or repair the capture")
    patches = patches_from_channel(channel / scale)
    hidden = np.zeros((len(patches), grid["predicted_slots"] * grid["antennas"] * grid["blocks"], 2 * HALF), np.float32)
    predicted = network(np.concatenate((patches, hidden), 1))
    return channel_from_patches(predicted, grid["antennas"], grid["blocks"]) * scale


class OnnxRuntimeNetwork:
    """The graph in onnxruntime on the CPU."""

    name = "onnxruntime"

    def __init__(self, model: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise StopError("onnxruntime is not installed: pip install onnxruntime") from None
        self.session: Any = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])

    def __call__(self, patches: Any) -> Any:
        """Patches [batch, token, 336] to the prediction."""
        return self.session.run(["prediction"], {"patches": patches})[0]


class TensorRTNetwork:
    """The graph as a TensorRT engine, built on this device once and kept beside the bundle."""

    name = "tensorrt"

    def __init__(self, model: Path, engine: Path, tokens: int) -> None:
        try:
            import tensorrt
        except ImportError:
            raise StopError(
                "tensorrt is not installed: on a Jetson it comes with JetPack (apt install tensorrt)"
            ) from None
        self.trt: Any = tensorrt
        self.log = self.trt.Logger(self.trt.Logger.WARNING)
        if not engine.exists():
            print(f"building {engine} (minutes, once per device and TensorRT version)", flush=True)
            plan = self._build(model, tokens)
            engine.with_suffix(".part").write_bytes(plan)
            engine.with_suffix(".part").replace(engine)
        self.engine: Any = self.trt.Runtime(self.log).deserialize_cuda_engine(engine.read_bytes())
        if self.engine is None:
            raise StopError(
                f"{engine} does not fit this device or TensorRT {self.trt.__version__}: delete it and run again"
            )
        self.context: Any = self.engine.create_execution_context()
        self.cuda = Cuda()

    def _build(self, model: Path, tokens: int) -> bytes:
        trt = self.trt
        strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        builder = trt.Builder(self.log)
        network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
        parser = trt.OnnxParser(network, self.log)
        if not parser.parse_from_file(str(model)):
            raise StopError("; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
        config, profile = builder.create_builder_config(), builder.create_optimization_profile()
        profile.set_shape("patches", *((batch, tokens, 2 * HALF) for batch in (1, 8, MAX_BATCH)))
        config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise StopError("TensorRT could not build the engine; its messages stand above")
        return bytes(plan)

    def __call__(self, patches: Any) -> Any:
        """Patches [batch, token, 336] to the prediction, in parts of at most 32 samples."""
        parts = [self._run(patches[i : i + MAX_BATCH]) for i in range(0, len(patches), MAX_BATCH)]
        return np.concatenate(parts)

    def _run(self, patches: Any) -> Any:
        patches = np.ascontiguousarray(patches, np.float32)
        self.context.set_input_shape("patches", patches.shape)
        result = np.empty(tuple(self.context.get_tensor_shape("prediction")), np.float32)
        with self.cuda.memory(patches.nbytes) as source, self.cuda.memory(result.nbytes) as sink:
            self.cuda.copy(source.address, patches.ctypes.data, patches.nbytes, 1)
            self.context.set_tensor_address("patches", source.address)
            self.context.set_tensor_address("prediction", sink.address)
            if not self.context.execute_async_v3(0):
                raise StopError("TensorRT failed to run the engine; its messages stand above")
            self.cuda.call("cudaDeviceSynchronize")
            self.cuda.copy(result.ctypes.data, sink.address, result.nbytes, 2)
        return result


class Cuda:
    """The five calls of the CUDA runtime that are needed, through ctypes."""

    def __init__(self) -> None:
        for name in ("libcudart.so", "libcudart.so.13", "libcudart.so.12"):
            try:
                self.library = ctypes.CDLL(name)
                return
            except OSError:
                continue
        raise StopError("libcudart.so was not found: add /usr/local/cuda/lib64 to LD_LIBRARY_PATH")

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the library; StopError with its error code if it fails."""
        code = getattr(self.library, name)(*arguments)
        if code:
            raise StopError(f"{name} failed with CUDA error {code}")

    def copy(self, to: int, source: int, size: int, direction: int) -> None:
        """cudaMemcpy; direction 1 is to the device, 2 is back."""
        self.call("cudaMemcpy", ctypes.c_void_p(to), ctypes.c_void_p(source), ctypes.c_size_t(size), direction)

    def memory(self, size: int) -> DeviceMemory:
        """Device memory for a `with` block."""
        return DeviceMemory(self, size)


class DeviceMemory:
    """Device memory that is freed at the end of its `with` block."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        self.cuda, self.size, self.address = cuda, size, 0

    def __enter__(self) -> DeviceMemory:
        pointer = ctypes.c_void_p()
        self.cuda.call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(self.size))
        self.address = int(pointer.value or 0)
        return self

    def __exit__(self, *_: object) -> None:
        self.cuda.call("cudaFree", ctypes.c_void_p(self.address))


def nmse_db(got: Any, wanted: Any) -> float:
    """NMSE of `got` against `wanted` in dB; -inf where they are equal."""
    error = np.sum((got.astype(np.float64) - wanted) ** 2) / np.sum(wanted.astype(np.float64) ** 2)
    return float(10 * np.log10(error)) if error else float("-inf")


def trtexec_line(model: Path, engine: Path, tokens: int) -> str:
    """The command that builds and times the engine with JetPack's own tool."""
    program = shutil.which("trtexec") or "/usr/src/tensorrt/bin/trtexec"
    shapes = (f"--{k}Shapes=patches:{b}x{tokens}x{2 * HALF}" for k, b in (("min", 1), ("opt", 8), ("max", MAX_BATCH)))
    return (
        f"{program} --onnx={model} --saveEngine={engine} --stronglyTyped {' '.join(shapes)} "
        "--builderOptimizationLevel=4 --useCudaGraph --useSpinWait --noDataTransfers --warmUp=500 --duration=10"
    )


def verify(network: Any, golden: Path, limit_db: float, trained: bool) -> bool:
    """Compare with the golden output, print the verdict and the time of one sample."""
    with np.load(golden) as archive:
        given, wanted = archive["input"], archive["output"]
    got = network(given)
    error = nmse_db(got, wanted)
    started = time.perf_counter()
    for _ in range(10):
        network(given[:1])
    each = (time.perf_counter() - started) / 10
    fine = bool(np.isfinite(got).all()) and (error <= limit_db or not trained)
    note = "" if trained else ", reported only: the weights are untrained"
    print(f"{'ok' if fine else 'FAILED'}: output NMSE {error:.1f} dB against torch (limit {limit_db:g} dB{note})")
    print(f"{network.name}: {1e3 * each:.2f} ms a sample at batch 1, copies included, clocks as they are")
    return fine


def choose(runtime: str, model: Path, engine: Path, tokens: int) -> Any:
    """The network in the runtime asked for; `auto` takes TensorRT where it is installed."""
    if runtime == "auto":
        from importlib.util import find_spec

        runtime = "tensorrt" if find_spec("tensorrt") else "onnxruntime"
    return TensorRTNetwork(model, engine, tokens) if runtime == "tensorrt" else OnnxRuntimeNetwork(model)


def run(options: argparse.Namespace) -> bool:
    """What the command line asks for; False where a verification failed."""
    manifest = json.loads((HERE / "manifest.json").read_text())
    model, golden = (HERE / manifest["dense"][key] for key in ("model", "golden"))
    tokens = manifest["dense"]["tokens"]
    engine = options.engine or HERE.parent / f"{HERE.name}.engine"
    if options.trtexec:
        print(trtexec_line(model, engine, tokens))
        print("(TensorRT 11 takes the same line without --stronglyTyped)")
        return True
    if bool(options.channel) != bool(options.out):
        raise StopError("--channel and --out go together")
    network = choose(options.runtime, model, engine, tokens)
    if not options.channel:
        return verify(network, golden, LIMITS_DB[manifest["precision"]], manifest["model"]["trained"])
    grid = manifest["model"]["config"].get("grid")
    if grid is None:
        raise StopError("this model has no channel grid in its configuration: feed it patches instead")
    predicted = predict_channel(network, np.load(options.channel), grid)
    with options.out.open("wb") as file:  # np.save on a name would append .npy
        np.save(file, predicted)
    print(f"{options.out}: predicted slot {list(predicted.shape)}, complex64 [batch, time, antenna, frequency]")
    return True


def main() -> int:
    """Parse the command line, run, and give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", choices=("auto", "tensorrt", "onnxruntime"), default="auto")
    parser.add_argument("--channel", type=Path, help="complex64 .npy with observed channels")
    parser.add_argument("--out", type=Path, help="where the predicted channels go")
    parser.add_argument("--engine", type=Path, help="engine file (default: beside the bundle folder)")
    parser.add_argument("--trtexec", action="store_true", help="print the trtexec line and stop")
    try:
        return 0 if run(parser.parse_args()) else 1
    except StopError as error:
        print(f"run.py: {error}", file=sys.stderr)
    except Exception as error:  # a damaged file or a runtime's own refusal: exit 1 is kept for outputs that differ
        print(f"run.py: {type(error).__name__}: {error}: check the bundle's files and the input", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
