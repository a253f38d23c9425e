"""The dense route: the whole network as one ONNX graph for TensorRT on a Jetson, with golden I/O and a runner."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from spikeport_errors import UnsupportedError
from spikeport_toolkit.models.neuron import SpikingNeuron, SteppedNeuron

from .bundle import BundleWriter
from .fold import StaircaseNeuron, fold_batchnorm
from .fold_graph import UnrolledNeuron, max_spikes
from .ladder import BATCHES
from .loop_form import LoopedNeuron
from .onnx_graph import INPUT, save_onnx, weight_file
from .onnx_legal import onnx_legal
from .plan import model_name
from .precision import Assignment, assignment
from .precision_graph import precision_graph
from .reference import Golden, golden_samples, neurons_per_sample, run_reference
from .spiking_taps import SpikingTap, ambiguous, count_steps, spiking_taps
from .stair_form import write_stairs
from .static_model import few_of, static_model
from .tokens import Tokens, token_golden

if TYPE_CHECKING:
    from spikeport_targets.card import Card

MODEL, GOLDEN, TUNED = "dense/model.onnx", "golden/model.npz", "golden/reference.safetensors"
RUNNER = {"run_dense.py": "run.py"} | {
    f"{part}.py": f"runner/{part}.py" for part in ("device", "engine", "measure", "power")
}
"""The files that run a bundle, which spikeport itself does not import, and where a bundle has them."""


def write_dense_bundle(
    model: nn.Module,
    patches: NDArray[np.float32],
    card: Card,
    precision: str | Assignment,
    writer: BundleWriter,
    target: NDArray[np.float32] | None = None,
    trained: bool = False,
    original: nn.Module | None = None,
    *,
    pad_heads: int = 1,
    tokens: Tokens | None = None,
) -> dict[str, Any]:
    """Write graph, golden I/O, runner and README; the fragment of the manifest that describes them (key `dense`).

    `patches` [sample, token, values] are scaled inputs: the first become golden, all calibrate INT8. `target` is the
    clean truth of the predicted tokens in the same scale. `original` is what `model` was before fine-tuning for a
    precision, where it was: the task is then compared with that. `pad_heads` and `tokens` as in dense_graph.
    Raises UnsupportedError where the graph is not legal.
    """
    chosen = assignment(precision)
    reference = fold_batchnorm(model)
    own = getattr(model, "example_input", None) is not None
    samples = len(patches) if own else golden_samples(neurons_per_sample(reference, patches), len(patches))
    golden = run_reference(reference, patches[:samples], None if target is None else target[:samples])
    path = writer.path(MODEL)
    static, graph = dense_graph(
        reference,
        patches,
        chosen,
        pad_heads=pad_heads,
        tokens=tokens,
        weights=weight_file(path),
        processor=card.klass == "cpu",
    )
    stairs = {path: m.stairs for path, m in static.named_modules() if isinstance(m, StaircaseNeuron)}
    folded = spiking_taps(graph.graph, stairs)
    stepped, uncompared = _stepped_taps(graph.graph, static, reference, golden, set(stairs))
    layers = [tap.to_dict() for tap in (*folded, *stepped)]
    save_onnx(graph, path)
    arrays = golden.arrays(with_sources=chosen.name == "fp32")
    if tokens is not None:
        arrays |= token_golden(reference, patches, tokens)
    if original is not None:
        arrays["original"] = run_reference(fold_batchnorm(original), golden.input).output
        save_file(dict(reference.state_dict()), writer.path(TUNED))
    np.savez_compressed(writer.path(GOLDEN), **arrays)  # type: ignore[arg-type]
    for source, name in RUNNER.items():
        writer.path(name).write_text(_package_text(source), encoding="utf-8")
    opset = int(graph.opset_import[0].version)
    text = _readme(model, _folding(model, static, folded), card, chosen, golden, layers, trained, opset)
    writer.path("README.md").write_text(text, encoding="utf-8")
    dense = {"model": MODEL, "golden": GOLDEN, "tokens": patches.shape[1], "opset": opset}
    dense |= {
        "pad_heads": pad_heads,
        "assignment": chosen.to_dict(),
        "profile": engine_shapes(graph, patches.shape, tokens),
        "layers": layers,
        "uncompared": uncompared,
    }
    return {"dense": dense, "steps": _most(layers, "steps"), "levels": _most(layers, "levels")}


def dense_graph(
    reference: nn.Module,
    patches: NDArray[np.float32],
    precision: str | Assignment,
    *,
    pad_heads: int = 1,
    tokens: Tokens | None = None,
    weights: Path | None = None,
    processor: bool = False,
) -> tuple[nn.Module, onnx.ModelProto]:
    """A model whose BatchNorm is folded, without time and with explicit attention, and its legal graph in `precision`.

    `patches` [sample, ...] are inputs of it: all of them calibrate. Heads are padded to a multiple of `pad_heads`.
    With `tokens` (fewest, best, most) their number varies too. Weights too large for the graph go into the file
    `weights`, where one is given. `processor` writes neurons as onnxruntime computes them fastest on a CPU, with bytes
    that TensorRT does not take: in INT8 with a step at most one float32 beside its threshold, in FP32 none.
    """
    samples = torch.from_numpy(patches)
    static = static_model(reference, few_of(reference, samples), pad_heads=pad_heads, tokens=tokens)
    chosen = assignment(precision)
    if chosen.kind and static.free == (1,):
        raise UnsupportedError(
            f"{chosen.name} calibrates sample by sample, and the input is [T, batch, ...]: "
            "let forward take [batch, T, ...]"
        )
    graph = precision_graph(static.program, samples, chosen, weights=weights)
    if chosen.rest == "fp32" and chosen.kind in ("", "int8"):
        stairs = {path: neuron.stairs for path, neuron in static.stairs.items()}
        folder = weights.parent if weights is not None else None
        write_stairs(graph, stairs, folder, processor=processor, slack=int(chosen.kind == "int8"))
    return static.program, onnx_legal(graph, () if processor else chosen.versions)


def engine_shapes(
    model: onnx.ModelProto, shape: Sequence[int], tokens: Tokens | None = None
) -> dict[str, list[list[int]]]:
    """Least, best and most shape of the input of an engine: the graph's own sizes, batches of 1, 8 and 32, `tokens`
    where their number varies, and else what `shape`, that of the golden input, has."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    free = {"batch": BATCHES} | ({"tokens": tokens} if tokens else {})
    return {
        INPUT: [
            [d.dim_value or int(free[d.dim_param][i] if d.dim_param in free else size)
             for d, size in zip(dims, shape, strict=True)]
            for i in range(len(BATCHES))
        ]
    }  # fmt: skip


def _stepped_taps(
    graph: onnx.GraphProto, static: nn.Module, reference: nn.Module, golden: Golden, folded: set[str]
) -> tuple[list[SpikingTap], list[str]]:
    """Taps of the neurons that step in the graph, which get a sum of their spikes; those whose steps are not found."""
    kinds = {path: m for path, m in static.named_modules() if isinstance(m, UnrolledNeuron | LoopedNeuron)}
    taps = []
    for path, counts in golden.counts.items():
        if path in folded or ambiguous(path, golden.counts, kinds):
            continue
        own = f"{path}.node" if f"{path}.node" in kinds else path
        runs = (path, path.rpartition("_")[0])
        node = next((m for p, m in reference.named_modules() if p and p in runs), None)
        levels = node.config.levels if isinstance(node, SpikingNeuron) else max_spikes(node)
        if tap := count_steps(graph, path, levels, counts.ndim, own=own):
            taps.append(tap)
    known = folded | {tap.path for tap in taps} | {f"{tap.path}.node" for tap in taps}
    return taps, sorted((set(golden.counts) | set(kinds)) - known)


def _most(layers: list[dict[str, Any]], key: str) -> int | None:
    return max((int(layer[key]) for layer in layers), default=None)


def _package_text(name: str) -> str:
    return (files(__package__) / "runner" / name).read_text(encoding="utf-8")


def _folding(model: nn.Module, static: nn.Module, folded: Sequence[SpikingTap]) -> str:
    """What became of the time steps of the spiking layers."""
    kinds = [type(module) for module in static.modules()]
    axes = {f" (time axis {m.time_axis})" for m in model.modules() if isinstance(m, SteppedNeuron)}
    steps = f"their {max((tap.steps for tap in folded), default=0)} steps are exact compares of the current"
    counts = {
        steps: len(folded),
        f"all steps stand in the graph{''.join(axes)}": kinds.count(UnrolledNeuron),
        f"their steps are one loop in the graph{''.join(axes)}": kinds.count(LoopedNeuron),
    }
    said = [f"{count} spiking layers: {what}." for what, count in counts.items() if count]
    return " ".join(said) or "No layer has time steps to fold."


def _readme(
    model: nn.Module,
    folding: str,
    card: Card,
    chosen: Assignment,
    golden: Golden,
    layers: list[dict[str, Any]],
    trained: bool,
    opset: int,
) -> str:
    gating = "Every row is gated." if trained else "Untrained weights: end-to-end rows are reported, not gated."
    arrays = ""
    if layers:
        arrays = ", `spikes/<layer>` its spike counts"
        arrays += ", `fc1/<layer>` what that layer was fed" if golden.sources and chosen.name == "fp32" else ""
    return Template(_package_text("README.md.in")).substitute(
        name=model_name(model),
        target=card.name,
        precision=chosen.name,
        shape=", ".join(map(str, golden.input.shape[1:])),
        folding=folding,
        opset=opset,
        quantisation=chosen.described,
        samples=len(golden.input),
        arrays=arrays,
        gating=gating,
    )
