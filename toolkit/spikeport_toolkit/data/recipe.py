"""Data recipes: what to make a store of; TOML files in `recipes/` or of the user's own."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from spikeport_errors import InputError, UsageError, unknown_name

from .parts import Capture, DeepMimoCity, Part, StatisticalModel, TracedCity
from .raytrace.procedural import PLANS
from .raytrace.settings import BUILT_IN, City, Tracing
from .store import UNSEEN_CITIES

__all__ = ["SOURCES", "DataRecipe", "data_recipe_names", "load_data_recipe"]

MOST_PARTS = 10_000
SOURCES = ("raytrace", "deepmimo", "statistical", "measured")


@dataclass(frozen=True)
class DataRecipe:
    """A store to make: its parts, one a shard, and what the sampler may know of it."""

    name: str
    summary: str
    source: str
    parts: tuple[Part, ...]
    unseen_cities: tuple[str, ...]
    speed_m_s: tuple[float, float]
    pack: str
    """Name of an npz that also gets all path sets, compressed; empty for none."""
    text: str
    """The recipe's TOML as read, kept in the store's index."""

    def narrowed(self, names: Sequence[str], users: int | None) -> DataRecipe:
        """Only the parts `names` (default: all), with `users` a station where given; UsageError if that cannot be."""
        known = {part.name: part for part in self.parts}
        for name in names:
            if name not in known:
                raise unknown_name("city", name, known, f"these are in the recipe {self.name}")
        parts = tuple(known[name] for name in dict.fromkeys(names)) if names else self.parts
        if users is not None:
            if users < 1 or self.source != "raytrace":
                raise UsageError(f"--users {users}: wanted at least 1, and a ray-traced recipe ({self.name} is not)")
            parts = tuple(
                replace(p, tracing=replace(p.tracing, users_per_station=users)) if isinstance(p, TracedCity) else p
                for p in parts
            )
        return replace(self, parts=parts)


def data_recipe_names() -> list[str]:
    """Shipped data recipes."""
    folder = files("spikeport_toolkit.data") / "recipes"
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))


def load_data_recipe(name: str, source_folder: Path | None = None) -> DataRecipe:
    """A shipped recipe by name, or a TOML file by path.

    File names in a recipe count from the folder of the recipe's file, those of a shipped one from the working
    folder; `source_folder` takes the place of both. UsageError for an unknown name or key, with the nearest known
    one; InputError for a file or value that cannot be used.
    """
    if name in data_recipe_names():
        text, base = (files("spikeport_toolkit.data") / "recipes" / f"{name}.toml").read_text("utf-8"), Path()
    elif name.endswith(".toml"):
        try:
            text, base = Path(name).read_text(encoding="utf-8"), Path(name).parent
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"recipe {name} cannot be read ({error}); check the path") from None
    else:
        raise unknown_name("data recipe", name, data_recipe_names(), "or give a .toml file")
    try:
        table = _Table(f"recipe {name}", tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"recipe {name} is not valid TOML: {error}") from None
    source = table.text("source")
    readers = {"raytrace": _raytrace, "deepmimo": _deepmimo, "statistical": _statistical, "measured": _measured}
    if source not in readers:
        raise unknown_name("source", source, SOURCES, f"recipe {name} needs one of them")
    parts = readers[source](table, source_folder or base)
    recipe = DataRecipe(
        Path(name).stem,
        table.text("summary", ""),
        source,
        tuple(parts),
        tuple(table.texts("unseen_cities", UNSEEN_CITIES)),
        table.pair("speed_m_s", (0.1, 5.0), 0, 1000),
        table.text("pack", "") if source in ("raytrace", "deepmimo") else "",
        text,
    )
    table.finish()
    names = [part.name for part in parts]
    if not names:
        raise InputError(f"recipe {name} names nothing to make: give cities, models, or [[city]] or [[capture]] tables")
    if len(names) > MOST_PARTS:
        raise InputError(f"recipe {name} names {len(names):,} parts; {MOST_PARTS:,} is the limit: take fewer")
    twice = sorted(n for n, times in Counter(names).items() if times > 1)
    if twice:
        raise InputError(f"recipe {name} has {twice[0]!r} twice: a name stands for one shard, give each its own")
    for city in recipe.unseen_cities if re.search(r"^unseen_cities\b", text, re.MULTILINE) else ():
        if city not in names:
            raise unknown_name(f"unseen city of recipe {name}", city, names, "name cities that the recipe makes")
    if recipe.pack and not re.fullmatch(r"[\w.-]+\.npz", recipe.pack):
        raise InputError(f"recipe {name}: pack is {recipe.pack!r}, wanted the name of an npz file")
    return recipe


def _raytrace(table: _Table, base: Path) -> list[Part]:
    plain = Tracing()
    tracing = Tracing(
        stations=table.whole("stations", plain.stations, 1, 100),
        users_per_station=table.whole("users_per_station", plain.users_per_station, 1, 1_000_000),
        # 1 to 40 GHz: the range in which all of the walls' ITU materials are defined.
        carriers_ghz=table.numbers("carriers_ghz", plain.carriers_ghz, 1, 40),
        seed=table.whole("seed", plain.seed, 0, 2**32 - 1),
        los_share=table.number("los_share", plain.los_share, 0, 1),
        mast_height_m=table.pair("mast_height_m", plain.mast_height_m, 0, 500),
        cell_radius_m=table.number("cell_radius_m", plain.cell_radius_m, 1, 5000),
        min_distance_m=table.number("min_distance_m", plain.min_distance_m, 0, 5000),
        station_distance_m=table.number("station_distance_m", plain.station_distance_m, 0, 50_000),
        reflections=table.whole("reflections", plain.reflections, 0, 10),
        diffraction=table.flag("diffraction", plain.diffraction),
    )
    if tracing.min_distance_m >= tracing.cell_radius_m:
        raise InputError(f"{table.where}: min_distance_m must be less than cell_radius_m")
    cities = [city for name in table.texts("cities", ()) for city in _named(name)]
    for entry in table.tables("city"):
        cities.append(_city(entry, base))
        entry.finish()
    return [TracedCity(city, tracing) for city in cities]


def _named(name: str) -> list[City]:
    """A scene of the wheel, `proc7`, or a range `proc0..9`."""
    match = re.fullmatch(r"proc(\d{1,6})(?:\.\.(\d{1,6}))?", name)
    if match:
        return [City(f"proc{n}", seed=n) for n in range(int(match[1]), int(match[2] or match[1]) + 1)]
    if name not in BUILT_IN:
        raise unknown_name("city", name, BUILT_IN, "proc<number> and proc<first>..<last> work too, or [[city]] tables")
    return [City(name, scene=name)]


def _city(entry: _Table, base: Path) -> City:
    name, file, scene = entry.name(), entry.text("file", ""), entry.text("scene", "")
    style = entry.text("style", "")
    if scene and scene not in BUILT_IN:
        raise unknown_name("scene", scene, BUILT_IN, "or give `file`")
    if style and style not in PLANS:
        raise unknown_name("style", style, PLANS, "leave it out and the seed chooses")
    if file and scene:
        raise InputError(f"{entry.where}: has both file and scene: give one")
    path = base / file if file else None
    if path is not None and not path.is_file():
        raise InputError(f"{entry.where}: {path} is not a file: check the path, it counts from the recipe's folder")
    return City(
        name,
        scene,
        path,
        entry.whole("seed", 0, 0, 2**31),
        style,
        entry.number("size_m", 900.0, 200, 5000),
        entry.number("default_height_m", 10.0, 1, 500),
        entry.text("licence", ""),
        entry.text("attribution", ""),
    )


def _deepmimo(table: _Table, base: Path) -> list[Part]:
    folder, download = base / table.text("folder", "."), table.flag("download", False)
    most = table.whole("max_paths", 25, 1, 1000)
    licence = table.text("licence", DeepMimoCity.licence)
    parts: list[Part] = []
    for entry in table.tables("city"):
        name, scenarios = entry.name(), entry.texts("scenarios")
        stations = tuple(int(v) for v in entry.numbers("stations", (), 0, 10_000))
        parts.append(DeepMimoCity(name, folder, tuple(scenarios), stations, most, download, licence))
        entry.finish()
    return parts


def _statistical(table: _Table, base: Path) -> list[Part]:
    """One part a model; `base` is not used."""
    options: dict[str, Any] = {
        "links": table.whole("links", 500, 1, 1_000_000),
        "regime": table.text("regime", "R2"),
        "carrier_hz": table.number("carrier_ghz", 3.5, 0.5, 100) * 1e9,
        "speed_m_s": table.pair("speed_m_s", (0.1, 5.0), 0, 300),
        "delay_spread_s": table.number("delay_spread_ns", 100.0, 1, 10_000) * 1e-9,
        "slots": table.whole("slots", 4, 2, 16),
        "blocks": table.whole("resource_blocks", 4, 1, 64),
        "rx": table.whole("rx_antennas", 2, 1, 16),
        "tx": table.whole("tx_antennas", 2, 1, 16),
        "seed": table.whole("seed", 2026, 0, 2**32 - 1),
    }
    return [StatisticalModel(model, model, **options) for model in table.texts("models")]


def _measured(table: _Table, base: Path) -> list[Part]:
    folder = base / table.text("folder", ".")
    rights = table.text("licence", "unknown"), table.text("attribution", "")
    parts: list[Part] = []
    for entry in table.tables("capture"):
        sanitise = entry.flag("sanitise", False) if "sanitise" in entry else None
        parts.append(Capture(entry.name(), folder / entry.text("file"), entry.text("capture", ""), sanitise, *rights))
        entry.finish()
    return parts


class _Table:
    """One TOML table: values are read by name with their range, and a name that nobody read is an error."""

    def __init__(self, where: str, values: Any):
        if not isinstance(values, Mapping):
            raise InputError(f"{where} is {values!r}, wanted a table")
        self.where, self._values, self._read = where, values, set[str]()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str, default: str | None = None) -> str:
        return str(self._value(key, default, lambda v: isinstance(v, str), "a text"))

    def name(self) -> str:
        """`name`, which is also a folder's name."""
        name = self.text("name")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", name):
            raise InputError(f"{self.where}: name is {name!r}, wanted letters, digits, _ . -, it names a folder too")
        return name

    def flag(self, key: str, default: bool) -> bool:
        return bool(self._value(key, default, lambda v: isinstance(v, bool), "true or false"))

    def number(self, key: str, default: float, low: float, high: float) -> float:
        return float(self._value(key, default, lambda v: _within(v, low, high), f"a number of {low:g} to {high:g}"))

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        wanted = f"a whole number of {low:,} to {high:,}"
        return int(self._value(key, default, lambda v: isinstance(v, int) and _within(v, low, high), wanted))

    def numbers(self, key: str, default: Sequence[float], low: float, high: float) -> tuple[float, ...]:
        def fits(value: Any) -> bool:
            return isinstance(value, list) and bool(value) and all(_within(v, low, high) for v in value)

        values = self._value(key, default, fits, f"a list of numbers of {low:g} to {high:g}")
        if len(set(values)) < len(values):
            raise InputError(f"{self.where}: {key} is {list(values)}, with one value twice")
        return tuple(float(v) for v in values)

    def pair(self, key: str, default: tuple[float, float], low: float, high: float) -> tuple[float, float]:
        def fits(value: Any) -> bool:
            is_pair = isinstance(value, list) and len(value) == 2
            return is_pair and all(_within(v, low, high) for v in value) and value[0] <= value[1]

        first, second = self._value(key, default, fits, f"[lowest, highest] within {low:g} to {high:g}")
        return float(first), float(second)

    def texts(self, key: str, default: Sequence[str] | None = None) -> list[str]:
        def fits(value: Any) -> bool:
            return isinstance(value, list) and all(isinstance(v, str) and v for v in value)

        return list(self._value(key, default, fits, "a list of texts"))

    def tables(self, key: str) -> list[_Table]:
        entries = self._value(key, [], lambda v: isinstance(v, list), f"[[{key}]] tables")
        return [_Table(f"{self.where}, [[{key}]] {i + 1}", entry) for i, entry in enumerate(entries)]

    def finish(self) -> None:
        """UsageError for a key that was not read."""
        for key in self._values:
            if key not in self._read:
                raise unknown_name(f"key in {self.where}:", key, self._read, "units stand in the names")

    def _value(self, key: str, default: Any, fits: Callable[[Any], bool], wanted: str) -> Any:
        self._read.add(key)
        if key not in self._values:
            if default is None:
                raise InputError(f"{self.where} lacks {key!r}, {wanted}")
            return default
        value = self._values[key]
        if not fits(value):
            raise InputError(f"{self.where}: {key} is {value!r}, wanted {wanted}")
        return value


def _within(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
