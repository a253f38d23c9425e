"""The counter that a trace attaches to a model: hooks on modules, exact rules by module type.

Products are counted where they happen, by the rules of `products`, or by formula for nn.MultiheadAttention, whose fused
form hides them. A module with weights, or a function that multiplies, and has no rule is listed, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isnan
from typing import Any, Self
from weakref import ref

import torch
from spikingjelly.activation_based import neuron as sj_neuron
from torch import Tensor, nn

from spikeport_converters.fold import StaircaseNeuron
from spikeport_toolkit.models.neuron import SpikingNeuron

from .counts import LayerCounts, LayerKind
from .detail import Detail
from .detail_taker import DetailTaker
from .products import CONVOLUTIONS as PLAIN_CONVOLUTIONS
from .products import MULTIPLIES, TRANSPOSED, Product, product
from .rows import Row, bytes_of
from .rules import (
    ACTIVATIONS,
    CONVOLUTIONS,
    FIXED_FILTERS,
    NEURONS,
    NORMS,
    OPAQUE,
    TOKEN_NORMS,
    has_tables,
    loop_steps,
    without_rule,
)
from .sources import SpikeSource, SpikeSources
from .sums import alive, most, synops_of


class Counter:
    """Counts while it is entered; `begin` says that a batch starts, `layers` gives the result per sample."""

    def __init__(self, model: nn.Module, *, detail: bool = False):
        self.levels = 1
        self._model = model
        self._paths = {module: path for path, module in model.named_modules()}
        self._names: dict[Tensor, str] = {
            p: name for m in model.modules() for name, p in m.named_parameters(recurse=False)
        }
        self._owner = {m.node: m for m in model.modules() if isinstance(m, NEURONS)}
        self._repeats = loop_steps(model)
        self._rows: dict[str, Row] = {}
        self._unaccounted: dict[str, None] = {}
        self._without_rule = without_rule(model)
        self._used: set[Tensor] = set()
        self._sources = SpikeSources(self._function)
        self._scope: list[nn.Module] = []
        self._handles: list[Any] = []
        self._emitted: SpikeSource | None = None
        self._fan_out: dict[nn.Module, Tensor] = {}
        self._nonzeros: dict[Tensor, int] = {}
        self._taker = DetailTaker() if detail else None
        self._steps: dict[nn.Module, int] = {}
        self._calls: dict[nn.Module, int] = {}
        self._entered: dict[nn.Module, ref[Tensor]] = {}
        self._inputs: tuple[int, ...] = ()
        self._own: tuple[int, ...] = ()
        for module, path in self._paths.items():
            if has_tables(module):
                tables = list(module.parameters(recurse=False))
                row = self._row(f"{path}.positions".lstrip("."), "embedding")
                row.fixed = {"weight_bytes": bytes_of(*tables), "weights": sum(p.numel() for p in tables)}
            if isinstance(module, FIXED_FILTERS):
                self._row(path, "attention").fixed = {"weight_bytes": bytes_of(*module.buffers())}

    @property
    def steps(self) -> int:
        """T: the most steps a spiking layer took for one batch."""
        return max(self._steps.values(), default=1)

    @property
    def detail(self) -> Detail | None:
        """Rasters and histograms of the first sample, if they were asked for."""
        return None if self._taker is None else self._taker.result()

    def close_detail(self) -> None:
        """The first batch is over: no more of it is kept."""
        if self._taker is not None:
            self._taker.close()

    def begin(self, inputs: Tensor) -> None:
        """A batch starts: single-step neurons are at their first step."""
        self._calls, self._entered, self._inputs = {}, {}, tuple(inputs.shape)

    @property
    def time_leads(self) -> bool:
        """Whether the batch is `[T, batch, ...]`: its leading axes are those of the model's own multi-step neurons."""
        return len(self._inputs) > 2 and self._own[:2] == self._inputs[:2]

    @property
    def samples(self) -> int:
        """Samples of the batch that began last."""
        return self._inputs[int(self.time_leads)]

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
        if self._taker is not None and isinstance(module, sj_neuron.BaseNode):
            self._taker.before(module)

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        self._scope.pop()
        with torch._C.DisableTorchFunction():  # what counting itself calls is not to be followed
            self._count(module, args, kwargs, out)

    def _count(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        x: Any = next(iter((*args, *kwargs.values())), None)
        path = self._paths[module]
        if isinstance(module, nn.Linear):
            self._linear(module, x, out)
        elif isinstance(module, nn.MultiheadAttention):
            given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
            self._multihead(module, given["query"], given["key"])
        elif isinstance(module, NORMS):
            row = self._row(path, "layernorm" if isinstance(module, TOKEN_NORMS) else "batchnorm")
            row.fixed = {"weight_bytes": bytes_of(*module.parameters()), "outputs": out.shape[-1]}
            row.add(elements=out.numel(), activation_bytes=bytes_of(x, out))
        elif isinstance(module, sj_neuron.BaseNode):
            self._node(module, x, out)
        elif isinstance(module, NEURONS):
            self._row(path, "spiking").add(activation_bytes=bytes_of(x, out))
            emitted, self._emitted = self._emitted, None
            steps = module.config.steps if isinstance(module, SpikingNeuron) else 1
            if emitted is not None:
                self._sources.tag(out, replace(emitted, scale=float(steps * module.config.levels)))
        elif isinstance(module, StaircaseNeuron):
            self._staircase(module, x, out)
        elif isinstance(module, ACTIVATIONS):
            row = self._row(path, "activation")
            row.fixed = {"outputs": out.shape[-1]}
            sent = alive(out)
            row.add(elements=out.numel(), nonzero=sent, activation_bytes=bytes_of(x, out))
            self._sources.tag(out, SpikeSource(path, 0.0, sent=sent))

    def _linear(self, module: nn.Linear, x: Tensor, out: Tensor) -> None:
        row = self._row(self._paths[module], "linear")
        row.fixed = {
            "weight_bytes": bytes_of(module.weight, module.bias),
            "weights": module.weight.numel(),
            "weights_nonzero": self._nonzero(module.weight),
            "outputs": module.out_features,
        }
        macs = out.numel() * module.in_features
        row.macs(macs, self._repeats.get(module, 1), macs * self._fresh(module, x))
        row.add(activation_bytes=bytes_of(x, out))
        source = self._sources.of(x)
        if source is None:
            return
        row.fed_by = source.path
        if self._mixed(row, source):
            return
        if module not in self._fan_out:
            self._fan_out[module] = torch.count_nonzero(module.weight, 0)
        fan_out = self._fan_out[module]
        uniform = bool(fan_out.min() == fan_out.max())
        values = x if source.steps is None else source.steps
        if source.sent is not None and uniform:
            graded = source.sent * int(fan_out[0])
        else:
            graded = int(synops_of(values != 0, fan_out, uniform).sum())
        row.add(graded_synops=graded)
        if source.scale:
            row.input = "spikes"
            if source.rows is not None and uniform:
                synops = source.rows.double() * fan_out[0]
            else:
                events = values if source.steps is not None else torch.round(x.double() * source.scale)
                synops = synops_of(events.abs(), fan_out, uniform)
            first, per_step = source.per_step(synops)
            row.add(synops=int(synops.sum()))
            row.at_steps("synops", first, per_step)
            if source.steps is not None or source.scale == 1:
                row.busiest = max(row.busiest, int(synops.max()))
                row.at_steps("busiest", first, most(synops, len(per_step)), max)

    def _mixed(self, row: Row, source: SpikeSource) -> bool:
        """A sum of spikes of unequal worth feeds the layer: its SynOps are not known, and it is listed."""
        if not isnan(source.scale):
            return False
        row.input = "spikes"
        self._unaccounted[f"{row.path} (SynOps of a sum of spikes and pooled or scaled spikes)"] = None
        return True

    def _fresh(self, module: nn.Module, x: Tensor) -> float:
        """Share of a product that repeats nothing: 1/T where an axis was expanded, 0 for the tensor it had before."""
        if x.dim() > 1 and x.shape[0] > 1 and x.stride(0) == 0:
            return 1 / x.shape[0]
        before = self._entered.get(module)
        self._entered[module] = ref(x)
        return float(before is None or before() is not x)

    def _nonzero(self, weight: Tensor) -> int:
        if weight not in self._nonzeros:
            self._nonzeros[weight] = alive(weight)
        return self._nonzeros[weight]

    def _node(self, module: Any, current: Tensor, spikes: Tensor) -> None:
        owner = self._owner.get(module)
        levels = getattr(module.surrogate_function, "max_spike_count", 1) if owner is None else owner.config.levels
        path = self._paths[module if owner is None else owner]
        multi = module.step_mode == "m"
        first = 0 if multi else self._calls.get(module, 0)
        steps = spikes.shape[0] if multi else 1
        self._calls[module] = first + 1
        self._steps[module] = max(self._steps.get(module, 1), first + steps)
        if multi and owner is None and not self._own:
            self._own = tuple(spikes.shape)
        self.levels = max(self.levels, int(levels))
        row = self._row(path, "spiking")
        sample = spikes.shape[2:] if multi else spikes.shape[1:]
        width = sample.numel() if len(sample) > 2 else spikes.shape[-1]  # a feature map, or one token
        row.levels, row.fixed = int(levels), {"neurons": width, "outputs": width}
        events = spikes if multi else spikes.unsqueeze(0)
        if owner is None:
            events = events.abs()  # a node of the user's may be ternary
        # Sums of spikes along a row or over tokens are exact in float32: both are far below 2^24.
        rows = events.sum(-1)
        per_neuron = events.sum(tuple(range(2, events.dim() - 1))) if events.dim() > 3 else events
        per_step = rows.flatten(1).sum(1, dtype=torch.float64).tolist()
        row.add(spikes=int(sum(per_step)), neuron_updates=spikes.numel(), state_bytes=bytes_of(spikes) // steps)
        row.at_steps("spikes", first, per_step)
        row.at_steps("updates", first, [spikes.numel() / steps] * steps)
        row.at_steps("busiest", first, most(per_neuron, steps), max)
        row.busiest = max(row.series["busiest"])
        if owner is None:
            self._sources.tag(
                spikes, SpikeSource(path, 1.0, time=steps if multi else None, step=None if multi else first)
            )
        else:
            sent = int(sum(per_step)) if row.levels == 1 else alive(events)
            self._emitted = SpikeSource(path, 1.0, spikes, rows, sent)
        if self._taker is not None:
            batch = self._inputs[0] if owner is not None else self.samples
            self._taker.after(module, path, int(levels), current, spikes, batch)

    def _staircase(self, module: StaircaseNeuron, x: Tensor, out: Tensor) -> None:
        """A folded neuron: its counts are exact, when within the T steps they fell is gone."""
        steps, levels, path = module.stairs.steps, module.stairs.levels, self._paths[module]
        self._steps[module] = steps
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
        alive = sum(self._nonzero(p) for p in weights if p.dim() > 1)
        inner.fixed = {
            "weight_bytes": bytes_of(*weights), "weights": matrices, "weights_nonzero": alive, "outputs": 3 * e,
        }  # fmt: skip
        inner.add(activation_bytes=bytes_of(query) + 3 * batch * length * e * query.element_size())
        attended = keys + (module.bias_k is not None) + module.add_zero_attn
        outer.macs(2 * batch * length * attended * e)
        outer.add(activation_bytes=4 * batch * length * e * query.element_size())
        out = self._row(f"{path}.out_proj".lstrip("."), "linear")
        out.macs(batch * length * e * e)
        alive = self._nonzero(module.out_proj.weight)
        size = bytes_of(*module.out_proj.parameters())
        out.fixed = {"weight_bytes": size, "weights": e * e, "weights_nonzero": alive, "outputs": e}
        out.add(activation_bytes=2 * batch * length * e * query.element_size())

    def _function(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
        """A torch function ran: count the products of activations, and note those without a rule."""
        if not self._scope or isinstance(self._scope[-1], (nn.Linear, *OPAQUE)):
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
            "weights_nonzero": self._nonzero(weight),
            "outputs": out[0].numel() if convolution else out.shape[-1],
        }
        x = next((operand for operand in found.operands if operand is not weight), weight)
        row.macs(found.macs, needed=found.macs * self._fresh(module, x) if convolution else None)
        row.add(activation_bytes=bytes_of(x, out))
        source = self._sources.of(x)
        if source is None:
            return
        row.fed_by = source.path
        if self._mixed(row, source):
            return
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
            synops = function(events, reach, *rest, **options)
            row.add(synops=int(synops.sum()))
            row.at_steps("synops", *source.per_step(synops))
