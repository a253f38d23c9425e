"""The report says how far the network stands from LMMSE and from the limit, on whichever axis it was evaluated."""

from pathlib import Path
from typing import Any

from spikeport_profiles.report import report
from spikeport_profiles.report.accuracy import accuracy_section
from spikeport_toolkit.files import write_json

SNR = [-10.0, 10.0, 30.0]


def evaluation(*roles: tuple[str, str, list[float]], **facts: Any) -> dict[str, Any]:
    curves = [
        {"method": method, "role": role, "regime": "R1", "split": "unseen", "snr_db": SNR, "nmse_db": values,
         "low_db": [v - 0.2 for v in values], "high_db": [v + 0.2 for v in values]}
        for method, role, values in roles
    ]  # fmt: skip
    return {
        "schema": "spikeport.evaluation/1", "task": "channel-prediction", "model": "nano", "metric": "NMSE", "links": 9,
        "seed": 0, "kind": "simulated", "data": "made up", "curves": curves, **facts,
    }  # fmt: skip


LMMSE = ("lmmse", "baseline", [-15.0, -29.0, -44.0])
GENIE = ("genie", "limit", [-23.0, -41.0, -59.0])
NANO = ("nano", "model", [-11.0, -18.0, -18.0])


def test_the_gap_to_the_limit_is_a_sentence_and_the_limit_comes_last() -> None:
    (panel,) = accuracy_section(evaluation(GENIE, LMMSE, NANO))["panels"]
    assert [c["label"] for c in panel["curves"]] == ["nano", "separable LMMSE", "genie LMMSE (limit)"]
    assert "nano stands 12.0 to 41.0 dB above the limit, a genie LMMSE that is told every path." in panel["findings"]
    assert any(
        "told the SNR, has a lower mean NMSE than nano at every SNR, by 4.0 to 26.0 dB" in text
        for text in panel["findings"]
    )


def test_the_axis_the_seeds_and_the_receiver_are_named() -> None:
    facts = {"axis": "SINR", "seeds": 3, "impairments": ["6-bit converter"], "notes": ["No genie here."]}
    section = accuracy_section(evaluation(LMMSE, NANO, **facts))
    assert section["panels"][0]["axis"] == "SINR"
    assert "a lower mean NMSE than nano at every SINR" in str(section["panels"][0]["findings"])
    assert section["source"].endswith("seeds 0 to 2, made up; 6-bit converter; No genie here")


def test_a_run_of_baselines_alone_makes_a_report(tmp_path: Path) -> None:
    write_json(tmp_path / "run" / "evaluation.json", evaluation(LMMSE, GENIE, model="baselines"))
    made = report([tmp_path / "run"], tmp_path / "out", title=None)
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Baselines only, 9 links a point (simulated): no model here. Lowest mean NMSE" in text
    page = made.html.read_text()
    assert "genie LMMSE (limit)" in page
    for absent in ("Not in this run", "profile.json", "Bundles", "costs on any target", "spikeport profile baselines"):
        assert absent not in text + page, absent
