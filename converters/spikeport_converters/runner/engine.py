"""A graph as a TensorRT engine on this device: built once, run and timed with and without a CUDA graph. Python 3.10.

TensorRT 10.3 and newer, through its Python bindings; the CUDA runtime through ctypes. Nothing here was run on a GPU by
those who wrote it: the calls are held against the bindings' published signatures (10.3 and 11).
"""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from runner.device import StopError

OLDEST = (10, 3)
LEVEL = 4
"""Builder optimisation level of every engine (0 to 5)."""
TO_DEVICE, TO_HOST = 1, 2
THREAD_LOCAL = 1
"""cudaStreamCaptureModeThreadLocal: other threads may go on calling CUDA while this one captures."""
WARM_UP_S, BLOCK_S, LEAST_RUNS, MOST_RUNS = 0.5, 1.0, 20, 20_000


class Cuda:
    """The calls of the CUDA runtime that are needed; StopError with CUDA's own words where one fails."""

    def __init__(self) -> None:
        for name in ("libcudart.so", "libcudart.so.13", "libcudart.so.12"):
            try:
                self.library: Any = ctypes.CDLL(name)
                break
            except OSError:
                continue
        else:
            raise StopError("libcudart.so was not found: add /usr/local/cuda/lib64 to LD_LIBRARY_PATH")
        self.library.cudaGetErrorString.restype = ctypes.c_char_p

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the library."""
        code = getattr(self.library, name)(*arguments)
        if code:
            words = self.library.cudaGetErrorString(code)
            raise StopError(f"{name} failed with CUDA error {code} ({words.decode() if words else 'unknown'})")

    def made(self, name: str, *arguments: Any) -> int:
        """The handle or address that a creating function writes through its first argument."""
        handle = ctypes.c_void_p()
        self.call(name, ctypes.byref(handle), *arguments)
        return int(handle.value or 0)

    def copy(self, to: int, source: int, size: int, direction: int, stream: int) -> None:
        """cudaMemcpyAsync and a wait; direction 1 is to the device, 2 is back."""
        size_t, pointer = ctypes.c_size_t, ctypes.c_void_p
        self.call("cudaMemcpyAsync", pointer(to), pointer(source), size_t(size), direction, pointer(stream))
        self.call("cudaStreamSynchronize", pointer(stream))

    def number(self, name: str, *arguments: Any) -> int | None:
        """The integer that a querying function writes through its first argument; None where it refuses."""
        value = ctypes.c_int()
        return None if getattr(self.library, name)(ctypes.byref(value), *arguments) else int(value.value)

    def hardware(self) -> dict[str, int | None]:
        """What cudaDeviceGetAttribute says of device 0 (clocks in Hz, newer CUDA no longer says them)."""
        asked = {"major": 75, "minor": 76, "multiprocessors": 16, "gpu_khz": 13, "memory_khz": 36, "bus_bits": 37}
        found = {key: self.number("cudaDeviceGetAttribute", code, 0) for key, code in asked.items()}
        return {**found, "runtime": self.number("cudaRuntimeGetVersion")}


class TensorRTNetwork:
    """The graph as a TensorRT engine, built on this device once and kept in the file `engine`.

    `shapes` gives least, best and most shape of every input; `taps` are inner tensors that become outputs too. `cache`
    is the file of the timing cache, shared by all engines of this device and TensorRT version.
    """

    name = "tensorrt"

    def __init__(
        self, model: Path, engine: Path, shapes: dict[str, list[list[int]]], cache: Path, taps: Any = ()
    ) -> None:
        self.trt = tensorrt()
        self.shapes, self.taps = shapes, tuple(taps)
        self.log: Any = self.trt.Logger(self.trt.Logger.WARNING)
        self.build_s: float | None = None
        if not engine.exists():
            print(f"building {engine} (minutes, once per device and TensorRT version)", flush=True)
            started = time.perf_counter()
            write_atomic(engine, self._build(model, cache))
            self.build_s = time.perf_counter() - started
        self.runtime: Any = self.trt.Runtime(self.log)
        self.engine: Any = self.runtime.deserialize_cuda_engine(engine.read_bytes())
        if self.engine is None:
            raise StopError(
                f"{engine} does not fit this device or TensorRT {self.trt.__version__}: delete it, run again"
            )
        self.cuda = Cuda()
        self.stream = self.cuda.made("cudaStreamCreate")
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        inputs = [n for n in names if self.engine.get_tensor_mode(n) == self.trt.TensorIOMode.INPUT]
        if set(inputs) != set(shapes):
            raise StopError(f"{engine} takes {', '.join(inputs)}, the manifest names {', '.join(shapes)}: delete it")
        self.inputs, self.outputs = inputs, [n for n in names if n not in inputs]
        self.types = {n: np.dtype(self.trt.nptype(self.engine.get_tensor_dtype(n))) for n in names}

    def _build(self, model: Path, cache: Path) -> bytes:
        trt = self.trt
        builder = trt.Builder(self.log)
        network = builder.create_network(creation_flags(trt))
        parser = trt.OnnxParser(network, self.log)
        if not parser.parse_from_file(str(model)):
            said = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
            raise StopError(f"TensorRT {trt.__version__} does not take {model.name}: {said}")
        self._mark(network)
        config, profile = builder.create_builder_config(), builder.create_optimization_profile()
        config.builder_optimization_level = LEVEL
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        for name, (least, best, most) in self.shapes.items():
            profile.set_shape(name, tuple(least), tuple(best), tuple(most))
        config.add_optimization_profile(profile)
        known = config.create_timing_cache(cache.read_bytes() if cache.exists() else b"")
        if not config.set_timing_cache(known, False):
            config.set_timing_cache(config.create_timing_cache(b""), False)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise StopError("TensorRT could not build the engine; its messages stand above")
        write_atomic(cache, bytes(config.get_timing_cache().serialize()))
        return bytes(plan)

    def _mark(self, network: Any) -> None:
        """Make the tapped tensors outputs of the network."""
        missing = set(self.taps)
        for index in range(network.num_layers if missing else 0):
            layer = network.get_layer(index)
            for tensor in (layer.get_output(i) for i in range(layer.num_outputs)):
                if tensor is not None and tensor.name in missing:
                    missing.remove(tensor.name)
                    network.mark_output(tensor)
        if missing:
            raise StopError(
                f"TensorRT's parser left no tensor {sorted(missing)[0]}: leave the spikes out (--no-spikes)"
            )

    def session(self, samples: int) -> Session:
        """The engine at a fixed number of samples, its memory allocated."""
        shapes = {name: (samples, *three[1][1:]) for name, three in self.shapes.items()}
        return Session(self, shapes)

    def __call__(self, **inputs: Any) -> dict[str, Any]:
        """Arrays [sample, ...] by input to arrays by output, in parts of as many samples as the engine takes."""
        most = min(three[-1][0] for three in self.shapes.values())
        count = len(next(iter(inputs.values())))
        parts = [self._run({n: a[i : i + most] for n, a in inputs.items()}) for i in range(0, count, most)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        with Session(self, {name: array.shape for name, array in inputs.items()}) as session:
            for name, array in inputs.items():
                session.put(name, array)
            session.enqueue()
            session.wait()
            return {name: session.get(name) for name in self.outputs}


class Session:
    """An execution context at fixed shapes with device memory for every tensor; a context manager."""

    def __init__(self, network: TensorRTNetwork, shapes: dict[str, tuple[int, ...]]) -> None:
        self.network, self.cuda, self.stream = network, network.cuda, network.stream
        self.context: Any = network.engine.create_execution_context()
        self.memory: dict[str, int] = {}
        self.graph = self.executable = 0
        for name, shape in shapes.items():
            if not self.context.set_input_shape(name, tuple(shape)):
                raise StopError(
                    f"the engine takes no {name} of shape {list(shape)}: its profile is {network.shapes[name]}"
                )
        self.shapes = {n: tuple(self.context.get_tensor_shape(n)) for n in (*network.inputs, *network.outputs)}
        for name, size in self.shapes.items():
            size_t = ctypes.c_size_t(max(1, int(np.prod(size))) * network.types[name].itemsize)
            self.memory[name] = self.cuda.made("cudaMalloc", size_t)
            self.context.set_tensor_address(name, self.memory[name])

    def put(self, name: str, array: Any) -> None:
        """Copy an array to the device."""
        array = np.ascontiguousarray(array, self.network.types[name])
        self.cuda.copy(self.memory[name], array.ctypes.data, array.nbytes, TO_DEVICE, self.stream)

    def get(self, name: str) -> Any:
        """A tensor as it is on the device."""
        result = np.empty(self.shapes[name], self.network.types[name])
        self.cuda.copy(result.ctypes.data, self.memory[name], result.nbytes, TO_HOST, self.stream)
        return result

    def enqueue(self) -> None:
        """Start one inference."""
        if not self.context.execute_async_v3(self.stream):
            raise StopError("TensorRT failed to run the engine; its messages stand above")

    def launch(self) -> None:
        """Start one inference, by the captured graph where there is one."""
        if self.executable:
            self.cuda.call("cudaGraphLaunch", ctypes.c_void_p(self.executable), ctypes.c_void_p(self.stream))
        else:
            self.enqueue()

    def wait(self) -> None:
        """Wait for the stream."""
        self.cuda.call("cudaStreamSynchronize", ctypes.c_void_p(self.stream))

    def capture(self) -> str:
        """Capture one inference as a CUDA graph that `launch` then uses; the reason where that fails, else empty."""
        self.enqueue()  # TensorRT does what it put off until now; that must not be captured
        self.wait()
        stream, graph = ctypes.c_void_p(self.stream), ctypes.c_void_p()
        try:
            self.cuda.call("cudaStreamBeginCapture", stream, THREAD_LOCAL)
            refused = ""
            try:
                self.enqueue()
            except StopError as error:
                refused = str(error)
            self.cuda.call("cudaStreamEndCapture", stream, ctypes.byref(graph))
            if refused:
                return refused
            self.graph = int(graph.value or 0)
            flags = ctypes.c_ulonglong(0)
            self.executable = self.cuda.made("cudaGraphInstantiateWithFlags", ctypes.c_void_p(self.graph), flags)
        except StopError as error:
            return str(error)
        return ""

    def time(self) -> list[float]:
        """Seconds of each inference, from the launch until the stream is idle, without copies; warmed up before."""
        self._for(WARM_UP_S, LEAST_RUNS)
        return self._for(BLOCK_S, LEAST_RUNS)

    def _for(self, seconds: float, least: int) -> list[float]:
        found: list[float] = []
        until = time.perf_counter() + seconds
        while len(found) < least or (time.perf_counter() < until and len(found) < MOST_RUNS):
            before = time.perf_counter()
            self.launch()
            self.wait()
            found.append(time.perf_counter() - before)
        return found

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        if self.executable:
            self.cuda.call("cudaGraphExecDestroy", ctypes.c_void_p(self.executable))
        if self.graph:
            self.cuda.call("cudaGraphDestroy", ctypes.c_void_p(self.graph))
        self.graph = self.executable = 0
        while self.memory:
            self.cuda.call("cudaFree", ctypes.c_void_p(self.memory.popitem()[1]))


def tensorrt() -> Any:
    """The system's tensorrt module; StopError where it is missing or too old."""
    try:
        import tensorrt
    except ImportError:
        raise StopError("tensorrt is not installed: on a Jetson it comes with JetPack (apt install tensorrt)") from None
    if version(tensorrt) < OLDEST:
        raise StopError(f"TensorRT {tensorrt.__version__} is too old: this graph needs 10.3 (JetPack 6.1) or newer")
    return tensorrt


def version(trt: Any) -> tuple[int, ...]:
    """(major, minor) of the module."""
    return tuple(int(part) for part in str(trt.__version__).split(".")[:2])


def creation_flags(trt: Any) -> int:
    """Flags of create_network: TensorRT 10 is told to keep the graph's own types, 11 knows nothing else."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if version(trt)[0] == 10 else 0


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        if part.exists():
            part.unlink()
