"""Adaptation: each kind trains what it says and nothing else; low-rank updates start at zero and merge away."""

import dataclasses
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from objective_models import batch, config, tiny
from torch import nn
from training_runs import SMALL

from spikeport_errors import InputError
from spikeport_toolkit.models.checkpoint import load_checkpoint
from spikeport_toolkit.models.families import build
from spikeport_toolkit.models.mlp import MLPConfig
from spikeport_toolkit.objectives import objective
from spikeport_toolkit.tasks.read_out import Tuning, fit_ridge, itself, pooled_rows, read_out
from spikeport_toolkit.training.adaptation import ADAPTATIONS, Adaptation, adapt, merge, training_mode
from spikeport_toolkit.training.loop import train
from spikeport_toolkit.training.recipe import Recipe, Stage

LAYERS = 2


def two_layers() -> nn.Module:
    torch.manual_seed(0)
    return build(dataclasses.replace(config("spikewfm"), layers=LAYERS, norm="bn"))  # type: ignore[type-var, arg-type]


def stepped(model: nn.Module, kind: str) -> set[str]:
    """Names of the weights, by their names before, that three steps change; batch statistics too."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adaptation = Adaptation(kind, layers=1)
    trained = adapt(model, adaptation)
    training_mode(model, adaptation)
    optimiser = torch.optim.Adam(trained, 0.01)
    task, data = objective("prediction", {}), batch("spikewfm", 4)
    for _ in range(3):
        optimiser.zero_grad()
        task.loss(model, nn.ModuleDict(), data, np.random.default_rng(0)).backward()
        optimiser.step()
    merge(model)
    after = model.state_dict()
    assert set(after) == set(before)
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize("kind", ADAPTATIONS)
def test_only_what_should_train_changes(kind: str) -> None:
    changed = stepped(two_layers(), kind)
    backbone = {name for name in changed if name.startswith("backbone.")}
    assert changed - backbone, "the head is always trained"
    if kind == "probe":
        assert not backbone
    if kind == "last-k":
        allowed = ("backbone.blocks.1.", "backbone.norm_out.")
        assert backbone
        assert all(name.startswith(allowed) for name in backbone)
        assert "backbone.blocks.1.ffn.norm.running_mean" in backbone
    if kind == "lora":
        linear = ("qkv.weight", "out.weight", "fc1.weight", "fc2.weight")
        assert {name.split(".", 3)[3] for name in backbone} == {"attention.qkv.weight", "attention.out.weight",
                                                                "ffn.fc1.weight", "ffn.fc2.weight"}  # fmt: skip
        assert all(name.endswith(linear) for name in backbone)
        assert len(backbone) == 4 * LAYERS
    if kind == "full":
        assert {"backbone.embed.weight", "backbone.blocks.0.ffn.norm.running_mean"} <= backbone


def test_low_rank_updates_change_nothing_at_first_and_merge_into_the_weights() -> None:
    model = two_layers().eval()
    patches = torch.from_numpy(batch("spikewfm", 4).patches())
    with torch.no_grad():
        plain = model(patches)
        trained = adapt(model, Adaptation("lora", rank=3, alpha=6.0))
        assert torch.equal(model(patches), plain)
        ours = sum(p.numel() for n, p in model.named_parameters() if n.startswith("backbone") and p.requires_grad)
        shapes = [
            m.weight.shape for block in model.backbone.blocks for m in block.modules() if isinstance(m, nn.Linear)
        ]
        assert ours == sum(3 * (outer + inner) for outer, inner in shapes)
        for parameter in trained:
            parameter.add_(0.05 * torch.randn_like(parameter))
        unmerged = model(patches)
        merge(model)
        assert not any("parametrizations" in name for name in model.state_dict())
        np.testing.assert_allclose(model(patches), unmerged, atol=1e-5)
    assert not torch.allclose(unmerged, plain, atol=1e-3)
    merge(model)


def test_every_family_has_layers_to_adapt() -> None:
    values = {
        "name": "m", "d": 4, "layers": 3, "d_ff": 8, "lags_antenna": 2, "lags_frequency": 2, "neuron": {"kind": "relu"},
        "sampling": {"time": 1, "antenna": 4, "frequency": 8, "time_step_s": 1e-3, "frequency_step_hz": 3e4},
    }  # fmt: skip
    for model in (tiny("encoder"), build(MLPConfig.from_dict({**values, "norm": "bn"}))):
        every = sum(p.numel() for p in model.parameters())
        counts = {}
        for kind in ADAPTATIONS:
            counts[kind] = sum(p.numel() for p in adapt(model, Adaptation(kind, layers=1, rank=1)))
        assert counts["probe"] == 0
        assert counts["full"] == every
        assert 0 < counts["last-k"] < every
        assert 0 < counts["lora"] < every
    with pytest.raises(InputError, match="has no layers"):
        adapt(nn.Linear(2, 2), Adaptation("lora"))
    with pytest.raises(InputError, match="4 layers of the 2 there are"):
        adapt(two_layers(), Adaptation("last-k", layers=4))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("lora", {"layers": 2}, "unknown setting 'layers'; it has rank, alpha"),
        ("probe", {"rank": 2}, "has no settings"),
        ("lora", {"rank": 0}, "rank is 0, wanted 1 to 1024"),
        ("lora", {"rank": 1.5}, "rank is 1.5, wanted int"),
        ("last-k", {"layers": 0}, "layers is 0"),
    ],
)
def test_bad_settings_are_refused_in_a_recipe(kind: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Stage("prediction", steps=1, adaptation=kind, adaptation_settings=settings)


@pytest.mark.parametrize("kind", ["lora", "last-k"])
def test_a_trained_adaptation_is_an_ordinary_checkpoint(kind: str, tmp_path: Path) -> None:
    settings = {"lora": {"rank": 2}, "last-k": {"layers": 1}}[kind]
    few_shot = Stage("prediction", steps=2, batch=2, samples=4, adaptation=kind, adaptation_settings=settings)
    stages = (Stage("masked", steps=1, batch=2), few_shot)
    chosen = Recipe("r", "", "spikewfm-nano-ilif", 0, stages, model_settings=SMALL, threads=1, workers=0)
    model = load_checkpoint(train(chosen, tmp_path / "out"))
    assert set(model.state_dict()) == set(build(chosen.config()).state_dict())


def test_a_probe_is_the_ridge_solution() -> None:
    rng = np.random.default_rng(0)
    for rows, d in ((60, 5), (20, 40)):
        x, y = rng.standard_normal((rows, d)) * 3 + 1, rng.standard_normal((rows, 2))
        found = fit_ridge(x, y, (2.5,))
        flat = (x - x.mean(0)) / x.std(0)
        by_hand = np.linalg.solve(flat.T @ flat + 2.5 * np.eye(d), flat.T @ (y - y.mean(0)))
        np.testing.assert_allclose(found.weights, by_hand, atol=1e-10)
        np.testing.assert_allclose(found(x), flat @ by_hand + y.mean(0), atol=1e-10)
    model, inputs = tiny("spikewfm").eval(), torch.from_numpy(batch("spikewfm", 6).patches())
    with torch.no_grad():
        features = pooled_rows(model, inputs).numpy()
    y = rng.standard_normal((6, 3))
    read = read_out(model, pooled_rows, inputs, y)
    np.testing.assert_allclose(read(inputs), fit_ridge(features, y)(features), atol=1e-5)


def test_cross_validation_takes_a_large_penalty_for_noise_and_a_small_one_for_a_law() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 30))
    law, noise = x @ rng.standard_normal((30, 3)), rng.standard_normal((40, 3))
    assert fit_ridge(x, law).penalty < 1 < 10 < fit_ridge(x, noise).penalty
    constant = np.concatenate((x, np.ones((40, 1))), 1)
    assert np.isfinite(fit_ridge(constant, law).weights).all()
    with pytest.raises(InputError, match="too few"):
        fit_ridge(x[:1], law[:1])


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_fine_tuning_fits_its_labels_better_than_the_probe_and_leaves_the_model_alone(kind: str) -> None:
    model, inputs = tiny("encoder").eval(), tiny("encoder").inputs(batch("encoder", 48).clean)  # type: ignore[operator]
    before = deepcopy(model.state_dict())
    y = inputs.square().mean(1)[:, :6].numpy()
    probe = read_out(model, pooled_rows, inputs, y)(inputs)
    tuned = read_out(model, pooled_rows, inputs, y, kind, tuning=Tuning(40, 48, 1e-3))
    assert np.mean((tuned(inputs) - y) ** 2) < 0.95 * np.mean((probe - y) ** 2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert itself(model, inputs) is inputs
