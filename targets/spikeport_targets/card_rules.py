"""The rules that a card file must keep; each breach is one CardError that names file, key and remedy."""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from spikeport_errors import CardError

from .quantity import BASES, Constant

ROUTES = ("onnx", "nir", "loihi", "estimate")
CLASSES = ("gpu", "cpu", "event", "convention", "simulator")
PREFIX_UNITS = {"e_": "J", "t_": "s", "p_": "W"}
"""What a constant is in, by the first letters of its name."""
SI_UNITS = (
    "J", "s", "W", "V", "A", "K", "m", "Hz", "B", "bit", "FLOP", "MAC", "op", "synop", "spike", "neuron", "step", "1",
)  # fmt: skip

_TABLES = ("target", "limits", "constants", "scenario")
_TARGET = {
    "id": True,
    "name": True,
    "class": True,
    "route": True,
    "runtime": False,
    "boundary": False,
    "summary": False,
}
_CONSTANT = ("low", "nominal", "high", "unit", "basis", "source", "conditions", "unknown")


class _Reader:
    """Reads one card; `fail` is the only way out for a broken one."""

    def __init__(self, path: Path):
        self.path = path

    def fail(self, key: str, problem: str, remedy: str) -> NoReturn:
        raise CardError(f"{self.path}: {key} {problem}; {remedy}")

    def only(self, key: str, table: Any, known: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(table, Mapping):
            self.fail(key, "is not a table", f"write [{key}]")
        for name in table:
            if name not in known:
                self.fail(f"{key}.{name}".lstrip("."), "is unknown", f"use one of {', '.join(known)} or remove it")
        return dict(table)

    def text(self, key: str, value: Any, allowed: tuple[str, ...] = ()) -> str:
        if not isinstance(value, str) or not value.strip():
            self.fail(key, f"is {value!r}, not a text", "give a non-empty string")
        if allowed and value not in allowed:
            self.fail(key, f"is {value!r}", f"use one of {', '.join(allowed)}")
        return value

    def number(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fail(key, f"is {value!r}, not a finite number", "give a bare number in SI units, such as 24e-12")
        return float(value)

    def plain(self, key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: self.plain(f"{key}.{k}", v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.plain(f"{key}[{i}]", v) for i, v in enumerate(value)]
        if not isinstance(value, str | int | float | bool):
            self.fail(key, f"is a {type(value).__name__}", "use text, numbers, booleans, lists or tables")
        if isinstance(value, int | float) and not isinstance(value, bool) and not 0 < value < math.inf:
            self.fail(key, f"is {value!r}", "a limit is a positive number")
        return value

    def unit(self, key: str, value: Any) -> str:
        unit = self.text(key, value)
        base = re.split(r"[/ *]", unit)[0]
        if base not in SI_UNITS:
            self.fail(
                key,
                f"is {unit!r}, not an SI unit without prefix",
                f"convert to {', '.join(SI_UNITS)}, or one of them per something",
            )
        return unit

    def sources(self, key: str, value: Any) -> tuple[str, ...]:
        entries = [value] if isinstance(value, str) else value
        if not isinstance(entries, list) or not entries:
            self.fail(key, "is missing or empty", "say where the value comes from: a paper, a file, a measurement")
        return tuple(self.text(key, entry) for entry in entries)

    def constant(self, key: str, table: Any) -> Constant:
        values = self.only(key, table, _CONSTANT)
        for required in ("unit", "basis", "source"):
            if required not in values:
                self.fail(f"{key}.{required}", "is missing", "every constant has unit, basis and source")
        unknown = values.get("unknown", False)
        if not isinstance(unknown, bool):
            self.fail(f"{key}.unknown", f"is {unknown!r}", "use true, or leave it out")
        low, nominal, high = (
            self.number(f"{key}.{name}", values[name]) if name in values else None
            for name in ("low", "nominal", "high")
        )
        if unknown and (low, nominal, high) != (None, None, None):
            self.fail(key, "is unknown and has a value", "remove `unknown = true`, or low, nominal and high")
        if not unknown:
            if low is None or nominal is None or high is None:
                self.fail(
                    key, "lacks low, nominal or high", "give all three, or `unknown = true` if nobody published it"
                )
            if low < 0:
                self.fail(f"{key}.low", f"is {low:g}, below 0", "energies, times, powers and rates are not negative")
            if not low <= nominal <= high:
                self.fail(f"{key}.nominal", f"is {nominal:g}, outside [{low:g}, {high:g}]", "correct the interval")
        prefix, unit = key.rsplit(".", 1)[-1][:2], self.unit(f"{key}.unit", values["unit"])
        if prefix in PREFIX_UNITS and not re.match(rf"{PREFIX_UNITS[prefix]}([/ *]|$)", unit):
            self.fail(f"{key}.unit", f"is {unit!r}", f"a constant named {prefix}... is in {PREFIX_UNITS[prefix]}")
        return Constant(
            name=key.rsplit(".", 1)[-1],
            low=low,
            nominal=nominal,
            high=high,
            unit=unit,
            basis=self.text(f"{key}.basis", values["basis"], BASES),  # type: ignore[arg-type]
            source=self.sources(f"{key}.source", values["source"]),
            conditions=self.text(f"{key}.conditions", values["conditions"]) if "conditions" in values else "",
            unknown=unknown,
        )

    def scenario(self, key: str, table: Any) -> dict[str, Any]:
        if not isinstance(table, Mapping):
            self.fail(key, "is not a table", f"write [{key}]")
        summary = self.text(f"{key}.summary", table["summary"]) if "summary" in table else ""
        constants = {k: self.constant(f"{key}.{k}", v) for k, v in table.items() if k != "summary"}
        return {"summary": summary, "constants": constants}


def parse_card(path: Path, data: bytes) -> tuple[dict[str, Any], str]:
    """The fields of a Card (scenarios as plain tables) and the SHA-256 of the file; CardError if a rule is broken."""
    read = _Reader(path)
    try:
        content = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise CardError(f"{path} is not TOML ({error}); correct the line it names") from None
    content = read.only("", content, _TABLES)
    if "target" not in content:
        read.fail("[target]", "is missing", "give id, name, class and route there")
    target = read.only("target", content["target"], tuple(_TARGET))
    for name, required in _TARGET.items():
        if required and name not in target:
            read.fail(f"target.{name}", "is missing", f"add {name} = ... to [target]")
    texts = {name: read.text(f"target.{name}", value) for name, value in target.items()}
    if texts["id"] != path.stem:
        read.fail("target.id", f"is {texts['id']!r}", f"a card file is named by its id: call it {texts['id']}.toml")
    tables: dict[str, dict[str, Any]] = {}
    for name in ("limits", "constants", "scenario"):
        table = content.get(name, {})
        if not isinstance(table, Mapping):
            read.fail(name, "is not a table", f"write [{name}]")
        tables[name] = dict(table)
    return {
        "id": texts["id"],
        "name": texts["name"],
        "klass": read.text("target.class", texts["class"], CLASSES),
        "route": read.text("target.route", texts["route"], ROUTES),
        "runtime": texts.get("runtime"),
        "boundary": texts.get("boundary", ""),
        "description": texts.get("summary", ""),
        "limits": read.plain("limits", tables["limits"]),
        "constants": {k: read.constant(f"constants.{k}", v) for k, v in tables["constants"].items()},
        "scenarios": {k: read.scenario(f"scenario.{k}", v) for k, v in tables["scenario"].items()},
    }, hashlib.sha256(data).hexdigest()
