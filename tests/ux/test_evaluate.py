"""`spikeport evaluate` on the baselines alone: every option reaches what it names, bad ones end in one line."""

import json
from pathlib import Path

import pytest

import spikeport
from spikeport.cli.app import run


def test_baselines_alone_need_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"evaluate baselines --baselines slot-mean --sinr 0:10:10 --seeds 2 --links 4 --out {tmp_path}"
    assert run([*words.split(), "--impairments", "cfo=50,adc=8"]) == 0
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert [document[key] for key in ("model", "axis", "seeds")] == ["baselines", "SINR", 2]
    assert document["impairments"][1:] == ["carrier offset 50 Hz", "8-bit converter"]
    assert {c["method"] for c in document["curves"]} == {"last-value", "slot-mean", "wiener", "lmmse", "genie"}
    printed = capsys.readouterr().out
    assert "NMSE in dB at SINR" in printed
    assert "wiener over genie" in printed


def test_tables_of_tasks_have_a_schema_of_their_own_that_the_report_reads(tmp_path: Path) -> None:
    words = f"evaluate spikewfm-nano-ilif --task csi-feedback --labels 8 --links 4 --out {tmp_path}"
    assert run(words.split()) == 0
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert (document["schema"], document["adaptation"]) == ("spikeport.scores/1", "probe")
    assert run(["report", str(tmp_path), "--out", str(tmp_path / "page")]) == 0


def test_prediction_in_frequency_writes_curves(tmp_path: Path) -> None:
    words = "evaluate spikewfm-nano --task frequency-prediction --adaptation zero-shot --snr 10 --links 4 --compare"
    assert run([*words.split(), "spikewfm-nano-relu", "--out", str(tmp_path)]) == 0
    document = json.loads((tmp_path / "evaluation.json").read_text())
    roles = {c["method"]: c["role"] for c in document["curves"]}
    assert roles["spikewfm-nano zero-shot"] == "model"
    assert roles["spikewfm-nano-relu zero-shot"] == "twin"
    assert run(["report", str(tmp_path), "--out", str(tmp_path / "page")]) == 0


def test_estimation_is_a_task() -> None:
    result = spikeport.evaluate("baselines", task="channel-estimation", snr="10", links=4)
    assert {c.method for c in result.curves} == {"ls", "ls-linear", "wiener", "lmmse", "genie"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("baselines --task positioning", "positioning shows them beside a model"),
        ("baselines --task channel-estimation --sinr 0", "--sinr goes with --task channel-prediction, not with"),
        ("baselines --sinr 0 --snr 5", "--snr and --sinr are both given"),
        ("baselines --links 2.5", "give a whole number"),
        ("baselines --seeds 1.5", "give a whole number"),
        ("spikewfm-nano --labels 50", "--labels goes with --task frequency-prediction or"),
        ("spikewfm-nano --task positioning --labels 5,x", "no list of whole numbers of 2 or more"),
        ("spikewfm-nano --task positioning --labels 1", "no list of whole numbers of 2 or more"),
        ("spikewfm-nano --task positioning --snr 0:20:5", "measured at one SNR"),
        ("spikewfm-nano --task positioning --labels 400", "lower --links or --labels"),
        ("spikewfm-nano --task positioning --adaptation lorra", "did you mean 'lora'"),
        ("spikewfm-nano --task csi-feedback --snr 5", "--snr goes with --task"),
        ("csi2vec --task frequency-prediction", "no tokens along frequency"),
        ("lwm-1.0-spiking --task channel-estimation", "take a spikewfm preset"),
        ("baselines --sinr high", "--sinr 'high' is not low:high:step"),
        ("baselines --baselines wienr", "did you mean 'wiener'"),
        ("baselines --impairments adc=99", "1 to 24 bits"),
        ("baselines --impairments wifi=/nowhere.npz", "nowhere.npz"),
        ("baselines --seeds 0", "--seeds is 0"),
        ("baselines --task channel-estimations", "did you mean 'channel-estimation'"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", *words.split()]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error
    assert "Traceback" not in error
