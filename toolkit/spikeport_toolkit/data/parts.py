"""What one shard of a store is made from; a part knows its name, its rights, and how to make itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from spikeport_errors import InputError

from ..models.config import GridConfig
from .raytrace.generate import REVISION, generate_city
from .raytrace.settings import City, Tracing
from .schema import PathSet
from .shards import file_hash

if TYPE_CHECKING:
    from .channel_set import ChannelSet

__all__ = ["Capture", "DeepMimoCity", "Interpreters", "Part", "StatisticalModel", "TracedCity"]

Interpreters = Mapping[str, Path | None]
"""Python interpreters by environment name (`spikeport env make NAME`), for sources that need their own."""


class Part(Protocol):
    """One shard to be."""

    @property
    def name(self) -> str:
        """Name of the shard, and of the city in it."""

    @property
    def rights(self) -> tuple[str, str]:
        """Licence and attribution."""

    def key(self) -> str:
        """Changes when the part would come out otherwise."""

    def make(self, interpreters: Interpreters) -> list[PathSet] | ChannelSet:
        """The path sets, or the channels."""


@dataclass(frozen=True)
class TracedCity:
    """A city to ray-trace."""

    city: City
    tracing: Tracing

    @property
    def name(self) -> str:
        """The city's name."""
        return self.city.name

    @property
    def rights(self) -> tuple[str, str]:
        """Those of the geometry."""
        return self.city.rights

    def key(self) -> str:
        """Hash of the generator's revision, the city (its file's content, not its place) and the options."""
        city = asdict(self.city) | {"licence": "", "attribution": "", "file": ""}
        if self.city.file is not None:
            city["file"] = file_hash(self.city.file)
        return _hash([REVISION, city, asdict(self.tracing)])

    def make(self, interpreters: Interpreters) -> list[PathSet]:
        """Trace it."""
        return generate_city(self.city, self.tracing)


@dataclass(frozen=True)
class DeepMimoCity:
    """One city's DeepMIMO scenarios (one a carrier), under one name, so that no split tears them apart."""

    name: str
    folder: Path
    scenarios: tuple[str, ...]
    stations: tuple[int, ...] = ()
    """DeepMIMO's station numbers; empty for all."""
    max_paths: int = 25
    download: bool = False
    licence: str = "CC-BY-NC-SA-4.0"

    @property
    def rights(self) -> tuple[str, str]:
        """DeepMIMO's, unless the recipe says otherwise."""
        return self.licence, "DeepMIMO, https://www.deepmimo.net"

    def key(self) -> str:
        """Hash of the options; the scenario's files are taken to be what their name says."""
        return _hash([self.name, self.scenarios, self.stations, self.max_paths])

    def make(self, interpreters: Interpreters) -> list[PathSet]:
        """Read the scenarios, after downloading them where the recipe asks for that; only links with a path."""
        from .deepmimo import load_deepmimo  # h5py and, for .mat files, scipy: ray tracing does without

        sets = []
        for scenario in self.scenarios:
            folder = self.folder / scenario
            if self.download and not folder.is_dir():
                from .deepmimo_download import download_deepmimo

                folder = download_deepmimo(scenario, self.folder, python=interpreters.get("deepmimo"))
            if not folder.is_dir():
                raise InputError(
                    f"{folder}, a scenario of {self.name}, is no folder: give --source FOLDER, or set download = true"
                )
            found = load_deepmimo(folder, stations=self.stations or None, max_paths=self.max_paths, city=self.name)
            for item in found:
                reached = (item.n_paths > 0).nonzero()[0]
                sets += [item.select(reached)] if reached.size else []
        return sets


@dataclass(frozen=True)
class StatisticalModel:
    """Channels of a 3GPP TR 38.901 model, from sionna's torch PHY."""

    name: str
    model: str
    links: int
    regime: str
    carrier_hz: float
    speed_m_s: tuple[float, float]
    delay_spread_s: float
    slots: int
    blocks: int
    rx: int
    tx: int
    seed: int

    @property
    def rights(self) -> tuple[str, str]:
        """Drawn numbers: the project's."""
        return "Apache-2.0", "3GPP TR 38.901 by sionna's PHY"

    def key(self) -> str:
        """Hash of the options."""
        return _hash(asdict(self))

    def make(self, interpreters: Interpreters) -> ChannelSet:
        """Draw them."""
        from .statistical import statistical_channels

        return statistical_channels(
            self.model,
            self.links,
            GridConfig(slots=self.slots, antennas=self.rx * self.tx, blocks=self.blocks),
            regime=self.regime,
            carrier_hz=self.carrier_hz,
            speed_m_s=self.speed_m_s,
            delay_spread_s=self.delay_spread_s,
            rx=self.rx,
            tx=self.tx,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Capture:
    """Measured channels of a file that the user has."""

    name: str
    file: Path
    capture: str = ""
    """One of several Wi-Fi captures in the file; empty for the largest, or for a file of channels."""
    sanitise: bool | None = None
    licence: str = "unknown"
    attribution: str = ""

    @property
    def rights(self) -> tuple[str, str]:
        """As the recipe says."""
        return self.licence, self.attribution or f"file {self.file.name}"

    def key(self) -> str:
        """Hash of the file and the options."""
        if not self.file.is_file():
            raise InputError(f"{self.file}, the capture of {self.name}, is not a file: check `file`, or give --source")
        return _hash([self.name, self.capture, self.sanitise, file_hash(self.file)])

    def make(self, interpreters: Interpreters) -> ChannelSet:
        """Read it."""
        from .measured import load_measured

        return load_measured(self.file, capture=self.capture or None, sanitise=self.sanitise)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
