"""The report shows what its JSON holds, fetches nothing, trusts no input, and leaves no zero for an unknown."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import dump, evaluation, manifest, profile, quantity, write_run

from spikeport_errors import InputError
from spikeport_profiles.report import Report, report, summary_figure
from spikeport_profiles.report.numbers import (
    count_text,
    decibel_text,
    nominal_text,
    percent_text,
    quantity_text,
    value_text,
)

EVIL = "<script>alert(1)</script>\"'|`$x_2$&amp;"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("report")
    return report([write_run(folder / "nano")], folder / "out")


@pytest.fixture(scope="module")
def document(made: Report) -> dict[str, Any]:
    return json.loads(made.json.read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def page(made: Report) -> str:
    return made.html.read_text()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("two")
    runs = [write_run(folder / "nano"), write_run(folder / "ilif", "spikewfm-nano-ilif", -0.5)]
    return report(runs, folder / "out", title="LIF beside I-LIF")


def words(page: str) -> str:
    """The text a reader sees, on one line."""
    text = html.unescape(re.sub(r"<[^>]+>", " ", page.split("</style>", 1)[1]))
    return re.sub(r"\s+([,.;:)])", r"\1", " ".join(text.split())).replace("( ", "(")


class Outline(HTMLParser):
    """Tags with their attributes, and those left open."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def all_numbers(node: Any) -> list[dict[str, Any]]:
    """Every quantity in a JSON tree."""
    if isinstance(node, dict):
        own = [node] if {"nominal", "unit", "kind", "source"} <= node.keys() else []
        return own + [q for value in node.values() for q in all_numbers(value)]
    return [q for value in node for q in all_numbers(value)] if isinstance(node, list) else []


def test_the_json_names_its_schema_and_every_number_carries_unit_kind_and_source(document: dict[str, Any]) -> None:
    assert document["schema"] == "spikeport.report/1"
    numbers = all_numbers(document["runs"])
    assert numbers
    for number in numbers:
        assert number["kind"] in {"measured", "simulated", "estimated"}
        assert number["unit"]
        assert all(number["source"])


def test_the_page_loads_nothing_and_runs_no_script_but_its_own(page: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert page.count("<script") == 1
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'" in page
    assert "@import" not in page
    for tag, attributes in Outline(page).tags:
        for name in ("src", "href", "xlink:href", "data", "action", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
        assert not [name for name in attributes if name.startswith("on")]
    assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", page))


def test_the_page_is_well_formed_with_unique_ids_and_headings_that_skip_no_level(two: Report) -> None:
    outline = Outline(two.html.read_text())
    assert outline.open == []
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for _, attributes in outline.tags:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(name) or "").split()) <= set(ids)


def test_every_plot_has_a_name_and_a_description_and_every_table_a_caption_and_scopes(page: str) -> None:
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(plots) == 2 + 4 + 1 + 2
    assert all('role="img"' in p and re.search(r"<title[^>]*>[^<]+</title><desc[^>]*>[^<]+</desc>", p) for p in plots)
    tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
    assert all(t.count("<caption>") == 1 and 'scope="col"' in t and 'scope="row"' in t for t in tables)


def test_plots_take_their_colours_and_fonts_from_the_page(page: str) -> None:
    for plot in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert "var(--model)" in plot
        assert not re.findall(r"(?:fill|stroke): #\w+", plot)
        assert "DejaVu" not in plot
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_html_and_markdown_print_the_numbers_of_the_json(made: Report, page: str, document: dict[str, Any]) -> None:
    seen, markdown = words(page), made.markdown.read_text()
    for target in document["runs"][0]["cost"]["targets"]:
        for bill in (target, target["twin"]):
            for number in (*bill["energy"].values(), bill["latency"]):
                if number:
                    text = quantity_text(number)
                    assert text.replace("\u00a0", " ") in seen
                    assert text in markdown
    for panel in document["runs"][0]["accuracy"]["panels"]:
        for curve in panel["curves"]:
            for value, low, high in zip(curve["nmse_db"], curve["low_db"], curve["high_db"], strict=True):
                texts = [decibel_text(v) for v in (value, low, high)]
                assert "{} {} to {}".format(*texts) in seen
                assert "{} ({} to {})".format(*texts) in markdown
    for row in document["runs"][0]["layers"]["by_kind"]:
        assert count_text(row["macs_algebraic"]) in seen
        assert count_text(row["macs_algebraic"]) in markdown


def test_every_sentence_of_the_json_stands_in_html_and_markdown(
    made: Report, page: str, document: dict[str, Any]
) -> None:
    plain = re.sub(r"\\(.)", r"\1", made.markdown.read_text())
    points = [s for block in document["headline"] for point in block["points"] for s in point["sentences"]]
    findings = [s for panel in document["runs"][0]["accuracy"]["panels"] for s in panel["findings"]]
    seen, plain = words(page), html.unescape(plain)
    for sentence in (*points, *findings, *document["limits"]):
        assert sentence in seen
        assert sentence in plain


def test_markdown_tables_have_as_many_cells_in_every_row(two: Report) -> None:
    blocks = re.findall(r"(?:^\|.*\|\n)+", two.markdown.read_text(), re.MULTILINE)
    assert len(blocks) > 10
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_where_wiener_is_ahead_of_the_network_the_report_says_so_first(document: dict[str, Any]) -> None:
    r1, _, r2, _ = document["runs"][0]["accuracy"]["panels"]
    assert (
        "Robust Wiener, a fixed filter that is told the SNR, has a lower mean NMSE than spikewfm-nano at every SNR"
        in str(r1)
    )
    assert "a lower mean NMSE than spikewfm-nano at 20 to 30 dB SNR, by 0.7 to 4.7 dB" in str(r2["findings"])
    accuracy = next(p for p in document["headline"][0]["points"] if p["topic"] == "Accuracy")
    wanted = "a lower mean NMSE than the network in R1 in-domain at every SNR, by 2.0 to 22.0 dB"
    assert any(wanted in sentence for sentence in accuracy["sentences"])
    assert "beats" not in json.dumps(document)  # no paired interval is stored, so no win is claimed


def test_a_win_within_the_intervals_is_called_one(tmp_path: Path) -> None:
    data = evaluation()
    for curve in data["curves"]:
        curve["low_db"], curve["high_db"] = ([v + d for v in curve["nmse_db"]] for d in (-1.0, 1.0))
    dump(tmp_path / "run" / "evaluation.json", data)
    made = report([tmp_path / "run"], tmp_path / "out")
    assert "by 0.7 dB (95 % intervals overlap at 9 of 9 points)" in made.json.read_text()


def test_what_nobody_published_is_said_and_never_zero(page: str, document: dict[str, Any]) -> None:
    loihi = document["runs"][0]["cost"]["targets"][1]
    assert loihi["latency"]["nominal"] is None
    card = page[page.index('<h4 id="run0-target1"') : page.index('<h4 id="run0-target2"')]
    assert "not published" in card
    assert not re.search(r">\s*0 [a-zµ]?[Js]\b", card)
    assert any("t_mgmt" in limit for limit in document["limits"])


def test_event_energy_never_stands_alone(document: dict[str, Any]) -> None:
    loihi = document["runs"][0]["cost"]["targets"][1]
    assert [row["part"] for row in loihi["shown"]] == ["event", "system"]


def test_estimates_say_what_they_do_not_show(document: dict[str, Any]) -> None:
    limits = " ".join(document["limits"])
    for claim in ("A measurement on any device", "composed, unvalidated", "different boundaries", "training seeds"):
        assert claim in limits


@pytest.mark.parametrize(
    ("latency", "says"),
    [(quantity(1e-4, 2, "s"), "Fits in"), (quantity(5e-3, 2, "s"), "Longer"), (quantity(6e-4, 2, "s"), "straddles")],
)
def test_latency_is_held_against_the_slot(latency: dict[str, Any], says: str, tmp_path: Path) -> None:
    data = profile()
    data["targets"][0]["latency"] = latency
    dump(tmp_path / "run" / "profile.json", data)
    made = report([tmp_path / "run"], tmp_path / "out")
    assert says in json.loads(made.json.read_text())["runs"][0]["cost"]["targets"][0]["slot"]


def test_untrained_weights_and_failed_parity_are_told(tmp_path: Path) -> None:
    data = profile()
    data["model"]["trained"] = False
    dump(tmp_path / "run" / "profile.json", data)
    dump(tmp_path / "run" / "jetson" / "manifest.json", manifest(ok=False))
    made = report([tmp_path / "run"], tmp_path / "out")
    assert "UNTRAINED" in made.html.read_text()
    assert "says nothing" in made.markdown.read_text() or "say nothing" in made.markdown.read_text()
    assert "parity FAILS" in words(made.html.read_text())
    assert "17 mismatches" in made.markdown.read_text()


def test_rows_over_their_limit_that_were_not_gated_do_not_count_as_held(tmp_path: Path) -> None:
    data = manifest()
    data["parity"]["rows"][1]["value"] = 0.5
    data["parity"]["rows"][2]["value"] = None
    dump(tmp_path / "run" / "jetson" / "manifest.json", data)
    made = report([tmp_path / "run"], tmp_path / "out")
    (bundle,) = json.loads(made.json.read_text())["runs"][0]["bundles"]
    assert bundle["verdict"] == "parity not gated"
    assert [row["holds"] for row in bundle["parity"]["rows"]] == ["yes", "not gated", "yes"]
    assert bundle["parity"]["rows"][2]["value_text"] == "exact"


def test_several_runs_stand_side_by_side(two: Report) -> None:
    document = json.loads(two.json.read_text())
    side = document["comparison"]
    assert side["columns"] == ["nano", "ilif"]
    row = next(r for r in side["rows"] if r["label"] == "NMSE at 10 dB SNR: R1 in-domain")
    assert [cell["nominal"] for cell in row["cells"]] == [-20.2, -20.7]
    labels = [curve["label"] for curve in side["panels"][0]["curves"]]
    assert labels == ["spikewfm-nano", "spikewfm-nano-ilif", "last value", "robust Wiener"]
    assert document["title"] == "LIF beside I-LIF"


@pytest.mark.parametrize("part", ["evaluation.json", "profile.json", "jetson"])
def test_one_part_alone_makes_a_report(part: str, tmp_path: Path) -> None:
    whole, run = write_run(tmp_path / "whole"), tmp_path / "run"
    run.mkdir()
    (whole / part).rename(run / part)
    made = report([run], tmp_path / "out")
    assert "Not in this run. Get it with `spikeport" in made.json.read_text()
    assert "<h1>" in made.html.read_text()


def test_a_hostile_model_name_is_shown_and_not_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", EVIL)
    made = report([run], tmp_path / "out", title=EVIL)
    page = made.html.read_text()
    assert page.count("<script") == 1
    assert EVIL in words(page)
    assert json.loads(made.json.read_text())["title"] == EVIL
    markdown = made.markdown.read_text()
    assert "<script" not in markdown
    assert not re.search(r"(?<!\\)`\$x", markdown)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("evaluation.json", "{", "evaluation.json is not readable JSON"),
        ("profile.json", "[]", "profile.json: top level"),
        ("profile.json", json.dumps({**profile(), "schema": "other/2"}), "profile.json: schema"),
        ("evaluation.json", json.dumps({**evaluation(), "curves": []}), "evaluation.json: curves"),
        ("evaluation.json", json.dumps({**evaluation(), "links": float("nan")}), "evaluation.json: links"),
        ("jetson/manifest.json", "{}", "manifest.json: schema"),
    ],
)
def test_a_broken_file_is_named_and_nothing_is_written(name: str, content: str, says: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / name).write_text(content)
    with pytest.raises(InputError, match=re.escape(says)):
        report([run], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_curves_of_unequal_length_are_refused(tmp_path: Path) -> None:
    data = evaluation()
    data["curves"][0]["low_db"].pop()
    dump(tmp_path / "run" / "evaluation.json", data)
    with pytest.raises(InputError, match="differ in length"):
        report([tmp_path / "run"], tmp_path / "out")


def test_missing_empty_and_repeated_folders_are_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InputError, match=r"no evaluation\.json, profile\.json, sweep\.json or bundle; make one with `spikeport"
    ):
        report([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(InputError, match="absent does not exist"):
        report([tmp_path / "absent"], tmp_path / "out")
    with pytest.raises(InputError, match="no run folder given"):
        report([], tmp_path / "out")
    run = write_run(tmp_path / "run")
    with pytest.raises(InputError, match="twice"):
        report([run, run], tmp_path / "out")


def test_runs_of_the_same_name_are_told_apart_by_their_parents(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / parent / "run") for parent in ("a", "b")]
    made = report(runs, tmp_path / "out")
    assert [r["name"] for r in json.loads(made.json.read_text())["runs"]] == ["a/run", "b/run"]


def test_the_report_holds_no_path_of_this_machine(made: Report) -> None:
    for file in (made.html, made.json, made.markdown):
        assert str(made.html.parent.parent) not in file.read_text()


def test_the_summary_figure_is_a_png(document: dict[str, Any]) -> None:
    assert summary_figure(document).startswith(b"\x89PNG")


def test_the_summary_figure_asks_for_a_whole_run(document: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="evaluation and a profile"):
        summary_figure({**document, "runs": [{**document["runs"][0], "accuracy": None}]})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (quantity_text(quantity(9.996e-4, 2)), "1.00 mJ (0.500 to 2.00)"),
        (quantity_text(quantity(None, 2)), "not published"),
        (quantity_text(None), "not published"),
        (nominal_text({"nominal": 0.0, "unit": "J"}), "0 J"),
        (nominal_text({"nominal": 0.201, "unit": "fraction"}), "20.1 %"),
        (nominal_text({"nominal": 59_200_000, "unit": "MAC"}), "59.2 M MAC"),
        (count_text(9_999), "9,999"),
        (count_text(10_000), "10.0 k"),
        (count_text(None), "–"),
        (percent_text(0.1834), "18.3 %"),
        (decibel_text(-0.04), "0.0"),
        (decibel_text(-12.34), "−12.3"),
        (value_text(0.0, "1"), "0"),
        (value_text(3.1e-6, ""), "3.1e−06"),
    ],
)
def test_numbers_are_printed_with_unit_and_three_digits(text: str, wanted: str) -> None:
    assert text == wanted


def test_a_folder_that_mixes_models_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "spikewfm-nano")
    file = tmp_path / "run" / "evaluation.json"
    file.write_text(file.read_text().replace('"model": "spikewfm-nano"', '"model": "my-nano"'))
    with pytest.raises(InputError, match="mixes models"):
        report([tmp_path / "run"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
