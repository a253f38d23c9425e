"""Static symmetric INT8 by torchao's PT2E flow, with an exact scale where the values are spike counts."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.ao.quantization.fx.utils import assert_and_get_unique_device

for _chatty in ("torchao", "torch.utils._pytree"):  # on import: kernels for absent GPUs, deprecations inside torchao
    logging.getLogger(_chatty).setLevel(logging.ERROR)

from torchao.quantization.pt2e import (  # noqa: E402
    FakeQuantize,
    MinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e  # noqa: E402
from torchao.quantization.pt2e.quantizer import (  # noqa: E402
    FixedQParamsQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
)
from torchao.utils import _assert_and_get_unique_device  # noqa: E402

from .observers import LIMIT, RangeObserver, RowObserver  # noqa: E402
from .onnx_graph import few_samples, free_dimensions  # noqa: E402
from .operators import module_path  # noqa: E402
from .precision import PRESETS, Assignment, group_of  # noqa: E402

_EPS = 2.0**-12
_QUANTISABLE = (torch.ops.aten.linear.default, torch.ops.aten.conv1d.default, torch.ops.aten.conv2d.default)
_DROPPED = torch.ops.aten._assert_tensor_metadata.default


@dataclass(frozen=True)
class LinearLayer:
    """A layer that can be quantised: module path, group (precision.GROUPS) and multiply-accumulates of one sample."""

    path: str
    group: str
    macs: int


def int8_model(
    model: nn.Module, calibration: Tensor, chosen: Assignment = PRESETS["int8"], batch: int = 8
) -> nn.Module:
    """A copy of the time-folded `model` whose layers of `chosen` are quantised to INT8, for export only.

    Weights are per output channel, activations per tensor, both symmetric with zero point 0. The input of the layer
    behind a staircase has the exact scale 1/(T D): its counts pass without rounding. The outputs, attention's
    products, softmax, LayerNorm and the residual sums stay in the type of `model`. Ranges are those of `calibration`
    [sample, ...], found as `chosen.calibration` says.
    """
    return quantised(exported(model, calibration), calibration, chosen, batch)


def exported(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """`model` as torch.export traces it for `example` [batch, ...], batch free; what every assignment starts from."""
    with _silent():
        few = few_samples(model, example)
        program: fx.GraphModule = torch.export.export(
            model, (few,), dynamic_shapes=free_dimensions(model, few)
        ).module()
        for node in list(program.graph.nodes):  # a check of types that quantised graphs would fail to meet
            if node.target is _DROPPED:
                program.graph.erase_node(node)
        program.recompile()
    return program


def quantised(program: fx.GraphModule, calibration: Tensor, chosen: Assignment, batch: int = 8) -> nn.Module:
    """A copy of the traced `program` with the layers of `chosen` in INT8; see `int8_model`.

    What stays in float shares its weights with `program`.
    """
    shared = {id(value): value for value in (*program.parameters(), *program.buffers())}
    with _silent(), torch.no_grad():
        prepared = prepare_pt2e(copy.deepcopy(program, shared), SpikeExactQuantizer(chosen))
        for part in calibration.split(batch):
            prepared(part)
        converted: nn.Module = convert_pt2e(prepared)
    for device_of in (assert_and_get_unique_device, _assert_and_get_unique_device):
        device_of.cache_clear()  # they keep the models they were asked about, weights and all
    return converted


def fake_quantised(program: fx.GraphModule, calibration: Iterable[Tensor], chosen: Assignment) -> fx.GraphModule:
    """A copy of the traced `program` with fake quantisation, to be trained: the annotations of `quantised`.

    Activations keep the ranges of the batches of `calibration`, found as for an export; those of weights follow them.
    """
    with _silent(), torch.no_grad():
        prepared: fx.GraphModule = prepare_qat_pt2e(copy.deepcopy(program), SpikeExactQuantizer(chosen, train=True))
        found = [
            m for m in prepared.modules() if isinstance(m, FakeQuantize) and isinstance(_observer(m), MinMaxObserver)
        ]
        for fake in found:
            fake.disable_fake_quant()
        for part in calibration:
            prepared(part)
        for fake in found:
            fake.enable_fake_quant()
            fake.disable_observer()
    return prepared


def _observer(fake: FakeQuantize) -> Any:
    return fake.activation_post_process


def linear_layers(program: fx.GraphModule) -> tuple[LinearLayer, ...]:
    """Every layer of the traced `program` that can be quantised, in the order of its graph."""
    rates = _rates(program)
    return tuple(
        LinearLayer(path, group_of(path, reads_counts=node.args[0] in rates), _macs(node))
        for node in program.graph.nodes
        if node.target in _QUANTISABLE
        for path in (module_path(node),)
    )


class SpikeExactQuantizer(Quantizer):
    """Annotates the inputs and weights of the layers of an assignment and nothing else."""

    def __init__(self, chosen: Assignment, *, train: bool = False):
        super().__init__()
        self.chosen, self.train = chosen, train

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Mark every chosen layer; what it gives is not quantised."""
        rates, method = _rates(model), self.chosen.calibration
        activation, weight = _specs(method, self.train)
        for node in model.graph.nodes:
            if node.target not in _QUANTISABLE:
                continue
            source, path = node.args[0], module_path(node)
            levels = rates.get(source)
            if not self.chosen.quantises(path, group_of(path, reads_counts=levels is not None)):
                continue
            spec = activation if levels is None else _counts_spec(levels)
            node.meta["quantization_annotation"] = QuantizationAnnotation(
                input_qspec_map={source: spec, node.args[1]: weight}, _annotated=True
            )
        return model

    def validate(self, model: fx.GraphModule) -> None:
        """Nothing to check: every annotation is ours."""


def _rates(graph: fx.GraphModule) -> dict[Any, int]:
    """Nodes that hold a staircase's rate, with their T D."""
    rates = {}
    for node in graph.graph.nodes:
        owner = list(node.meta.get("nn_module_stack", {}).values())
        if owner and "Staircase" in str(owner[-1][1]) and node.target is torch.ops.aten.div.Tensor:
            rates[node] = int(node.args[1])
        elif rates.get(node.args[0] if node.args else None) and str(node.target) in _SAME_VALUES:
            rates[node] = rates[node.args[0]]
    return {node: levels for node, levels in rates.items() if levels <= LIMIT}


_SAME_VALUES = {"aten.view.default", "aten.reshape.default", "aten.permute.default", "aten.transpose.int"}


def _macs(node: fx.Node) -> int:
    """Multiply-accumulates of one sample: weights times the positions they are applied at."""
    _, weight = node.all_input_nodes[:2]
    size, out = weight.meta["val"].shape, node.meta["val"].shape
    positions = 1
    for length in out[1:-1] if node.target is _QUANTISABLE[0] else out[2:]:
        positions *= int(length)
    return int(size.numel()) * positions


def _counts_spec(levels: int) -> FixedQParamsQuantizationSpec:
    return FixedQParamsQuantizationSpec(
        dtype=torch.int8,
        scale=1 / levels,
        zero_point=0,
        quant_min=-LIMIT,
        quant_max=LIMIT,
        qscheme=torch.per_tensor_symmetric,
    )


def _specs(method: str, train: bool) -> tuple[QuantizationSpec, QuantizationSpec]:
    whole = (MinMaxObserver, {}) if method == "minmax" else (RangeObserver, {"method": method})
    rows = RowObserver if method == "mse" else PerChannelMinMaxObserver
    if train:
        rows = MovingAveragePerChannelMinMaxObserver
        return (
            _activation(FakeQuantize.with_args(observer=whole[0], eps=_EPS, **whole[1])),
            _weight(FakeQuantize.with_args(observer=rows, averaging_constant=1.0, eps=_EPS)),
        )
    return _activation(whole[0].with_args(eps=_EPS, **whole[1])), _weight(rows.with_args(eps=_EPS))


def _activation(observer: Any) -> QuantizationSpec:
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-LIMIT,
        quant_max=LIMIT,
        qscheme=torch.per_tensor_symmetric,
        observer_or_fake_quant_ctr=observer,
    )


def _weight(observer: Any) -> QuantizationSpec:
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-LIMIT,
        quant_max=LIMIT,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=observer,
    )


@contextmanager
def _silent() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
