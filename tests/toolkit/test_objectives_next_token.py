"""Next-token prediction is causal, its codebook is used; the latent teacher follows slowly."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from objective_models import ENCODER, batch, losses, tiny

from spikeport_errors import InputError
from spikeport_toolkit.data.canonical import canonical_batch
from spikeport_toolkit.data.sampler import embedded_split
from spikeport_toolkit.models.encoder_config import EncoderConfig
from spikeport_toolkit.models.families import build
from spikeport_toolkit.models.layers import causal
from spikeport_toolkit.models.presets import preset
from spikeport_toolkit.objectives import objective
from spikeport_toolkit.objectives.encoder import encoder_of
from spikeport_toolkit.objectives.next_token import NextToken
from spikeport_toolkit.objectives.vector_quantiser import VectorQuantiser


@pytest.mark.parametrize("name", ["spikewfm", "encoder"])
def test_under_the_causal_mask_no_feature_knows_a_later_token(name: str) -> None:
    encoder = encoder_of(tiny(name).eval())
    tokens = int(np.prod(encoder.token_grid))
    x = torch.randn(1, tokens, 16)
    y = x.clone()
    y[:, 20:] = torch.randn(1, tokens - 20, 16)
    with torch.no_grad():
        with causal(encoder):
            before, after = encoder.encode(x), encoder.encode(y)
        assert torch.allclose(before[:, :20], after[:, :20], atol=1e-6)
        assert not torch.allclose(before[:, 20:], after[:, 20:], atol=1e-3)
        assert not torch.allclose(encoder.encode(x)[:, :20], encoder.encode(y)[:, :20], atol=1e-4), "off again"


@pytest.mark.parametrize("name", ["lwm-1.0-code", "lwm-1.1-code", "lwm-1.0-spiking"])
def test_an_lwm_reads_causally_its_cls_first_and_learns(name: str) -> None:
    torch.manual_seed(0)
    config: Any = replace(preset(name).config, layers=2, dropout=0.0)  # type: ignore[type-var]
    model = build(config).eval()
    x = torch.randn(2, config.tokens, config.values)
    y = x.clone()
    y[:, 20:] = torch.randn(2, config.tokens - 20, config.values)
    with torch.no_grad():
        with causal(model):
            before, after = model(x), model(y)
            assert torch.allclose(before[:, :1], before[:1, :1], atol=1e-6), "[CLS] is the same whatever follows"
        assert torch.allclose(before[:, :21], after[:, :21], atol=1e-5)
        assert not torch.allclose(before[:, 21:], after[:, 21:], atol=1e-2)
        assert not torch.allclose(model(x)[:, :21], model(y)[:, :21], atol=1e-3), "off again"
    users = np.arange(2)
    data = canonical_batch(embedded_split("train"), users, config.sampling, (0.0, 20.0), np.random.default_rng(0))
    wanted = objective("next-token", {"codebook": 16, "code_dim": 4})
    parts = wanted.parts(model.train())
    values = losses(wanted, model, parts, data, 5, 3e-3)
    assert min(values[-2:]) < 0.95 * values[0]


@pytest.mark.parametrize("name", ["spikewfm", "encoder"])
def test_a_tokenizer_by_itself_learns_to_rebuild_patches_and_leaves_the_model_alone(name: str) -> None:
    model, data, wanted = tiny(name), batch(name, 16), objective("tokenizer", {"codebook": 32, "code_dim": 4})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    parts = wanted.parts(model)
    values = losses(wanted, model, parts, data, 20, 3e-3)
    assert values[-1] < 0.8 * values[0]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is not None and p.grad.any() for p in parts.parameters())


def test_the_order_runs_over_time_then_frequency_then_antennas() -> None:
    grid = (2, 3, 4)
    t, a, f = np.unravel_index(NextToken().sequence(grid), grid)
    assert (np.diff(t * 100 + f * 10 + a) > 0).all()
    assert sorted(NextToken(order="aft").sequence(grid)) == list(range(24))


@pytest.mark.parametrize("kind", ["window", "linear"])
def test_attention_that_cannot_be_causal_is_refused(kind: str) -> None:
    model = build(EncoderConfig.from_dict(ENCODER | {"attention": {"kind": kind}}))
    with pytest.raises(InputError, match="no causal mode"):
        objective("next-token").parts(model)


@pytest.mark.parametrize("update", ["ema", "loss"])
def test_the_codebook_is_used(update: str) -> None:
    model, data = tiny("encoder"), batch("encoder", 16)
    wanted = objective("next-token", {"codebook": 32, "code_dim": 4, "update": update, "decay": 0.9})
    parts = wanted.parts(model)
    losses(wanted, model, parts, data, 20, 3e-3)
    tokenizer = parts["tokenizer"].eval()
    with torch.no_grad():
        codes, _ = tokenizer(model.inputs(data.clean), np.random.default_rng(0))
    share = torch.bincount(codes.flatten(), minlength=32) / codes.numel()
    perplexity = float(torch.exp(-(share * share.clamp_min(1e-12).log()).sum()))
    assert perplexity > 8


def test_a_quantiser_gives_the_nearest_code_and_passes_the_gradient() -> None:
    quantiser = VectorQuantiser(8, 3, 0.25, None).eval()
    z = torch.randn(20, 3, requires_grad=True)
    chosen, codes, loss = quantiser(z, np.random.default_rng(0))
    nearest = [min(range(8), key=lambda k, v=v: float((v - quantiser.vectors[k]).norm().detach())) for v in z.detach()]
    assert codes.tolist() == nearest
    torch.testing.assert_close(chosen, quantiser.vectors[codes])
    error = (z - quantiser.vectors[codes]).square().mean()
    assert float(loss.detach()) == pytest.approx(1.25 * float(error.detach()))
    chosen.sum().backward()
    torch.testing.assert_close(z.grad, torch.ones_like(z))


def test_the_moving_average_is_that_of_what_fell_to_a_code() -> None:
    quantiser = VectorQuantiser(2, 1, 0.25, 0.5)
    z = torch.tensor([[0.0], [1.0], [10.0], [12.0]])
    quantiser(z, np.random.default_rng(0))
    with torch.no_grad():
        quantiser.codebook.copy_(torch.tensor([[0.0], [10.0]]))
        quantiser.size.fill_(2.0)
        quantiser.total.copy_(torch.tensor([[0.0], [20.0]]))
    quantiser(z, np.random.default_rng(0))
    assert quantiser.codebook.flatten().tolist() == pytest.approx([0.25, 10.5])


def test_the_teacher_follows_the_student_and_takes_no_gradient() -> None:
    model, data = tiny("spikewfm"), batch("spikewfm")
    wanted = objective("latent-masked", {"momentum": 0.5})
    parts = wanted.parts(model)
    teacher, student = parts["teacher"].embed.weight, model.backbone.embed.weight
    assert torch.equal(teacher, student)
    old = teacher.clone()
    with torch.no_grad():
        student.add_(1.0)
    wanted.loss(model, parts, data, np.random.default_rng(0)).backward()
    assert torch.equal(teacher, old), "a step moves it, not a loss"
    assert teacher.grad is None
    wanted.stepped(model, parts)
    torch.testing.assert_close(teacher, old + 0.5)


def test_no_momentum_is_a_teacher_that_is_the_student() -> None:
    model, data = tiny("encoder").eval(), batch("encoder")
    wanted = objective("latent-masked", {"momentum": 0.0, "corruption": "token"})
    parts = wanted.parts(model)
    losses(wanted, model, parts, data, 2, 1e-2)
    for mine, its in zip(parts["teacher"].parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, its)
