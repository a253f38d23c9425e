"""Any torch module with SpikingJelly neurons as one flat graph of operators, each neuron a single node of it."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor, fx, nn

from spikeport_errors import InputError, UnsupportedError
from spikeport_toolkit.models.neuron import SpikingNeuron, SteppedNeuron

from .nir_profiles import NO_LEAK
from .operators import is_op
from .spiking_graph import NodeNeuron

EXAMPLE = "give the module an attribute `example_input`: float32 [batch, ...], or [T, batch, ...] if its neurons take "
SPIKES = "spikes"
MOST_STEPS = 4096
_KNOWN = {neuron.LIFNode: "lif", neuron.ParametricLIFNode: "plif", neuron.IFNode: "if", neuron.ILIFNode: "ilif"}


@torch.library.custom_op("spikeport::spikes", mutates_args=())
def _spikes(current: Tensor, index: int) -> Tensor:
    """Stand-in of neuron `index` while a module is traced."""
    return torch.zeros_like(current)


@_spikes.register_fake
def _(current: Tensor, index: int) -> Tensor:
    return torch.empty_like(current)


@dataclass(frozen=True)
class ModuleGraph:
    """Operators of `module` on its example input; node `spikeport::spikes(current, k)` is neuron `paths[k]`.

    `steps` is T, `multi_step` whether the neurons take [T, batch, ...] (else the module is one step of T).
    """

    program: fx.GraphModule
    module: nn.Module
    paths: tuple[str, ...]
    example: Tensor
    steps: int
    multi_step: bool

    @property
    def input(self) -> fx.Node:
        """The node of the example input."""
        found: fx.Node = next(node for node in self.program.graph.nodes if node.op == "placeholder")
        return found


def own_neurons(model: nn.Module) -> dict[str, BaseNode]:
    """SpikingJelly neurons by path that are no part of a toolkit's own neuron: those of a user's own module."""
    toolkit = SpikingNeuron | SteppedNeuron
    inside = tuple(f"{path}." for path, module in model.named_modules() if isinstance(module, toolkit))
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, BaseNode) and not (inside and path.startswith(inside))
    }


def example_input(model: nn.Module) -> Tensor:
    """The module's `example_input`, checked; InputError with the remedy where there is none."""
    example = getattr(model, "example_input", None)
    if not isinstance(example, Tensor) or example.dtype != torch.float32 or example.ndim < 2 or not example.numel():
        what = f"{type(example).__name__}" if example is not None else "missing"
        if isinstance(example, Tensor):
            what = f"{str(example.dtype).removeprefix('torch.')} {[*example.shape]}"
        raise InputError(f"{type(model).__name__}.example_input is {what}: {EXAMPLE}all steps at once")
    if not torch.isfinite(example).all():
        raise InputError(f"{type(model).__name__}.example_input holds values that are not finite: repair it")
    return example


def step_count(model: nn.Module) -> int:
    """The module's `steps`, 0 where it has none; InputError where that is no whole number from 1 to 4096."""
    steps = getattr(model, "steps", None)
    if steps is not None and (type(steps) is not int or not 1 <= steps <= MOST_STEPS):
        raise InputError(f"{type(model).__name__}.steps is {steps!r}: give a whole number from 1 to {MOST_STEPS}")
    return steps or 0


def trace_module(model: nn.Module) -> ModuleGraph:
    """The flat graph of `model`, which is left as it is.

    Raises InputError without a usable `example_input`, UnsupportedError for a module that cannot be traced, whose
    neurons disagree on the step mode, or that is one step and does not say how many there are.
    """
    example = example_input(model)
    functional.reset_net(model)
    host = copy.deepcopy(model).eval()
    found = own_neurons(host)
    for index, path in enumerate(found):
        parent, _, name = path.rpartition(".")
        setattr(host.get_submodule(parent), name, _Marker(index))
    modes = {node.step_mode for node in found.values()}
    if len(modes) > 1:
        raise UnsupportedError(
            "some neurons are single-step and some multi-step: call functional.set_step_mode(net, 'm') in the factory"
        )
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(host, (example,), strict=False).module()
    except Exception as error:  # whatever the user's own forward raises
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UnsupportedError(
            f"{type(model).__name__} cannot be traced on its example_input ({type(error).__name__}: {reason}): let "
            "forward take one tensor, and depend on shapes, not on values"
        ) from None
    program.graph.eliminate_dead_code()
    marked = [node for node in program.graph.nodes if is_op(node, SPIKES)]
    _once_each(marked, tuple(found))
    multi = modes == {"m"}
    steps = int(marked[0].meta["val"].shape[0]) if multi else step_count(model)
    if not 1 <= steps <= MOST_STEPS:
        raise UnsupportedError(
            f"{type(model).__name__} is one step of a network and does not say how many there are: give it an "
            "attribute `steps` (1 to 4096), or make it multi-step with functional.set_step_mode(net, 'm')"
        )
    return ModuleGraph(program, model, tuple(found), example, steps, multi)


def module_kinds(model: nn.Module, path: str) -> str:
    """Class name of the module at `path`, empty for the module's own forward."""
    modules = dict(model.named_modules())
    return type(modules[path]).__name__ if path and path in modules else ""


def plain_neuron(node: BaseNode, steps: int) -> NodeNeuron | None:
    """`node` in plain numbers over `steps` steps, None for a kind of neuron that has no exact NIR form here."""
    kind = _KNOWN.get(type(node))
    if kind is None:
        return None
    given: Any = node
    leak = {"if": lambda: NO_LEAK, "plif": lambda: float(1 / given.w.detach().sigmoid())}.get(
        kind, lambda: float(given.tau)
    )
    return NodeNeuron(
        kind=kind,
        steps=steps,
        levels=int(given.surrogate_function.max_spike_count) if kind == "ilif" else 1,
        tau=leak(),
        decay_input=bool(getattr(given, "decay_input", False)) and kind != "if",
        v_threshold=float(given.v_threshold),
        v_reset=None if given.v_reset is None else float(given.v_reset),
    )


def frozen_neuron(node: BaseNode, plain: NodeNeuron) -> BaseNode:
    """`node` as it is run: a parametric LIF becomes the LIF of its trained tau."""
    if plain.kind != "plif":
        return node
    return neuron.LIFNode(
        tau=plain.tau, decay_input=plain.decay_input, v_threshold=plain.v_threshold, v_reset=plain.v_reset
    )


class _Marker(nn.Module):
    def __init__(self, index: int):
        super().__init__()
        self.index = index

    def forward(self, current: Tensor) -> Tensor:
        result: Tensor = torch.ops.spikeport.spikes(current, self.index)
        return result


def _once_each(marked: list[fx.Node], paths: tuple[str, ...]) -> None:
    calls = [int(node.args[1]) for node in marked]  # type: ignore[arg-type]
    for index, path in enumerate(paths):
        if calls.count(index) > 1:
            raise UnsupportedError(
                f"{path} is called {calls.count(index)} times in one forward: let the module be one step (attribute "
                "`steps`), or make it multi-step with functional.set_step_mode(net, 'm'), instead of looping over time"
            )
    if not calls:
        raise UnsupportedError("no neuron is reached from the example_input: call it in forward")
