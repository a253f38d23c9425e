"""The benchmark: a perfect predictor scores perfectly, baselines stand beside, nothing unseen leaks in."""

from dataclasses import replace

import numpy as np
import pytest

from spikeport_errors import InputError, UsageError
from spikeport_toolkit.baselines.registry import BASELINES, baselines_of
from spikeport_toolkit.data.channel_set import ChannelSet
from spikeport_toolkit.data.impairments import CarrierOffset, Interference
from spikeport_toolkit.data.sampler import embedded_split, symbol_times
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.models.presets import preset
from spikeport_toolkit.tasks.channel_prediction import Evaluation, evaluate, example_pairs

CONFIG = preset("spikewfm-nano").config


@pytest.fixture(scope="module")
def result() -> Evaluation:
    def zero(patches: np.ndarray) -> np.ndarray:
        return np.zeros((len(patches), 16, 336), np.float32)

    return evaluate("zero", {"zero": ("model", zero)}, CONFIG.grid, snrs_db=(-10, 30), links=40)


def test_predicting_zero_scores_0_db_everywhere(result: Evaluation) -> None:
    zero = [c for c in result.curves if c.method == "zero"]
    assert len(zero) == 4, "two regimes, two splits"
    assert all(abs(v) < 1e-4 for c in zero for v in c.nmse_db)


def test_baselines_stand_beside_and_behave(result: Evaluation) -> None:
    curves = {(c.method, c.regime, c.split): c for c in result.curves}
    for split in ("in-domain", "unseen"):
        last = curves["last-value", "R1", split].nmse_db
        assert last[0] == pytest.approx(10, abs=0.5), "at -10 dB the last symbol carries ten times its power in noise"
        assert last[1] < -20
        for regime in ("R1", "R2"):
            wiener = curves["wiener", regime, split]
            assert all(w < v for w, v in zip(wiener.nmse_db, curves["last-value", regime, split].nmse_db, strict=True))
            assert all(lo <= v <= hi for lo, v, hi in zip(wiener.low_db, wiener.nmse_db, wiener.high_db, strict=True))


def test_the_document_is_plain_and_says_what_it_is(result: Evaluation) -> None:
    document = result.to_dict()
    assert document["kind"] == "simulated"
    assert document["schema"] == "spikeport.evaluation/1"
    assert {c["role"] for c in document["curves"]} == {"model", "baseline", "limit"}
    assert "last-value" in result.summary()


def test_every_model_is_held_against_lmmse_and_the_genie(result: Evaluation) -> None:
    curves = {(c.method, c.regime, c.split): c for c in result.curves}
    assert {(g.method, g.to) for g in result.gaps} == {("zero", "lmmse"), ("zero", "genie")}
    for gap in result.gaps:
        theirs = curves[gap.to, gap.regime, gap.split].nmse_db
        np.testing.assert_allclose(
            gap.gap_db, np.subtract(curves["zero", gap.regime, gap.split].nmse_db, theirs), atol=1e-3
        )
        assert f"zero over {gap.to}" in result.summary()
    assert len(result.to_dict()["gaps"]) == 8


def test_seeds_are_pooled_and_differ() -> None:
    grid = CONFIG.grid
    one, other = (evaluate("none", {}, grid, snrs_db=(0,), links=12, seed=seed, regimes=("R1",)) for seed in (0, 1))
    both = evaluate("none", {}, grid, snrs_db=(0,), links=12, seed=0, seeds=2, regimes=("R1",))
    for a, b, pooled in zip(one.curves, other.curves, both.curves, strict=True):
        linear = [10 ** (c.nmse_db[0] / 10) for c in (a, b, pooled)]
        assert linear[2] == pytest.approx((linear[0] + linear[1]) / 2, rel=1e-3)
        assert linear[0] != linear[1]
    assert both.to_dict()["seeds"] == 2


def test_stored_channels_have_their_own_regime_and_no_genie() -> None:
    rng = np.random.default_rng(0)
    h = rng.standard_normal((6, 56, 4, 48, 2)).astype(np.float32).view(np.complex64)[..., 0]
    made = ChannelSet(h, np.arange(56) * 2e-3, 5e9, 312.5e3, 2, 2, "hall", "measured", np.full(6, -1, np.int8))
    contiguous = replace(made, times_s=symbol_times(CONFIG.grid, "R1") + 5.0, kind="simulated")
    result = evaluate("none", {}, CONFIG.grid, snrs_db=(0, 10), links=6, splits={"hall": made, "cdl": contiguous})
    assert {(c.regime, c.split) for c in result.curves} == {("recorded", "hall"), ("R1", "cdl")}
    assert "genie" not in {c.method for c in result.curves}
    assert "No genie in hall, cdl" in result.summary()
    assert result.kind == "measured"
    with pytest.raises(InputError, match="use --snr"):
        evaluate("none", {}, CONFIG.grid, snrs_db=(0,), links=6, splits={"hall": made}, sinr=Interference())


def test_the_receiver_is_named_and_makes_things_worse() -> None:
    plain, spoiled = (
        evaluate("none", {}, CONFIG.grid, snrs_db=(20,), links=8, regimes=("R1",), impairments=faults)
        for faults in ((), (CarrierOffset(100.0),))
    )
    by_name = [{(c.method, c.split): c.nmse_db[0] for c in r.curves} for r in (plain, spoiled)]
    for key, value in by_name[1].items():
        assert value == by_name[0][key] if key[0] == "genie" else value > by_name[0][key]
    assert spoiled.to_dict()["impairments"] == ["carrier offset 100 Hz"]
    assert "carrier offset 100 Hz" in spoiled.summary()


def test_baselines_are_chosen_by_name() -> None:
    assert [b.name for b in baselines_of("ar,pad")] == ["last-value", "ar", "pad", "wiener", "lmmse", "genie"]
    assert len(baselines_of("all")) == len(BASELINES) == 13
    with pytest.raises(UsageError, match="did you mean 'wiener'"):
        baselines_of("wienr")
    with pytest.raises(UsageError, match="empty name"):
        baselines_of("ar,,pad")


def test_a_prediction_that_is_not_finite_is_refused() -> None:
    def broken(patches: np.ndarray) -> np.ndarray:
        return np.full((len(patches), 16, 336), np.nan, np.float32)

    with pytest.raises(InputError, match="broken gave a prediction that is not finite"):
        evaluate("broken", {"broken": ("model", broken)}, CONFIG.grid, snrs_db=(0,), links=4)


def test_a_model_cannot_take_a_baselines_name_or_another_shape() -> None:
    with pytest.raises(InputError, match="the name of a baseline"):
        evaluate("wiener", {"wiener": ("model", lambda patches: patches)}, CONFIG.grid, snrs_db=(0,), links=4)
    with pytest.raises(InputError, match="predicts"):
        evaluate("echo", {"echo": ("model", lambda patches: patches)}, CONFIG.grid, snrs_db=(0,), links=4)


def test_more_links_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match="lower --links"):
        evaluate("none", {}, CONFIG.grid, snrs_db=(0,), links=5000)


def test_example_patches_are_real_scaled_training_channels() -> None:
    patches, targets = example_pairs(CONFIG, 5, seed=1)
    again, _ = example_pairs(CONFIG, 5, seed=1)
    assert patches.shape == (5, 64, 336)
    assert targets.shape == (5, 16, 336)
    assert np.array_equal(patches, again)
    assert np.allclose(np.mean(patches[:, :48] ** 2, axis=(1, 2)), 0.5, rtol=1e-3)


@pytest.mark.parametrize("name", ["spikewfm-nano", "spikewfm-nano-ilif", "spikewfm-nano-qrelu", "spikewfm-nano-relu"])
def test_shipped_models_predict_far_better_than_last_value(name: str) -> None:
    import torch

    model = load_model(name)

    def predict(patches: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(model(torch.from_numpy(patches)).numpy())

    links = {"unseen": embedded_split("unseen")}
    result = evaluate(name, {name: ("model", predict)}, CONFIG.grid, snrs_db=(0, 10), splits=links, links=100)
    curves = {(c.method, c.regime): c.nmse_db for c in result.curves}
    for regime in ("R1", "R2"):
        for mine, last in zip(curves[name, regime], curves["last-value", regime], strict=True):
            assert mine < last - 4
