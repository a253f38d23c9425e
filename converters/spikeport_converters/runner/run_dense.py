"""Run this bundle's network where it stands. Needs numpy and one runtime: TensorRT on a Jetson, or onnxruntime.

    python run.py                                      verify against the golden inputs and outputs
    python run.py --channel in.npy --out out.npy       predict the next slot of measured channels
    python run.py --measure                            time it and read the power of this device, write measured.json
    python run.py --compare ../other-bundle            the same for two bundles in turns, and which one to keep
    python run.py --trtexec                            print the trtexec lines that build and time an engine

in.npy: complex64 H[batch, time, antenna, frequency], the observed slots of 14 symbols (a last, unobserved slot may
follow and is not read). out.npy: the predicted slot, complex64 [batch, 14, antenna, frequency].
Exit code 0: fine; 1: the outputs differ from the golden ones; 2: something is missing. Runs on Python 3.10.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True  # a bundle holds what its manifest lists and nothing else
sys.path.insert(0, str(HERE))

from runner import measure  # noqa: E402
from runner.device import StopError, describe, slug  # noqa: E402
from runner.engine import Cuda, TensorRTNetwork, tensorrt  # noqa: E402

SYMBOLS, SUBCARRIERS = 14, 12
HALF = SYMBOLS * SUBCARRIERS
OUTPUT = "prediction"


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
    """The graph in onnxruntime on the CPU; `taps` are inner tensors that become outputs too."""

    name = "onnxruntime"

    def __init__(self, model: Path, taps: Any = ()) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise StopError("onnxruntime is not installed: pip install onnxruntime") from None
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(model.parent))
        graph = with_outputs(model.read_bytes(), taps)
        self.session: Any = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.outputs = [OUTPUT, *taps]

    def __call__(self, **inputs: Any) -> dict[str, Any]:
        """Arrays [sample, ...] by input to arrays by output."""
        return dict(zip(self.outputs, self.session.run(self.outputs, inputs), strict=True))


def with_outputs(model: bytes, names: Any) -> bytes:
    """The bytes of an ONNX model with these tensors as further outputs.

    Messages of protobuf that follow one another are merged: a second ModelProto that holds nothing but
    graph (field 7) { output (12) { name (1) } } appends to the outputs of the first.
    """
    added = b"".join(_field(12, _field(1, name.encode())) for name in names)
    return model + _field(7, added) if added else model


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field of protobuf."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


class Bundle:
    """A bundle's manifest and graph, as they were written, and the golden samples."""

    def __init__(self, folder: Path) -> None:
        try:
            self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            self.dense = self.manifest["dense"]
            self.dense["layers"], self.dense["golden"], self.dense["assignment"]["gates"]  # what verify reads
            self.shapes: dict[str, Any] = self.dense["profile"]
            self.input = next(iter(self.shapes))
            self.sha256: str = self.manifest["files"][self.dense["model"]]["sha256"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
            raise StopError(f"{folder} is no bundle with one ONNX graph: give the folder that holds run.py") from None
        self.folder, self.model = folder, folder / self.dense["model"]
        if hashlib.sha256(self.model.read_bytes()).hexdigest() != self.sha256:
            raise StopError(f"{self.model} is not the file that was exported: copy the bundle again")
        self.network: Any = None
        self.verdict: dict[str, Any] = {}

    def open(self, runtime: str, cache: Path | None, root: Path, taps: Any = ()) -> Any:
        """The network in a runtime; `auto` takes TensorRT where it is installed. Engines are kept in `cache`."""
        if runtime == "auto":
            from importlib.util import find_spec

            runtime = "tensorrt" if find_spec("tensorrt") else "onnxruntime"
        if runtime == "onnxruntime":
            return OnnxRuntimeNetwork(self.model, taps)
        folder, device = cache or self.folder.parent, device_name(root)
        engine = f"{self.folder.name}.{self.sha256[:8]}.{device}{'.spikes' if taps else ''}.engine"
        return TensorRTNetwork(self.model, folder / engine, self.shapes, folder / f"{device}.timing-cache", taps)

    def verify(self, runtime: str, cache: Path | None, root: Path, spikes: bool) -> bool:
        """Compare output and spikes with the golden ones; prints the verdict, keeps it and the network."""
        self.network = self.open(runtime, cache, root)
        with np.load(self.folder / self.dense["golden"]) as archive:
            golden = {name: archive[name] for name in archive.files}
        if not (golden["input"].size and golden["output"].size and np.isfinite(golden["output"]).all()):
            raise StopError(f"{self.dense['golden']} holds no sample, or values that are not finite: copy it again")
        gates, trained = self.dense["assignment"]["gates"], self.manifest["model"]["trained"]
        got = self.network(**{self.input: golden["input"]})[OUTPUT]
        error = nmse_db(got, golden["output"])
        for name in golden:
            if name.startswith("tokens/") and name.endswith("/input"):  # the fewest and the most tokens of the profile
                other = self.network(**{self.input: golden[name]})[OUTPUT]
                error = max(error, nmse_db(other, golden[name.replace("/input", "/output")]))
        note = "" if trained else ", reported only: the weights are untrained"
        fine = bool(np.isfinite(got).all()) and (error <= gates["output_db"] or not trained)
        said = f"output NMSE {error:.1f} dB against torch (limit {gates['output_db']:g} dB{note})"
        print(f"{'ok' if fine else 'FAILED'}: {said}", flush=True)
        self.verdict = {"output_nmse_db": error, "output_limit_db": gates["output_db"], "gated": trained}
        layers = self.dense["layers"] if spikes else []
        if layers:
            tapped = self.open(runtime, cache, root, [layer["count"] for layer in layers])
            rate = spike_mismatch(tapped(**{self.input: golden["input"]}), golden, layers)
            held = rate <= gates["spikes"] or not trained
            said = f"{rate:.2g} of the spikes differ (limit {gates['spikes']:g}{note})"
            print(f"{'ok' if held else 'FAILED'}: {said}", flush=True)
            self.verdict |= {"spike_mismatch": rate, "spike_limit": gates["spikes"]}
            fine = fine and held
        self.verdict["ok"] = fine
        return fine

    def time_one(self) -> None:
        """Print the time of the least batch, copies included."""
        with np.load(self.folder / self.dense["golden"]) as archive:
            given = archive["input"]
        one = given[:1] if self.shapes[self.input][0][0] == 1 else given
        started = time.perf_counter()
        for _ in range(10):
            self.network(**{self.input: one})
        each = (time.perf_counter() - started) / 10
        least, most = self.shapes[self.input][0], self.shapes[self.input][-1]
        axis = next((i for i, size in enumerate(least) if size != most[i]), 0)  # behind the steps of [T, batch, ...]
        count = one.shape[axis]
        what = f"{count} sample{'s' * (count > 1)}, copies included, clocks as they are"
        print(f"{self.network.name}: {1e3 * each:.2f} ms for {what}")


def device_name(root: Path) -> str:
    """What engines and timing caches belong to: the device, its compute capability and TensorRT's version."""
    hardware = Cuda().hardware()
    return f"{slug(describe(root)['model'])}.sm{hardware['major']}{hardware['minor']}.trt{tensorrt().__version__}"


def spike_mismatch(got: dict[str, Any], golden: dict[str, Any], layers: Any) -> float:
    """Spikes gained or lost over all neuron-steps: sum |count - golden count| / sum(neurons T D)."""
    moved = slots = 0.0
    for layer in layers:
        wanted = golden[f"spikes/{layer['path']}"].astype(np.float64)
        moved += float(np.abs(got[layer["count"]].astype(np.float64) - wanted).sum())
        slots += wanted.size * layer["steps"] * layer["levels"]
    return moved / slots


def nmse_db(got: Any, wanted: Any) -> float:
    """NMSE of `got` against `wanted` in dB; -inf where they are equal."""
    error, power = np.sum((got.astype(np.float64) - wanted) ** 2), np.sum(wanted.astype(np.float64) ** 2)
    if not error:
        return float("-inf")
    return float(10 * np.log10(error / power)) if power else float("inf")


def trtexec_lines(bundle: Bundle) -> str:
    """The commands that build and time the engine with TensorRT's own tool, for TensorRT 10 and 11."""
    program = shutil.which("trtexec") or "/usr/src/tensorrt/bin/trtexec"
    shapes = (
        f"--{name}Shapes=" + ",".join(f"{key}:{'x'.join(map(str, three[i]))}" for key, three in bundle.shapes.items())
        for i, name in enumerate(("min", "opt", "max"))
    )
    line = (
        f"{program} --onnx={bundle.model} --saveEngine={bundle.folder.parent / bundle.folder.name}.engine "
        f"{{typed}}{' '.join(shapes)} --builderOptimizationLevel=4 --profilingVerbosity=detailed --useCudaGraph "
        "--useSpinWait --noDataTransfers --warmUp=500 --duration=10"
    )
    ten, eleven = line.format(typed="--stronglyTyped "), line.format(typed="")
    return f"# TensorRT 10 (JetPack 6 to 7.2)\n{ten}\n# TensorRT 11 (JetPack 7.2.2 and later)\n{eleven}"


def run_measure(bundles: list[Bundle], options: argparse.Namespace) -> bool:
    """Verify and measure the bundles in turns, write measured.json of each; False where a verification failed."""
    if options.runtime == "onnxruntime":
        raise StopError("--measure and --compare time TensorRT: run them on the device, without --runtime onnxruntime")
    fine = [bundle.verify("tensorrt", options.cache, options.root, not options.no_spikes) for bundle in bundles]
    records = measure.measure(bundles, options.root, options.idle_seconds, options.load_seconds)
    print(measure.compare(records) if len(records) > 1 else measure.summary(records[0]))
    for bundle, record in zip(bundles, records, strict=True):
        out = options.out or bundle.folder.parent / f"{bundle.folder.name}.measured.json"
        measure.write(out, record)
        print(f"wrote {out}; where spikeport is: spikeport profile MODEL --target ID --measured {out.name}")
    return all(fine)


def run(options: argparse.Namespace) -> bool:
    """What the command line asks for; False where a verification failed."""
    bundle = Bundle(HERE)
    if options.trtexec:
        print(trtexec_lines(bundle))
        return True
    if options.compare is not None:
        if options.out:
            raise StopError("--compare writes NAME.measured.json beside each bundle: leave --out out")
        return run_measure([bundle, Bundle(options.compare.resolve())], options)
    if options.measure:
        return run_measure([bundle], options)
    if bool(options.channel) != bool(options.out):
        raise StopError("--channel and --out go together")
    if not options.channel:
        fine = bundle.verify(options.runtime, options.cache, options.root, not options.no_spikes)
        bundle.time_one()
        return fine
    grid = bundle.manifest["model"]["config"].get("grid")
    if grid is None:
        raise StopError("this model has no channel grid in its configuration: feed it patches instead")
    network = bundle.open(options.runtime, options.cache, options.root)
    channel = np.load(options.channel)
    predicted = predict_channel(lambda patches: network(**{bundle.input: patches})[OUTPUT], channel, grid)
    with options.out.open("wb") as file:  # np.save on a name would append .npy
        np.save(file, predicted)
    print(f"{options.out}: predicted slot {list(predicted.shape)}, complex64 [batch, time, antenna, frequency]")
    return True


def main() -> int:
    """Parse the command line, run, and give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", choices=("auto", "tensorrt", "onnxruntime"), default="auto")
    parser.add_argument("--channel", type=Path, help="complex64 .npy with observed channels")
    parser.add_argument("--out", type=Path, help="where the predicted channels, or with --measure the record, go")
    parser.add_argument("--measure", action="store_true", help="time, read power, write measured.json")
    parser.add_argument("--compare", type=Path, metavar="BUNDLE", help="measure this bundle and another in turns")
    parser.add_argument("--cache", type=Path, help="folder of engines and timing caches (default: beside the bundle)")
    parser.add_argument("--no-spikes", action="store_true", help="do not build a second engine to look at the spikes")
    parser.add_argument("--idle-seconds", type=float, default=10.0, help="how long idle power is read")
    parser.add_argument("--load-seconds", type=float, default=30.0, help="how long power under load is read")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where /sys, /proc and /etc are (for tests)")
    parser.add_argument("--trtexec", action="store_true", help="print the trtexec lines and stop")
    try:
        return 0 if run(parser.parse_args()) else 1
    except StopError as error:
        print(f"run.py: {error}", file=sys.stderr)
    except Exception as error:  # a damaged file or a runtime's own refusal: exit 1 is kept for outputs that differ
        print(f"run.py: {type(error).__name__}: {error}: check the bundle's files and the input", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
