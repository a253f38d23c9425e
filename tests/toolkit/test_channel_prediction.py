"""The benchmark: a perfect predictor scores perfectly, baselines stand beside, nothing unseen leaks in."""

import numpy as np
import pytest

from spikeport_errors import InputError
from spikeport_toolkit.data.sampler import embedded_split
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
    assert {c["role"] for c in document["curves"]} == {"model", "baseline"}
    assert "last-value" in result.summary()


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
