"""Contrastive losses equal their definitions; views keep what they promise; charts are judged as defined."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from objective_models import ENCODER, batch, tiny

from spikeport_errors import InputError
from spikeport_toolkit.models.encoder_config import EncoderConfig
from spikeport_toolkit.models.families import build
from spikeport_toolkit.models.mlp import MLPConfig
from spikeport_toolkit.models.towers import TwoTowerConfig
from spikeport_toolkit.objectives import objective, views
from spikeport_toolkit.objectives.chart_metrics import continuity, trustworthiness
from spikeport_toolkit.objectives.charting import Charting
from spikeport_toolkit.objectives.contrastive import Contrastive, info_nce, neighbour_nce, nt_xent
from spikeport_toolkit.objectives.distances import csi_distance
from spikeport_toolkit.objectives.encoder import pooled


def unit(seed: int, rows: int = 5) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, 3), dim=1)


def by_hand(anchor: torch.Tensor, positive: torch.Tensor, others: list[torch.Tensor], tau: float) -> float:
    """-log of the positive's share among all the others, the positive included."""
    weights = [math.exp(float(anchor @ other) / tau) for other in others]
    return -math.log(math.exp(float(anchor @ positive) / tau) / sum(weights))


def test_nt_xent_is_its_definition() -> None:
    a, b = unit(0), unit(1)
    z = [*a, *b]
    each = [by_hand(z[i], z[(i + 5) % 10], [z[k] for k in range(10) if k != i], 0.2) for i in range(10)]
    assert float(nt_xent(a, b, 0.2)) == pytest.approx(np.mean(each), rel=1e-5)


def test_info_nce_is_its_definition() -> None:
    a, b = unit(0), unit(1)
    rows = [by_hand(a[i], b[i], list(b), 0.07) for i in range(5)]
    columns = [by_hand(b[i], a[i], list(a), 0.07) for i in range(5)]
    assert float(info_nce(a, b, 0.07)) == pytest.approx((np.mean(rows) + np.mean(columns)) / 2, rel=1e-5)


def test_neighbour_nce_is_its_definition() -> None:
    z, near = unit(2), torch.tensor([1, 2, 3, 4, 0])
    each = [by_hand(z[i], z[near[i]], [z[k] for k in range(5) if k != i], 0.5) for i in range(5)]
    assert float(neighbour_nce(z, near, 0.5)) == pytest.approx(np.mean(each), rel=1e-5)


def test_the_whole_loss_is_that_of_its_views() -> None:
    model, data = tiny("encoder").eval(), batch("encoder", 5)
    wanted = Contrastive(temperature=0.3)
    parts, rng = wanted.parts(model), np.random.default_rng(2)
    with torch.no_grad():
        loss = wanted.loss(model, parts, data, np.random.default_rng(2))
        a, b = (parts["project"](pooled(model, wanted.view(data.clean, rng))) for _ in range(2))
        normal = torch.nn.functional.normalize
        assert float(loss) == pytest.approx(float(nt_xent(normal(a), normal(b), 0.3)), rel=1e-5)


def test_the_projection_over_64_values_has_the_published_size() -> None:
    model = build(EncoderConfig.from_dict(ENCODER | {"d": 64}))
    parts = Contrastive().parts(model)
    assert sum(p.numel() for p in parts["project"].parameters()) == 16_576
    assert parts.log_temperature.requires_grad
    assert not Contrastive(learn_temperature=False).parts(model).log_temperature.requires_grad


def test_views_keep_what_they_promise() -> None:
    clean, rng = batch("encoder", 6).clean, np.random.default_rng(0)
    noise = views.noisy(clean, (20.0, 20.0), rng) - clean
    power = np.mean(np.abs(noise) ** 2, (1, 2, 3)) / np.mean(np.abs(clean) ** 2, (1, 2, 3))
    assert 10 * np.log10(power) == pytest.approx(np.full(6, -20.0), abs=1.0)
    turned = views.phase(clean, rng) / clean
    np.testing.assert_allclose(turned, np.broadcast_to(turned[:, :1, :1, :1], turned.shape), atol=1e-4)
    assert np.abs(turned[:, 0, 0, 0]) == pytest.approx(np.ones(6), rel=1e-4)
    rolled = views.frequency_roll(clean, rng)
    taps = [np.abs(views.impulse_response(x)) for x in (clean, rolled)]
    np.testing.assert_allclose(*taps, atol=1e-6 + 1e-4 * np.abs(clean).max())
    flipped = views.antenna_flip(clean, rng)
    assert {bool(np.array_equal(x, y)) for x, y in zip(clean, flipped, strict=True)} == {True, False}
    np.testing.assert_array_equal(np.sort(np.abs(flipped), 2), np.sort(np.abs(clean), 2))
    dropped = views.subband_drop(clean, 0.25, rng)
    gone = (dropped == 0).all((1, 2))
    assert gone.sum(1).tolist() == [4] * 6
    np.testing.assert_array_equal(dropped[~np.broadcast_to(gone[:, None, None], clean.shape)],
                                  clean[~np.broadcast_to(gone[:, None, None], clean.shape)])  # fmt: skip
    assert np.linalg.norm(views.angle_delay(clean)) == pytest.approx(np.linalg.norm(clean), rel=1e-5)


def test_two_towers_and_a_perceptron_are_trained_too() -> None:
    torch.manual_seed(0)
    towers = build(TwoTowerConfig.from_dict({"name": "towers", "tower": ENCODER}))
    wanted = objective("contrastive", {"pairs": "csi-cir", "form": "info-nce", "views": []})
    parts = wanted.parts(towers)
    wanted.loss(towers, parts, batch("encoder"), np.random.default_rng(0)).backward()
    assert towers.backbone.embed.weight.grad.abs().sum() > 0
    assert towers.cir_tower.embed.weight.grad.abs().sum() > 0
    mlp = build(
        MLPConfig.from_dict(
            {"name": "mlp", "sampling": ENCODER["sampling"], "d": 6, "layers": 1, "d_ff": 8, "lags_antenna": 2,
             "lags_frequency": 3, "neuron": {"kind": "relu"}}
        )
    )  # fmt: skip
    chart = Charting()
    parts = chart.parts(mlp)
    chart.loss(mlp, parts, batch("encoder"), np.random.default_rng(0)).backward()
    assert all(p.grad is not None for p in [*mlp.parameters(), *parts.parameters()])


def test_csi_distance_is_blind_to_phase_and_sees_another_channel() -> None:
    clean = batch("spikewfm", 4).clean
    both = np.concatenate((clean, clean * np.exp(1j * np.arange(4))[:, None, None, None])).astype(np.complex64)
    far = csi_distance(both)
    assert far == pytest.approx(far.T)
    assert np.diag(far[:4, 4:]) == pytest.approx(np.zeros(4), abs=1e-4)
    assert far[:4, :4][~np.eye(4, dtype=bool)].min() > 0.01


@pytest.mark.parametrize("name", ["spikewfm", "encoder"])
@pytest.mark.parametrize("by", ["csi", "position", "time"])
def test_the_triplet_loss_is_its_definition(by: str, name: str) -> None:
    model, data = tiny(name).eval(), batch(name, 5)
    wanted = Charting(by=by, margin=0.7)
    parts = wanted.parts(model)
    with torch.no_grad():
        loss = wanted.loss(model, parts, data, np.random.default_rng(3))
        chart = wanted.chart(model, parts, data.clean)
        near_points, index = chart, np.arange(5)
        if by == "time":
            near_points = wanted.chart(model, parts, data.geometry.channels(data.times_s + wanted.later_s))
        else:
            ue = data.geometry.paths.ue[data.geometry.users]
            far = csi_distance(data.clean) if by == "csi" else np.linalg.norm(ue[:, None] - ue[None], axis=-1)
            index = np.where(np.eye(5, dtype=bool), np.inf, far).argmin(1)
        draws, total = np.random.default_rng(3).random((5, 5)), 0.0
        for i in range(5):
            other = max((j for j in range(5) if j not in (i, index[i])), key=lambda j, i=i: draws[i, j])
            gap = (chart[i] - near_points[index[i]]).norm() - (chart[i] - chart[other]).norm()
            total += max(0.0, float(gap) + 0.7)
    assert float(loss) == pytest.approx(total / 5, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("charting", {"by": "time"}), ("charting", {"by": "position"}),
     ("contrastive", {"pairs": "neighbours", "distance": "position"})],
)  # fmt: skip
def test_a_batch_that_knows_no_positions_is_refused(name: str, settings: dict[str, str]) -> None:
    model, wanted = tiny("encoder"), objective(name, settings)
    measured = replace(batch("encoder", 4), geometry=None)
    with pytest.raises(InputError, match="csi"):
        wanted.loss(model, wanted.parts(model), measured, np.random.default_rng(0))


@pytest.mark.parametrize("name", ["charting", "contrastive"])
def test_a_batch_of_one_is_refused(name: str) -> None:
    model, wanted = tiny("encoder"), objective(name)
    with pytest.raises(InputError, match="batch of 1"):
        wanted.loss(model, wanted.parts(model), batch("encoder", 1), np.random.default_rng(0))


def brute_force(space: np.ndarray, chart: np.ndarray, k: int) -> float:
    """Trustworthiness from its words: sort, look up, add."""
    n, penalty = len(space), 0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        in_space = sorted(others, key=lambda j, i=i: float(np.linalg.norm(space[i] - space[j])))
        on_chart = sorted(others, key=lambda j, i=i: float(np.linalg.norm(chart[i] - chart[j])))
        penalty += sum(in_space.index(j) + 1 - k for j in on_chart[:k] if j not in in_space[:k])
    return 1 - 2 * penalty / (n * k * (2 * n - 3 * k - 1))


def test_trustworthiness_and_continuity_are_their_definitions() -> None:
    rng = np.random.default_rng(0)
    space, chart = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    for k in (1, 5, 14):
        assert trustworthiness(space, chart, k) == pytest.approx(brute_force(space, chart, k))
        assert continuity(space, chart, k) == pytest.approx(brute_force(chart, space, k))
    assert trustworthiness(space, space * 3 + 1, 5) == continuity(space, space * 3 + 1, 5) == 1.0
    with pytest.raises(InputError, match="take 1 to 14"):
        trustworthiness(space, chart, 15)
    with pytest.raises(InputError, match="same users"):
        trustworthiness(space, chart[:-1], 5)
