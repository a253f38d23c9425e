"""Masks hide exactly what their names say, in the exact ratio."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_models import batch, tiny

from spikeport_errors import InputError
from spikeport_toolkit.data.canonical import canonical_batch
from spikeport_toolkit.data.impairments import awgn
from spikeport_toolkit.data.sampler import embedded_split
from spikeport_toolkit.models.families import build
from spikeport_toolkit.models.lwm_masking import mask
from spikeport_toolkit.models.presets import preset
from spikeport_toolkit.objectives import objective
from spikeport_toolkit.objectives.corruption import Filler, encode_hidden, mixes_tokens
from spikeport_toolkit.objectives.encoder import encoder_of, noisy_tokens
from spikeport_toolkit.objectives.frequency_prediction import FrequencyPrediction
from spikeport_toolkit.objectives.masks import MASKS, hidden_tokens

GRID = (4, 6, 8)


def drawn(kind: str, ratio: float, samples: int = 5) -> np.ndarray:
    return hidden_tokens(kind, ratio, GRID, samples, np.random.default_rng(1)).reshape(samples, *GRID)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_a_mask_hides_its_share_of_every_sample(kind: str, ratio: float) -> None:
    exact = {"antenna": round(ratio * 6) / 6}.get(kind, ratio)
    assert drawn(kind, ratio).mean((1, 2, 3)).tolist() == [exact] * 5


def test_time_hides_the_future_of_every_antenna_and_frequency() -> None:
    hidden = drawn("time", 0.5)
    assert hidden[:, 2:].all()
    assert not hidden[:, :2].any()


def test_frequency_hides_the_upper_band() -> None:
    hidden = drawn("frequency", 0.25)
    assert hidden[..., 6:].all()
    assert not hidden[..., :6].any()


def test_antenna_hides_whole_antennas_that_differ_from_sample_to_sample() -> None:
    hidden = drawn("antenna", 0.5)
    assert (hidden == hidden[:, :1, :, :1]).all()
    assert len({tuple(row) for row in hidden[:, 0, :, 0]}) > 1


def test_tube_hides_the_same_pairs_at_all_times() -> None:
    hidden = drawn("tube", 0.5)
    assert (hidden == hidden[:, :1]).all()
    assert len({row.tobytes() for row in hidden[:, 0]}) > 1


@settings(max_examples=30, deadline=None)
@given(st.floats(0.15, 0.9), st.integers(0, 1000))
def test_block_hides_one_box(ratio: float, seed: int) -> None:
    (hidden,) = hidden_tokens("block", ratio, GRID, 1, np.random.default_rng(seed)).reshape(1, *GRID)
    where = np.argwhere(hidden)
    low, high = where.min(0), where.max(0) + 1
    assert hidden.sum() == np.prod(high - low), "nothing of its bounding box is seen"
    assert abs(hidden.mean() - ratio) < 0.05


@pytest.mark.parametrize(("band", "first"), [("upper", {5}), ("lower", {0}), ("random", {0, 1, 2, 3, 4, 5})])
def test_an_unseen_sub_band_is_one_window(band: str, first: set[int]) -> None:
    objective = FrequencyPrediction(share=0.375, band=band)
    hidden = objective.hidden(GRID, 60, np.random.default_rng(0)).reshape(60, *GRID)
    rows = hidden[:, 0, 0]
    assert (hidden == rows[:, None, None]).all()
    assert (rows.sum(1) == 3).all()
    assert {int(row.argmax()) for row in rows} == first
    assert (np.diff(rows.astype(int), axis=1) == 1).sum(1).max() <= 1


@pytest.mark.parametrize(("kind", "grid"), [("time", (1, 8, 8)), ("antenna", (4, 1, 8)), ("block", (1, 1, 1))])
def test_a_mask_that_cannot_leave_something_is_refused(kind: str, grid: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match=f"mask {kind} .*: (change|take)"):
        hidden_tokens(kind, 0.5, grid, 2, np.random.default_rng(0))


@pytest.mark.parametrize("name", ["spikewfm", "encoder"])
@pytest.mark.parametrize("corruption", ["token", "drop"])
def test_what_is_hidden_is_not_read(name: str, corruption: str) -> None:
    model = tiny(name).eval()
    encoder, rng = encoder_of(model), np.random.default_rng(0)
    tokens = model.inputs(batch(name, 2).clean)
    hidden = hidden_tokens("random", 0.5, encoder.token_grid, 2, rng)
    changed = tokens.masked_fill(torch.from_numpy(hidden).unsqueeze(-1), 7.0)
    fill = Filler(tokens.shape[1], 16, 1)
    with torch.no_grad():
        one, other = (encode_hidden(encoder, fill, x, hidden, corruption, rng) for x in (tokens, changed))
    assert one.shape == (*tokens.shape[:2], 16)
    assert torch.equal(one, other)


def test_bert_hides_four_fifths_of_the_chosen_tokens() -> None:
    encoder, rng = encoder_of(tiny("spikewfm").eval()), np.random.default_rng(0)

    class Echo:
        mask_token = torch.full((336,), 99.0)
        embed = torch.nn.Identity()

        def encode(self, embedded: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
            return embedded

    tokens = torch.randn(100, 64, 336)
    hidden = hidden_tokens("random", 0.5, encoder.token_grid, 100, rng)
    seen = encode_hidden(Echo(), torch.nn.Identity(), tokens, hidden, "bert", rng)  # type: ignore[arg-type]
    masked = (seen == 99).all(-1)
    kept = (seen == tokens).all(-1)
    where = torch.from_numpy(hidden)
    assert bool(kept[~where].all())
    assert float(masked[where].float().mean()) == pytest.approx(0.8, abs=0.03)
    assert float(kept[where].float().mean()) == pytest.approx(0.1, abs=0.03)
    noise = seen[where & ~masked & ~kept]
    assert float(noise.square().mean().sqrt()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("name", ["lwm-1.0-code", "lwm-1.0-paper", "lwm-1.1-code"])
def test_an_lwm_is_trained_with_the_masks_of_its_version(name: str) -> None:
    config: Any = replace(preset(name).config, layers=1)  # type: ignore[type-var]
    model, wanted = build(config).eval(), objective("masked", {"kind": "lwm", "error": "mse"})
    users, rng = np.arange(3), np.random.default_rng(0)
    data = canonical_batch(embedded_split("train"), users, config.sampling, (0.0, 20.0), rng)
    with torch.no_grad():
        loss = wanted.loss(model, wanted.parts(model), data, np.random.default_rng(4))
        masked = mask(model.inputs(data.clean), config, np.random.default_rng(4))
        index = masked.positions[..., None].expand(-1, -1, config.values)
        error = model.reconstruct(masked.tokens).gather(1, index) - masked.targets
    assert float(loss) == pytest.approx(float(error.square().mean()), rel=1e-5)
    with pytest.raises(InputError, match="is no LWM: take a kind of random"):
        wanted.loss(tiny("encoder"), torch.nn.ModuleDict(), batch("encoder"), rng)


def test_a_decoder_that_mixes_tokens_is_told_from_one_that_does_not() -> None:
    assert not mixes_tokens(encoder_of(tiny("spikewfm")))
    assert mixes_tokens(encoder_of(tiny("encoder")))


@pytest.mark.parametrize("name", ["spikewfm", "encoder"])
def test_a_noisy_input_keeps_its_target_clean_at_its_own_scale(name: str) -> None:
    model, data = tiny(name), batch(name, 4)
    x, y = noisy_tokens(model, data.clean, (0.0, 20.0), np.random.default_rng(0))
    rng = np.random.default_rng(0)
    power = np.mean(np.abs(data.clean) ** 2, axis=(1, 2, 3), dtype=np.float64)
    noisy = awgn(data.clean, power, rng.uniform(0.0, 20.0, 4), rng)
    torch.testing.assert_close(x, model.inputs(noisy))
    wanted = np.sum(np.abs(noisy - data.clean) ** 2, (1, 2, 3)) / np.sum(np.abs(noisy) ** 2, (1, 2, 3))
    error = (x - y).square().sum((1, 2)) / x.square().sum((1, 2))
    assert error.numpy() == pytest.approx(wanted, rel=1e-3)
    same, target = noisy_tokens(model, data.clean, None, np.random.default_rng(0))
    assert torch.equal(same, target)
