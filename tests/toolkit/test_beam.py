"""LoS and beam tasks: labels, few-shot curves, robust beamforming, and `evaluate --task los|beam`."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spikeport.cli.app import run
from spikeport_errors import InputError, UsageError
from spikeport_toolkit.data.splits import link_keys
from spikeport_toolkit.data.store import load_embedded
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.tasks import beam, los
from spikeport_toolkit.tasks.array_channels import array_channels
from spikeport_toolkit.tasks.beamforming import beam_gain, beamforming, mrt
from spikeport_toolkit.tasks.classification import channels_for, evaluate, load_sets
from spikeport_toolkit.tasks.features import features_of, sequences_of
from spikeport_toolkit.tasks.few_shot import few_shot, weighted_f1
from spikeport_toolkit.tasks.probe import ridge_probe


@pytest.fixture(scope="module")
def pair():
    return beam.paired([item for item in load_embedded() if item.city == "san_francisco"])[0]


def plane_wave(degrees: float, antennas: int = 32, subcarriers: int = 4) -> np.ndarray:
    phase = np.pi * np.sin(np.deg2rad(degrees)) * np.arange(antennas)
    return np.exp(1j * phase)[None, None, :, None].repeat(subcarriers, 3).astype(np.complex64)


@pytest.mark.parametrize("beams", [16, 64, 256])
def test_a_plane_wave_is_received_best_by_the_beam_that_points_to_it(beams: int) -> None:
    angles = np.linspace(-90, 90, beams)
    for index in (beams // 3, beams // 2, beams - 4):
        powers = beam.beam_powers(plane_wave(angles[index]), beams)[0]
        assert powers.argmax() == index
        assert powers.max() == pytest.approx(32, rel=1e-4), "the array's gain"


def test_the_codes_coherent_mean_loses_what_arrives_late() -> None:
    late = plane_wave(20.0) * np.exp(-2j * np.pi * np.arange(4) / 4)
    channel = (2 * late + plane_wave(-40.0)).astype(np.complex64)
    angles = np.linspace(-90, 90, 64)
    assert abs(angles[beam.beam_powers(channel, 64)[0].argmax()] - 20) < 3
    assert abs(angles[beam.beam_powers(channel, 64, coherent=True)[0].argmax()] + 40) < 3


def test_codebooks_have_16_to_256_beams() -> None:
    assert np.allclose(np.linalg.norm(beam.codebook(16), axis=1), 1)
    with pytest.raises(UsageError, match="16 to 256"):
        beam.codebook(8)


def test_bands_are_paired_link_by_link(pair) -> None:
    low, high = pair
    assert (low.carrier_hz, high.carrier_hz) == (3.5e9, 28e9)
    assert low.links == high.links > 300
    assert np.allclose(low.ue, high.ue)
    assert (low.n_paths > 0).all()
    assert (high.n_paths > 0).all()
    with pytest.raises(InputError, match=r"the data hold 3\.5 GHz"):
        beam.paired([low])


def test_links_are_compared_on_the_same_draws_and_more_labels_help() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    good = (rng.normal(size=(200, 5)) + 2 * labels[:, None]).astype(np.float32)
    curves = few_shot(
        {"good": ("cls", good), "again": ("cls", good.copy()), "noise": ("raw", rng.normal(size=(200, 5)))},
        labels, 2, ridge_probe, counts=(4, 100), draws=5, seed=0,
    )  # fmt: skip
    assert curves[0].accuracy == curves[1].accuracy
    assert curves[0].accuracy[1] > curves[0].accuracy[0]
    assert curves[0].f1[1] > 0.95 > 0.65 > curves[2].f1[1]
    with pytest.raises(InputError, match="leave none to test"):
        few_shot({"x": ("raw", good)}, labels, 2, ridge_probe, counts=(200,), draws=1, seed=0)


def test_weighted_f1_by_hand() -> None:
    truth, guess = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    assert weighted_f1(truth, guess) == pytest.approx(0.75 * 0.8 + 0.25 * 2 / 3)


@pytest.mark.parametrize("name", ["lwm-1.1-code", "spikewfm-nano-ilif"])
def test_features_of_any_family(pair, name: str) -> None:
    model, low = load_model(name), pair[0].select(np.arange(3))
    channel = channels_for(model, low)
    tokens = model.inputs(channel)
    assert np.array_equal(sequences_of(model, channel, "raw"), tokens.numpy())
    assert features_of(model, channel, "channel").shape == (3, tokens.shape[1] * model.config.d)
    cls = features_of(model, channel, "cls")
    assert cls.shape == (3, model.config.d)
    if not hasattr(model, "cls_features"):
        assert np.allclose(cls, sequences_of(model, channel, "channel").mean(1), atol=1e-5)
    with pytest.raises(UsageError, match="did you mean 'channel'"):
        features_of(model, channel, "chanel")


def test_the_matched_beam_cannot_be_beaten_on_a_flat_channel() -> None:
    channel = plane_wave(33.0)
    assert beam_gain(mrt(channel), channel) == pytest.approx(1, rel=1e-5)
    assert beam_gain(mrt(plane_wave(-10.0)), channel)[0] < 0.1


def test_beams_from_masked_and_noisy_channels(pair) -> None:
    low = pair[0].select(np.arange(40))
    model = load_model("lwm-1.0-spiking")
    channel = array_channels(low, np.arange(40))
    result = beamforming(model, channel, snr_db=0.0, train=25, rng=np.random.default_rng(0))
    assert result.links == 15
    assert -2 < result.gain_db["masked"] < 0, "15 % of the patches are missing"
    assert all(value < 0.1 for value in result.gain_db.values())
    assert "ridge on cls" in result.summary()


def test_los_beats_chance_on_an_untrained_encoder(pair) -> None:
    assert set(los.labels(pair[0]).tolist()) == {0, 1}
    result = evaluate("los", {"m": load_model("lwm-1.0-spiking-relu")}, links=90, draws=4)
    assert [curve.method for curve in result.curves] == ["m cls", "m channel", "m raw"]
    assert result.curves[1].accuracy[-1] > 0.6


def test_evaluate_writes_a_classification_of_its_own_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"evaluate spikewfm-nano --task beam --links 40 --out {tmp_path}"
    assert run(words.split()) == 0
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert document["schema"] == "spikeport.classification/1"
    assert (document["task"], document["classes"], document["links"]) == ("beam", 64, 40)
    assert "accuracy in % by labels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("spikewfm-nano --task los --links 5", "5 links are too few"),
        ("spikewfm-nano --task los --sinr 0", "--sinr goes with --task channel-prediction"),
        ("spikewfm-nano --task lo", "did you mean 'los'"),
        ("spikewfm-nano --task beam --data /nowhere", "/nowhere"),
    ],
)
def test_what_cannot_be_classified_is_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", *words.split()]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error
    assert "Traceback" not in error


def test_deepmimo_folders_are_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = os.environ.get("SPIKEPORT_DATA")
    if not folder:
        pytest.skip("SPIKEPORT_DATA names no folder of evaluation data (genuine DeepMIMO scenarios)")
    for name in ("city_18_denver", "denver_28ghz"):
        (tmp_path / name).symlink_to(Path(folder) / "deepmimo_v3" / name)
    words = f"evaluate lwm-1.0-spiking-relu --task beam --links 30 --data {tmp_path}"
    assert run(words.split()) == 0
    assert "30 links" in capsys.readouterr().out


def test_what_a_model_was_trained_on_is_left_out() -> None:
    assert {item.city for item in load_sets(None)} == {"san_francisco", "proc4", "proc5"}
    rest = load_sets(None, ["proc5"], frozenset(link_keys(load_embedded()[0])[:3]))
    assert "munich" in {item.city for item in rest}
    assert "proc5" not in {item.city for item in rest}
    assert rest[0].links == load_embedded()[0].links - 3
    with pytest.raises(InputError, match="only what the model was trained on"):
        load_sets(None, [item.city for item in load_embedded()])


def test_links_of_one_class_are_refused(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    low = pair[0]
    only = low.select(np.flatnonzero(low.los == 1))
    monkeypatch.setattr(
        "spikeport_toolkit.tasks.classification.load_sets", lambda *_: [replace(only, city="one class")]
    )
    with pytest.raises(InputError, match="of one class"):
        evaluate("los", {"m": load_model("lwm-1.0-spiking-relu")}, links=50)
