"""Run NIR islands in the simulator they were written for. Needs numpy, nir and that simulator; Python 3.10 or newer.

A bundle carries this file as `run.py`: `python run.py` runs every island on its golden input and compares spikes
bit by bit. It imports nothing of spikeport.

An island is a linear chain [Affine ...] -> LIF -> Affine. NIR says neither the time step, nor how many steps, nor how
the membrane resets, so the LIF node's metadata does: profile, dt, steps, reset_mode (constant | subtract), spike_op
(how to compare with the node's threshold), coding (binary; or slots: `slots` memoryless neurons make one integer
neuron) and SpikingJelly's own sj_tau, sj_decay_input, sj_v_threshold, sj_v_reset.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SNNTORCH_DT = 1e-4
RESET_MODES = ("constant", "subtract")
CODINGS = ("binary", "slots")
GOLDEN = ("input", "spikes", "output")
OUTPUT_LIMIT = 1e-5


class IslandError(ValueError):
    """The file is no island that this runner can run; the message says why."""


@dataclass(frozen=True)
class Island:
    """One island: its NIR graph, the chain's nodes in order, and the metadata of its LIF node."""

    graph: Any
    chain: tuple[Any, ...]
    lif: Any
    profile: str
    dt: float
    steps: int
    reset_mode: str
    coding: str
    slots: int
    tau: float
    decay_input: bool
    v_threshold: float
    v_reset: float

    @property
    def inputs(self) -> int:
        """Values a token brings."""
        return int(self.graph.input_type["input"][0])


def read_island(path: Path) -> Island:
    """The island in a .nir file; IslandError for a damaged file or a graph that is no linear chain."""
    import nir

    if not Path(path).is_file():
        raise IslandError(f"{path} does not exist; export the model again")
    try:
        graph = nir.read(str(path))
        chain = _chain(graph)
        (lif,) = (node for node in chain if isinstance(node, nir.LIF))
        meta = lif.metadata
        island = Island(
            graph=graph,
            chain=chain,
            lif=lif,
            profile=str(meta["profile"]),
            dt=float(meta["dt"]),
            steps=int(meta["steps"]),
            reset_mode=str(meta["reset_mode"]),
            coding=str(meta["coding"]),
            slots=int(meta["slots"]),
            tau=float(meta["sj_tau"]),
            decay_input=bool(meta["sj_decay_input"]),
            v_threshold=float(meta["sj_v_threshold"]),
            v_reset=float(meta["sj_v_reset"]),
        )
        arrays = [value for node in chain for value in vars(node).values() if isinstance(value, np.ndarray)]
        sound = all(np.isfinite(value).all() for value in arrays)
    except Exception as error:  # a hostile file can raise anything in h5py and nir
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise IslandError(f"{path} is not a readable island ({reason}); it may be truncated: export it again") from None
    if not sound:
        raise IslandError(f"{path} holds values that are not finite; export it again")
    known = island.reset_mode in RESET_MODES and island.coding in CODINGS
    if not known or not 1 <= island.steps <= 4096 or not 1 <= island.slots <= 255 or island.dt <= 0:
        raise IslandError(f"{path}: the LIF node's metadata has impossible values; export it again")
    return island


def _chain(graph: Any) -> tuple[Any, ...]:
    import nir

    after = dict(graph.edges)
    if len(after) != len(graph.edges) or len(set(after.values())) != len(after):
        raise ValueError("the graph is not a linear chain")
    names, name = [], "input"
    while name != "output":
        name = after.pop(name)
        names.append(name)
    if after or len(names) != len(graph.nodes) - 1:
        raise ValueError("the graph is not a linear chain from input to output")
    chain = tuple(graph.nodes[name] for name in names[:-1])
    if not all(isinstance(node, (nir.Affine, nir.LIF)) for node in chain):
        raise ValueError("the chain holds something else than Affine and LIF")
    return chain


def check_input(island: Island, values: Array) -> Array:
    """`values` if it is finite float32 `[batch, in]`; IslandError otherwise."""
    if values.dtype != np.float32 or values.ndim != 2 or values.shape[1] != island.inputs or not len(values):
        raise IslandError(f"input is {values.dtype} {list(values.shape)}; give float32 [batch, {island.inputs}]")
    if not np.isfinite(values).all():
        raise IslandError("input holds values that are not finite; clean it first")
    return values


def run_snntorch(island: Island, values: Array) -> dict[str, Array]:
    """Spikes and output of an island in snnTorch, imported by its own importer."""
    import snntorch
    import torch
    from snntorch.import_nir import import_from_nir

    if island.profile != "generic" or island.reset_mode != "constant" or np.any(island.lif.v_leak):
        raise IslandError(
            "snnTorch runs islands of the profile `generic`, hard reset to 0: export with --target snntorch"
        )
    if island.dt != SNNTORCH_DT:
        raise IslandError(f"snnTorch's importer assumes dt {SNNTORCH_DT}, the island has {island.dt}: export it again")
    with contextlib.redirect_stdout(io.StringIO()):
        net = import_from_nir(island.graph)
    (neuron,) = (m for m in net.modules() if isinstance(m, snntorch.Leaky))
    _same("snnTorch", neuron.threshold, island.lif.v_threshold[0])
    _same("snnTorch", neuron.beta, 1 - SNNTORCH_DT / island.lif.tau)
    spikes: list[Any] = []
    neuron.register_forward_hook(lambda _module, _inputs, out: spikes.append(out))
    state, outputs, x = None, [], torch.from_numpy(values)
    with torch.no_grad():
        for _ in range(island.steps):
            out, state = net(x, state)
            outputs.append(out)
    return _outputs(island, torch.stack(spikes).numpy(), torch.stack(outputs).mean(0).numpy())


def run_norse(island: Island, values: Array) -> dict[str, Array]:
    """Spikes and output of an island in Norse, imported by its own importer.

    Norse's importer ignores the reset potential and knows no soft reset for a LIF node; both are set afterwards. Soft
    reset subtracts SpikingJelly's threshold, not the next smaller float that makes Norse's `>` a `>=`.
    """
    import norse.torch
    import torch

    if island.profile != "norse":
        raise IslandError("Norse runs islands of the profile `norse`: export with --target norse")
    net = norse.torch.from_nir(island.graph, dt=island.dt)
    (neuron,) = (m for m in net.modules() if isinstance(m, norse.torch.LIFBoxCell))
    _same("Norse", neuron.p.v_th, island.lif.v_threshold)
    _same("Norse", neuron.dt * neuron.p.tau_mem_inv, island.dt / island.lif.tau)
    threshold = torch.tensor(island.v_threshold)
    if island.reset_mode == "subtract":
        neuron.p = neuron.p._replace(reset_method=lambda z, v, _reset, _threshold: v - z * threshold)
    else:
        neuron.p = neuron.p._replace(v_reset=torch.tensor(island.v_reset))
    spikes: list[Any] = []
    neuron.register_forward_hook(lambda _module, _inputs, out: spikes.append(out[0]))
    state, outputs, x = None, [], torch.from_numpy(values)
    with torch.no_grad():
        for _ in range(island.steps):
            out, state = net(x, state)
            outputs.append(out)
    return _outputs(island, torch.stack(spikes).numpy(), torch.stack(outputs).mean(0).numpy())


def run_reference(island: Island, values: Array) -> dict[str, Array]:
    """Spikes and output of an island of any profile in numpy, without torch.

    The neuron is SpikingJelly's, bit for bit; the matrix products are numpy's, which round differently.
    """
    position = island.chain.index(island.lif)
    current = values
    for node in island.chain[:position]:
        current = current @ node.weight.T + node.bias
    spikes = reference_spikes(island, current)
    mean = spikes.mean(0, dtype=np.float32)
    for node in island.chain[position + 1 :]:
        mean = mean @ node.weight.T + node.bias
    return _outputs(island, spikes, mean)


def reference_spikes(island: Island, current: Array) -> Array:
    """Spikes `[steps, batch, neuron]` for the constant `current` `[batch, neuron]` that enters the LIF node.

        h = v + (x - (v - v_reset)) / tau    with input decay,      h = v - (v - v_reset) / tau + x    without
        spike = h >= threshold;   v = v_reset where it spiked (constant), v = h - threshold (subtract)

    `current` is scaled as the profile wants it; the scale is taken off again before x.
    """
    f = np.float32
    tau, rest = f(island.tau), f(island.v_reset if island.reset_mode == "constant" else 0.0)
    if island.coding == "slots":
        fired: Array = current > island.lif.v_threshold
        return fired.astype(np.float32)[None]
    scale = {
        "generic": 1 / island.tau if island.decay_input else 1.0,
        "norse": 1.0 if island.decay_input else island.tau,
    }
    x, v = (current / f(scale[island.profile])).astype(np.float32), np.full_like(current, rest)
    spikes = np.empty((island.steps, *current.shape), np.float32)
    for step in range(island.steps):
        h = v + (x - (v - rest)) / tau if island.decay_input else v - (v - rest) / tau + x
        fired = h >= f(island.v_threshold)
        v = np.where(fired, h - f(island.v_threshold) if island.reset_mode == "subtract" else rest, h)
        spikes[step] = fired
    return spikes


RUNNERS = {"snntorch": run_snntorch, "norse": run_norse, "reference": run_reference}
SIMULATORS = {"generic": "snntorch", "norse": "norse"}


def _outputs(island: Island, spikes: Array, output: Array) -> dict[str, Array]:
    slots = spikes.reshape(*spikes.shape[:2], island.slots, -1)
    return {"spikes": slots.sum(2).astype(np.uint8), "output": output.astype(np.float32)}


def _same(simulator: str, got: Any, want: Any) -> None:
    if not np.allclose(got.detach().numpy(), want, rtol=1e-6, atol=0):
        raise IslandError(
            f"this version of {simulator} imports a LIF neuron differently; install the one the bundle names"
        )


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
            return {name: file[name] for name in names}
    except Exception as error:  # a hostile file can raise anything in zipfile, zlib and numpy
        reason = type(error).__name__
        raise IslandError(
            f"{path} is not a readable npz file with {', '.join(names)} ({reason}): copy it again"
        ) from None


def run_hybrid(folder: Path, hybrid: Mapping[str, Any], patches: Array, run: Callable[[Path, Array], Array]) -> Array:
    """The whole model: dense segments in ONNX Runtime, islands through `run(path, input) -> output`.

    IslandError names a segment that is damaged or does not fit its neighbours.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    tensors = {hybrid["input"]: patches}
    for k, segment in enumerate(hybrid["segments"]):
        path = folder / segment["file"]
        try:
            session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
            given = session.run(segment["outputs"], {name: tensors[name] for name in segment["inputs"]})
        except Exception as error:  # onnxruntime's exception classes are not public
            raise IslandError(f"{path} does not run ({type(error).__name__}): export the model again") from None
        tensors.update(zip(segment["outputs"], given, strict=True))
        if k < len(hybrid["islands"]):
            island = hybrid["islands"][k]
            x = tensors[island["reads"]]
            y = run(folder / island["file"], np.ascontiguousarray(x.reshape(-1, x.shape[-1])))
            tensors[island["writes"]] = y.reshape(*x.shape[:-1], y.shape[-1])
    result: Array = tensors[hybrid["output"]]
    return result


def main() -> int:
    """Compare every island with its golden run, then run the whole model; exit 0 if all hold, 1 if not, 2 on error."""
    parser = argparse.ArgumentParser(
        description="Run every island of this bundle on its golden input; takes no options."
    )
    parser.parse_args()
    folder = Path(__file__).resolve().parent
    try:
        held = [_island_holds(folder, path) for path in sorted((folder / "spiking").glob("*.nir"))]
        held.append(_whole_holds(folder))
    except (IslandError, OSError, KeyError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(not all(held))


def _island_holds(folder: Path, path: Path) -> bool:
    island = read_island(path)
    golden = read_arrays(folder / "golden" / f"{path.stem}.npz", GOLDEN)
    got = RUNNERS[SIMULATORS[island.profile]](island, check_input(island, golden["input"]))
    wrong, error = disagreement(got, golden)
    held = wrong == 0 and error <= OUTPUT_LIMIT
    found = f"{wrong} of {golden['spikes'].size} spikes differ, output off by {error:.1e}"
    print(f"{'ok  ' if held else 'FAIL'} {path.name} in {SIMULATORS[island.profile]}: {found}")
    return held


def _whole_holds(folder: Path) -> bool:
    hybrid = json.loads((folder / "manifest.json").read_text())["hybrid"]
    golden = read_arrays(folder / "golden" / "model.npz", ("input", "output"))

    def run(path: Path, values: Array) -> Array:
        island = read_island(path)
        return RUNNERS[SIMULATORS[island.profile]](island, values)["output"]

    try:
        got = run_hybrid(folder, hybrid, golden["input"], run)
    except ImportError:
        print("     the whole model was not run: pip install onnxruntime for its dense segments")
        return True
    error = float(np.sum((got - golden["output"]) ** 2) / np.sum(golden["output"] ** 2))
    print(f"     whole model: {10 * np.log10(max(error, 1e-30)):.0f} dB NMSE from the golden output")
    return True


if __name__ == "__main__":
    sys.exit(main())
