"""The counter that a trace attaches to a model: hooks on modules, exact rules by module type.

Products are counted where they happen, by the rules of `products`, or by formula for nn.MultiheadAttention, whose fused
form hides them. A module with weights, or a function that multiplies, and has no rule is listed, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import torch
from spikingjelly.activation_based import neuron as sj_neuron
from torch import Tensor, nn

from spikeport_converters.fold import StaircaseNeuron
from spikeport_toolkit.models.layers import FeedForward
from spikeport_toolkit.models.neuron import QuantReLU, SpikingNeuron
from spikeport_toolkit.models.spikewfm import SpikeWFM

from .counts import LayerCounts, LayerKind
from .products import CONVOLUTIONS as PLAIN_CONVOLUTIONS
from .products import MULTIPLIES, TRANSPOSED, Product, product
from .rows import Row, bytes_of
from .sources import SpikeSource, SpikeSources

ACTIVATIONS = (nn.ReLU, nn.GELU, QuantReLU)
NORMS = (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
OPAQUE = (nn.MultiheadAttention, SpikingNeuron, StaircaseNeuron, sj_neuron.BaseNode)
RULED = (nn.Linear, SpikeWFM, nn.Identity, nn.Dropout, *CONVOLUTIONS, *OPAQUE, *NORMS, *ACTIVATIONS)


class Counter:
    """Counts while it is entered; `layers` gives the result per sample."""

    def __init__(self, model: nn.Module):
        self.levels = 1
        self._model = model
        self._paths = {module: path for path, module in model.named_modules()}
        self._names: dict[Tensor, str] = {
            p: name for m in model.modules() for name, p in m.named_parameters(recurse=False)
        }
        self._owner = {m.node: m for m in model.modules() if isinstance(m, SpikingNeuron)}
        self._repeats = _loop_steps(model)
        self._rows: dict[str, Row] = {}
        self._unaccounted: dict[str, None] = {}
        self._without_rule = _without_rule(model)
        self._used: set[Tensor] = set()
        self._sources = SpikeSources(self._function)
        self._scope: list[nn.Module] = []
        self._handles: list[Any] = []
        self._emitted: SpikeSource | None = None
        self._fan_out: dict[nn.Module, Tensor] = {}
        self._counting = False
        self._node_steps: dict[nn.Module, int] = {}
        self._passes = 0
        for module, path in self._paths.items():
            if isinstance(module, SpikeWFM):
                tables = list(module.parameters(recurse=False))
                row = self._row(f"{path}.positions".lstrip("."), "embedding")
                row.fixed = {"weight_bytes": bytes_of(*tables), "weights": sum(p.numel() for p in tables)}

    @property
    def steps(self) -> int:
        """T: the most steps a spiking layer took in one pass."""
        return max((n // max(self._passes, 1) for n in self._node_steps.values()), default=1)

    @property
    def unaccounted(self) -> tuple[str, ...]:
        """Paths of what has weights or multiplies, and no rule."""
        modules = [path for path, own in self._without_rule.items() if not self._used.issuperset(own)]
        return (*modules, *self._unaccounted)

    def layers(self, samples: int) -> tuple[LayerCounts, ...]:
        """Counts per sample, in the order in which the layers first ran."""
        return tuple(row.finish(samples) for row in self._rows.values())

    def __enter__(self) -> Self:
        for module in self._paths:
            self._handles.append(module.register_forward_pre_hook(self._before))
            self._handles.append(module.register_forward_hook(self._after, with_kwargs=True))
        self._sources.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._sources.__exit__(*exception)
        while self._handles:
            self._handles.pop().remove()

    def _row(self, path: str, kind: LayerKind) -> Row:
        return self._rows.setdefault(path, Row(path, kind))

    def _before(self, module: nn.Module, args: Any) -> None:
        self._scope.append(module)

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        self._scope.pop()
        self._passes += module is self._model
        self._counting = True
        self._count(module, args, kwargs, out)
        self._counting = False

    def _count(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        x: Any = next(iter((*args, *kwargs.values())), None)
        path = self._paths[module]
        if isinstance(module, nn.Linear):
            self._linear(module, x, out)
        elif isinstance(module, nn.MultiheadAttention):
            given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
            self._multihead(module, given["query"], given["key"])
        elif isinstance(module, NORMS):
            row = self._row(path, "layernorm" if isinstance(module, nn.LayerNorm) else "batchnorm")
            row.fixed = {"weight_bytes": bytes_of(*module.parameters()), "outputs": out.shape[-1]}
            row.add(elements=out.numel(), activation_bytes=bytes_of(x, out))
        elif isinstance(module, sj_neuron.BaseNode):
            self._node(module, out)
        elif isinstance(module, SpikingNeuron):
            self._row(path, "spiking").add(activation_bytes=bytes_of(x, out))
            emitted, self._emitted = self._emitted, None
            if emitted is not None:
                self._sources.tag(out, replace(emitted, scale=float(module.config.steps * module.config.levels)))
        elif isinstance(module, StaircaseNeuron):
            self._staircase(module, x, out)
        elif isinstance(module, ACTIVATIONS):
            row = self._row(path, "activation")
            row.fixed = {"outputs": out.shape[-1]}
            sent = torch.count_nonzero(out, -1)
            row.add(elements=out.numel(), nonzero=int(sent.sum()), activation_bytes=bytes_of(x, out))
            self._sources.tag(out, SpikeSource(path, 0.0, sent=sent))

    def _linear(self, module: nn.Linear, x: Tensor, out: Tensor) -> None:
        row = self._row(self._paths[module], "linear")
        row.fixed = {
            "weight_bytes": bytes_of(module.weight, module.bias),
            "weights": module.weight.numel(),
            "outputs": module.out_features,
        }
        row.macs(out.numel() * module.in_features, self._repeats.get(module, 1))
        row.add(activation_bytes=bytes_of(x, out))
        source = self._sources.of(x)
        if source is None:
            return
        row.fed_by = source.path
        if module not in self._fan_out:
            self._fan_out[module] = torch.count_nonzero(module.weight, 0)
        fan_out = self._fan_out[module]
        uniform = bool(fan_out.min() == fan_out.max())
        values = x if source.steps is None else source.steps
        if source.sent is not None and uniform:
            graded = source.sent.double() * fan_out[0]
        else:
            graded = _synops(values != 0, fan_out, uniform)
        row.add(graded_synops=int(graded.sum()))
        if source.scale:
            row.input = "spikes"
            if source.rows is not None and uniform:
                synops = source.rows.double() * fan_out[0]
            else:
                events = values if source.steps is not None else torch.round(x.double() * source.scale)
                synops = _synops(events.abs(), fan_out, uniform)
            row.add(synops=int(synops.sum()))
            if source.steps is not None or source.scale == 1:
                row.busiest = max(row.busiest, int(synops.max()))

    def _node(self, module: Any, spikes: Tensor) -> None:
        owner = self._owner.get(module)
        levels = getattr(module.surrogate_function, "max_spike_count", 1) if owner is None else owner.config.levels
        path = self._paths[module if owner is None else owner]
        steps = spikes.shape[0] if module.step_mode == "m" else 1
        self._node_steps[module] = self._node_steps.get(module, 0) + steps
        self.levels = max(self.levels, int(levels))
        row = self._row(path, "spiking")
        sample = spikes.shape[2:] if module.step_mode == "m" else spikes.shape[1:]
        width = sample.numel() if len(sample) > 2 else spikes.shape[-1]  # a feature map, or one token
        row.levels, row.fixed = int(levels), {"neurons": width, "outputs": width}
        events = spikes if module.step_mode == "m" else spikes.unsqueeze(0)
        if owner is None:
            events = events.abs()  # a node of the user's may be ternary
        # Sums of spikes along a row or over tokens are exact in float32: both are far below 2^24.
        rows = events.sum(-1)
        per_neuron = events.sum(tuple(range(2, events.dim() - 1))) if events.dim() > 3 else events
        row.add(
            spikes=int(rows.sum(dtype=torch.float64)),
            neuron_updates=spikes.numel(),
            state_bytes=bytes_of(spikes) // steps,
        )
        row.busiest = max(row.busiest, int(per_neuron.max()))
        if owner is None:
            self._sources.tag(spikes, SpikeSource(path, 1.0))
        else:
            sent = rows if row.levels == 1 else torch.count_nonzero(events, -1)
            self._emitted = SpikeSource(path, 1.0, spikes, rows, sent)

    def _staircase(self, module: StaircaseNeuron, x: Tensor, out: Tensor) -> None:
        """A folded neuron: its counts are exact, when within the T steps they fell is gone."""
        steps, levels, path = module.stairs.steps, module.stairs.levels, self._paths[module]
        self._node_steps[module] = self._node_steps.get(module, 0) + steps
        self.levels = max(self.levels, levels)
        row = self._row(path, "spiking")
        row.levels, row.fixed = levels, {"neurons": out.shape[-1], "outputs": out.shape[-1]}
        spikes = int(torch.round(out.double() * (steps * levels)).sum())
        row.add(spikes=spikes, neuron_updates=out.numel() * steps, activation_bytes=bytes_of(x, out))
        self._sources.tag(out, SpikeSource(path, float(steps * levels)))

    def _multihead(self, module: nn.MultiheadAttention, query: Tensor, key: Tensor) -> None:
        """Projections and 2 L S E of the products, for inputs `[batch, token, E]` or `[token, batch, E]`."""
        batch_axis = 0 if module.batch_first else 1
        e, path = module.embed_dim, self._paths[module]
        batch = query.shape[batch_axis] if query.dim() == 3 else 1
        length, keys = query.numel() // (e * batch), key.numel() // (key.shape[-1] * batch)
        k_dim, v_dim = module.kdim or e, module.vdim or e
        inner, outer = self._row(f"{path}.in_proj".lstrip("."), "linear"), self._row(path, "attention")
        inner.macs(batch * (length * e * e + keys * e * (k_dim + v_dim)))
        weights = [p for name, p in module.named_parameters() if "proj" in name and not name.startswith("out")]
        matrices = sum(p.numel() for p in weights if p.dim() > 1)
        inner.fixed = {"weight_bytes": bytes_of(*weights), "weights": matrices, "outputs": 3 * e}
        inner.add(activation_bytes=bytes_of(query) + 3 * batch * length * e * query.element_size())
        attended = keys + (module.bias_k is not None) + module.add_zero_attn
        outer.macs(2 * batch * length * attended * e)
        outer.add(activation_bytes=4 * batch * length * e * query.element_size())
        out = self._row(f"{path}.out_proj".lstrip("."), "linear")
        out.macs(batch * length * e * e)
        out.fixed = {"weight_bytes": bytes_of(*module.out_proj.parameters()), "weights": e * e, "outputs": e}
        out.add(activation_bytes=2 * batch * length * e * query.element_size())

    def _function(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
        """A torch function ran: count the products of activations, and note those without a rule."""
        if self._counting or not self._scope or isinstance(self._scope[-1], (nn.Linear, *OPAQUE)):
            return
        if name not in MULTIPLIES:
            return
        path = self._paths[self._scope[-1]]
        found = product(name, args, kwargs, out)
        if found is None and type(self._scope[-1]).__module__.startswith("torch.nn"):
            return  # its module has no rule either and is listed as such
        if found is None:
            self._unaccounted[f"{path or type(self._model).__name__} ({name})"] = None
            return
        weight = next((operand for operand in found.operands if isinstance(operand, nn.Parameter)), None)
        if weight is not None:
            self._weighted(name, found, weight, args, kwargs, out)
        elif found.macs:
            row = self._row(path, "attention")
            row.macs(found.macs)
            row.add(activation_bytes=bytes_of(*found.operands, out))

    def _weighted(
        self, name: str, found: Product, weight: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor
    ) -> None:
        """A product with a weight outside nn.Linear: a convolution, or a parameter applied by hand."""
        module = self._scope[-1]
        self._used.add(weight)
        convolution = isinstance(module, CONVOLUTIONS)
        path = self._paths[module] if convolution else f"{self._paths[module]}.{self._names[weight]}".lstrip(".")
        row = self._row(path, "convolution" if name in PLAIN_CONVOLUTIONS | TRANSPOSED else "linear")
        bias = module.bias if isinstance(module, CONVOLUTIONS) else None
        row.fixed = {
            "weight_bytes": bytes_of(weight, bias),
            "weights": weight.numel(),
            "outputs": out[0].numel() if convolution else out.shape[-1],
        }
        row.macs(found.macs)
        x = next((operand for operand in found.operands if operand is not weight), weight)
        row.add(activation_bytes=bytes_of(x, out))
        source = self._sources.of(x)
        if source is None:
            return
        row.fed_by = source.path
        if name not in PLAIN_CONVOLUTIONS:
            self._unaccounted[f"{path} (SynOps of {name})"] = None
            return
        # Each event reaches the weights that are not zero under it: the convolution itself, with ones for weights.
        reach, rest = (weight != 0).double(), (None, *args[3:])
        options = {key: value for key, value in kwargs.items() if key not in ("input", "weight", "bias")}
        function = getattr(torch.nn.functional, name)
        row.add(graded_synops=int(function((x != 0).double(), reach, *rest, **options).sum()))
        if source.scale:
            row.input = "spikes"
            events = torch.round(x.double() * source.scale).abs()
            row.add(synops=int(function(events, reach, *rest, **options).sum()))


def _synops(events: Tensor, fan_out: Tensor, uniform: bool) -> Tensor:
    """SynOps of each row (token, or token and step) of `events` `[..., in]`; exact in float64."""
    rows = events.flatten(0, -2)
    if uniform:
        return rows.sum(-1, dtype=torch.float64) * fan_out[0]
    return rows.double() @ fan_out.double()


def _loop_steps(model: nn.Module) -> dict[nn.Module, int]:
    """How often a loop over time would apply the linear layers around each spiking neuron."""
    found: dict[nn.Module, int] = {}
    for block in model.modules():
        if isinstance(block, FeedForward):
            neuron = block.neuron
            steps = neuron.config.steps if isinstance(neuron, SpikingNeuron) else 1
            steps = neuron.stairs.steps if isinstance(neuron, StaircaseNeuron) else steps
            found |= {block.fc1: steps, block.fc2: steps}
    return found


def _without_rule(model: nn.Module) -> dict[str, list[Tensor]]:
    """Modules with own parameters, or leaves with own tables, that no module rule covers, and what they own."""
    inside = {child for m in model.modules() if isinstance(m, OPAQUE) for child in m.modules()}
    found = {}
    for path, module in model.named_modules():
        leaf = next(module.children(), None) is None
        own = [*module.parameters(recurse=False), *(module.buffers(recurse=False) if leaf else ())]
        if own and module not in inside and not isinstance(module, RULED):
            found[path or type(model).__name__] = own
    return found
