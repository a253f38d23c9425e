"""Frequency prediction and channel estimation by models: what is hidden stays hidden, and labels help."""

import itertools

import numpy as np
import pytest
import torch
from objective_models import tiny
from torch import nn

from spikeport_errors import InputError, UnsupportedError
from spikeport_toolkit.data.canonical import Sampling, canonical_batch
from spikeport_toolkit.data.sampler import embedded_split
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.tasks import estimating_model, frequency_prediction
from spikeport_toolkit.tasks.evaluation import Evaluation
from spikeport_toolkit.tasks.frequency_prediction import BASELINES, band
from spikeport_toolkit.tasks.request import Place, Request, clean_batch

MODELS = {"tiny": tiny("spikewfm").eval()}


def nmse(result: Evaluation, method: str, split: str = "unseen") -> tuple[float, ...]:
    return next(c.nmse_db for c in result.curves if (c.method, c.split) == (method, split))


@pytest.fixture(scope="module")
def predicted() -> Evaluation:
    return frequency_prediction.evaluate(Request(MODELS, snrs_db=(0.0, 20.0), labels=(4, 60), links=40))


def test_the_order_is_last_value_wiener_lmmse_genie(predicted: Evaluation) -> None:
    for split in ("in-domain", "unseen"):
        rows = [nmse(predicted, name, split) for name in BASELINES]
        for worse, better in itertools.pairwise(rows):
            assert all(a > b for a, b in zip(worse, better, strict=True))
    assert predicted.task == "frequency-prediction"
    assert predicted.to_dict()["schema"] == "spikeport.evaluation/1"


def test_baselines_do_as_well_with_lwms_true_delays() -> None:
    errors = []
    for convention in ("aligned", "deepmimo"):
        sampling, rng = Sampling(1, 32, 32, 5e-4, 30e3, convention), np.random.default_rng(0)
        seen = band(
            canonical_batch(embedded_split("unseen"), np.arange(0, 400, 8), sampling, 100.0, rng), 16, 20.0, rng
        )
        power = np.sum(np.abs(seen.target) ** 2, axis=(1, 2, 3))
        made = [BASELINES[name][1](seen) for name in ("wiener", "lmmse", "genie")]
        ratio = [np.sum(np.abs(each - seen.target) ** 2, axis=(1, 2, 3)) / power for each in made]
        errors.append(10 * np.log10(np.mean(ratio, axis=1)))
    np.testing.assert_allclose(errors[1], errors[0], atol=3)  # another array, so other draws
    assert errors[1][2] < errors[1][1] - 15


def test_labels_help_an_untrained_encoder_and_the_raw_input(predicted: Evaluation) -> None:
    for few, many in (("tiny probe 4", "tiny probe 60"), ("raw ridge 4", "raw ridge 60")):
        assert nmse(predicted, many)[1] < nmse(predicted, few)[1]
    assert nmse(predicted, "tiny probe 60")[1] < 0 < nmse(predicted, "tiny zero-shot")[1]
    assert nmse(predicted, "raw ridge 60")[1] < nmse(predicted, "tiny probe 60")[1], "that of random weights"


@pytest.mark.parametrize("name", ["spikewfm", "encoder"])
def test_nothing_of_the_upper_band_reaches_a_prediction(name: str) -> None:
    model = tiny(name).eval()
    paths = embedded_split("unseen").select(np.arange(3))
    batch = clean_batch(model.config, paths, np.arange(3), np.random.default_rng(0))
    made = frequency_prediction._Band(name, model)
    one = band(batch, made.seen, 10.0, np.random.default_rng(1))
    assert made.seen == batch.clean.shape[3] // 2
    np.testing.assert_array_equal(one.filled[..., : made.seen], one.observed)
    changed = batch.clean.copy()
    changed[..., made.seen :] *= 3
    other = band(type(batch)(**{**vars(batch), "clean": changed}), made.seen, 10.0, np.random.default_rng(1))
    object.__setattr__(other, "observed", one.observed)
    for rows in (made.rows(model, made.tokens(one)[0]), made.features(model, made.tokens(one)[0], "drop")):
        assert torch.isfinite(rows).all()
    with torch.no_grad():
        np.testing.assert_array_equal(
            made.rows(model, made.tokens(one)[0]), made.rows(model, made.tokens(other)[0])
        )  # fmt: skip
    assert not np.array_equal(made.zero_shot(one), made.zero_shot(other)), "the target did change"


def test_a_perfect_prediction_scores_nothing_in_tokens() -> None:
    model = tiny("encoder").eval()
    paths = embedded_split("unseen").select(np.arange(4))
    batch = clean_batch(model.config, paths, np.arange(4), np.random.default_rng(0))
    made = frequency_prediction._Band("m", model)
    seen = band(batch, made.seen, (0.0, 20.0), np.random.default_rng(1))
    target = made.tokens(seen)[1][:, torch.from_numpy(made.hidden)]
    assert made.score(lambda _: target, seen).max() < 1e-10
    np.testing.assert_allclose(made.score(lambda _: 0 * target, seen), 1, rtol=1e-6)


def test_models_without_tokens_along_frequency_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="no tokens along frequency"):
        frequency_prediction.evaluate(Request({"csi2vec": load_model("csi2vec")}, links=2, labels=(2,)))
    with pytest.raises(UnsupportedError, match="does not say which channels it takes"):
        frequency_prediction.evaluate(Request({"mine": nn.Linear(2, 2)}, links=2, labels=(2,)))
    with pytest.raises(UnsupportedError, match="without --compare"):
        frequency_prediction.evaluate(Request({**MODELS, "other": tiny("encoder")}, links=2, labels=(2,)))
    with pytest.raises(UnsupportedError, match="take a spikewfm preset"):
        estimating_model.evaluate_models(Request({"encoder": tiny("encoder")}, links=2, labels=(2,)))


def test_a_model_estimates_from_pilots_better_with_more_labels() -> None:
    result = estimating_model.evaluate_models(Request(MODELS, snrs_db=(10.0,), labels=(4, 60), links=40))
    assert nmse(result, "tiny probe 60")[0] < nmse(result, "tiny probe 4")[0] < 3
    assert nmse(result, "genie")[0] < nmse(result, "lmmse")[0] < nmse(result, "raw ridge 60")[0]
    assert {c.role for c in result.curves if c.method.startswith("tiny")} == {"model"}
    assert {g.method for g in result.gaps} == {"tiny probe 4", "tiny probe 60"}


def test_labels_are_never_tested_and_do_not_move_the_test() -> None:
    place = Place("here", embedded_split("unseen"))
    tested, known = place.draw(50, 30, 7)
    assert not set(tested) & set(known)
    np.testing.assert_array_equal(place.draw(50, 500, 7)[0], tested)
    np.testing.assert_array_equal(place.draw(50, 500, 7)[1][:30], known)
    with pytest.raises(InputError, match="lower --links or --labels"):
        place.draw(2000, 100, 0)
