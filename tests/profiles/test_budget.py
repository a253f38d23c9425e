"""Budgets have units, name what broke them, and nothing that is unknown passes."""

from __future__ import annotations

import numpy as np
import pytest

from spikeport.cli.app import run
from spikeport_errors import UsageError
from spikeport_profiles.accuracy import Accuracy
from spikeport_profiles.budget import Budget, check_budget, parse_budget
from spikeport_profiles.profile import profile
from spikeport_targets.card import load_card
from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.tasks.evaluation import Curve

PATCHES = np.random.default_rng(0).standard_normal((2, 64, 336)).astype(np.float32)


@pytest.fixture(scope="module")
def found():
    cards = [load_card(name) for name in ("jetson-orin-nano", "loihi2", "cmos45")]
    return profile(load_model("spikewfm-nano"), None, cards, [PATCHES])


@pytest.mark.parametrize(
    ("text", "seconds"), [("2ms", 2e-3), ("500us", 5e-4), ("500 µs", 5e-4), (".5s", 0.5), ("1e3ns", 1e-6)]
)
def test_a_limit_is_a_number_with_its_unit(text, seconds):
    assert parse_budget(latency=text).latency_s == pytest.approx(seconds)


def test_energy_and_nmse_have_units_too():
    budget = parse_budget(energy="5mJ", nmse="-10dB", gate="p90")
    assert (budget.energy_j, budget.nmse_db, budget.gate) == (pytest.approx(5e-3), -10.0, "p90")
    assert not parse_budget()


@pytest.mark.parametrize(
    "limits",
    [{"latency": "2"}, {"latency": "2mJ"}, {"latency": "-2ms"}, {"energy": "nanJ"}, {"nmse": "-10"}, {"nmse": "1mdB"},
     {"latency": "0s"}, {"latency": ""}],
)  # fmt: skip
def test_a_limit_without_its_unit_or_out_of_range_is_refused(limits):
    with pytest.raises(UsageError, match=r"--max-"):
        parse_budget(**limits)
    with pytest.raises(UsageError, match="did you mean 'nominal'"):
        parse_budget(gate="nominl")


def test_the_gate_says_which_value_of_the_interval_counts(found):
    latency = found.targets[0].latency
    assert latency.low < latency.nominal < latency.high
    for gate, value in (("p10", latency.low), ("nominal", latency.nominal), ("p90", latency.high)):
        assert check_budget(found.targets[:1], Budget(latency_s=value, gate=gate))
        assert not check_budget(found.targets[:1], Budget(latency_s=value * 0.99, gate=gate))


def test_a_breach_names_target_value_kind_and_limit(found):
    (row,) = check_budget(found.targets[:1], parse_budget(latency="1us")).rows
    assert not row.ok
    assert (row.target, row.figure, row.kind, row.limit) == ("jetson-orin-nano", "latency", "estimated", 1e-6)
    assert "jetson-orin-nano (fp16): latency" in row.message
    assert "exceeds 1 µs" in row.message


def test_what_is_not_known_does_not_pass(found):
    report = check_budget(found.targets, parse_budget("1000s", "1000J", "100dB"))
    failed = {(row.target, row.figure): row.message for row in report.rows if not row.ok}
    assert set(failed) == {
        ("loihi2", "energy"), ("cmos45", "latency"),
        ("jetson-orin-nano", "nmse"), ("loihi2", "nmse"), ("cmos45", "nmse"),
    }  # fmt: skip
    assert "--host" in failed["loihi2", "energy"]
    assert "no device" in failed["cmos45", "latency"]
    assert "--accuracy" in failed["jetson-orin-nano", "nmse"]
    assert all(row.value is None for row in report.rows if not row.ok)


def test_nmse_is_the_mean_of_the_artefacts_points(found):
    curve = Curve("a", "deployed", "R1", "unseen", (0.0, 10.0), (-8.0, -14.0), (-8.5, -14.5), (-7.5, -13.5))
    target = found.targets[0].__class__(**{**vars(found.targets[0]), "accuracy": Accuracy("x", "fp16", (curve,))})
    assert check_budget([target], Budget(nmse_db=-11.0))
    (row,) = check_budget([target], Budget(nmse_db=-11.1)).rows
    assert (row.ok, row.value, row.kind) == (False, -11.0, "simulated")


def test_the_command_exits_with_1_and_says_why(capsys):
    base = ["profile", "spikewfm-nano", "--target", "jetson-orin-nano", "--samples", "1"]
    assert run([*base, "--max-latency", "10ms"]) == 0
    assert run([*base, "--max-latency", "1us"]) == 1
    assert "FAIL budget  jetson-orin-nano" in capsys.readouterr().out
    assert run([*base, "--max-latency", "1"]) == 2
    assert "2ms" in capsys.readouterr().err


@pytest.mark.parametrize("form", [["--keys", "spikingjelly"], ["--keys", "neurobench", "--json"], ["--json"], ["-q"]])
def test_a_breach_is_said_in_every_form_of_output(form, capsys):
    line = ["profile", "spikewfm-nano", "--target", "jetson-orin-nano", "--samples", "1", "--max-latency", "1us"]
    assert run([*line, *form]) == 1
    assert "FAIL budget  jetson-orin-nano" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--bundles", "b"], "--bundles does nothing without --accuracy"),
        (["--links", "5", "--snr", "-10"], "--snr, --links does nothing without --accuracy"),
        (["--max-nmse", "-10dB"], "--max-nmse does nothing without --accuracy"),
        (["--jobs", "2"], "--jobs does nothing without --sweep"),
        (["--gate", "p90"], "--gate does nothing without a budget"),
        (["--gate", "p91"], "did you mean 'p90'"),
        (["--accuracy", "--links", "0"], "--links is 0"),
        (["--accuracy", "--snr", "x"], "--snr 'x'"),
        (["--max-latency", "-2ms"], "out of range"),
        (["--max-energy", "-2mJ"], "out of range"),
    ],
)
def test_an_option_without_its_partner_is_refused(options, says, capsys):
    assert run(["profile", "spikewfm-nano", "--target", "cmos45", *options]) == 2
    assert says in capsys.readouterr().err


def test_a_value_and_a_limit_that_differ_are_printed_apart(found):
    latency = found.targets[0].latency.nominal
    (row,) = check_budget(found.targets[:1], Budget(latency_s=latency * (1 - 1e-6))).rows
    shown, limit = row.message.removeprefix("jetson-orin-nano (fp16): latency ").split(" (estimated, nominal) exceeds ")
    assert shown != limit
    curve = Curve("a", "deployed", "R1", "unseen", (0.0,), (-9.9996,), (-10.5,), (-9.5,))
    target = found.targets[0].__class__(**{**vars(found.targets[0]), "accuracy": Accuracy("x", "fp16", (curve,))})
    (row,) = check_budget([target], Budget(nmse_db=-10.0)).rows
    assert "-9.9996 dB" in row.message
    assert "exceeds -10.0000 dB" in row.message


def test_whole_numbers_are_not_rounded(capsys):
    assert run(["profile", "spikewfm-nano", "--target", "cmos45", "--samples", "1.5"]) == 2
    assert "--samples is '1.5'; give a whole number" in capsys.readouterr().err
