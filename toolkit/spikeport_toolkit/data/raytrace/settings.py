"""What a ray-traced recipe says: the cities, and how stations and users stand and rays run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["BUILT_IN", "OSM", "WHEEL_CITIES", "City", "Tracing"]

WHEEL_CITIES = ("munich", "florence", "etoile", "san_francisco")
BUILT_IN = (
    *WHEEL_CITIES, "box", "box_knife", "box_one_screen", "box_two_screens", "double_reflector", "floor_wall",
    "simple_reflector", "simple_street_canyon", "simple_street_canyon_with_cars", "simple_wedge", "triple_reflector",
)  # fmt: skip
"""The scenes in the wheel of sionna-rt 2.2; the first four are real cities."""
OSM = ("ODbL-1.0", "© OpenStreetMap contributors, https://www.openstreetmap.org/copyright")
"""Licence and attribution of everything made from OpenStreetMap."""


@dataclass(frozen=True)
class City:
    """One scene: built in (`scene`), of a file, or procedural (`seed`, `style`, `size_m`)."""

    name: str
    scene: str = ""
    file: Path | None = None
    seed: int = 0
    style: str = ""
    """grid, rotated or organic; empty: the seed chooses."""
    size_m: float = 900.0
    """Side of a procedural city."""
    default_height_m: float = 10.0
    """Of a building that an OSM file gives neither height nor levels."""
    licence: str = ""
    attribution: str = ""

    @property
    def rights(self) -> tuple[str, str]:
        """Licence and attribution: as the recipe says, else those of the geometry."""
        if self.scene in WHEEL_CITIES:
            known = OSM
        elif self.scene:
            known = ("Apache-2.0", "scene of sionna-rt, NVIDIA")
        elif self.file is None:
            known = ("Apache-2.0", "procedural city of spikeport")
        elif self.file.suffix.lower() in (".osm", ".geojson", ".json"):
            known = OSM
        else:
            known = ("unknown", f"scene file {self.file.name}; the recipe names no licence")
        return self.licence or known[0], self.attribution or known[1]


@dataclass(frozen=True)
class Tracing:
    """Placement and solver options; the defaults are those of the embedded cities."""

    stations: int = 2
    users_per_station: int = 400
    carriers_ghz: tuple[float, ...] = (3.5, 28.0)
    seed: int = 2026
    los_share: float = 0.5
    """Wanted share of the streets around a station in line of sight; the nearest of 60 masts are taken."""
    mast_height_m: tuple[float, float] = (10.0, 25.0)
    cell_radius_m: float = 150.0
    min_distance_m: float = 10.0
    """Between a user and its station, on the ground."""
    station_distance_m: float = 150.0
    reflections: int = 4
    diffraction: bool = True

    @property
    def carriers_hz(self) -> tuple[float, ...]:
        """Carrier frequencies in Hz, rounded to 1 Hz."""
        return tuple(float(round(carrier * 1e9)) for carrier in self.carriers_ghz)
