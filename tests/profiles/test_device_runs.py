"""measured.json stands over the estimates of the same model, and of nobody else's."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import tiny

from spikeport_errors import InputError, UsageError
from spikeport_profiles.calibrate import TRANSFER
from spikeport_profiles.device_runs import merged, read_measured, runs_of
from spikeport_profiles.profile import profile
from spikeport_profiles.trace import trace
from spikeport_targets.card import load_card
from spikeport_toolkit.models.identity import model_sha256

CARD = load_card("jetson-orin-nano")
MODEL, TWIN = tiny("lif", steps=4), tiny("qrelu", levels=4)
PATCHES = np.random.default_rng(0).standard_normal((2, MODEL.config.grid.tokens, 336)).astype(np.float32)
RECORD = {
    "schema": "spikeport.measured/1",
    "kind": "measured",
    "model": {"name": "mine", "sha256": model_sha256(MODEL)},
    "target": {"id": "jetson-orin-nano", "card_sha256": "0"},
    "precision": "int8-fp16",
    "kind_of_arithmetic": "int8",
    "device": {"model": "NVIDIA Jetson Orin Nano", "power_mode": {"id": 2, "name": "MAXN_SUPER"}},
    "tensorrt": "10.3.0",
    "verification": {"ok": True},
    "timing": [{"batch": 1, "graph": True, "latency_s": {"runs": 9, "p10": 2e-4, "median": 3e-4, "p90": 5e-4}}],
    "cuda_graph": True,
    "power": [{"batch": 1, "energy_j": 2e-3, "boundary": "VDD_IN: module rails, not the wall"}, None],
}


def changed(*path, value=None, drop=False):
    record = copy.deepcopy(RECORD)
    place = record
    for key in path[:-1]:
        place = place[key]
    if drop:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return record


@pytest.fixture
def write(tmp_path):
    def _write(record, name="bundle.measured.json"):
        path = tmp_path / name
        path.write_text(record if isinstance(record, str) else json.dumps(record))
        return path

    return _write


def profiled(runs, precision="int8"):
    counts = trace(MODEL, [PATCHES])
    return profile(
        MODEL,
        TWIN,
        [CARD],
        [PATCHES],
        name="mine",
        twin_name="twin",
        precision=precision,
        runs=[(r, counts) for r in runs],
    )


def test_a_run_of_these_weights_is_reported_as_measured_with_its_interval_mode_and_rails(write):
    (run,) = runs_of([write(RECORD)], "mine", MODEL, lambda name: MODEL)
    (target,) = profiled([run]).targets
    assert (target.latency.kind, target.latency.low, target.latency.nominal, target.latency.high) == (
        "measured", 2e-4, 3e-4, 5e-4,
    )  # fmt: skip
    assert (target.energy.total.kind, target.energy.total.nominal) == ("measured", 2e-3)
    said = target.latency.source[0]
    for word in ("bundle.measured.json", "int8-fp16", "MAXN_SUPER", "VDD_IN", "TensorRT 10.3.0", "CUDA graph"):
        assert word in said
    assert target.boundary == "VDD_IN: module rails, not the wall"


def test_it_recalibrates_the_twin_and_other_precisions(write):
    (run,) = runs_of([write(RECORD)], "mine", MODEL, lambda name: MODEL)
    before, after = profiled([]).targets[0], profiled([run]).targets[0]
    factor = 3e-4 / before.latency.nominal
    assert after.twin.latency.nominal == pytest.approx(before.twin.latency.nominal * factor, rel=0.05)
    assert after.twin.latency.kind == "estimated"
    half = profiled([run], "fp16").targets[0]
    assert half.latency.kind == "estimated"
    assert half.latency.high / half.latency.low < 1.9


def test_the_fastest_of_several_engines_of_one_arithmetic_counts(write):
    slow = changed("timing", 0, "latency_s", value={"runs": 9, "p10": 1e-3, "median": 2e-3, "p90": 3e-3})
    files = [write(slow, "a.measured.json"), write(RECORD, "b.measured.json")]
    runs = runs_of(files, "mine", MODEL, lambda name: MODEL)
    assert profiled(runs).targets[0].latency.nominal == 3e-4


def test_another_power_mode_is_named_and_not_merged(write):
    (run,) = runs_of([write(changed("device", "power_mode", "name", value="25W"))], "mine", MODEL, lambda name: MODEL)
    (target,) = profiled([run]).targets
    assert target.latency.kind == "estimated"
    assert any("Not merged" in note and "25W" in note for note in target.notes)


def test_other_weights_of_the_model_are_refused(write):
    with pytest.raises(InputError, match="another model called mine"):
        runs_of([write(RECORD)], "mine", TWIN, lambda name: TWIN)


def test_a_model_that_cannot_be_traced_here_is_refused(write):
    def load(name):
        raise UsageError(f"unknown model {name!r}")

    with pytest.raises(InputError, match="is of mine, which is not yours and cannot be traced here"):
        runs_of([write(RECORD)], "yours", TWIN, load)


def test_a_run_of_another_known_model_calibrates(write):
    (run,) = runs_of([write(RECORD)], "yours", TWIN, lambda name: MODEL)
    assert run.model == "mine"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (changed("schema", value="spikeport.measured/9"), "schema"),
        (changed("kind", value="estimated"), "kind"),
        (changed("model", "sha256", value="x"), r"model\.sha256"),
        (changed("model", "sha256", value=None), r"model\.sha256"),
        (changed("timing", value=[]), "timing"),
        (changed("timing", 0, "batch", value=8), "no row of batch 1"),
        (changed("timing", 0, "latency_s", "median", value=-1), "median"),
        (changed("timing", 0, "latency_s", "median", value=1.0), "p10 <= median <= p90"),
        (changed("power", 0, "energy_j", value=0), "energy_j"),
        (changed("verification", "ok", value=False), "differed from the golden ones"),
        (changed("device", drop=True), "device"),
        (changed("target", "id", value="jetson-orin-nan"), "did you mean"),
        (json.dumps(RECORD).replace("0.0003", "NaN"), "median"),
        (json.dumps(RECORD).replace("0.0003", "1e999"), "median"),
        ("", "JSON"),
        ("[" * 100_000, "JSON"),
        ("[]", "top level"),
        (" " * (1 << 20) + "{}", "larger than"),
    ],
)
def test_a_hostile_record_is_one_clear_message(write, record, message):
    with pytest.raises((InputError, UsageError), match=message) as caught:
        read_measured(write(record))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_measured(tmp_path / "absent.json")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_json_makes_anything_but_an_input_error(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "hostile.measured.json"
    path.write_text(json.dumps(value))
    with pytest.raises(InputError):
        read_measured(path)


def test_a_report_puts_what_was_measured_over_what_was_estimated(write):
    before = profiled([]).to_dict()
    run = read_measured(write(RECORD))
    after = merged(before, [run])
    mine, was = after["targets"][0], before["targets"][0]
    assert (mine["latency"]["kind"], mine["latency"]["nominal"]) == ("measured", 3e-4)
    assert mine["energy"]["total"]["nominal"] == 2e-3
    twin = mine["twin"]["latency"]
    assert twin["nominal"] == pytest.approx(was["twin"]["latency"]["nominal"] * 3e-4 / was["latency"]["nominal"])
    assert (twin["kind"], twin["high"] / twin["low"]) == ("estimated", pytest.approx(TRANSFER**2))
    assert before["targets"][0]["latency"]["kind"] == "estimated", "the profile was changed in place"
