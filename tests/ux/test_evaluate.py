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


def test_estimation_is_a_task() -> None:
    result = spikeport.evaluate("baselines", task="channel-estimation", snr="10", links=4)
    assert {c.method for c in result.curves} == {"ls", "ls-linear", "wiener", "lmmse", "genie"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("spikewfm-nano --task channel-estimation", "has no head for estimation"),
        ("baselines --task channel-estimation --sinr 0", "--sinr and --impairments go with channel-prediction"),
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
