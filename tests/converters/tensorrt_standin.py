"""Stand-ins for the tensorrt module and for libcudart that hold every call against what was published.

tensorrt_bindings.json has the names of methods, arguments, properties and enumerators of TensorRT's Python bindings,
read from python/src of NVIDIA/TensorRT at the commits it names. A stand-in class that had a method, an argument or a
property that this version does not publish cannot be made; the caller's names and arguments are then bound by Python.
onnxruntime executes the graph, in host memory that the stand-in of the CUDA runtime lends out as device memory.
Standard library, numpy and onnxruntime only: it also runs under Python 3.10.
"""

# ruff: noqa: N802, A002
from __future__ import annotations

import ctypes
import inspect
import json
import sys
import types
from enum import IntEnum
from pathlib import Path

import numpy as np

BINDINGS = json.loads(Path(__file__).with_name("tensorrt_bindings.json").read_text())
TYPES = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF", "tensor(int8)": "INT8", "tensor(bool)": "BOOL"}


class CudaLibrary:
    """libcudart in host memory. `refuse_capture` makes capture fail as CUDA does for work that it cannot hold."""

    def __init__(self, refuse_capture: bool = False):
        self.refuse_capture, self.calls, self.memory = refuse_capture, [], {}
        self.capturing, self.graphs, self.replays = None, {}, 0
        self.cudaGetErrorString = lambda code: {900: b"operation not permitted when stream is capturing"}.get(
            code, b"?"
        )
        self.cudaGetErrorString = _Settable(self.cudaGetErrorString)

    def cudaStreamCreate(self, stream):
        stream._obj.value = 77
        return 0

    def cudaMalloc(self, pointer, size):
        block = ctypes.create_string_buffer(size.value)
        pointer._obj.value = ctypes.addressof(block)
        self.memory[pointer._obj.value] = block
        return 0

    def cudaFree(self, pointer):
        return 0 if self.memory.pop(pointer.value, None) is not None else 1

    def cudaMemcpyAsync(self, to, source, size, direction, stream):
        assert stream.value == 77
        assert {1: to, 2: source}[direction].value in self.memory, "the device's side is not device memory"
        ctypes.memmove(to.value, source.value, size.value)
        return 0

    def cudaStreamSynchronize(self, stream):
        return 900 if self.capturing is not None else 0

    def cudaStreamBeginCapture(self, stream, mode):
        assert mode in (0, 1, 2)
        self.capturing = []
        return 0

    def cudaStreamEndCapture(self, stream, graph):
        work, self.capturing = self.capturing, None
        if self.refuse_capture:
            return 900
        graph._obj.value = 1000 + len(self.graphs)
        self.graphs[graph._obj.value] = work
        return 0

    def cudaGraphInstantiateWithFlags(self, executable, graph, flags):
        assert flags.value == 0
        executable._obj.value = graph.value + 5000
        return 0

    def cudaGraphLaunch(self, executable, stream):
        for work in self.graphs[executable.value - 5000]:
            work()
        self.replays += 1
        return 0

    def cudaGraphExecDestroy(self, executable):
        return 0

    def cudaGraphDestroy(self, graph):
        return 0 if self.graphs.pop(graph.value, None) is not None else 1

    def cudaDeviceGetAttribute(self, value, code, device):
        value._obj.value = {75: 8, 76: 7, 16: 8, 13: 1_020_000, 36: 3_199_000, 37: 128}[code]
        return 0

    def cudaRuntimeGetVersion(self, value):
        value._obj.value = 12060
        return 0


class _Settable:
    """A function whose `restype` can be set, as ctypes' can."""

    def __init__(self, function):
        self.function, self.restype = function, None

    def __call__(self, *arguments):
        return self.function(*arguments)


def tensorrt_module(version: str, cuda: CudaLibrary, log: list | None = None):
    """A module that stands for tensorrt `version` (10.3.0, 10.16 or 11.1) and executes in `cuda`'s memory.

    `log` collects (what, value) of what a caller chose: flags, taps, cache, level.
    """
    log = [] if log is None else log
    published, module = BINDINGS[version], types.ModuleType("tensorrt")
    module.__version__ = f"{version}.0.0" if version.count(".") == 1 else f"{version}.26"
    for name, members in published["enums"].items():
        setattr(module, name, IntEnum(name, {member: i for i, member in enumerate(members)}))

    def nptype(trt_type):
        return {"FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "BOOL": np.bool_}[trt_type.name]

    module.nptype = nptype

    class Logger:
        WARNING = 2

        def __init__(self, min_severity=None):
            pass

    class IHostMemory(bytes):
        pass

    class ITensor:
        def __init__(self, name):
            self.name = name

    class ILayer:
        def __init__(self, outputs):
            self.outputs = outputs
            self.num_outputs = len(outputs)

        def get_output(self, index):
            return ITensor(self.outputs[index]) if self.outputs[index] else None

    class INetworkDefinition:
        def __init__(self):
            self.model, self.layers, self.taps = None, [], []
            self.num_layers = 0

        def get_layer(self, index):
            return ILayer(self.layers[index])

        def mark_output(self, tensor):
            self.taps.append(tensor.name)

    class ParserError:
        def desc(self):
            return "no such file"

    class OnnxParser:
        def __init__(self, network, logger):
            assert isinstance(logger, Logger)
            self.network, self.num_errors = network, 0

        def parse_from_file(self, model):
            if not isinstance(model, str):
                raise TypeError("parse_from_file takes a str")
            path = Path(model)
            if not path.is_file():
                self.num_errors = 1
                return False
            self.network.model, self.network.layers = model, node_outputs(path.read_bytes())
            self.network.num_layers = len(self.network.layers)
            return True

        def get_error(self, index):
            return ParserError()

    class IOptimizationProfile:
        def __init__(self):
            self.shapes = {}

        def set_shape(self, input, min, opt, max):
            assert all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True))
            self.shapes[input] = [list(min), list(opt), list(max)]

    class ITimingCache:
        def __init__(self, data):
            self.data = data

        def serialize(self):
            return IHostMemory(b"timings " + str(len(self.data)).encode())

    class IBuilderConfig:
        def __init__(self):
            self.profiles, self.cache = [], None

        def __setattr__(self, name, value):
            if name not in ("profiles", "cache"):
                assert name in published["classes"]["IBuilderConfig"]["properties"], f"IBuilderConfig has no {name}"
                log.append((name, value))
            object.__setattr__(self, name, value)

        def add_optimization_profile(self, profile):
            self.profiles.append(profile)
            return len(self.profiles) - 1

        def create_timing_cache(self, serialized_timing_cache):
            assert isinstance(serialized_timing_cache, bytes)
            return ITimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache, ignore_mismatch):
            log.append(("timing cache", cache.data))
            self.cache = cache
            return cache.data != b"of another device"

        def get_timing_cache(self):
            return self.cache

    class Builder:
        def __init__(self, logger):
            assert isinstance(logger, Logger)

        def create_network(self, flags=0):
            log.append(("flags", flags))
            return INetworkDefinition()

        def create_builder_config(self):
            return IBuilderConfig()

        def create_optimization_profile(self):
            return IOptimizationProfile()

        def build_serialized_network(self, network, config):
            log.append(("taps", network.taps))
            plan = {"model": network.model, "taps": network.taps, "profile": config.profiles[0].shapes}
            return IHostMemory(json.dumps({**plan, "version": version}).encode())

    class Runtime:
        def __init__(self, logger):
            assert isinstance(logger, Logger)

        def deserialize_cuda_engine(self, serialized_engine):
            plan = json.loads(serialized_engine)
            return ICudaEngine(plan) if plan["version"] == version else None

    class ICudaEngine:
        def __init__(self, plan):
            import onnxruntime

            data = Path(plan["model"]).read_bytes()
            extra = b"".join(_message(12, _message(1, name.encode())) for name in plan["taps"])
            self.session = onnxruntime.InferenceSession(
                data + (_message(7, extra) if extra else b""), providers=["CPUExecutionProvider"]
            )
            self.plan = plan
            self.io = {each.name: each for each in (*self.session.get_inputs(), *self.session.get_outputs())}
            self.num_io_tensors, self.known = len(self.io), {}

        def per_sample(self, rest):
            if not self.known:
                outputs = [each.name for each in self.session.get_outputs()]
                (name,) = (each.name for each in self.session.get_inputs())
                got = self.session.run(outputs, {name: np.zeros((1, *rest), np.float32)})
                self.known = {n: a.shape[1:] for n, a in zip(outputs, got, strict=True)}
            return self.known

        def get_tensor_name(self, index):
            return list(self.io)[index]

        def get_tensor_mode(self, name):
            inputs = [each.name for each in self.session.get_inputs()]
            return module.TensorIOMode.INPUT if name in inputs else module.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name):
            return module.DataType[TYPES[self.io[name].type]]

        def create_execution_context(self):
            return IExecutionContext(self)

    class IExecutionContext:
        def __init__(self, engine):
            self.engine, self.inputs, self.addresses, self.sizes = engine, {}, {}, {}

        def set_input_shape(self, name, shape):
            least, _, most = self.engine.plan["profile"][name]
            if len(shape) != len(least) or not all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True)):
                return False
            self.inputs[name] = tuple(shape)
            self.sizes = {
                **self.inputs,
                **{n: (shape[0], *rest) for n, rest in self.engine.per_sample(shape[1:]).items()},
            }
            return True

        def get_tensor_shape(self, name):
            return self.sizes[name]

        def set_tensor_address(self, name, memory):
            assert memory in cuda.memory, "not device memory"
            self.addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle):
            assert stream_handle == 77
            if cuda.capturing is not None:
                if cuda.refuse_capture:
                    return False
                cuda.capturing.append(self._execute)
                return True
            self._execute()
            return True

        def _execute(self):
            feed = {name: self._view(name).copy() for name in self.inputs}
            outputs = [each.name for each in self.engine.session.get_outputs()]
            for name, array in zip(outputs, self.engine.session.run(outputs, feed), strict=True):
                self._view(name)[...] = array

        def _view(self, name):
            kind = np.dtype(nptype(self.engine.get_tensor_dtype(name)))
            count = int(np.prod(self.sizes[name]))
            raw = (ctypes.c_char * (count * kind.itemsize)).from_address(self.addresses[name])
            return np.frombuffer(raw, kind).reshape(self.sizes[name])

    for each in (
        Logger, INetworkDefinition, OnnxParser, IOptimizationProfile, ITimingCache, IBuilderConfig, Builder, Runtime,
        ICudaEngine, IExecutionContext, ILayer, ITensor, ParserError,
    ):  # fmt: skip
        _require_published(each, published["classes"][each.__name__])
        setattr(module, each.__name__, each)
    return module


def _require_published(cls, published):
    """AssertionError where a public method of a stand-in, or one of its arguments, is not what the bindings publish."""
    for name, function in vars(cls).items():
        if not inspect.isfunction(function) or (name.startswith("_") and name != "__init__"):
            continue
        if name == "per_sample":
            continue  # the stand-in's own: output shapes without the batch
        takes = list(inspect.signature(function).parameters)[1:]
        overloads = [[argument.rstrip("?") for argument in each] for each in published["methods"].get(name, [])]
        if name == "__init__" and not overloads:
            continue  # only TensorRT makes these
        assert takes in overloads, f"{cls.__name__}.{name}({', '.join(takes)}) is not published: {overloads}"


def install(version: str, refuse_capture: bool = False):
    """Put both stand-ins where the runner looks; (module, library, log)."""
    library, log = CudaLibrary(refuse_capture), []
    module = tensorrt_module(version, library, log)
    sys.modules["tensorrt"] = module
    ctypes.CDLL = lambda name, *rest, **more: library
    return module, library, log


def node_outputs(model: bytes) -> list[list[str]]:
    """The output names of every node of an ONNX file: ModelProto.graph (7) . node (1) . output (2)."""
    graph = next(value for number, value in _fields(model) if number == 7)
    nodes = (value for number, value in _fields(graph) if number == 1)
    return [[value.decode() for number, value in _fields(node) if number == 2] for node in nodes]


def _fields(data: bytes):
    """(number, bytes) of the length-delimited fields of a protobuf message."""
    at, view = 0, memoryview(data)
    while at < len(view):
        key, at = _varint(view, at)
        if key & 7 == 2:
            size, at = _varint(view, at)
            yield key >> 3, bytes(view[at : at + size])
            at += size
        elif key & 7 == 0:
            _, at = _varint(view, at)
        else:
            at += {1: 8, 5: 4}[key & 7]


def _varint(view, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _message(number: int, data: bytes) -> bytes:
    size, length = len(data), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + data
