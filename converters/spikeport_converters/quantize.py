"""Static symmetric INT8 by torchao's PT2E flow, with an exact scale where the values are spike counts."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn

for _chatty in ("torchao", "torch.utils._pytree"):  # on import: kernels for absent GPUs, deprecations inside torchao
    logging.getLogger(_chatty).setLevel(logging.ERROR)

from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver  # noqa: E402
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e  # noqa: E402
from torchao.quantization.pt2e.quantizer import (  # noqa: E402
    FixedQParamsQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
)

from .onnx_graph import MAX_BATCH  # noqa: E402

LIMIT = 127
_EPS = 2.0**-12


def int8_model(model: nn.Module, calibration: Tensor, batch: int = 8) -> nn.Module:
    """A copy of the time-folded `model` with every linear layer quantised to INT8, for export only.

    Weights are per output channel, activations per tensor, both symmetric with zero point 0. The input of the layer
    behind a staircase has the exact scale 1/(T D): its counts pass without rounding. The outputs, attention's
    products, softmax, LayerNorm and the residual sums stay in float32. Ranges are those of `calibration`
    [sample, token, 336].
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        shape = ({0: torch.export.Dim("batch", min=1, max=MAX_BATCH)},)
        graph = torch.export.export(model, (calibration[:2],), dynamic_shapes=shape).module()
        prepared = prepare_pt2e(graph, _SpikeExactQuantizer())
        for part in calibration.split(batch):
            prepared(part)
        converted: nn.Module = convert_pt2e(prepared)
    return converted


class _SpikeExactQuantizer(Quantizer):
    """Annotates the inputs and weights of every linear layer and nothing else."""

    def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
        rates = _rates(model)
        for node in model.graph.nodes:
            if node.target is torch.ops.aten.linear.default:
                source, weight = node.args[0], node.args[1]
                levels = rates.get(source)
                spec = _ACTIVATION if levels is None else _counts_spec(levels)
                node.meta["quantization_annotation"] = QuantizationAnnotation(
                    input_qspec_map={source: spec, weight: _WEIGHT}, _annotated=True
                )
        return model

    def validate(self, model: torch.fx.GraphModule) -> None:
        pass


def _rates(graph: torch.fx.GraphModule) -> dict[Any, int]:
    """Nodes that hold a staircase's rate, with their T D."""
    rates = {}
    for node in graph.graph.nodes:
        owner = list(node.meta.get("nn_module_stack", {}).values())
        if owner and "StaircaseNeuron" in str(owner[-1][1]) and node.target is torch.ops.aten.div.Tensor:
            rates[node] = int(node.args[1])
    return rates


def _counts_spec(levels: int) -> FixedQParamsQuantizationSpec:
    return FixedQParamsQuantizationSpec(
        dtype=torch.int8,
        scale=1 / levels,
        zero_point=0,
        quant_min=-LIMIT,
        quant_max=LIMIT,
        qscheme=torch.per_tensor_symmetric,
    )


_ACTIVATION = QuantizationSpec(
    dtype=torch.int8,
    quant_min=-LIMIT,
    quant_max=LIMIT,
    qscheme=torch.per_tensor_symmetric,
    observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=_EPS),
)
_WEIGHT = QuantizationSpec(
    dtype=torch.int8,
    quant_min=-LIMIT,
    quant_max=LIMIT,
    qscheme=torch.per_channel_symmetric,
    ch_axis=0,
    observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=_EPS),
)
