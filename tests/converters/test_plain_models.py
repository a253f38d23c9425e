"""Models without spikes take the same path: attention fused, heads padded, LayerNorm safe in half, batch free."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from spikeport_converters.export import check, export
from spikeport_converters.half import half_model
from spikeport_converters.operators import op_name
from spikeport_converters.static_model import example_of, static_model
from spikeport_targets.card import load_card
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime
from spikeport_toolkit.models.load import load_model

torch.manual_seed(0)


def run(program: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found = program(x)
    return found[0] if isinstance(found, tuple | list) else found


def operators(program) -> Counter[str]:
    return Counter(op_name(node) for node in program.graph.nodes)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
        self.register_buffer("ahead", torch.ones(5, 5).triu(1).bool())

    def forward(self, x):
        return self.attend(x, x, x, need_weights=False, attn_mask=self.ahead)[0]


class Cross(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        return self.attend(x, x[:, :2], x[:, :2], need_weights=False)[0]


def encoder(d: int, heads: int, batch_first: bool = True) -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(d, heads, 24, batch_first=batch_first), 2)


CASES = {
    "encoder": (lambda: encoder(15, 3), (3, 5, 15), 2),
    "encoder, tokens first": (lambda: encoder(15, 3, False), (5, 3, 15), 2),
    "masked": (Masked, (3, 5, 16), 1),
    "cross": (Cross, (3, 5, 16), 1),
}


@pytest.mark.parametrize("pad", [1, 8])
@pytest.mark.parametrize("name", CASES)
def test_attention_is_two_products_with_the_scale_in_the_weights_and_heads_padded_exactly(name, pad):
    make, shape, count = CASES[name]
    model, x = make().eval(), torch.randn(shape)
    static = static_model(model, x, pad_heads=pad)
    found = operators(static.program)
    assert static.attentions == count
    assert found["scaled_dot_product_attention"] == 0
    assert found["slice"] == (2 if name == "cross" else 0)
    torch.testing.assert_close(run(static.program, x), run(model, x), rtol=1e-4, atol=3e-6)
    if pad == 8 and "encoder" in name:
        assert any(tuple(p.shape) == (3 * 3 * 8, 15) for p in static.program.parameters())


def test_the_scale_leaves_no_operator_where_queries_are_rows_of_a_layer():
    static = static_model(encoder(16, 4).eval(), torch.randn(3, 5, 16))
    assert not any(
        op_name(n) == "mul" and "attn" in str(n.meta.get("nn_module_stack")) and n.meta["val"].ndim > 2
        for n in static.program.graph.nodes
        if isinstance(n.meta.get("val"), torch.Tensor)
    )


def test_lwm_exports_with_its_odd_heads_padded():
    model = load_model("lwm-1.0-code")
    x = example_of(model)
    program = static_model(model, x, pad_heads=8).program
    torch.testing.assert_close(run(program, x), run(model, x), rtol=1e-3, atol=1e-4)
    assert any(tuple(p.shape) == (3 * 12 * 8, 64) for p in program.parameters())


class OwnNorm(nn.Module):
    """LWM's LayerNorm: over the standard deviation with n - 1, plus eps."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.weight = how, nn.Parameter(torch.ones(16))

    def forward(self, x):
        centred = x - x.mean(-1, keepdim=True)
        if self.how == "std":
            return self.weight * centred / (x.std(-1, keepdim=True) + 1e-6)
        if self.how == "rms":
            return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * centred / ((centred.square().sum(-1, keepdim=True) / 15).sqrt() + 1e-6)


@pytest.mark.parametrize("how", ["std", "squares", "rms"])
def test_a_norm_of_ones_own_does_not_overflow_in_half(how):
    model, x = OwnNorm(how).eval(), 800 * torch.randn(4, 3, 16)
    assert (x.half() ** 2).isinf().any()
    half = half_model(static_model(model, x).program)
    got = run(half, x.half()).float()
    assert got.isfinite().all()
    torch.testing.assert_close(got, run(model, x), rtol=5e-3, atol=5e-3)


def convolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 4)
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_plain_module_goes_the_whole_way(precision, tmp_path):
    model = convolution().eval()
    model.example_input = torch.randn(4, 3, 8, 8)
    bundle = export(
        model, load_card("jetson-orin-nano"), precision, tmp_path / "b", model.example_input.numpy(), trained=True
    )
    assert bundle.parity
    assert check(bundle.folder)
    assert bundle.manifest["dense"]["profile"] == {"patches": [[b, 3, 8, 8] for b in (1, 8, 32)]}
    graph = onnx.load(bundle.folder / "dense/model.onnx")
    assert {"2", "5"} <= {node.name.partition("/")[0] for node in graph.graph.node}
    x = np.random.default_rng(0).standard_normal((7, 3, 8, 8)).astype(np.float32)
    got = OnnxRuntime().run(bundle.folder / "dense/model.onnx", {"patches": x})["prediction"]
    np.testing.assert_allclose(got, run(model, torch.from_numpy(x)), atol=1e-5 if precision == "fp32" else 2e-2)


def test_a_forward_that_fixes_the_batch_says_so(tmp_path):
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.example_input = nn.Linear(6, 2), torch.randn(4, 3, 6)

        def forward(self, x):
            return self.fc(x) + torch.arange(4.0)[:, None, None]

    model = Fixed().eval()
    x = model.example_input.numpy()
    bundle = export(model, load_card("cpu-onnxruntime"), "fp32", tmp_path / "b", x, trained=True)
    assert bundle.parity
    assert [i["rule"] for i in bundle.manifest["plan"]][-1] == "fixed batch"
    assert bundle.manifest["dense"]["profile"] == {"patches": [[4, 3, 6]] * 3}
