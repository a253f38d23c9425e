"""The dense route: the whole network as one ONNX graph for TensorRT on a Jetson, with golden I/O and a runner."""

from __future__ import annotations

from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based.base import MemoryModule
from spikingjelly.activation_based.neuron import BaseNode
from torch import nn

from spikeport_errors import UnsupportedError
from spikeport_toolkit.models.layers import Attention
from spikeport_toolkit.models.neuron import QuantReLU, SpikingNeuron

from .attention import make_attention_explicit
from .bundle import BundleWriter
from .fold import StaircaseNeuron, fold_batchnorm, fold_time, staircase
from .half import half_model
from .onnx_graph import OPSET, onnx_from_model, save_onnx, with_float_io
from .onnx_legal import onnx_legal
from .plan import KEPT, REFUSED, REWRITTEN, PlanItem, model_name
from .reference import Golden, golden_samples, neurons_per_sample, run_reference
from .spiking_taps import spiking_taps

if TYPE_CHECKING:
    from spikeport_targets.card import Card

MODEL, GOLDEN = "dense/model.onnx", "golden/model.npz"
PRECISIONS = ("fp32", "fp16", "int8")

_KEPT = {
    nn.Linear: ("MatMul, Add", "INT8 quantises its input and weights, never its output"),
    nn.LayerNorm: ("LayerNormalization", "float in every precision"),
    Attention: ("MatMul, Softmax, MatMul", "no Attention operator: TensorRT 10.3 has none"),
    QuantReLU: ("Clip, Round", "static, one pass"),
    nn.ReLU: ("Relu", "static, one pass"),
    nn.GELU: ("Gelu", "static, one pass"),
}
_SILENT = (nn.Identity, nn.Dropout)


def jetson_plan(model: nn.Module, card: Card) -> tuple[PlanItem, ...]:
    """One item per layer: kept, rewritten (BatchNorm into fc1, T steps into compares), or refused with the remedy."""
    del card
    folded = {path for path, m in fold_batchnorm(model).named_modules() if isinstance(m, nn.Identity)}
    items: list[PlanItem] = []
    inside: tuple[str, ...] = ()
    for path, module in model.named_modules():
        if inside and path.startswith(inside):
            continue
        item = _item(path, module, path in folded)
        if item is not None:
            items.append(item)
        if isinstance(module, SpikingNeuron | BaseNode):
            inside = (*inside, f"{path}.")
    return tuple(items)


def write_dense_bundle(
    model: nn.Module,
    patches: NDArray[np.float32],
    card: Card,
    precision: str,
    writer: BundleWriter,
    target: NDArray[np.float32] | None = None,
    trained: bool = False,
) -> dict[str, Any]:
    """Write graph, golden I/O, runner and README; the fragment of the manifest that describes them (key `dense`).

    `patches` [sample, token, values] are scaled inputs: the first become golden, all calibrate INT8. `target` is the
    clean truth of the predicted tokens in the same scale. Raises UnsupportedError where the graph is not legal.
    """
    reference = fold_batchnorm(model)
    samples = golden_samples(neurons_per_sample(reference, patches), len(patches))
    golden = run_reference(reference, patches[:samples], None if target is None else target[:samples])
    static, graph = dense_graph(reference, patches, precision)
    stairs = {path: m.stairs for path, m in static.named_modules() if isinstance(m, StaircaseNeuron)}
    layers = [tap.to_dict() for tap in spiking_taps(graph.graph, stairs)]
    save_onnx(graph, writer.path(MODEL))
    np.savez_compressed(writer.path(GOLDEN), **golden.arrays(with_sources=precision == "fp32"))  # type: ignore[arg-type]
    writer.path("run.py").write_text(_package_text("run_dense.py"), encoding="utf-8")
    writer.path("README.md").write_text(_readme(model, card, precision, golden, layers, trained), encoding="utf-8")
    dense = {"model": MODEL, "golden": GOLDEN, "tokens": patches.shape[1], "opset": OPSET, "layers": layers}
    return {"dense": dense, "steps": _most(layers, "steps"), "levels": _most(layers, "levels")}


def dense_graph(
    reference: nn.Module, patches: NDArray[np.float32], precision: str
) -> tuple[nn.Module, onnx.ModelProto]:
    """A model whose BatchNorm is folded, with its time folded too, and the legal graph of that in `precision`."""
    static = make_attention_explicit(fold_time(reference))
    return static, onnx_legal(_graph(static, torch.from_numpy(patches), precision))


def _graph(static: nn.Module, patches: torch.Tensor, precision: str) -> onnx.ModelProto:
    example = patches[:2] if len(patches) > 1 else patches.repeat(2, 1, 1)
    if precision == "fp16":
        return with_float_io(onnx_from_model(half_model(static), example.half()))
    if precision == "int8":
        from .quantize import int8_model

        static = int8_model(static, patches)
    return onnx_from_model(static, example)


def _item(path: str, module: nn.Module, folds: bool) -> PlanItem | None:
    what = type(module).__name__
    if isinstance(module, SpikingNeuron):
        return _neuron_item(path, module)
    if isinstance(module, BaseNode):
        return PlanItem(path, what, KEPT, "unroll", "its steps stay in the graph, and parity sees them in the output")
    if isinstance(module, MemoryModule):
        return PlanItem(
            path, what, REFUSED, "", "it keeps state over time and is not a neuron that can be unrolled",
            "use SpikingJelly's neurons, or spikeport's SpikingNeuron, which folds time",
        )  # fmt: skip
    if isinstance(module, nn.BatchNorm1d):
        if folds:
            return PlanItem(path, what, REWRITTEN, "fold into fc1", "exact in float64, rounded once")
        return PlanItem(path, what, REFUSED, "", "no fc1 of a FeedForward stands before it", "use LayerNorm there")
    for kind, (rule, reason) in _KEPT.items():
        if isinstance(module, kind):
            return PlanItem(path, what, KEPT, rule, reason)
    if isinstance(module, _SILENT) or any(True for _ in module.children()):
        return None
    if isinstance(module, nn.ModuleList | nn.Sequential):
        return None
    return PlanItem(path, what, REFUSED, "", "no rule for this layer", "build it from Linear, LayerNorm and Attention")


def _neuron_item(path: str, neuron: SpikingNeuron) -> PlanItem:
    config = neuron.config
    what = f"{config.kind} neuron, T={config.steps}, D={config.levels}"
    try:
        compares = len(staircase(neuron).thresholds)
    except UnsupportedError as error:
        return PlanItem(path, what, REFUSED, "", str(error), "use a LIF or I-LIF neuron")
    return PlanItem(path, what, REWRITTEN, "fold time", f"{config.steps} steps become {compares} exact compares")


def _most(layers: list[dict[str, Any]], key: str) -> int | None:
    return max((int(layer[key]) for layer in layers), default=None)


def _package_text(name: str) -> str:
    return (files(__package__) / "runner" / name).read_text(encoding="utf-8")


def _readme(
    model: nn.Module, card: Card, precision: str, golden: Golden, layers: list[dict[str, Any]], trained: bool
) -> str:
    quantisation = {
        "fp32": "float32",
        "fp16": "float16 behind float32 input and output",
        "int8": "INT8 by explicit QuantizeLinear and DequantizeLinear, symmetric, the rest float32",
    }
    gating = "Every row is gated." if trained else "Untrained weights: end-to-end rows are reported, not gated."
    folding, arrays = "No layer has time steps to fold.", ""
    if layers:
        folding = (
            f"{len(layers)} spiking layers: their {_most(layers, 'steps')} steps are exact compares of the current."
        )
        arrays = ", `spikes/<layer>` its spike counts"
        arrays += ", `fc1/<layer>` what that layer was fed" if golden.sources and precision == "fp32" else ""
    return Template(_package_text("README.md.in")).substitute(
        name=model_name(model),
        target=card.name,
        precision=precision,
        tokens=golden.input.shape[1],
        values=golden.input.shape[2],
        folding=folding,
        opset=OPSET,
        quantisation=quantisation[precision],
        samples=len(golden.input),
        arrays=arrays,
        gating=gating,
    )
