"""The report's main picture, drill-down, tables, CSV and schema, and that each number cites its source."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from synthetic_run import classification, detailed, dump, profile, quantity, scores, sweep, write_run

from spikeport_errors import InputError
from spikeport_profiles.report import Report, report
from spikeport_profiles.report.plots import _BASELINE_STYLES
from spikeport_profiles.report.schema import ReportFile, json_schema
from spikeport_profiles.table import COLUMNS

PUBLISHED = Path(__file__).parents[2] / "docs" / "schema" / "report-1.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("detail")
    run = write_run(folder / "nano")
    dump(run / "profile.json", detailed())
    dump(folder / "space" / "sweep.json", sweep())
    return report([run, folder / "space"], folder / "out")


@pytest.fixture(scope="module")
def document(made: Report) -> dict[str, Any]:
    return json.loads(made.json.read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def page(made: Report) -> str:
    return made.html.read_text()


def unknown_keys(part: BaseModel, place: str = "") -> Iterator[str]:
    yield from (f"{place}.{key}" for key in part.model_extra or ())
    for name, value in part:
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, BaseModel):
                yield from unknown_keys(item, f"{place}.{name}")


def test_the_published_schema_is_the_one_of_the_code() -> None:
    wanted = f"python -m spikeport_profiles.report.schema > {PUBLISHED.name}"
    assert json.loads(PUBLISHED.read_text()) == json_schema(), wanted


def test_what_is_written_fits_the_schema_and_has_no_key_beyond_it(document: dict[str, Any]) -> None:
    foreign = {"gaps", "notes", "impairments", "seeds"}  # of evaluation.json, which is checked as it is read
    found = {key for key in unknown_keys(ReportFile.model_validate(document)) if key.rsplit(".", 1)[1] not in foreign}
    assert found == set()


def test_the_main_picture_takes_the_artefacts_accuracy_and_else_the_float_models(document: dict[str, Any]) -> None:
    points = document["tradeoff"]["points"]
    assert [(p["model"], p["target_id"], p["nmse_of"]) for p in points] == [
        (name, target, "artefact" if (name, target) in {
            ("spikewfm-nano", "jetson-orin-nano"), ("spikewfm-nano", "loihi2")} else "float model")
        for target in ("jetson-orin-nano", "loihi2", "cmos45") for name in ("spikewfm-nano", "spikewfm-nano-qrelu")
    ]  # fmt: skip
    assert points[0]["nmse"] | {"source": 0} == {
        "low": -18.5, "nominal": -17.0, "high": -15.5, "unit": "dB", "kind": "simulated", "source": 0,
    }  # fmt: skip
    assert points[0]["slot"] == "over"
    text = " ".join(document["tradeoff"]["findings"])
    assert "deployed artefact, run as on the target, except for the float model's at 2, 4, 5, 6" in text
    assert "event energy alone, which is no total" in text


def test_the_front_compares_only_like_with_like(document: dict[str, Any]) -> None:
    points = document["tradeoff"]["points"]
    assert [p["number"] for p in points if p["front_energy"]] == [1, 2, 3, 4]  # totals apart from event energies
    assert [p["number"] for p in points if p["front_latency"]] == [1, 2]
    assert not any(p["front_energy"] for p in points if p["class"] == "convention")


@pytest.mark.parametrize(
    ("latency", "slot"),
    [(quantity(1e-4, 2, "s"), "within"), (quantity(6e-4, 2, "s"), "undecided"), (quantity(5e-3, 2, "s"), "over")],
)
def test_each_point_says_how_it_lies_to_the_slot(latency: dict[str, Any], slot: str, tmp_path: Path) -> None:
    data = profile()
    data["targets"] = [{**data["targets"][0], "latency": latency}]
    dump(tmp_path / "run" / "profile.json", data)
    made = report([tmp_path / "run"], tmp_path / "out")
    (point, _) = json.loads(made.json.read_text())["tradeoff"]["points"]
    assert (point["slot"], point["nmse"]) == (slot, None)
    assert "Not in the pictures, for want of a figure" in made.html.read_text()


def test_a_sweep_is_drawn_as_the_main_picture_is_and_says_what_was_refused(
    made: Report, page: str, document: dict[str, Any]
) -> None:
    (found,) = document["sweeps"]
    assert len(found["points"]) == 3
    assert [r["reason"] for r in found["refused"]] == ["jetson-orin-nano does not run int4"]
    assert [p["front_energy"] for p in found["points"]] == [True, True, False]
    assert "sweep0-energy-name" in page
    assert "sweep0-latency-name" in page
    assert "not retrained" in page
    assert "lif, T = 2, D = 1, fp16, jetson-orin-nano" in made.markdown.read_text()


def test_a_sweep_alone_makes_a_report(tmp_path: Path) -> None:
    dump(tmp_path / "space" / "sweep.json", sweep())
    made = report([tmp_path / "space"], tmp_path / "out")
    found = json.loads(made.json.read_text())
    assert (found["runs"], found["title"]) == ([], "spikewfm-nano: accuracy, sparsity and cost")
    assert "<h1>" in made.html.read_text()


def test_every_layer_has_raster_potentials_and_steps_with_a_text(page: str, document: dict[str, Any]) -> None:
    layers = document["runs"][0]["detail"]["layers"]
    assert len(layers) == 7
    for number, layer in enumerate(layers):
        for part in ("raster", "membrane", "steps"):
            assert f'id="run0-layer{number}-{part}-description"' in page
        assert layer["raster"]["text"] in page
        assert layer["membrane"]["text"] in page
    raster, membrane = layers[0]["raster"], layers[0]["membrane"]
    assert raster["share"] == pytest.approx(9 / 24)
    assert "1 of the neurons are silent, neuron 511 is busiest with 6 of 8" in raster["text"]
    assert membrane["share"] == pytest.approx((sum(range(120, 200, 10)) + 95) / (1900 + 100))
    assert "threshold 1" in page
    assert "The mean spike rate is 18 % at −10 dB SNR and 26 % at 30 dB." in str(document["runs"][0]["detail"])


def test_a_number_cites_an_entry_of_the_sources_and_says_its_kind_and_range(page: str) -> None:
    cited = re.findall(r'tabindex="0" aria-describedby="about-(\d+)" data-range="([^"]*)" title="([^"]*)"', page)
    assert len(cited) > 300
    listed = dict(re.findall(r'<li id="about-(\d+)"><span class="badge (\w+)">', page))
    assert {number for number, *_ in cited} == set(listed)
    for number, spread, title in cited:
        assert title.startswith(listed[number])
        assert f"source {number}: " in title
        assert spread in title
    assert any("low to high 3.76 to 16.6" in spread for _, spread, _ in cited)


def test_budget_rows_stand_with_their_verdict(made: Report, page: str) -> None:
    for text in (page.replace("\u00a0", " "), made.markdown.read_text().replace("\\", "")):
        assert "loihi2: latency is not known, so it cannot be held to 2 ms" in text
        assert "FAIL" in text
    assert "1 of 2 figures within budget" in made.json.read_text()


def test_the_csv_has_the_columns_of_the_profiles_and_a_row_a_figure(made: Report) -> None:
    rows = list(csv.DictReader(made.csv.read_text().splitlines()))
    assert tuple(rows[0]) == ("run", *COLUMNS)
    assert {row["section"] for row in rows} == {
        "evaluation", "trace", "twin-trace", "target", "twin", "accuracy", "budget", "sweep",
    }  # fmt: skip
    assert all(row["unit"] for row in rows)
    assert all(row["kind"] and row["source"] for row in rows if row["value"] and row["figure"][:5] != "break")
    latency = next(r for r in rows if (r["section"], r["name"], r["figure"]) == ("target", "loihi2", "latency"))
    assert latency["value"] == ""
    (nmse,) = (r for r in rows if r["section"] == "sweep" and "T = 4" in r["scenario"] and r["figure"] == "nmse")
    assert (nmse["value"], nmse["low"], nmse["high"]) == ("-15.0", "-16.0", "-14.0")


@pytest.mark.parametrize(
    ("data", "seen"),
    [(scores(), ("positioning", "12.5", "9.00 to 20.2", "Error in the plane.")), (classification(), ("91.0 %", "64"))],
)
def test_a_task_without_curves_is_a_table(data: dict[str, Any], seen: tuple[str, ...], tmp_path: Path) -> None:
    dump(tmp_path / "run" / "evaluation.json", data)
    made = report([tmp_path / "run"], tmp_path / "out")
    ReportFile.model_validate(json.loads(made.json.read_text()))
    page, markdown = made.html.read_text(), made.markdown.read_text().replace("\\", "")
    for text in seen:
        assert text in page.replace("\u00a0", " ")
        assert text in markdown
    assert {row["section"] for row in csv.DictReader(made.csv.read_text().splitlines())} == {"task"}


@pytest.mark.parametrize("key", ["scores", "metrics", "places"])
def test_a_broken_task_table_is_named(key: str, tmp_path: Path) -> None:
    dump(tmp_path / "run" / "evaluation.json", {k: v for k, v in scores().items() if k != key})
    with pytest.raises(InputError, match=f"evaluation.json: {key}"):
        report([tmp_path / "run"], tmp_path / "out")


def test_no_two_of_forty_baselines_look_alike() -> None:
    looks = [(n % 6, _BASELINE_STYLES[n % len(_BASELINE_STYLES)]) for n in range(42)]
    assert len({(colour, marker) for colour, (_, marker) in looks}) == 42


def test_a_measurement_stands_as_measured_beside_the_estimate_it_replaces(tmp_path: Path) -> None:
    run, data = tmp_path / "run", profile()
    data["model"]["sha256"] = "0" * 64
    data["targets"][0]["scenario"] = "15w"
    took = {"runs": 500, "least": 6e-4, "p10": 6.5e-4, "median": 7e-4, "p90": 7.5e-4, "p99": 9e-4}
    dump(run / "profile.json", data)
    dump(run / "jetson.measured.json", {
        "schema": "spikeport.measured/1", "kind": "measured", "created": "2026-01-05T10:00:00+00:00",
        "model": {"name": "spikewfm-nano", "sha256": "0" * 64}, "target": {"id": "jetson-orin-nano"},
        "precision": "fp16", "kind_of_arithmetic": "fp16", "tensorrt": "10.3.0", "verification": {"ok": True},
        "device": {"model": "Jetson Orin Nano", "power_mode": {"id": 0, "name": "15W"}}, "cuda_graph": True,
        "timing": [{"batch": 1, "graph": True, "latency_s": took}], "latency_s": 7e-4, "energy_j": 5e-3,
        "power": [{"batch": 1, "boundary": "VDD_IN: module rails, not the wall", "energy_j": 5e-3}], "warnings": [],
    })  # fmt: skip
    made = report([run], tmp_path / "out")
    document = json.loads(made.json.read_text())
    latency, energy = document["runs"][0]["measured"]
    assert (latency["measured"]["nominal"], latency["measured"]["kind"]) == (7e-4, "measured")
    assert (latency["estimate"]["nominal"], latency["estimate"]["kind"], latency["inside"]) == (
        1.02e-3,
        "estimated",
        True,
    )
    assert latency["ratio"] == pytest.approx(7e-4 / 1.02e-3)
    assert (energy["measured"]["nominal"], energy["inside"]) == (5e-3, True)
    point = document["tradeoff"]["points"][0]
    assert (point["latency"]["kind"], point["energy"]["kind"]) == ("measured", "measured")
    assert "Estimate it replaces" in made.html.read_text()
    assert "A measurement on any device" not in str(document["limits"])
    assert {r["section"] for r in csv.DictReader(made.csv.read_text().splitlines())} >= {"measured", "target"}
    ReportFile.model_validate(document)
