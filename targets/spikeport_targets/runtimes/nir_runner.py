"""Run NIR islands in the simulator they were written for. Needs numpy, nir and that simulator; Python 3.10 or newer.

A bundle carries this file as `run.py`, with its simulator's module in `simulators/`: `python run.py` runs every island
on its golden input and compares spikes bit by bit; `python run.py --simulator NAME --island FILE --input FILE.npz
--output FILE.npz` runs one island. It imports nothing of spikeport.

An island is a directed acyclic graph from `input` to `output` of Affine, Linear, Conv1d, Conv2d, SumPool2d, AvgPool2d,
Flatten, LIF and IF; a node with several incoming edges gets their sum, and one edge enters `output`. NIR says neither
the time step, nor how many steps, nor how the membrane resets, so the metadata of every LIF and IF node does: profile,
dt, steps, reset_mode (constant | subtract), spike_op (how to compare with the node's threshold), coding (binary; or
slots: `slots` memoryless neurons make one integer neuron) and SpikingJelly's own sj_tau (infinite for IF),
sj_decay_input, sj_v_threshold, sj_v_reset.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import json
import keyword
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Fire = Callable[["Neuron", Array], Array]

KINDS = ("Affine", "Linear", "Conv1d", "Conv2d", "SumPool2d", "AvgPool2d", "Flatten", "LIF", "IF")
RESET_MODES = ("constant", "subtract")
CODINGS = ("binary", "slots")
GOLDEN = ("input", "spikes", "output")
OUTPUT_LIMIT = 1e-5
MAX_VALUES = 2**28
MAX_BYTES = 2**28


class IslandError(ValueError):
    """The file is no island that this runner can run; the message says why."""


@dataclass(frozen=True)
class Neuron:
    """One LIF or IF node, and what NIR cannot say about it.

    `shape` is that of one token, slots included; tau, decay_input, v_threshold and v_reset are SpikingJelly's.
    """

    name: str
    node: Any
    shape: tuple[int, ...]
    reset_mode: str
    coding: str
    slots: int
    tau: float
    decay_input: bool
    v_threshold: float
    v_reset: float

    @property
    def size(self) -> int:
        """Binary neurons: slots count one by one."""
        return int(np.prod(self.shape))

    @property
    def soft(self) -> bool:
        """Whether a spike subtracts the threshold, instead of setting the membrane to v_reset."""
        return self.reset_mode == "subtract"

    @property
    def rest(self) -> float:
        """Potential at the start and after a hard reset: v_reset, or 0 with soft reset."""
        return 0.0 if self.soft else self.v_reset


@dataclass(frozen=True)
class Island:
    """One island: its NIR graph, its nodes in topological order (ties by name) and who feeds whom."""

    graph: Any
    order: tuple[str, ...]
    sources: Mapping[str, tuple[str, ...]]
    neurons: tuple[Neuron, ...]
    profile: str
    dt: float
    steps: int
    input_shape: tuple[int, ...]

    def steps_of(self, values: Array) -> Array:
        """`values` with a step axis, [1 or steps, batch, *in]; one step means the same input at every step."""
        return values if values.ndim == len(self.input_shape) + 2 else values[None]

    def dense(self, name: str, values: Array) -> Array:
        """Non-spiking node `name` in numpy on `[step, batch, *in]`; `[step, batch, *out]`, float32."""
        rows = _dense(self.graph.nodes[name], values.reshape(-1, *values.shape[2:]))
        return np.ascontiguousarray(rows, np.float32).reshape(*values.shape[:2], *rows.shape[1:])

    def layered(self, values: Array, fire: Fire) -> tuple[Array, Array]:
        """Run node after node over all steps, dense nodes in numpy and neurons by `fire(neuron, current) -> spikes`.

        Exact for a graph without cycles, where every layer sees its input in the same step. `fire` takes and gives
        float32 [steps, batch, neuron]. After the last neuron everything is linear, so the mean over time goes through.
        Gives spikes [steps, batch, all neurons] and output [batch, *out].
        """
        signals, spikes = {"input": self.steps_of(values)}, []
        by_name = {neuron.name: neuron for neuron in self.neurons}
        for name in self.order:
            entering = self.entering(name, signals)
            if name not in by_name:
                signals[name] = self.dense(name, entering)
                continue
            flat = entering.reshape(*entering.shape[:2], -1)
            fired = fire(by_name[name], np.broadcast_to(flat, (self.steps, *flat.shape[1:])))
            spikes.append(fired)
            signals[name] = fired.reshape(*fired.shape[:2], *by_name[name].shape).astype(np.float32)
            if len(spikes) == len(self.neurons):
                signals = {key: value.mean(0, keepdims=True) for key, value in signals.items()}
        return np.concatenate(spikes, -1), self.entering("output", signals).mean(0)

    def entering(self, name: str, signals: Mapping[str, Any]) -> Any:
        """The sum of what the sources of node `name` give."""
        first, *others = (signals[source] for source in self.sources[name])
        for other in others:
            first = first + other
        return first

    def step_torch(self, modules: Mapping[str, Any], values: Array) -> tuple[Array, Array]:
        """Step the `modules` that a simulator's importer made of the nodes, by name, in this island's own order.

        Gives spikes [steps, batch, all neurons] and output [batch, *out], the mean over steps. Three things that
        importers get wrong are mended: nirtorch walks depth first, so that a branch comes one step late; NIR's Flatten
        does not count the batch axis; and a sum is no rounded mean.
        """
        import torch

        made = {name: modules[name] for name in self.order}
        for module in made.values():
            if isinstance(module, torch.nn.Flatten):
                module.start_dim = 1
            elif isinstance(module, torch.nn.LPPool2d):
                module.register_forward_hook(
                    lambda pool, given, _: torch.nn.functional.avg_pool2d(
                        given[0], pool.kernel_size, pool.stride, divisor_override=1
                    )
                )
        takes_state = {n for n, module in made.items() if "state" in inspect.signature(module.forward).parameters}
        given, spikes, outputs = torch.from_numpy(self.steps_of(values)), [], []
        states: dict[str, Any] = {}
        with torch.no_grad():
            for step in range(self.steps):
                signals: dict[str, Any] = {"input": given[step % len(given)]}
                for name, module in made.items():
                    entering = self.entering(name, signals)
                    out = module(entering, states.get(name)) if name in takes_state else module(entering)
                    if isinstance(out, tuple):
                        out, states[name] = out[0], out[-1]
                    signals[name] = out
                spikes.append(torch.cat([signals[neuron.name].flatten(1) for neuron in self.neurons], 1))
                outputs.append(self.entering("output", signals))
        return torch.stack(spikes).numpy(), torch.stack(outputs).mean(0).numpy()


def read_island(path: Path) -> Island:
    """The island in a .nir file; IslandError for a damaged file or a graph that is no island."""
    if not Path(path).is_file():
        raise IslandError(f"{path} does not exist; export the model again")
    reader = _load(".nir_file", Path(__file__).resolve().with_name("nir_file.py"))
    try:
        island = _island(reader.read_graph(Path(path)))
    except Exception as error:  # a hostile file can raise anything
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise IslandError(f"{path} is not a readable island ({reason}); it may be truncated: export it again") from None
    arrays = [value for node in island.graph.nodes.values() for value in vars(node).values()]
    if not all(np.isfinite(value).all() for value in arrays if isinstance(value, np.ndarray)):
        raise IslandError(f"{path} holds values that are not finite; export it again")
    if not all(_sound(n) for n in island.neurons) or not 1 <= island.steps <= 4096 or not 0 < island.dt < 1e9:
        raise IslandError(f"{path}: the LIF node's metadata has impossible values; export it again")
    return island


def _sound(neuron: Neuron) -> bool:
    known = neuron.reset_mode in RESET_MODES and neuron.coding in CODINGS
    slots = 1 <= neuron.slots <= 255 and neuron.size % neuron.slots == 0
    return known and slots and neuron.tau >= 1 and bool(np.isfinite([neuron.v_threshold, neuron.v_reset]).all())


def _island(graph: Any) -> Island:
    nodes, sources = graph.nodes, _sources(graph)
    order = _order(sources)
    shapes = {"input": tuple(int(n) for n in nodes["input"].input_type["input"])}
    if not all(0 < n <= MAX_VALUES for n in shapes["input"]):
        raise ValueError("its input has no sound shape")
    for name in order:
        first, *others = (shapes[source] for source in sources[name])
        if any(other != first for other in others):
            raise ValueError(f"{name} adds signals of different shapes")
        shapes[name] = _shape_after(name, nodes[name], first)
    spiking = [name for name in order if type(nodes[name]).__name__ in ("LIF", "IF")]
    if not spiking:
        raise ValueError("it has no spiking node")
    metas = [nodes[name].metadata for name in spiking]
    shared = {(_word(meta["profile"]), float(meta["dt"]), int(meta["steps"])) for meta in metas}
    if len(shared) > 1:
        raise ValueError("its spiking nodes disagree about profile, dt or steps")
    profile, dt, steps = shared.pop()
    neurons = tuple(_neuron(name, nodes[name], shapes[name]) for name in spiking)
    return Island(graph, order, sources, neurons, profile, dt, steps, shapes["input"])


def _neuron(name: str, node: Any, shape: tuple[int, ...]) -> Neuron:
    meta = node.metadata
    return Neuron(
        name=name,
        node=node,
        shape=shape,
        reset_mode=str(meta["reset_mode"]),
        coding=str(meta["coding"]),
        slots=int(meta["slots"]),
        tau=float(meta["sj_tau"]) if type(node).__name__ == "LIF" else float("inf"),
        decay_input=bool(meta["sj_decay_input"]),
        v_threshold=float(meta["sj_v_threshold"]),
        v_reset=float(meta["sj_v_reset"]),
    )


def _word(value: Any) -> str:
    if not isinstance(value, str) or not value.isidentifier() or len(value) > 40:
        raise ValueError("its profile is no name")
    return value


def _sources(graph: Any) -> dict[str, tuple[str, ...]]:
    """Who feeds each node, `output` included; ValueError where an edge or a node is out of place."""
    kinds = {name: type(node).__name__ for name, node in graph.nodes.items()}
    if kinds.pop("input", "") != "Input" or kinds.pop("output", "") != "Output":
        raise ValueError("it needs one node `input` and one `output`")
    for name, kind in kinds.items():
        if kind not in KINDS:
            raise ValueError(f"{name} is {kind}; an island holds {', '.join(KINDS)}")
        if not name.isidentifier() or keyword.iskeyword(name):
            raise ValueError(f"its node {name!r} has a name that torch importers rewrite")
    sources: dict[str, list[str]] = {name: [] for name in (*kinds, "output")}
    for source, target in graph.edges:
        if target not in sources or source not in (*kinds, "input") or source in sources[target]:
            raise ValueError(f"its edge from {source} to {target} is out of place")
        sources[target].append(source)
    if len(sources["output"]) != 1:
        raise ValueError("exactly one edge may enter `output`: importers drop a second one without a word")
    if not all(sources.values()) or {s for many in sources.values() for s in many} != {*kinds, "input"}:
        raise ValueError("a node of it leads nowhere or comes from nowhere")
    return {name: tuple(sorted(many)) for name, many in sources.items()}


def _order(sources: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    order: list[str] = []
    done, left = {"input"}, sorted(sources.keys() - {"output"})
    while left:
        ready = next((name for name in left if done.issuperset(sources[name])), None)
        if ready is None:
            raise ValueError("it has a cycle")
        order.append(ready)
        done.add(ready)
        left.remove(ready)
    return tuple(order)


def _shape_after(name: str, node: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of what `node` gives for one token of `shape`; ValueError where it does not fit."""
    kind, after = type(node).__name__, shape
    fits = True
    if kind in ("Affine", "Linear"):
        fits = node.weight.ndim == 2 and shape == node.weight.shape[1:]
        fits = fits and (kind == "Linear" or np.shape(node.bias) == node.weight.shape[:1])
        after = (len(node.weight),)
    elif kind == "Flatten":
        fits = int(node.start_dim) == 0 and int(node.end_dim) in (-1, len(shape) - 1)
        after = (int(np.prod(shape)),)
    elif kind in ("LIF", "IF"):
        names = ("tau", "r", "v_leak", "v_threshold", "v_reset") if kind == "LIF" else ("r", "v_threshold", "v_reset")
        fits = all(np.shape(getattr(node, key)) == shape for key in names)
    else:
        axes = 1 if kind == "Conv1d" else 2
        fits = len(shape) == axes + 1
        window = _window(node, axes)
        if fits and kind.startswith("Conv"):
            groups = int(node.groups)
            fits = node.weight.ndim == axes + 2 and groups > 0 and shape[0] == node.weight.shape[1] * groups
            fits = fits and len(node.weight) % groups == 0 and np.shape(node.bias) == node.weight.shape[:1]
        if fits:
            spans = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, (k, s, p, d) in zip(shape[1:], window, strict=True)]
            fits = all(span > 0 for span in spans)
            after = (len(node.weight) if kind.startswith("Conv") else shape[0], *spans)
    if not fits or np.prod(after, dtype=float) > MAX_VALUES:
        raise ValueError(f"{name} ({kind}) does not fit a signal of shape {[*shape]}")
    return after


def _window(node: Any, axes: int) -> list[tuple[int, int, int, int]]:
    """Kernel, stride, padding and dilation of a convolution or pool, axis by axis."""

    def spread(value: Any) -> list[int]:
        return [int(v) for v in np.broadcast_to(np.asarray(value, np.int64), axes)]

    kernel = spread(node.weight.shape[2:] if hasattr(node, "weight") else node.kernel_size)
    stride, dilation = spread(node.stride), spread(getattr(node, "dilation", 1))
    padding: list[int]
    if isinstance(node.padding, str):
        odd = all(k % 2 and s == 1 for k, s in zip(kernel, stride, strict=True))
        if node.padding == "same" and not odd:
            raise ValueError("padding `same` needs an odd kernel and stride 1")
        same = node.padding == "same"
        padding = [d * (k - 1) // 2 if same else 0 for k, d in zip(kernel, dilation, strict=True)]
    else:
        padding = spread(node.padding)
    for numbers, least in ((kernel, 1), (stride, 1), (dilation, 1), (padding, 0)):
        if not all(least <= n <= 4096 for n in numbers):
            raise ValueError("kernel, stride, padding or dilation is out of range")
    return list(zip(kernel, stride, padding, dilation, strict=True))


def _dense(node: Any, rows: Array) -> Array:
    """A non-spiking node on `[row, *in]`."""
    kind = type(node).__name__
    if kind == "Flatten":
        return rows.reshape(len(rows), -1)
    if kind == "Linear":
        return np.asarray(rows @ node.weight.T)
    if kind == "Affine":
        return np.asarray(rows @ node.weight.T + node.bias)
    axes = rows.ndim - 2
    window = _window(node, axes)
    padded = np.pad(rows, [(0, 0), (0, 0), *((p, p) for _, _, p, _ in window)])
    spans = tuple(d * (k - 1) + 1 for k, _, _, d in window)
    over: Any = tuple(range(2, axes + 2))
    views: Any = np.lib.stride_tricks.sliding_window_view(padded, spans, over)
    views = views[(slice(None),) * 2 + tuple(slice(None, None, s) for _, s, _, _ in window)]
    views = views[(..., *(slice(None, None, d) for *_, d in window))]
    taps = tuple(range(-axes, 0))
    if not kind.startswith("Conv"):
        total = views.sum(taps)
        return np.asarray(total / np.float32(np.prod([k for k, *_ in window])) if kind == "AvgPool2d" else total)
    groups = int(node.groups)
    parts = [
        np.tensordot(part, weight, ((1, *range(part.ndim - axes, part.ndim)), tuple(range(1, axes + 2))))
        for part, weight in zip(np.split(views, groups, 1), np.split(node.weight, groups), strict=True)
    ]
    return np.moveaxis(np.concatenate(parts, -1) + node.bias, -1, 1)


def check_input(island: Island, values: Array) -> Array:
    """`values` if it is finite float32 `[batch, *in]` or `[steps, batch, *in]`; IslandError otherwise."""
    shape = list(values.shape)
    batch = shape[: values.ndim - len(island.input_shape)]
    sound = tuple(shape[len(batch) :]) == island.input_shape and (len(batch) == 1 or batch[:-1] == [island.steps])
    if values.dtype != np.float32 or not sound or not values.size:
        wanted = ", ".join(map(str, island.input_shape))
        raise IslandError(
            f"input is {values.dtype} {shape}; give float32 [batch, {wanted}] or [{island.steps}, batch, {wanted}]"
        )
    if not np.isfinite(values).all():
        raise IslandError("input holds values that are not finite; clean it first")
    return np.ascontiguousarray(values)


def load_simulator(name: str) -> Any:
    """The module `simulators/NAME.py` of the package, or of the folder beside this file."""
    if not name.isidentifier():
        raise IslandError(f"{name!r} is no simulator's name; the bundle's manifest names its runtime")
    here = Path(__file__).resolve().parent
    return _load(f"..simulators.{name}", *(folder / "simulators" / f"{name}.py" for folder in (here, here.parent)))


def _load(name: str, *places: Path) -> Any:
    """The module `name` of the package, or where this file stands alone the first of `places` that exists."""
    if __package__:
        return importlib.import_module(name, __package__)
    place = next((place for place in places if place.is_file()), None)
    if place is None:
        raise IslandError(f"{places[0].name} is missing beside {Path(__file__).name}; export the model again")
    spec = importlib.util.spec_from_file_location(f"beside_{place.stem}", place)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_island(island: Island, values: Array, simulator: str) -> dict[str, Array]:
    """Spikes uint8 [steps, batch, neurons], output float32 [batch, *out], and what else `simulator` measures.

    `values` as check_input gives them. IslandError for an island that the simulator cannot run, with the remedy.
    """
    module = load_simulator(simulator)
    if island.profile not in module.PROFILES:
        raise IslandError(
            f"{simulator} runs islands of the profile {' or '.join(f'`{p}`' for p in module.PROFILES)}, this one has "
            f"`{island.profile}`: export with --target {simulator}"
        )
    try:
        spikes, output, *measured = module.simulate(island, values)
    except ImportError:
        raise
    except KeyError as error:
        raise IslandError(f"{simulator}: the neurons' metadata has no {error}: export the model again") from None
    except Exception as error:  # another package's code on a file that may be hostile
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise IslandError(f"{simulator}: {reason}") from None
    parts, start = [], 0
    for neuron in island.neurons:
        fired = spikes[..., start : start + neuron.size].astype(np.uint8, copy=False)
        if neuron.slots > 1:
            fired = fired.reshape(*spikes.shape[:2], neuron.slots, -1).sum(2, dtype=np.uint8)
        parts.append(fired)
        start += neuron.size
    counts = parts[0] if len(parts) == 1 else np.concatenate(parts, -1)
    return {"spikes": counts, "output": output.astype(np.float32), **(measured[0] if measured else {})}


def disagreement(got: Mapping[str, Array], golden: Mapping[str, Array]) -> tuple[int, float]:
    """Spikes that differ, and the largest difference of the output as a part of the largest golden output."""
    if got["spikes"].shape != golden["spikes"].shape or got["output"].shape != golden["output"].shape:
        raise IslandError("the golden file does not fit its island; export the model again")
    wrong = int((got["spikes"] != golden["spikes"]).sum())
    scale = float(np.abs(golden["output"]).max()) or 1.0
    return wrong, float(np.abs(got["output"] - golden["output"]).max()) / scale


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    """The arrays `names` of an npz file; IslandError for a missing or damaged file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if sum(entry.file_size for entry in file.zip.infolist()) > MAX_BYTES + 16 * Path(path).stat().st_size:
                raise ValueError("it unfolds to far more than its size")
            return {name: file[name] for name in names}
    except Exception as error:  # a hostile file can raise anything in zipfile, zlib and numpy
        reason = type(error).__name__
        raise IslandError(
            f"{path} is not a readable npz file with {', '.join(names)} ({reason}): copy it again"
        ) from None


def run_hybrid(
    folder: Path,
    hybrid: Mapping[str, Any],
    patches: Array,
    run: Callable[[Path, Array], Array],
    opened: dict[str, Any] | None = None,
) -> Array:
    """The whole model: dense segments in ONNX Runtime, islands through `run(path, input) -> output`.

    `opened` keeps the segments' sessions from call to call. IslandError names a segment that is damaged or does not
    fit its neighbours.
    """
    if any(segment is not None for segment in hybrid["segments"]):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
    sessions = {} if opened is None else opened
    tensors = {hybrid["input"]: patches}
    for k, segment in enumerate(hybrid["segments"]):
        if segment is not None:
            path = folder / segment["file"]
            try:
                if str(path) not in sessions:
                    sessions[str(path)] = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
                given = sessions[str(path)].run(segment["outputs"], {name: tensors[name] for name in segment["inputs"]})
            except Exception as error:  # onnxruntime's exception classes are not public
                raise IslandError(f"{path} does not run ({type(error).__name__}): export the model again") from None
            tensors.update(zip(segment["outputs"], given, strict=True))
        if k < len(hybrid["islands"]):
            island = hybrid["islands"][k]
            values, lead = entering(island, tensors[island["reads"]])
            y = run(folder / island["file"], values)
            tensors[island["writes"]] = y.reshape(*lead, *y.shape[1:])
    result: Array = tensors[hybrid["output"]]
    return result


def entering(island: Mapping[str, Any], x: Array) -> tuple[Array, tuple[int, ...]]:
    """What an island of the manifest is given for the tensor `x` that it reads, and the dimensions before its output.

    `x` is [*lead, *shape], or with a time axis [steps, *lead, *shape] or [steps * lead, *shape].
    """
    shape, steps = tuple(island["shape"]), int(island["input_steps"])
    lead = x.shape[: x.ndim - len(shape)]
    if steps == 1:
        return np.ascontiguousarray(x.reshape(-1, *shape)), lead
    inner = lead[1:] if lead[0] == steps else (lead[0] // steps, *lead[1:])
    return np.ascontiguousarray(x.reshape(steps, -1, *shape)), inner


def main() -> int:
    """Check the bundle, or run one island; exit 0 if all holds, 1 if not, 2 on an error, in one line."""
    parser = argparse.ArgumentParser(
        description="Without options: run every island of this bundle on its golden input, then the whole model."
    )
    parser.add_argument("--island", type=Path, help="run this .nir file only")
    parser.add_argument("--input", type=Path, help="npz with `input`, float32 [batch, *in] or [steps, batch, *in]")
    parser.add_argument("--output", type=Path, help="npz to write: `spikes`, `output`")
    parser.add_argument("--simulator", help="whose module to use; a bundle's manifest names its own")
    given = parser.parse_args()
    if given.island and not (given.input and given.output):
        parser.error("--island needs --input and --output")
    folder = Path(__file__).resolve().parent
    try:
        simulator = given.simulator or json.loads((folder / "manifest.json").read_text())["runtime"]
        if given.island:
            return _run_one(given.island, given.input, given.output, simulator)
        held = [_island_holds(folder, path, simulator) for path in sorted((folder / "spiking").glob("*.nir"))]
        held.append(_whole_holds(folder, simulator))
    except (IslandError, OSError, KeyError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(not all(held))


def _run_one(path: Path, given: Path, target: Path, simulator: str) -> int:
    island = read_island(path)
    found: Any = run_island(island, check_input(island, read_arrays(given, ("input",))["input"]), simulator)
    partial = target.with_name(f".{target.name}.npz")
    np.savez(partial, **found)
    partial.replace(target)
    return 0


def _island_holds(folder: Path, path: Path, simulator: str) -> bool:
    island = read_island(path)
    golden = read_arrays(folder / "golden" / f"{path.stem}.npz", GOLDEN)
    got = run_island(island, check_input(island, golden["input"]), simulator)
    wrong, error = disagreement(got, golden)
    held = wrong == 0 and error <= OUTPUT_LIMIT
    found = f"{wrong} of {golden['spikes'].size} spikes differ, output off by {error:.1e}"
    print(f"{'ok  ' if held else 'FAIL'} {path.name} in {simulator}: {found}")
    return held


def _whole_holds(folder: Path, simulator: str) -> bool:
    hybrid = json.loads((folder / "manifest.json").read_text())["hybrid"]
    golden = read_arrays(folder / "golden" / "model.npz", ("input", "output"))

    def run(path: Path, values: Array) -> Array:
        return run_island(read_island(path), values, simulator)["output"]

    try:
        got = run_hybrid(folder, hybrid, golden["input"], run)
    except ImportError:
        print("     the whole model was not run: pip install onnxruntime for its dense segments")
        return True
    error = float(np.sum((got - golden["output"]) ** 2) / np.sum(golden["output"] ** 2))
    print(f"     whole model: {10 * np.log10(max(error, 1e-30)):.0f} dB NMSE from the golden output")
    return True


if __name__ == "__main__":
    sys.dont_write_bytecode = True  # a bundle stays as it was written
    sys.exit(main())
