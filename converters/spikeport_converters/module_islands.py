"""A user's own module into a bundle: its islands, their golden runs by SpikingJelly, and its dense segments."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from spikeport_errors import UnsupportedError
from spikeport_targets.runtimes import nir_runner

from .bundle import BundleWriter
from .islands import Golden
from .module_graph import ModuleGraph, own_neurons, trace_module
from .module_segments import ModuleSegment, module_segments, onnx_from_segment
from .near_threshold import Differences, differences
from .nir_profiles import Profile, write_island
from .onnx_graph import save_onnx
from .partition import Part, Partition, partition
from .spiking_graph import Run, nir_from_graph

OUTPUT_LIMIT = 1e-4


def write_module(model: nn.Module, profile: Profile, writer: BundleWriter) -> dict[str, Any]:
    """Write islands, golden runs and dense segments of `model` for its example input; its part of the manifest.

    The golden run is SpikingJelly's, step by step, with BatchNorm folded. What the module itself computes on the
    example is compared with it: UnsupportedError where they differ by more than rounding, or the plan refuses a part.
    """
    split = partition(trace_module(model))
    for refusal in split.refused:
        raise UnsupportedError(f"{refusal.path} ({refusal.what}): {refusal.reason}: {refusal.remedy}")
    segments, output = module_segments(split)
    tensors = {split.traced.input.name: split.traced.example}
    runs: dict[str, Run] = {}
    entries, written = [], []
    for k, segment in enumerate(segments):
        written.append(_write_segment(segment, k, writer))
        if segment is not None:
            tensors |= segment.run(tensors)
        if k < len(split.parts):
            part = split.parts[k]
            runs[part.name], entry = _write_part(part, tensors[part.reads.name], profile, writer)
            tensors[part.writes.name] = runs[part.name].output.reshape(*part.lead, *part.graph.out_shape)
            entries.append(entry)
    found = _against_module(split, runs, tensors[output])
    np.savez_compressed(
        writer.path("golden/model.npz"), input=split.traced.example.numpy(), output=tensors[output].numpy()
    )
    levels = max(n.neuron.levels for part in split.parts for n in part.graph.neurons if n.neuron is not None)
    return {
        "steps": split.traced.steps,
        "levels": levels,
        "rewriting": {"spikes": found.spikes, "differ": found.differ, "what": found.summary()},
        "hybrid": {"input": split.traced.input.name, "output": output, "segments": written, "islands": entries},
    }


def _write_part(part: Part, x: Tensor, profile: Profile, writer: BundleWriter) -> tuple[Run, dict[str, Any]]:
    graph, path = part.graph, writer.path(f"spiking/{part.name}.nir")
    write_island(path, nir_from_graph(graph, profile), profile)
    order = tuple(neuron.name for neuron in nir_runner.read_island(path).neurons)
    time = (graph.steps,) if part.per_step else ()
    entering = x.reshape(*time, -1, *graph.input_shape).contiguous()
    run = graph.run(entering, order)
    golden = Golden(entering.numpy(), run.spikes.to(torch.uint8).numpy(), run.output.numpy())
    np.savez_compressed(writer.path(f"golden/{part.name}.npz"), **vars(golden))
    return run, {
        "file": f"spiking/{part.name}.nir",
        "golden": f"golden/{part.name}.npz",
        "path": part.path,
        "takes": "features",
        "shape": list(graph.input_shape),
        "out_shape": list(graph.out_shape),
        "input_steps": graph.steps if part.per_step else 1,
        "hidden": int(run.spikes.shape[-1]),
        "tokens": int(entering.shape[len(time)]),
        "reads": part.reads.name,
        "writes": part.writes.name,
    }


def _write_segment(segment: ModuleSegment | None, k: int, writer: BundleWriter) -> dict[str, Any] | None:
    if segment is None:
        return None
    name = f"dense/segment-{k:02d}.onnx"
    save_onnx(onnx_from_segment(segment), writer.path(name))
    return {"file": name, "inputs": list(segment.inputs), "outputs": list(segment.outputs)}


def _against_module(split: Partition, runs: dict[str, Run], output: Tensor) -> Differences:
    """Spikes and output of the module itself against the rewritten one."""
    theirs, expected = _module_run(split.traced)
    differ, spikes, unexplained = 0, 0, 0
    for part in split.parts:
        run, paths = runs[part.name], {neuron.name: neuron.path for neuron in part.graph.neurons}
        other = [theirs[paths[name]].reshape(current.shape) for name, current in run.currents.items()]
        found = differences(part.graph, run, torch.cat(other, -1), tuple(run.currents))
        unexplained += 0 if differ else found.unexplained  # what follows an earlier difference is its consequence
        differ, spikes = differ + found.differ, spikes + found.spikes
    total = Differences(differ, spikes, unexplained)
    if expected.shape != output.shape:
        expected = expected.reshape(-1, *output.shape).mean(0)
    error = float((expected - output).abs().max()) / (float(expected.abs().max()) or 1.0)
    if unexplained or (not differ and error > OUTPUT_LIMIT):
        raise UnsupportedError(
            f"{type(split.traced.module).__name__}: the rewritten module is not the module ({total.summary()}, output "
            f"off by {error:.1e}): forward may depend on values or on state; let it be a pure function of its input"
        )
    return total


def _module_run(traced: ModuleGraph) -> tuple[dict[str, Tensor], Tensor]:
    """Spikes [steps, ...] of every neuron by path, and the output (its mean over time where it has steps)."""
    module = copy.deepcopy(traced.module).eval()
    functional.reset_net(module)
    spikes: dict[str, list[Tensor]] = {path: [] for path in traced.paths}
    for path, node in own_neurons(module).items():
        node.register_forward_hook(lambda _m, _i, out, path=path: spikes[path].append(out.detach().clone()))
    with torch.no_grad():
        outputs = [module(traced.example) for _ in range(1 if traced.multi_step else traced.steps)]
    outputs = [out[0] if isinstance(out, tuple | list) else out for out in outputs]
    mean = torch.stack(outputs).mean(0)
    found = {path: torch.cat(seen) if traced.multi_step else torch.stack(seen) for path, seen in spikes.items()}
    return found, mean
