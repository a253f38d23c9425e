"""Positioning, charting and CSI feedback: baselines do what they are, results say what they hold."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from objective_models import batch, tiny

from spikeport_errors import InputError, UnsupportedError
from spikeport_toolkit.data.channel_set import ChannelSet, save_channels
from spikeport_toolkit.data.sampler import embedded_split
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.tasks import charting, csi_feedback, positioning
from spikeport_toolkit.tasks.csi_feedback import Bottleneck, _dft, _pca, _quality
from spikeport_toolkit.tasks.positioning import fingerprints, nearest_neighbours
from spikeport_toolkit.tasks.read_out import Tuning
from spikeport_toolkit.tasks.request import Place, Request, clean_batch
from spikeport_toolkit.tasks.score_table import Metric, Scores, ScoreTable

MODELS = {"tiny": tiny("spikewfm").eval()}


@pytest.fixture
def one_site(monkeypatch: pytest.MonkeyPatch) -> Place:
    """A single base station, so that the tests are quick."""
    place = Request(MODELS).sites()[0]
    monkeypatch.setattr(Request, "sites", lambda self: [place])
    return place


def test_sites_are_base_stations_of_cities_no_model_was_trained_on() -> None:
    names = [place.name for place in Request(MODELS).sites()]
    assert names == [f"{city}/{number}" for city in ("san_francisco", "proc4", "proc5") for number in (0, 1)]
    mine = Request(MODELS, trained=("proc4", "san_francisco", "munich")).sites()
    assert {place.name.split("/")[0] for place in mine}.isdisjoint({"proc4", "san_francisco", "munich"})
    assert all(place.paths.carrier_hz == 3.5e9 for place in mine)


def test_fingerprints_find_a_user_again_and_raw_places_are_metres(one_site: Place) -> None:
    result = positioning.evaluate(Request(MODELS, labels=(20, 150), links=60, seeds=2))
    methods = {"tiny pooled probe", "tiny tokens probe", "middle of the labelled", "raw ridge", "fingerprint k-NN"}
    assert {s.method for s in result.scores} == methods
    assert result.score("fingerprint k-NN", "median", labels=150) < result.score(
        "fingerprint k-NN", "median", labels=20
    )
    middle = result.score("middle of the labelled", "median", labels=150)
    assert result.score("fingerprint k-NN", "median", labels=150) < 0.8 * middle
    assert 50 < middle < 200, "the cities are 300 m wide"
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["schema"] == "spikeport.scores/1"
    assert "san_francisco/0" in result.summary()


def test_positions_are_fitted_by_fine_tuning_too(one_site: Place) -> None:
    result = positioning.evaluate(Request(MODELS, labels=(8,), links=10, adaptation="lora"), Tuning(2, 8))
    assert next(s.method for s in result.scores) == "tiny pooled lora"


def test_neighbours_by_hand() -> None:
    known, targets = np.array([[0.0], [1.0], [9.0]]), np.array([[0.0, 0.0], [4.0, 0.0], [100.0, 0.0]])
    found = nearest_neighbours(known, targets, np.array([[0.25], [9.0]]), 2)
    np.testing.assert_allclose(found, [[1.0, 0.0], [100.0, 0.0]], atol=1e-4)
    channel = batch("encoder", 3).clean
    np.testing.assert_allclose(fingerprints(channel * np.exp(1j)), fingerprints(channel), atol=1e-6)


def test_charts_of_a_line_and_of_users(one_site: Place) -> None:
    result = charting.evaluate(Request(MODELS, labels=(60,), links=60), Tuning(8, 16, 1e-3))
    assert [s.method for s in result.scores] == ["tiny pooled pca", "tiny triplets probe", "raw pca", "fingerprint pca"]
    for score in result.scores:
        assert all(0.3 < value[0] < 1 for value in score.values.values())
    assert result.score("fingerprint pca", "trustworthiness", labels=60) > 0.6
    line = np.linspace(0, 5, 20)[:, None] * np.array([[3.0, 4.0, 0.0]])
    coordinates = charting.principal(line[:10], line[10:])
    np.testing.assert_allclose(np.abs(np.diff(coordinates[:, 0])), 5 / 19 * 5, rtol=1e-6)
    with pytest.raises(InputError, match="3 users or more"):
        charting.evaluate(Request(MODELS, links=2))


def test_triplets_draw_neighbours_together() -> None:
    data = clean_batch(tiny("encoder").config, embedded_split("unseen"), np.arange(24), np.random.default_rng(0))
    for adaptation in ("probe", "full"):
        charted = charting.chart_of(tiny("encoder"), data, adaptation, tuning=Tuning(4, 16, 1e-3))
        assert charted(data.clean).shape == (24, 2)


def test_a_bottleneck_keeps_what_its_numbers_can_hold() -> None:
    rng = np.random.default_rng(0)
    outputs = (rng.standard_normal((30, 3)) @ rng.standard_normal((3, 12)) + 1).astype(np.float32)
    code = Bottleneck(outputs, 3)
    assert code.encode(outputs).shape == (30, 3)
    np.testing.assert_allclose(code.decode(code.encode(outputs)), outputs, atol=1e-4)
    assert np.abs(Bottleneck(outputs, 1).decode(Bottleneck(outputs, 1).encode(outputs)) - outputs).max() > 0.1


def test_truncations_are_exact_with_all_numbers_and_worse_with_fewer() -> None:
    channel = batch("encoder", 40).clean[:, :1]
    size = 2 * channel[0].size
    for truncate in (_pca, _dft):
        found = [_quality(truncate(channel[:30], channel[30:], size // ratio), channel[30:]) for ratio in (1, 8, 32)]
        assert found[0]["NMSE"] < found[1]["NMSE"] < found[2]["NMSE"] < 0.5
        assert found[0]["cosine"] > found[2]["cosine"]
    assert _quality(_dft(channel, channel, size), channel)["NMSE"] < -100


def test_feedback_of_more_numbers_is_better() -> None:
    result = csi_feedback.evaluate(Request(MODELS, labels=(60,), links=30))
    for method in ("pca", "dft", "tiny probe"):
        values = [result.score(method, "NMSE", labels=60, setting=f"unseen 1/{ratio}") for ratio in csi_feedback.RATIOS]
        assert all(more < fewer + 0.2 for more, fewer in pairwise(values))
        assert values[0] < values[-1] - 1
    assert "unseen 1/32" in result.summary()


def test_stored_channels_have_no_positions(tmp_path: Path) -> None:
    h = np.ones((2, 56, 4, 48), np.complex64)
    stored = ChannelSet(h, np.arange(56) * 1e-3, 3.5e9, 30e3, 2, 2, "hall", "measured", np.full(2, -1, np.int8))
    save_channels(stored, tmp_path / "hall")
    with pytest.raises(UnsupportedError, match="without user positions"):
        positioning.evaluate(Request(MODELS, data=tmp_path))
    with pytest.raises(InputError, match="channels without paths"):
        csi_feedback.evaluate(Request(MODELS, data=tmp_path))


def test_a_perceptron_is_positioned_from_its_embedding(one_site: Place) -> None:
    result = positioning.evaluate(Request({"csi2vec": load_model("csi2vec")}, labels=(10,), links=10))
    assert result.scores[0].method == "csi2vec pooled probe"


def test_a_table_gathers_means_and_spans() -> None:
    scores = Scores()
    for value in (1.0, 3.0):
        scores.add("b", "baseline", {"x": value}, 5)
        scores.add("m", "model", {"x": 2 * value}, 5)
    table = ScoreTable("t", "m", "probe", "d", 2, 1, None, 0, 1, (Metric("x", "m", "lower"),), scores.rows())
    assert [s.method for s in table.scores] == ["m", "b"]
    assert table.scores[0].values["x"] == (4.0, 2.0, 6.0)
    assert "4.00 (2.00 to 6.00)" in table.summary()
    assert table.to_dict()["scores"][1]["values"]["x"] == {"mean": 2.0, "low": 1.0, "high": 3.0}
