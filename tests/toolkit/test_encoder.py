"""One transformer, configured: positions, dropped tokens, patterns of attention, heads, neurons."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spikeport_errors import InputError
from spikeport_toolkit.data.canonical import Sampling
from spikeport_toolkit.models.attention_patterns import AttentionConfig, LinearAttention, PatternAttention, pattern
from spikeport_toolkit.models.config import NeuronConfig
from spikeport_toolkit.models.encoder import ChannelEncoder, TaskModel, encoder_model
from spikeport_toolkit.models.encoder_config import DecoderConfig, EncoderConfig, TaskConfig
from spikeport_toolkit.models.layers import Attention
from spikeport_toolkit.models.positions import KINDS, Positioned
from spikeport_toolkit.models.tokenizers import ImageTokens, PatchTokens

SMALL = EncoderConfig(
    "small", Sampling(4, 4, 12, 1e-3, 30e3), PatchTokens(2, 2, 3), 32, 2, 4, 48, NeuronConfig("gelu")
)  # 2 x 2 x 4 = 16 tokens of 24 values


def model(**changes: Any) -> ChannelEncoder:
    torch.manual_seed(0)
    built = encoder_model(replace(SMALL, **changes)).eval()
    assert isinstance(built, ChannelEncoder)
    return built


@pytest.mark.parametrize("positions", KINDS)
@pytest.mark.parametrize("kind", ["softmax", "window", "axial", "linear"])
@pytest.mark.parametrize("cls", [False, True])
def test_kept_tokens_see_their_own_places_and_each_other_only(positions: str, kind: str, cls: bool) -> None:
    encoder = model(positions=positions, attention=AttentionConfig(kind), cls=cls)
    embedded = encoder.embed(torch.randn(3, 16, 24))
    order = torch.stack([torch.randperm(16) for _ in range(3)])
    shuffled = embedded.gather(1, order.unsqueeze(2).expand(-1, -1, 32))
    with torch.no_grad():
        whole = encoder.encode(embedded)
        again = encoder.encode(shuffled, order)
        assert whole.shape == (3, 16, 32)
        assert torch.allclose(whole.gather(1, order.unsqueeze(2).expand(-1, -1, 32)), again, atol=1e-5)
        few = encoder.encode(shuffled[:, :5], order[:, :5])
        assert few.shape == (3, 5, 32)
        assert not torch.allclose(few, again[:, :5], atol=1e-3), "the others are gone"


@pytest.mark.parametrize("positions", KINDS)
def test_places_differ_and_learned_ones_start_at_the_scale_of_the_content(positions: str) -> None:
    torch.manual_seed(0)
    places = Positioned(positions, (3, 4, 5), 48).positions().detach()
    assert places.shape == (60, 48)
    distinct = len(torch.unique(places, dim=0))
    assert distinct == (3 if positions == "time" else 60)
    if positions in ("tables", "time", "learned"):
        assert places.std() == pytest.approx(1, abs=0.15)
    else:
        assert places.square().mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("kind", "far", "near"), [("window", (0, 3), (0, 1)), ("axial", (0, 5), (0, 3))])
def test_a_pattern_hides_what_it_says(kind: str, far: tuple[int, int], near: tuple[int, int]) -> None:
    seen = pattern((2, 2, 4), AttentionConfig(kind))
    assert torch.equal(seen, seen.T)
    assert seen.diagonal().all()
    assert seen[near]
    assert not seen[far]
    encoder = model(attention=AttentionConfig(kind), layers=1)
    embedded = torch.randn(1, 16, 32)
    changed = embedded.clone()
    changed[0, far[1]] += torch.randn(32)
    with torch.no_grad():
        difference = (encoder.encode(embedded) - encoder.encode(changed))[0].abs().amax(1)
    assert torch.equal(difference > 1e-6, seen[far[1]])


def test_an_axial_pattern_has_as_many_partners_as_its_lines() -> None:
    assert pattern((3, 4, 5), AttentionConfig("axial")).sum(1).unique().tolist() == [2 + 3 + 4 + 1]
    assert pattern((3, 4, 5), AttentionConfig("window"), cls=True)[0].all()


def test_all_forms_of_attention_have_the_same_weights_and_an_open_pattern_is_softmax() -> None:
    torch.manual_seed(0)
    plain, patterned, linear = Attention(16, 4), PatternAttention(16, 4), LinearAttention(16, 4)
    patterned.load_state_dict(plain.state_dict())
    linear.load_state_dict(plain.state_dict())
    x = torch.randn(2, 7, 16)
    assert torch.allclose(plain(x), patterned(x, torch.ones(7, 7, dtype=torch.bool)), atol=1e-6)
    q, k, v = linear.qkv(x).view(2, 7, 3, 4, 4).permute(2, 0, 3, 1, 4)
    weight = (nn.functional.elu(q) + 1) @ (nn.functional.elu(k) + 1).transpose(-1, -2)
    wanted = linear.out((weight / weight.sum(-1, keepdim=True) @ v).transpose(1, 2).flatten(2))
    assert torch.allclose(linear(x), wanted, atol=1e-5)


@pytest.mark.parametrize("order", ["pre", "post"])
@pytest.mark.parametrize("neuron", ["gelu", "relu", "qrelu", "lif", "lif_soft", "ilif"])
def test_every_neuron_fires_in_it_and_gradients_reach_its_first_matrix(order: str, neuron: str) -> None:
    config = NeuronConfig(
        neuron, steps=4 if neuron.startswith("lif") else 1, levels=4 if neuron == "ilif" else 1,
        v_reset=None if neuron == "lif_soft" else 0.0,
    )  # fmt: skip
    encoder = model(neuron=config, norm="bn", order=order, decoder=DecoderConfig(16, 1, 2, 24)).train()
    tokens = torch.randn(4, 16, 24)
    encoder(tokens).square().mean().backward()
    gradient = encoder.embed.weight.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_dropped_tokens_come_back_from_the_mask_token_and_their_place() -> None:
    encoder = model(decoder=DecoderConfig(16, 1, 2, 24))
    features = encoder.mask_token.expand(1, 16, -1)
    with torch.no_grad():
        out = encoder.decoder(features)
    assert out.shape == (1, 16, 24)
    assert len(torch.unique(out[0].round(decimals=4), dim=0)) == 16


def test_heads_read_the_sample_or_every_pixel() -> None:
    image = replace(SMALL, sampling=Sampling(1, 8, 8, 1e-3, 30e3), tokens=ImageTokens(16, 24, 8), cls=True)
    h = (np.random.default_rng(0).standard_normal((2, 1, 8, 8)) + 0j).astype(np.complex64)
    for task, shape in (
        (TaskConfig("classify", 5), (2, 5)),
        (TaskConfig("regress", 3, layers=2, bounded=True), (2, 3)),
        (TaskConfig("segment", 4), (2, 4, 16, 24)),
    ):
        torch.manual_seed(0)
        built = encoder_model(replace(image, task=task)).eval()
        assert isinstance(built, TaskModel)
        with torch.no_grad():
            y = built(built.inputs(h))
        assert y.shape == shape
        assert built.parameter_counts()[1] == sum(p.numel() for p in built.head.parameters())
        assert not task.bounded or y.abs().max() < 1


def test_a_pixel_of_a_segmentation_comes_from_its_own_patch() -> None:
    config = replace(
        SMALL, sampling=Sampling(1, 8, 8, 1e-3, 30e3), tokens=ImageTokens(16, 24, 8), task=TaskConfig("segment", 2)
    )
    built = encoder_model(config).eval()
    assert isinstance(built, TaskModel)
    built.backbone.encode = lambda embedded, keep=None: embedded  # type: ignore[method-assign]
    x = torch.randn(1, 6, 128)
    other = x.clone()
    other[0, 4] += 1
    with torch.no_grad():
        changed = (built(x) - built(other)).abs().sum((0, 1)) > 1e-6
    assert changed[8:, 8:16].all()
    assert changed.sum() == 64


@pytest.mark.parametrize(
    "changes",
    [{}, {"attention": AttentionConfig("window"), "cls": True}, {"attention": AttentionConfig("linear")},
     {"neuron": NeuronConfig("lif", steps=4), "norm": "bn"}, {"cls": True, "task": TaskConfig("classify", 3)}],
)  # fmt: skip
def test_it_is_traced_whole_with_any_batch(changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    built = encoder_model(replace(SMALL, layers=1, **changes)).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        traced = torch.export.export(built, (torch.randn(2, 16, 24),), dynamic_shapes=({0: batch},)).module()
        x = torch.randn(5, 16, 24)
        assert torch.allclose(traced(x), built(x), atol=1e-5)


def test_a_config_survives_a_round_trip() -> None:
    for changes in ({}, {"decoder": DecoderConfig(16, 1, 2, 24), "task": TaskConfig("classify", 3)}):
        config = replace(SMALL, **changes)
        assert EncoderConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    "change",
    [{"d": 31}, {"d": 30}, {"d": 16_384, "layers": 256}, {"norm": "rms"}, {"positions": "rotary"}, {"order": "mid"},
     {"attention": {"kind": "flash"}}, {"attention": {"reach": 0}},
     {"tokens": {"time": 3, "antenna": 1, "frequency": 1}}, {"tokens": None}, {"neuron": {}},
     {"sampling": 3}, {"cls": 1}, {"decoder": {"d": 32}}, {"decoder": [1]},
     {"decoder": {"d": 16, "layers": 1, "heads": 2, "d_ff": 8, "projection": False}},
     {"decoder": {"d": 16, "layers": 1, "heads": 3, "d_ff": 8}}, {"task": {"kind": "guess", "outputs": 2}},
     {"task": {"kind": "classify", "outputs": 0}}, {"task": {"kind": "segment", "outputs": 2}}, {"depth": 3}],
)  # fmt: skip
def test_a_hostile_config_is_one_clear_error(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        EncoderConfig.from_dict(SMALL.to_dict() | change)


def test_too_many_tokens_for_a_pattern_are_refused() -> None:
    with pytest.raises(InputError, match="use linear"):
        pattern((100, 100, 1), AttentionConfig("window"))
    with pytest.raises(InputError, match="takes tokens"):
        model()(torch.zeros(1, 15, 24))
    with pytest.raises(InputError, match="takes channels"):
        model().inputs(np.zeros((1, 4, 4, 8), np.complex64))
