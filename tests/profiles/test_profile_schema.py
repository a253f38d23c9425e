"""profile.json has a published schema, and what is written has no key beyond it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel
from tiny_model import tiny

from spikeport_profiles import measured
from spikeport_profiles.accuracy import deployed_accuracy
from spikeport_profiles.budget import parse_budget
from spikeport_profiles.profile import profile
from spikeport_profiles.schema import Profile, json_schema
from spikeport_profiles.table import COLUMNS, csv_of
from spikeport_targets.card import load_card
from spikeport_toolkit.tasks.channel_prediction import example_pairs

PUBLISHED = Path(__file__).parents[2] / "docs" / "schema" / "profile-1.json"
TARGETS = ("jetson-orin-nano", "loihi2", "speck2", "cmos45", "cpu-onnxruntime")
"""One of every class: gpu, event (with an artefact and without), convention, cpu."""


@pytest.fixture(scope="module")
def found():
    model, twin = tiny("lif", steps=4), tiny("qrelu", levels=4)
    samples, cards = example_pairs(model.config, 2), [load_card(name) for name in TARGETS]
    result = profile(
        model, twin, cards[:4], [samples[0]], name="tiny", twin_name="tiny-qrelu",
        host=load_card("jetson-orin-nano"), at_snr={0.0: samples[0]}, detail=True,
    )  # fmt: skip
    evaluated = cards[0], cards[2]
    accuracy = deployed_accuracy(
        model, twin, evaluated, ("fp16", "int8"), samples, name="tiny", snrs_db=[20.0], links=2
    )
    both = replace(result, targets=(result.targets[0], result.targets[2])).with_accuracy(accuracy).targets
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured, "BLOCK_S", 0.0)
        patch.setattr(measured, "BLOCKS", 1)
        cpu = measured.measure(model, None, cards[4], samples[0], "fp32")
    targets = (both[0], result.targets[1], both[1], result.targets[3], cpu)
    return replace(result, targets=targets, accuracy=accuracy).with_budget(parse_budget("1ms", "1mJ"))


def unknown_keys(part: BaseModel, place: str = "") -> Iterator[str]:
    yield from (f"{place}.{key}" for key in part.model_extra or ())
    for name, value in part:
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, BaseModel):
                yield from unknown_keys(item, f"{place}.{name}")


def test_the_published_schema_is_the_one_of_the_code():
    assert json.loads(PUBLISHED.read_text()) == json_schema(), "python -m spikeport_profiles.schema > " + str(PUBLISHED)


def test_what_is_written_fits_the_schema_and_every_key_stands_in_it(found):
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    read = Profile.model_validate(values)
    assert list(unknown_keys(read)) == []
    assert {target.class_ for target in read.targets} == {"gpu", "event", "convention", "cpu"}


def test_accuracy_stands_beside_the_cost_of_every_target(found):
    jetson, speck = found.targets[0].accuracy, found.targets[2].accuracy
    assert (jetson.runtime, jetson.parity, jetson.kind) == ("onnxruntime", True, "simulated")
    assert {(curve.regime, curve.split) for curve in jetson.curves} == {
        (regime, split) for regime in ("R1", "R2") for split in ("in-domain", "unseen")
    }
    assert (speck.curves, speck.nmse_db) == ((), None)
    assert "only costed" in speck.reason
    assert found.targets[0].twin.accuracy.nmse_db is not None
    assert len(found.accuracy.model) == len(found.accuracy.twin) == 4
    assert jetson.nmse_db == pytest.approx(sum(c.nmse_db[0] for c in found.accuracy.model) / 4, abs=0.3)


def test_cores_of_a_chip_share_out_a_layer(found):
    (first, *_), budget = found.targets[1].cores, found.to_dict()["budget"]
    layer = next(row for row in found.trace.layers if row.path == first.path)
    assert first.busiest_core == max(first.busiest_per_step) == layer.busiest_unit_per_step
    assert first.cores == 1
    assert budget["ok"] is False


def test_the_table_has_a_row_a_figure_with_unit_kind_and_source(found):
    rows = list(csv.DictReader(csv_of(found).splitlines()))
    assert tuple(rows[0]) == COLUMNS
    latency = next(r for r in rows if (r["section"], r["name"], r["figure"]) == ("target", "loihi2", "latency"))
    quantity = found.targets[1].latency
    assert (float(latency["value"]), latency["unit"], latency["kind"]) == (quantity.nominal, "s", "estimated")
    assert float(latency["low"]) < float(latency["value"]) < float(latency["high"])
    assert latency["source"]
    unknown = next(r for r in rows if (r["name"], r["figure"]) == ("cmos45", "latency"))
    assert (unknown["value"], unknown["unit"]) == ("", "s")
    assert {r["section"] for r in rows} == {
        "trace", "twin-trace", "target", "twin", "accuracy", "twin-accuracy",
    }  # fmt: skip
    assert all(np.isfinite(float(r["value"])) and r["unit"] for r in rows if r["value"])
