"""Every objective, on SpikeWFM and on an encoder: it learns, its gradients arrive, its draws repeat."""

import numpy as np
import pytest
import torch
from objective_models import batch, losses, tiny
from torch import nn

from spikeport_errors import InputError, SpikeportError
from spikeport_toolkit.objectives import OBJECTIVES, objective
from spikeport_toolkit.objectives.nmse import nmse
from spikeport_toolkit.objectives.scores import score

CASES = {
    "masked": {"ratio": 0.5},
    "masked bert": {"corruption": "bert", "error": "mse/var", "targets": "all", "noise_snr": [0, 20]},
    "masked drop": {"corruption": "drop", "error": "mse", "kind": "tube", "ratio": 0.75},
    "masked multi": {"corruption": "drop", "multi": [["random", 0.85], ["time", 0.5], ["frequency", 0.5]]},
    "latent-masked": {"kind": "time"},
    "latent-masked token": {"corruption": "token", "noise_snr": [10, 20]},
    "next-token": {"codebook": 16, "code_dim": 4},
    "next-token loss": {"codebook": 16, "code_dim": 4, "update": "loss", "order": "atf"},
    "next-token values": {"target": "values", "noise_snr": [10, 20]},
    "contrastive": {"views": ["awgn", "phase", "frequency-roll", "antenna-flip", "subband-drop"]},
    "contrastive cir": {"pairs": "csi-cir", "form": "info-nce", "views": []},
    "contrastive near": {"pairs": "neighbours", "projection": 5},
    "charting": {"margin": 0.5},
    "domain-transform": {"noise_snr": [10, 20]},
    "prediction": {},
    "frequency-prediction": {"band": "random", "corruption": "drop"},
    "combined": {"terms": [{"objective": "masked", "weight": 0.9}, {"objective": "contrastive", "weight": 0.1}]},
}
ALONE = {"tokenizer": {"codebook": 16, "code_dim": 4}}
"""Trains its parts and leaves the model alone: test_objectives_next_token.py has it."""
UNUSED = ("mask_token", "decoder", "head", "cls", "positions.cls")
"""Parts of a model that some objectives do not use."""


def made(case: str) -> object:
    return objective(case.split()[0], CASES[case])


def test_every_objective_is_a_case_here() -> None:
    assert {case.split()[0] for case in CASES} | set(ALONE) == set(OBJECTIVES)


@pytest.mark.parametrize("name", ["spikewfm", "encoder"])
@pytest.mark.parametrize("case", CASES)
def test_the_loss_falls_and_gradients_reach_all_that_is_trained(case: str, name: str) -> None:
    model, data, wanted = tiny(name), batch(name), made(case)
    parts = wanted.parts(model)
    values = losses(wanted, model, parts, data, 12, 1e-2)
    assert min(values[-3:]) < (0.97 if "values" in case else 0.95) * values[0]
    backbone = getattr(model, "backbone", model)
    reached = {key: p.grad is not None and bool(p.grad.abs().sum() > 0) for key, p in backbone.named_parameters()}
    missed = [key for key, hit in reached.items() if not hit and not key.startswith(UNUSED)]
    assert not missed
    own = [key for key, p in parts.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not own


@pytest.mark.parametrize("case", CASES)
def test_the_same_seed_and_draws_give_the_same_loss_and_gradient(case: str) -> None:
    def once() -> torch.Tensor:
        model = tiny("spikewfm")
        wanted = made(case)
        torch.manual_seed(3)
        parts = wanted.parts(model)
        loss = wanted.loss(model, parts, batch("spikewfm", 4), np.random.default_rng(9))
        loss.backward()
        return torch.stack([loss.detach(), model.backbone.blocks[0].ffn.fc1.weight.grad.abs().sum()])

    assert torch.equal(once(), once())


@pytest.mark.parametrize("case", ["masked", "combined", "next-token", "contrastive cir"])
def test_settings_survive_a_round_trip(case: str) -> None:
    wanted = made(case)
    assert type(wanted).from_dict(wanted.to_dict()) == wanted


@pytest.mark.parametrize("kind", ["nmse", "mse", "mse/var"])
def test_a_score_reads_weighted_tokens_only(kind: str) -> None:
    torch.manual_seed(0)
    target, weight = torch.randn(3, 4, 5), torch.zeros(3, 4)
    weight[:, 1:3] = 1
    seen = target[:, 1:3]
    prediction = torch.where(weight.unsqueeze(-1).bool(), target + 0.1, torch.full_like(target, 50.0))
    wanted = {
        "nmse": float((0.1 / seen.square().sum((1, 2)) * 0.1 * 10).mean()),
        "mse": 0.01,
        "mse/var": float(0.01 / seen.var(correction=0)),
    }[kind]
    assert float(score(kind, prediction, target, weight)) == pytest.approx(wanted, rel=1e-4)


def test_the_triple_mask_is_the_mean_of_its_three_losses() -> None:
    model, data = tiny("spikewfm").eval(), batch("spikewfm")
    kinds = [["random", 0.85], ["time", 0.5], ["frequency", 0.5]]
    triple, rng = objective("masked", {"multi": kinds}), np.random.default_rng(4)
    with torch.no_grad():
        one = [
            objective("masked", {"kind": kind, "ratio": ratio}).loss(model, nn.ModuleDict(), data, rng)
            for kind, ratio in kinds
        ]
        whole = triple.loss(model, nn.ModuleDict(), data, np.random.default_rng(4))
    assert float(whole) == pytest.approx(float(sum(one)) / 3)


def test_combined_is_the_weighted_sum() -> None:
    model, data = tiny("spikewfm").eval(), batch("spikewfm")
    weights = {"domain-transform": 20.0, "masked": 10.0, "contrastive": 1.0}
    wanted = objective("combined", {"terms": [{"objective": key, "weight": w} for key, w in weights.items()]})
    parts, rng = wanted.parts(model), np.random.default_rng(4)
    with torch.no_grad():
        whole = wanted.loss(model, parts, data, np.random.default_rng(4))
        each = [objective(key).loss(model, part, data, rng) for key, part in zip(weights, parts, strict=True)]
    assert float(whole) == pytest.approx(sum(w * float(x) for w, x in zip(weights.values(), each, strict=True)))


def test_prediction_scores_the_unobserved_slots_of_a_spikewfm() -> None:
    model, data = tiny("spikewfm").eval(), batch("spikewfm")
    with torch.no_grad():
        loss = objective("prediction").loss(model, nn.ModuleDict(), data, np.random.default_rng(0))
        predicted = model(torch.from_numpy(data.patches()))
    assert float(loss) == pytest.approx(float(nmse(predicted, torch.from_numpy(data.target_patches())).mean()))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("masked", {"ratio": 1.0}), ("masked", {"ratio": float("nan")}), ("masked", {"ratio": "half"}),
        ("masked", {"kind": "diagonal"}), ("masked", {"corruption": "burn"}), ("masked", {"error": "mae"}),
        ("masked", {"targets": "none"}), ("masked", {"multi": [["random", 2]]}), ("masked", {"multi": [["random"]]}),
        ("masked", {"multi": "random"}), ("masked", {"noise_snr": [20, 0]}), ("masked", {"noise_snr": 10}),
        ("masked", {"noise_snr": [0, float("inf")]}), ("masked", {"mask_ratio": 0.5}), ("masked", {"kind": ["time"]}),
        ("masked", {"decoder_layers": 0}), ("masked", "half"), ("latent-masked", {"momentum": 1.5}),
        ("latent-masked", {"corruption": "bert"}), ("next-token", {"codebook": 1}), ("next-token", {"order": "ttf"}),
        ("next-token", {"update": "sgd"}), ("next-token", {"decay": 1.0}), ("contrastive", {"temperature": 0.0}),
        ("contrastive", {"views": ["blur"]}), ("contrastive", {"views": []}), ("contrastive", {"views": "awgn"}),
        ("contrastive", {"pairs": "twins"}), ("contrastive", {"snr_db": [1]}), ("charting", {"margin": -1.0}),
        ("charting", {"by": "luck"}), ("charting", {"dimensions": 2.5}), ("prediction", {"share": 0.0}),
        ("frequency-prediction", {"band": "middle"}), ("combined", {}), ("combined", {"terms": [{"weight": 1}]}),
        ("combined", {"terms": [{"objective": "masked", "weight": 0}]}), ("combined", {"terms": ["masked"]}),
        ("combined", {"terms": [{"objective": "maskt"}]}), ("combined", {"terms": [{"objective": 3}]}),
        ("combined", {"terms": [{"objective": "masked", "settings": {"ratio": 7}}]}), ("maskt", {}), (None, {}),
    ],
)  # fmt: skip
def test_a_hostile_setting_is_one_clear_error(name: str, settings: dict[str, object]) -> None:
    with pytest.raises(SpikeportError) as error:
        objective(name, settings)
    assert "\n" not in str(error.value)


def test_a_model_without_tokens_is_refused_with_a_remedy() -> None:
    class Vector(nn.Module):
        def inputs(self, channel: np.ndarray) -> torch.Tensor:
            return torch.zeros(len(channel), 3)

    for name in ("masked", "latent-masked", "next-token", "domain-transform"):
        wanted = objective(name, {"corruption": "drop"} if name == "masked" else {})
        with pytest.raises(InputError, match="take an encoder"):
            wanted.parts(Vector())
