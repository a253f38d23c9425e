"""A sweep keeps every point, goes on where it was killed, and marks what no point beats."""

from __future__ import annotations

import csv
import json

import pytest
from tiny_model import tiny

from spikeport.cli.app import run
from spikeport_errors import UnsupportedError, UsageError
from spikeport_profiles import sweep as sweeping
from spikeport_profiles.pareto import fronts
from spikeport_profiles.sweep import sweep
from spikeport_profiles.sweep_axes import Setting, parse_axes, settings_of, sibling, variant
from spikeport_toolkit.models.checkpoint import save_checkpoint
from spikeport_toolkit.models.presets import preset

FEW = {"samples": 2, "snrs_db": (20.0,), "links": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    save_checkpoint(tiny("lif", steps=4), folder)
    return str(folder)


def test_axes_are_names_and_values():
    assert parse_axes("neuron=lif, ilif; steps=2,4;target=loihi2;") == {
        "neuron": ("lif", "ilif"), "steps": ("2", "4"), "target": ("loihi2",),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [("step=2", "did you mean 'steps'"), ("steps", "values with commas"), ("steps=2;steps=4", "once"),
     ("steps=,2", "values with commas"), (" ; ", "empty")],
)  # fmt: skip
def test_a_broken_design_space_is_refused(text, says):
    with pytest.raises(UsageError, match=says):
        parse_axes(text)


@pytest.mark.parametrize(("axis", "values"), [("steps", ("0",)), ("steps", ("2.5",)), ("neuron", ("liff",))])
def test_values_out_of_range_are_refused(axis, values):
    axes = {axis: values, "precision": ("fp32",), "target": ("loihi2",)}
    with pytest.raises(UsageError):
        settings_of(axes, "spikewfm-nano", preset("spikewfm-nano").config)


def test_binary_neurons_have_no_levels_and_twins_no_steps():
    axes = {"neuron": ("lif", "ilif", "qrelu"), "steps": ("1", "2"), "levels": ("2", "4"), "precision": ("fp32",),
            "target": ("cmos45",)}  # fmt: skip
    found = [(s.neuron, s.steps, s.levels) for s in settings_of(axes, "spikewfm-nano", preset("spikewfm-nano").config)]
    assert found == [
        ("lif", 1, 1), ("lif", 2, 1), ("ilif", 1, 2), ("ilif", 1, 4), ("ilif", 2, 2), ("ilif", 2, 4),
        ("qrelu", 1, 2), ("qrelu", 1, 4),
    ]  # fmt: skip


def test_a_variant_says_whose_weights_it_has_and_that_it_was_not_retrained(model):
    shipped = variant("spikewfm-nano", Setting("ilif", 1, 4, "fp32", "cmos45"))
    assert (shipped.weights, shipped.retrained, shipped.note) == ("spikewfm-nano-ilif", True, "")
    changed = variant("spikewfm-nano", Setting("lif", 2, 1, "fp32", "cmos45"))
    assert not changed.retrained
    assert "not retrained: T=4, D=1 to T=2, D=1 on the weights of spikewfm-nano" in changed.note
    own = variant(model, Setting("ilif", 1, 4, "fp32", "cmos45"))
    assert "neuron lif to ilif" in own.note
    assert sibling("spikewfm-nano-ilif", "lif") == "spikewfm-nano"
    assert sibling("spikewfm-80m", "ilif") == "spikewfm-80m-ilif"


def test_a_killed_sweep_goes_on_with_the_points_that_are_missing(model, tmp_path, monkeypatch):
    text = "steps=2,4;target=cmos45,jetson-orin-nano;precision=fp32"
    kept, ran = sweeping.run_point, []

    def counted(setting, *rest):
        ran.append(setting.id)
        if len(ran) == 4:
            raise KeyboardInterrupt
        kept(setting, *rest)

    monkeypatch.setattr(sweeping, "run_point", counted)
    with pytest.raises(KeyboardInterrupt):
        sweep(model, text, tmp_path, jobs=1, **FEW)
    assert not (tmp_path / "sweep.json").exists()
    found = sweep(model, text, tmp_path, jobs=1, **FEW)
    assert len(ran) == 5
    assert ran[4] == ran[3]
    assert [p["status"] for p in found.points] == ["done"] * 4
    assert sweep(model, text, tmp_path, jobs=1, **FEW) == found
    assert len(ran) == 5
    convention, jetson = found.points[0], found.points[1]
    assert (convention["nmse_of"], jetson["nmse_of"]) == ("float model", "artefact")
    assert (convention["energy_part"], jetson["energy_part"], convention["latency"]) == ("total", "total", None)
    assert "not retrained" in convention["note"]
    assert any(p["front_energy"] for p in found.points)
    rows = list(csv.DictReader((tmp_path / "sweep.csv").read_text().splitlines()))
    assert float(rows[1]["latency_s"]) == jetson["latency"]["nominal"]
    assert json.loads((tmp_path / "sweep.json").read_text())["schema"] == "spikeport.sweep/1"
    assert "not retrained" in found.summary()
    sweep(model, "steps=2;target=cmos45;precision=fp32", tmp_path, jobs=1, **(FEW | {"seed": 1}))
    assert ran[5:] == ["lif-T2-D1-fp32-cmos45"], "another seed is another point"


@pytest.mark.parametrize(
    "damage",
    [{"nmse_db": "x"}, {"energy": {"unit": "J"}}, {"energy_part": None}, {"curves": 3}, {"id": "another"},
     {"weights": None}, {"spike_rate": [0.1]}],
)  # fmt: skip
def test_a_damaged_point_is_made_again(damage, model, tmp_path):
    text = "precision=fp32;target=cmos45"
    found = sweep(model, text, tmp_path, jobs=1, **FEW)
    (file,) = (tmp_path / "points").iterdir()
    whole = file.read_text()
    file.write_text(json.dumps(json.loads(whole) | damage))
    assert sweep(model, text, tmp_path, jobs=1, **FEW) == found
    assert file.read_text() == whole


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--links", "0"], "--links is 0"),
        (["--links", "1000000"], "lower --links"),
        (["--snr", "up"], "--snr 'up'"),
        (["--jobs", "0"], "--jobs is 0"),
        (["--precision", "fp61"], "unknown precision 'fp61'"),
        (["--precision", "int8", "--samples", "1"], "at least 2 samples"),
        (["--sweep", "levels=0"], "1 to 127"),
        (["--sweep", "levels=2"], "no neuron of the sweep has levels"),
        (["--sweep", "target=cmos45"], "--target jetson-orin-nano and target="),
        (["--host", "jetson-orin-nano"], "event-driven chip"),
        (["--max-latency", "1ms", "--max-nmse", "-10dB"], "takes no --max-latency, --max-nmse"),
        (["--gate", "p90"], "takes no --gate"),
        (["--keys", "neurobench"], "takes no --keys"),
        (["--calibrate", "x.csv", "--measured", "y.json"], "takes no --calibrate, --measured"),
        (["--scenario", "embedded", "--rates-snr", "0", "--detail"], "takes no --scenario, --rates-snr, --detail"),
        (["--accuracy", "--bundles", "b"], "takes no --accuracy, --bundles"),
    ],
)
def test_what_no_point_could_take_is_refused_before_the_first(options, says, model, tmp_path, capsys):
    line = ["profile", model, "--target", "jetson-orin-nano", "--out", str(tmp_path / "s")]
    assert run([*line, *([] if "--sweep" in options else ["--sweep", "steps=2"]), *options]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert not (tmp_path / "s").exists()


def test_a_sweep_without_a_point_that_succeeded_is_no_success(model, tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise UnsupportedError("the weights do not fit")

    monkeypatch.setattr(sweeping, "variant", refuse)
    line = ["profile", model, "--sweep", "steps=2", "--target", "cmos45", "--out", str(tmp_path), "--jobs", "1"]
    assert run(line) == 1
    assert "no point of the sweep succeeded" in capsys.readouterr().err


def test_points_run_in_processes_and_a_refused_one_keeps_its_reason(model, tmp_path, capsys):
    line = ["profile", model, "--sweep", "precision=int8,fp16;target=loihi1,cmos45", "--json"]
    line += ["--out", str(tmp_path / "s")]
    assert run([*line, "--samples", "1", "--links", "1", "--snr", "20", "--jobs", "2"]) == 0
    (eight, _, sixteen, _) = json.loads(capsys.readouterr().out)["points"]
    assert (eight["status"], sixteen["status"]) == ("done", "refused")
    assert "loihi1 does not run fp16" in sixteen["reason"]
    assert eight["energy_part"] == "event"


def test_the_front_is_what_nothing_beats():
    def point(nmse, joules, seconds, part="total"):
        cost = {"nominal": joules} if joules is not None else None
        return {"nmse_db": nmse, "energy": cost, "energy_part": part, "latency": {"nominal": seconds}}

    marked = fronts([point(-10, 1, 5), point(-12, 2, 1), point(-9, 3, 6), point(None, 1, 1), point(-1, 9, 9, "event")])
    assert not fronts([point(-10, 1, None)])[0]["front_latency"], "a latency that nobody published"
    assert [p["front_energy"] for p in marked] == [True, True, False, False, True]
    assert [p["front_latency"] for p in marked] == [False, True, False, False, False]


def test_a_sweep_needs_a_folder_and_a_target(capsys):
    assert run(["profile", "spikewfm-nano", "--sweep", "steps=2"]) == 2
    assert "--out" in capsys.readouterr().err
    assert run(["profile", "spikewfm-nano", "--sweep", "steps=2", "--out", "x"]) == 2
    assert "--target" in capsys.readouterr().err
