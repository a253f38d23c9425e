"""A run on the device narrows the estimates of other models on it, and replaces its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spikeport_errors import InputError, UsageError
from spikeport_profiles.calibrate import Run, read_runs
from spikeport_profiles.estimate import estimate
from spikeport_profiles.profile import profile
from spikeport_profiles.trace import trace
from spikeport_targets.card import load_card
from spikeport_toolkit.models.load import load_model

CARD = load_card("jetson-orin-nano")
PATCHES = np.random.default_rng(0).standard_normal((1, 64, 336)).astype(np.float32)
HEADER = "model,target,precision,scenario,latency_s,energy_j\n"


def counted(name: str):
    return trace(load_model(name), [PATCHES])


def run(model: str, latency: float, energy: float | None = None, precision: str = "fp16") -> Run:
    return Run(model, CARD.id, precision, "maxn_super", latency, energy, "measured.csv, line 2")


def width(quantity) -> float:
    return quantity.high / quantity.low


def test_a_run_of_another_model_moves_the_estimate_and_narrows_it_to_the_transfer():
    mine, twin = counted("spikewfm-nano"), counted("spikewfm-nano-qrelu")
    before, other = estimate(mine, CARD).latency, estimate(twin, CARD).latency
    found = estimate(mine, CARD, runs=[(run("spikewfm-nano-qrelu", 2 * other.nominal), twin)], name="spikewfm-nano")
    assert found.latency.nominal == pytest.approx(2 * before.nominal, rel=0.05)
    assert width(found.latency) < 1.9 < 5 < width(before)
    assert found.latency.kind == "estimated"
    assert any("Calibrated by 1 run" in note for note in found.notes)
    assert any(c.name == "factor_latency" and c.source == ("measured.csv, line 2",) for c in found.constants)


def test_a_run_of_the_same_model_is_measured_and_not_estimated():
    mine = counted("spikewfm-nano")
    found = estimate(mine, CARD, runs=[(run("spikewfm-nano", 1e-3, 9e-3), mine)], name="spikewfm-nano")
    assert (found.latency.low, found.latency.nominal, found.latency.high) == (1e-3, 1e-3, 1e-3)
    assert (found.latency.kind, found.energy.total.kind, found.energy.total.nominal) == ("measured", "measured", 9e-3)


def test_runs_of_the_same_model_that_differ_are_their_geometric_mean_and_extremes():
    mine = counted("spikewfm-nano")
    both = [(run("spikewfm-nano", 1e-3, 4e-3), mine), (run("spikewfm-nano", 4e-3, 9e-3), mine)]
    found = estimate(mine, CARD, runs=both, name="spikewfm-nano")
    latency, energy = found.latency, found.energy.total
    assert (latency.low, latency.nominal, latency.high) == (1e-3, pytest.approx(2e-3), 4e-3)
    assert (energy.low, energy.nominal, energy.high) == (4e-3, pytest.approx(6e-3), 9e-3)
    assert any("2 runs of its own" in note for note in found.notes)
    alone = estimate(mine, CARD, runs=both[:1], name="spikewfm-nano")
    assert any("one run alone has no spread" in note for note in alone.notes)


def test_notes_do_not_contradict_a_calibrated_figure():
    mine = counted("spikewfm-nano")
    plain = " ".join(estimate(mine, CARD).notes)
    other = " ".join(estimate(mine, CARD, runs=[(run("a", 1e-3, 9e-3), mine)]).notes)
    own = " ".join(estimate(mine, CARD, runs=[(run("spikewfm-nano", 1e-3, 9e-3), mine)], name="spikewfm-nano").notes)
    assert "factor 2.5" in plain
    assert "measured on other networks" in plain
    assert not any("factor 2.5" in said or "other networks" in said for said in (other, own))
    assert "estimated time" not in own


def test_a_calibrated_nominal_lies_inside_its_interval():
    mine, twin = counted("spikewfm-nano"), counted("spikewfm-nano-qrelu")
    for card in (CARD, load_card("loihi2")):
        scenario = estimate(mine, card).scenario
        for latency in (1e-9, 1e-3, 3600.0):
            held = Run("other", card.id, "fp16", scenario, latency, None, "runs.csv, line 2")
            found = estimate(mine, card, runs=[(held if card is CARD else replace(held, precision="int8"), twin)])
            assert found.latency.low < found.latency.nominal < found.latency.high


def test_what_is_not_used_is_said():
    mine, chip = counted("spikewfm-nano"), load_card("loihi2")
    held = Run("other", "loihi2", "int8", "embedded", 1e-3, 2e-3, "runs.csv, line 2", unused=("operator",))
    notes = estimate(mine, chip, scenario="embedded", runs=[(held, mine)]).notes
    assert "Column operator of runs.csv is not used." in notes
    assert any(note.startswith("energy_j of runs.csv, line 2 is not used") for note in notes)


def test_a_measured_energy_gives_the_power_for_other_precisions():
    mine = counted("spikewfm-nano")
    found = estimate(
        mine, CARD, precision="int8", runs=[(run("spikewfm-nano", 1e-3, 7e-3), mine)], name="spikewfm-nano"
    )
    assert found.energy.total.kind == "estimated"
    # 7 W measured where the FP16 constant says 14.14: the INT8 constant is scaled by as much
    assert found.energy.total.nominal == pytest.approx(12.49 * 7 / 14.14 * found.latency.nominal)


def test_runs_that_disagree_leave_a_wider_interval():
    mine = counted("spikewfm-nano")
    one = estimate(mine, CARD, precision="int8", runs=[(run("a", 1e-3), mine)])
    two = estimate(mine, CARD, precision="int8", runs=[(run("a", 1e-3), mine), (run("b", 3e-3), mine)])
    assert width(two.latency) > 1.5 * width(one.latency)


def test_runs_of_another_power_mode_do_not_count():
    mine = counted("spikewfm-nano")
    found = estimate(
        mine, CARD, scenario="original_15w", runs=[(run("spikewfm-nano", 1e-3), mine)], name="spikewfm-nano"
    )
    assert found.latency == estimate(mine, CARD, scenario="original_15w").latency


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,target\n", "column precision is missing"),
        (HEADER, "holds no run"),
        (HEADER + "m,t,fp16,maxn_super,fast,\n", "line 2: latency_s is 'fast'"),
        (HEADER + "m,t,fp16,maxn_super,-1,\n", "positive number"),
        (HEADER + "m,t,fp16,,1e-3,\n", "line 2: scenario is empty"),
        (HEADER + "m,t,fp16,maxn_super,1e-3,nan\n", "energy_j"),
        (HEADER + "m,t\n", "is empty"),
        (HEADER + "m,t,fp16,maxn_super,1e-3,,9\n", "line 2: more fields"),
        (HEADER + "m,t,fp16,maxn_super,1e300,\n", "line 2: latency_s is '1e300'.* 1 ns to 1 h"),
        (HEADER + "m,t,fp16,maxn_super,1e-300,\n", "1 ns to 1 h"),
        (HEADER + "\nm,t,fp16,maxn_super,1e6,\n", "line 3: latency_s"),
        (HEADER + "m,t,fp16,maxn_super,1,1e7\n", "1 pJ to 1 MJ"),
    ],
)
def test_a_bad_file_of_runs_is_one_clear_error(text, message, tmp_path):
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_runs(tmp_path / "runs.csv")


def test_a_file_that_is_no_text_or_no_file_is_refused_in_plain_words(tmp_path):
    binary = tmp_path / "runs.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    for path, words in ((binary, "no text in UTF-8"), (tmp_path, "is a folder"), (tmp_path / "no.csv", "not exist")):
        with pytest.raises(InputError, match=words) as caught:
            read_runs(path)
        assert "Errno" not in str(caught.value)
        assert "codec" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path):
    (tmp_path / "runs.csv").write_text(HEADER + f"m,{CARD.id},fp16,maxn_super,1e-3,\n", encoding="utf-8-sig")
    assert read_runs(tmp_path / "runs.csv", [CARD])[0].latency_s == 1e-3


def test_a_scenario_that_the_card_does_not_know_is_refused_with_its_line(tmp_path):
    (tmp_path / "runs.csv").write_text(HEADER + f"m,{CARD.id},fp16,maxn_supper,1e-3,\n")
    with pytest.raises(UsageError, match=r"runs\.csv, line 2: scenario.*maxn_super"):
        read_runs(tmp_path / "runs.csv", [CARD])


def test_a_run_on_a_convention_is_refused(tmp_path):
    (tmp_path / "runs.csv").write_text(HEADER + "m,cmos45,fp32,arithmetic,1e-3,\n")
    with pytest.raises(InputError, match="line 2: cmos45 is no device"):
        read_runs(tmp_path / "runs.csv", [load_card("cmos45")])


def test_a_run_on_a_target_that_is_not_profiled_is_refused():
    model = load_model("spikewfm-nano")
    stray = Run("spikewfm-nano", "jetson-orin-nx", "fp16", "maxn", 1e-3, None, "runs.csv, line 2")
    with pytest.raises(UsageError, match="jetson-orin-nx"):
        profile(model, None, [CARD], [PATCHES], runs=[(stray, trace(model, [PATCHES]))])
