"""Conformance: the committed page is what a run gives, and a simulator that differs is found out."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import spikeport
from spikeport.cli.app import run
from spikeport_converters import conformance as harness
from spikeport_converters.conformance import Conformance, conformance, worst
from spikeport_converters.conformance_features import FEATURES
from spikeport_converters.conformance_page import page
from spikeport_converters.conformance_plain import plain_nir
from spikeport_errors import UsageError
from spikeport_targets import card as cards
from spikeport_targets import runtime as registry
from spikeport_targets.card import list_cards, load_card
from spikeport_targets.runtime import Availability, Outputs, get_runtime

ROOT = Path(__file__).parent.parent.parent
DATA = Path(harness.__file__).parent / "data" / "conformance.json"
COMMITTED = Conformance.from_dict(json.loads(DATA.read_text(encoding="utf-8")))
BY_NAME = {feature.name: feature for feature in FEATURES}
FEW = [
    replace(BY_NAME[name], steps=(4,))
    for name in ("hard reset", "soft reset", "v_reset -0.2", "threshold ties", "IF", "convolution", "residual")
]
HERE = [card for card in list_cards() if card.route == "nir" and "environment" not in card.limits]


def test_the_page_and_the_data_are_of_one_run():
    text = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    body = page(COMMITTED).split("\n", 2)[2]
    assert text.endswith(body)


def test_no_simulator_differs_where_its_card_claims_exactness():
    assert COMMITTED.ok
    assert sum(row.spikes for row in COMMITTED.rows) > 10_000_000
    assert all(row.mismatches == 0 for row in COMMITTED.rows)


def test_every_target_that_runs_nir_is_in_the_data_with_every_feature():
    expected = {card.id for card in list_cards() if card.route == "nir"}
    assert set(COMMITTED.simulators) == expected
    assert {row.feature for row in COMMITTED.rows} == set(BY_NAME)


def test_the_plain_export_is_wrong_where_the_profile_is_exact():
    for simulator, feature in (
        ("norse", "hard reset"),
        ("norse", "threshold ties"),
        ("snntorch", "threshold ties"),
        ("sinabs", "hard reset"),
        ("spikingjelly", "soft reset"),
    ):
        assert worst(COMMITTED.of(simulator, feature)).mismatches == 0
        assert worst(COMMITTED.of(simulator, feature, plain=True)).mismatches > 0


def test_every_refusal_gives_its_reason():
    assert all(row.note for row in COMMITTED.rows if row.verdict in ("refused", "unavailable"))


@pytest.mark.parametrize("card", HERE, ids=lambda card: card.id)
def test_a_fresh_run_gives_the_committed_verdicts(card):
    if not get_runtime(card.runtime).available():
        pytest.skip(get_runtime(card.runtime).available().reason)
    fresh = conformance([card], features=FEW)
    for row in fresh.rows:
        (kept,) = (r for r in COMMITTED.of(card.id, row.feature) if r.steps == row.steps)
        assert (row.verdict, row.spikes, row.mismatches) == (kept.verdict, kept.spikes, kept.mismatches)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_every_feature_has_neurons_that_spike_and_that_do_not(feature):
    graph, entering = feature.build(feature.steps[-1], 16)
    assert 0.02 < float((graph.run(entering).spikes > 0).float().mean()) < 0.5


def test_threshold_ties_occur():
    graph, entering = BY_NAME["threshold ties"].build(1, 64)
    currents = graph.run(entering).currents["lif"]
    assert int((currents == 1.0).sum()) > 10


def test_the_plain_export_is_that_of_spikingjellys_own_exporter():
    import torch
    from spikingjelly.activation_based import layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    for name in ("hard reset", "input decay", "v_reset -0.2"):
        graph, entering = BY_NAME[name].build(4, 2)
        fc1, lif, fc2 = graph.nodes
        net = torch.nn.Sequential(layer.Linear(24, 64), neuron.LIFNode(), layer.Linear(64, 16))
        net[1] = lif.node
        for module, node in ((net[0], fc1), (net[2], fc2)):
            module.load_state_dict({"weight": node.weight, "bias": node.bias})
        theirs = list(export_to_nir(net, entering, dt=1e-4).nodes.values())
        ours = plain_nir(graph, "spikingjelly").nodes
        (their_lif,) = (node for node in theirs if type(node).__name__ == "LIF")
        for key in ("tau", "r", "v_leak", "v_threshold", "v_reset"):
            assert np.allclose(np.unique(getattr(their_lif, key)), np.unique(getattr(ours["lif"], key)), rtol=1e-6)


class _Late:
    """A third party's simulator, one step late."""

    name, route = "late", "nir"

    def available(self):
        return Availability(True, "late 0.1")

    def run(self, artefact, inputs):
        got = get_runtime("reference").run(artefact, inputs)
        return Outputs({"spikes": np.roll(got["spikes"], 1, 0), "output": got["output"]})


@pytest.fixture
def late(monkeypatch, tmp_path):
    """The card file of the late simulator, its runtime behind an entry point."""
    point = type("Point", (), {"name": "late", "value": "late:Late", "load": lambda self: _Late})()
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    monkeypatch.setattr(cards, "entry_points", lambda group: [])
    text = (
        load_card("norse")
        .path.read_text()
        .replace('"norse"', '"late"')
        .replace('profile = "late"', 'profile = "norse"')
    )
    (tmp_path / "late.toml").write_text(text)
    return str(tmp_path / "late.toml")


def test_another_packages_simulator_that_differs_is_found_and_exits_1(late, tmp_path, capsys):
    assert run(["conformance", "--target", late, "--out", str(tmp_path / "out"), "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    verdicts = {row["verdict"] for row in printed["rows"] if row["steps"] > 1}
    assert verdicts == {"approximate", "refused"}
    assert printed == json.loads((tmp_path / "out" / "conformance.json").read_text())
    assert "| soft reset | 4, 16 | approximate, " in (tmp_path / "out" / "conformance.md").read_text()


def test_a_missing_simulator_is_said_with_its_remedy(monkeypatch):
    gone = type("Gone", (_Late,), {"available": lambda self: Availability(False, "it is not here", "pip install it")})()
    monkeypatch.setattr(harness, "get_runtime", lambda name: gone)
    result = conformance([load_card("norse")], features=FEW[:1])
    assert result.ok
    assert result.summary() == "unavailable  norse: it is not here; pip install it"
    assert "- norse: it is not here; pip install it" in page(result)


def test_a_target_that_runs_no_nir_is_a_usage_error():
    with pytest.raises(UsageError, match="cmos45 runs no NIR"):
        spikeport.conformance(["cmos45"])


def test_a_runtime_that_gives_another_shape_differs(late, monkeypatch):
    def run_flat(self, artefact, inputs):
        got = get_runtime("reference").run(artefact, inputs)
        return Outputs({"spikes": got["spikes"][:, :, :5], "output": got["output"]})

    monkeypatch.setattr(_Late, "run", run_flat)
    (row,) = conformance([load_card(late)], features=FEW[:1]).rows
    assert (row.verdict, row.note) == ("approximate", "spikes or output have another shape")
    assert row.mismatches == row.spikes
