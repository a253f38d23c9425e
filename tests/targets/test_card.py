"""Target cards: what is accepted, and the one message for each rule that is broken."""

import hashlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeport_errors import CardError, UsageError
from spikeport_targets import card as cards
from spikeport_targets.card import Card, list_cards, load_card, read_card
from spikeport_targets.card_rules import parse_card
from spikeport_targets.quantity import Quantity

GOOD = """
[target]
id = "chip"
name = "A chip"
class = "event"
route = "estimate"

[limits]
cores = 128
runs = ["linear", "lif"]

[constants.e_synop]
low = 20e-12
nominal = 24e-12
high = 35e-12
unit = "J/synop"
basis = "measured"
source = ["a paper"]

[constants.e_hop]
unknown = true
unit = "J/hop"
basis = "vendor"
source = "the vendor publishes none"

[scenario.embedded]
summary = "its own processors step it"
t_mgmt = { low = 1e-6, nominal = 6e-5, high = 7e-5, unit = "s/step", basis = "measured", source = ["a paper"] }
"""


@pytest.fixture
def write(tmp_path):
    def _write(text):
        path = tmp_path / "chip.toml"
        path.write_text(text)
        return path

    return _write


def test_a_good_card_loads_with_the_hash_of_its_file(write):
    path = write(GOOD)
    card = read_card(path)
    assert card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (card.klass, card.route, card.runtime) == ("event", "estimate", None)
    assert card.limits == {"cores": 128, "runs": ["linear", "lif"]}
    assert card.constants["e_synop"].nominal == 24e-12
    assert "2 constants, 1 not published" in card.summary()


def test_an_unpublished_constant_is_null_and_says_so(write):
    quantity = read_card(write(GOOD)).constants["e_hop"].quantity()
    assert quantity.to_dict()["nominal"] is None
    assert quantity.source == ("the vendor publishes none",)
    assert "not published" in quantity.summary()


def test_a_scenario_adds_its_own_constants(write):
    card = read_card(write(GOOD))
    assert card.constant("t_mgmt", "embedded").nominal == 6e-5
    with pytest.raises(UsageError, match="did you mean 'embedded'"):
        card.constant("t_mgmt", "embeded")
    with pytest.raises(UsageError, match="t_mgmt"):
        card.constant("t_mgmt")


@pytest.mark.parametrize(
    ("old", "new", "key", "remedy"),
    [
        ('unit = "J/synop"\n', "", "constants.e_synop.unit", "unit, basis and source"),
        ('basis = "measured"\nsource = ["a paper"]\n\n', "", "constants.e_synop.basis", "unit, basis and source"),
        ('source = ["a paper"]\n\n', "\n", "constants.e_synop.source", "unit, basis and source"),
        ('source = ["a paper"]\n\n', "source = []\n\n", "constants.e_synop.source", "where the value comes from"),
        ("nominal = 24e-12", "nominal = 99e-12", "constants.e_synop.nominal", "correct the interval"),
        ("nominal = 24e-12\n", "", "constants.e_synop", "unknown = true"),
        ("nominal = 24e-12", 'nominal = "24 pJ"', "constants.e_synop.nominal", "SI units"),
        ("nominal = 24e-12", "nominal = nan", "constants.e_synop.nominal", "SI units"),
        ("nominal = 24e-12", "nominal = true", "constants.e_synop.nominal", "SI units"),
        ('"J/synop"', '"pJ/synop"', "constants.e_synop.unit", "convert"),
        ('basis = "measured"', 'basis = "guessed"', "constants.e_synop.basis", "fitted_silicon"),
        ("unknown = true", "unknown = true\nnominal = 1.0", "constants.e_hop", "remove"),
        ('source = "the vendor publishes none"', "", "constants.e_hop.source", "unit, basis and source"),
        ('id = "chip"\n', "", "target.id", "add id"),
        ('route = "estimate"\n', "", "target.route", "add route"),
        ('"estimate"', '"tensorflow"', "target.route", "onnx, nir, loihi, estimate"),
        ('class = "event"', 'class = "event"\ncolour = "red"', "target.colour", "remove it"),
        ("[limits]", "[limit]", "limit", "use one of"),
        ('id = "chip"', 'id = "chop"', "target.id", "call it chop.toml"),
        ("cores = 128", "cores = 2026-01-01", "limits.cores", "text, numbers"),
        ("high = 35e-12", "high = 35e-12\nhihg = 1", "constants.e_synop.hihg", "remove it"),
        ("t_mgmt = { low", "t_mgmt = { lo", "scenario.embedded.t_mgmt.lo", "remove it"),
        ("[target]", "[target", "is not TOML", "correct the line"),
    ],
)
def test_each_broken_rule_is_one_message_with_file_key_and_remedy(write, old, new, key, remedy):
    assert old in GOOD
    path = write(GOOD.replace(old, new, 1))
    with pytest.raises(CardError) as caught:
        read_card(path)
    message = str(caught.value)
    assert str(path) in message
    assert key in message
    assert remedy in message
    assert "\n" not in message


@given(st.binary(max_size=200))
def test_no_bytes_make_anything_but_a_card_error(tmp_path_factory, data):
    with pytest.raises(CardError):
        parse_card(tmp_path_factory.getbasetemp() / "chip.toml", data)


def test_a_card_file_is_found_by_path_and_a_missing_one_is_named(write, tmp_path):
    assert load_card(str(write(GOOD))).id == "chip"
    with pytest.raises(CardError, match=r"absent\.toml"):
        load_card(str(tmp_path / "absent.toml"))


def test_an_unknown_target_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'jetson-orin-nano'"):
        load_card("jetson-orin-nan")


class _Point:
    def __init__(self, loaded):
        self.name, self.value, self._loaded = "third", "third:card", loaded

    def load(self):
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


@pytest.mark.parametrize("as_path", [True, False])
def test_another_package_brings_a_card_as_a_path_or_a_card(write, monkeypatch, as_path):
    path = write(GOOD)
    monkeypatch.setattr(cards, "entry_points", lambda group: [_Point(str(path) if as_path else read_card(path))])
    assert load_card("chip").name == "A chip"
    assert "chip" in {card.id for card in list_cards()}


def test_a_broken_entry_point_is_one_message_and_shipped_cards_still_load(monkeypatch):
    monkeypatch.setattr(cards, "entry_points", lambda group: [_Point(RuntimeError("boom"))])
    assert isinstance(load_card("norse"), Card)
    with pytest.raises(CardError, match=r"third.*boom.*uninstall"):
        list_cards()


def test_a_second_target_of_the_same_name_is_refused(write, monkeypatch):
    card = read_card(write(GOOD))
    monkeypatch.setattr(cards, "entry_points", lambda group: [_Point(card), _Point(card)])
    with pytest.raises(CardError, match="second target 'chip'"):
        list_cards()


def test_a_quantity_is_plain_values():
    assert Quantity(1.0, 2.0, 3.0, "J", "estimated", ("a", "b")).to_dict() == {
        "low": 1.0, "nominal": 2.0, "high": 3.0, "unit": "J", "kind": "estimated", "source": ["a", "b"],
    }  # fmt: skip


def test_listing_cards_imports_neither_torch_nor_a_simulator():
    code = (
        "import sys; from spikeport_targets.card import list_cards; list_cards(); "
        "print(*{'torch', 'onnxruntime', 'nir', 'norse'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
