"""What each part of a model becomes in a dense graph: kept, folded, unrolled, or refused with the remedy."""

from __future__ import annotations

from collections.abc import Iterator

from spikingjelly.activation_based import layer
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor, nn

from spikeport_errors import InputError, UnsupportedError
from spikeport_toolkit.models.layers import Attention
from spikeport_toolkit.models.neuron import QuantReLU, SpikingNeuron, SteppedNeuron
from spikeport_toolkit.models.wiener_mixture import WienerMixture

from .fold import fold_batchnorm
from .fold_graph import Folding, fold_graph
from .marked_program import MarkedProgram, keeps_state, mark_neurons
from .module_graph import own_neurons, step_count
from .plan import KEPT, REFUSED, REWRITTEN, PlanItem
from .static_model import UNFOLDABLE, example_of, few_of

_KEPT = {
    nn.Linear: ("MatMul, Add", "INT8 quantises its input and weights, never its output"),
    nn.LayerNorm: ("LayerNormalization", "float in every precision"),
    Attention: ("MatMul, Softmax, MatMul", "no Attention operator: TensorRT 10.3 has none"),
    nn.MultiheadAttention: ("MatMul, Softmax, MatMul", "no Attention operator: TensorRT 10.3 has none"),
    QuantReLU: ("Clip, Round", "static, one pass"),
    nn.ReLU: ("Relu", "static, one pass"),
    nn.GELU: ("Gelu", "static, one pass"),
    WienerMixture: ("MatMul, Softmax, MatMul", "float32 in every precision"),
}
_WHOLE = (*_KEPT, SpikingNeuron, SteppedNeuron, BaseNode)
_SILENT = (nn.Identity, nn.Dropout, layer.Dropout, layer.Dropout2d, nn.ModuleList, nn.ModuleDict, nn.Sequential)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


def dense_plan(model: nn.Module, sample: Tensor | None = None) -> tuple[PlanItem, ...]:
    """One item per layer and neuron. Time is folded in earnest, on `sample` or an input like `example_of`'s.

    Raises InputError where nothing says what the input looks like.
    """
    refused = tuple(_refused(model))
    if refused:
        return refused
    reference = fold_batchnorm(model)
    merged = {path for path, module in reference.named_modules() if isinstance(module, nn.Identity)}
    given = example_of(model) if sample is None else sample
    if getattr(model, "example_input", None) is not None and len(given) < 2:
        raise InputError(f"{type(model).__name__}.example_input holds one sample: give at least two")
    if any(node.step_mode == "s" for node in own_neurons(model).values()):
        step_count(model)
    example = few_of(model, given)
    try:
        marked = mark_neurons(reference, example)
        foldings = {folding.path: folding for folding in fold_graph(marked).foldings}
    except UnsupportedError as error:
        what, _, remedy = str(error).rpartition(": ")
        return (PlanItem("forward", type(model).__name__, REFUSED, "", what, remedy),)
    layers = list(_layers(model, merged, foldings, _ran(marked)))
    batch = 0 if 0 in marked.free else 1
    if batch not in marked.free:
        reason = f"forward fixes the batch: the graph takes {example.shape[batch]} samples"
        layers.append(PlanItem("forward", type(model).__name__, KEPT, "fixed batch", reason))
    for path in marked.feedback:
        reason = "its steps depend on one another: the loop of forward stays in the graph"
        layers.append(PlanItem(path, type(model.get_submodule(path)).__name__, KEPT, "unroll", reason))
    return tuple(layers)


def _refused(model: nn.Module) -> Iterator[PlanItem]:
    for path, module in model.named_modules():
        what = type(module).__name__
        if isinstance(module, _RECURRENT):
            reason, remedy = "no rule for this layer", "build it from Linear, Conv, LayerNorm, attention and neurons"
            yield PlanItem(path, what, REFUSED, "", reason, remedy)
        elif keeps_state(module) and not isinstance(module, BaseNode):
            reason = "it keeps state over time and is not a neuron that can be unrolled"
            yield PlanItem(path, what, REFUSED, "", reason, "use SpikingJelly's neurons, or spikeport's SpikingNeuron")


def _ran(marked: MarkedProgram) -> set[str]:
    """Paths of all modules that made an operator of the graph or own a weight of one, and of those around them."""
    ran: set[str] = set()
    for node in marked.program.graph.nodes:
        paths = [str(path) for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
        for path in (*paths, str(node.target)) if node.op == "get_attr" else paths:
            parts = path.split(".")
            ran.update(".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return ran


def _layers(model: nn.Module, merged: set[str], foldings: dict[str, Folding], ran: set[str]) -> Iterator[PlanItem]:
    inside: tuple[str, ...] = ()
    for path, module in model.named_modules():
        what = type(module).__name__
        if inside and path.startswith(inside):
            continue
        idle = bool(path) and path not in ran | merged and not isinstance(module, _SILENT)
        if idle or isinstance(module, _WHOLE):
            inside = (*inside, f"{path}.")
        if idle:
            yield PlanItem(path, what, REWRITTEN, "left out", "forward does not run it")
        elif isinstance(module, SpikingNeuron | SteppedNeuron | BaseNode):
            own = path if isinstance(module, BaseNode) else f"{path}.node"
            runs = [f for p, f in foldings.items() if p == own or p.rpartition("_")[0] == own]
            yield from (_neuron(path, module, folding) for folding in runs)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            if path in merged:
                yield PlanItem(path, what, REWRITTEN, "fold into fc1", "exact in float64, rounded once")
            else:
                yield PlanItem(
                    path, what, KEPT, "running statistics", "a scale and a shift, or part of the layer before"
                )
        elif known := next((known for kind, known in _KEPT.items() if isinstance(module, kind)), None):
            yield PlanItem(path, what, KEPT, *known)
        elif not isinstance(module, _SILENT) and not any(True for _ in module.children()):
            yield PlanItem(path, what, KEPT, "its operators", "the operator table is held against every one of them")


def _neuron(path: str, module: nn.Module, folding: Folding) -> PlanItem:
    what = folding.what
    if not isinstance(module, BaseNode):
        config = module.config
        what = f"{config.kind} neuron, T={config.steps}, D={config.levels}"  # type: ignore[union-attr]
    if folding.rule == "fold time":
        return PlanItem(path, what, REWRITTEN, folding.rule, folding.reason)
    if folding.rule:
        return PlanItem(path, what, KEPT, folding.rule, folding.reason)
    return PlanItem(path, what, REFUSED, "", folding.reason, UNFOLDABLE)
