"""Target cards: what a target is, what it can run and what its operations cost, one TOML file each.

    [target]                     id, name, class, route, runtime (optional), boundary (optional), summary (optional)
    [limits]                     free table of plain values that converters read
    [constants.NAME]             low, nominal, high, unit, basis, source, conditions (optional); or unknown = true
    [scenario.NAME]              summary (optional), and constants that hold in this scenario only

Cards of other packages come through the entry point group `spikeport.targets`; such an entry point loads to the
path of a card file or to a Card.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from spikeport_errors import CardError, unknown_name

from .card_rules import parse_card
from .quantity import BASES, Basis, Constant, Kind, Quantity

__all__ = [
    "BASES", "ENTRY_POINTS", "Basis", "Card", "Constant", "Kind", "Quantity", "Scenario",
    "list_cards", "load_card", "read_card",
]  # fmt: skip

ENTRY_POINTS = "spikeport.targets"

Route = Literal["onnx", "nir", "loihi", "estimate"]
Klass = Literal["gpu", "cpu", "event", "convention", "simulator"]


@dataclass(frozen=True)
class Scenario:
    """A way to use the target, with the constants that hold there and nowhere else."""

    name: str
    summary: str
    constants: Mapping[str, Constant]


@dataclass(frozen=True)
class Card:
    """One target.

    `route` says which converter writes for it (`estimate`: none, it is only costed), `runtime` names the entry of
    `spikeport_targets.runtime.runtimes()` that executes its artefacts, `boundary` what energy figures include.
    """

    id: str
    name: str
    klass: Klass
    route: Route
    runtime: str | None
    boundary: str
    description: str
    limits: Mapping[str, Any]
    constants: Mapping[str, Constant]
    scenarios: Mapping[str, Scenario]
    sha256: str
    path: Path | None = field(default=None, compare=False)

    def constant(self, name: str, scenario: str | None = None) -> Constant:
        """The constant `name`, where a scenario's own goes before the card's; UsageError if there is none."""
        known = dict(self.constants)
        if scenario is not None:
            if scenario not in self.scenarios:
                raise unknown_name(
                    f"scenario of {self.id}", scenario, self.scenarios, f"`spikeport targets show {self.id}` lists them"
                )
            known |= self.scenarios[scenario].constants
        if name not in known:
            raise unknown_name(f"constant of {self.id}", name, known, f"add [constants.{name}] to its card")
        return known[name]

    def summary(self) -> str:
        """One line: id, name, class, route and how many constants it has."""
        unknown = sum(c.unknown for c in self.constants.values())
        missing = f", {unknown} not published" if unknown else ""
        return f"{self.id}: {self.name} ({self.klass}, route {self.route}), {len(self.constants)} constants{missing}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the machine's path."""
        return {
            "id": self.id,
            "name": self.name,
            "class": self.klass,
            "route": self.route,
            "runtime": self.runtime,
            "boundary": self.boundary,
            "summary": self.description,
            "limits": dict(self.limits),
            "constants": {k: c.to_dict() for k, c in self.constants.items()},
            "scenarios": {
                k: {"summary": s.summary, "constants": {n: c.to_dict() for n, c in s.constants.items()}}
                for k, s in self.scenarios.items()
            },
            "sha256": self.sha256,
        }


def read_card(path: str | PathLike[str]) -> Card:
    """The card in one TOML file; CardError names file, key and remedy if a rule is broken."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CardError(f"{path} cannot be read ({error.strerror}); give the path of a card file") from None
    return _card(path, data)


def load_card(target: str) -> Card:
    """The card with id `target`, or of the file `target` if that ends in `.toml`.

    UsageError with the nearest id for an unknown one.
    """
    if target.endswith(".toml"):
        return read_card(target)
    if target in _shipped():
        return read_card(_shipped()[target])
    for card in _third_party():
        if card.id == target:
            return card
    known = [*_shipped(), *(card.id for card in _third_party())]
    raise unknown_name("target", target, known, "`spikeport targets` lists them, or give a card file (.toml)")


def list_cards() -> tuple[Card, ...]:
    """Every card by id: the shipped ones and those of other packages."""
    cards = [read_card(path) for path in _shipped().values()]
    return tuple(sorted([*cards, *_third_party()], key=lambda card: card.id))


def _card(path: Path, data: bytes) -> Card:
    parts, sha256 = parse_card(path, data)
    scenarios = {k: Scenario(k, s.pop("summary"), s.pop("constants")) for k, s in parts.pop("scenarios").items()}
    return Card(**parts, scenarios=scenarios, sha256=sha256, path=path)


@cache
def _shipped() -> dict[str, Path]:
    folder = Path(str(files("spikeport_targets") / "cards"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _third_party() -> Iterator[Card]:
    seen = set(_shipped())
    for point in entry_points(group=ENTRY_POINTS):
        try:
            loaded = point.load()
        except Exception as error:  # another package's code: whatever it raises becomes one message
            raise CardError(
                f"entry point {point.name!r} of {ENTRY_POINTS} ({point.value}) fails to load: {error}; "
                "repair or uninstall the package that declares it"
            ) from error
        card = loaded if isinstance(loaded, Card) else read_card(loaded) if isinstance(loaded, str | PathLike) else None
        if card is None:
            continue
        if card.id in seen:
            raise CardError(
                f"entry point {point.name!r} of {ENTRY_POINTS} brings a second target {card.id!r}; rename one"
            )
        seen.add(card.id)
        yield card
