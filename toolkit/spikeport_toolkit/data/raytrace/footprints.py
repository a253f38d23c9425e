"""Building footprints from OpenStreetMap XML, Overpass JSON or GeoJSON, in metres around the middle of the map."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

__all__ = ["Footprint", "read_footprints"]

_EARTH_RADIUS_M, _LEVEL_M, _FOOT_M = 6_371_000.0, 3.0, 0.3048
_WIDEST_M, _SMALLEST_M2, _HIGHEST_M = 20_000.0, 1.0, 1000.0
_MATERIALS = {
    "brick": "brick", "glass": "glass", "mirror": "glass", "metal": "metal", "steel": "metal", "stone": "marble",
    "marble": "marble", "granite": "marble", "sandstone": "marble", "limestone": "marble", "wood": "wood",
}  # fmt: skip
_Ring = list[tuple[float, float]]
_Building = tuple[_Ring, Mapping[str, Any]]
"""Outer ring as (longitude, latitude) in degrees, and the tags."""


@dataclass(frozen=True, eq=False)
class Footprint:
    """One building: its outer ring [corner, 2] in m (x east, y north), anticlockwise, not closed; height; walls."""

    ring: NDArray[np.float64]
    height_m: float
    material: str


def read_footprints(file: Path, default_height_m: float) -> list[Footprint]:
    """The buildings of a map file: ways and multipolygons tagged `building`, or the polygons of a GeoJSON.

    Height is the tag `height` (m, or ft), else `building:levels` times 3 m, else `default_height_m`. Courtyards are
    filled and parts (`building:part`) left out. The origin is the middle of the buildings' bounding box, and the
    projection equirectangular, which is exact to 0.1 % over 20 km. InputError for a file that is not readable, holds
    no building, has coordinates that are no degrees, or is wider than 20 km.
    """
    try:
        text = file.read_bytes()
        found = list(_from_xml(text) if text.lstrip()[:1] == b"<" else _from_json(json.loads(text)))
        rings = [np.array(ring, np.float64).reshape(-1, 2) for ring, _ in found]
    except (OSError, ElementTree.ParseError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"{file} is no OpenStreetMap XML, Overpass JSON or GeoJSON ({' '.join(str(error).split()) or error!r}): "
            "export it again"
        ) from error
    corners = np.concatenate([np.empty((0, 2)), *rings])
    if not len(corners):
        raise InputError(f"{file} holds no building with an outline: export an area with tag `building`")
    if not np.isfinite(corners).all() or (np.abs(corners) > (180, 90)).any():
        raise InputError(f"{file} has coordinates that are no longitude and latitude: save it in WGS 84 degrees")
    origin = (corners.min(0) + corners.max(0)) / 2
    scale = np.radians(1) * _EARTH_RADIUS_M * np.array([np.cos(np.radians(origin[1])), 1])
    width = np.ptp(corners * scale, axis=0).max()
    if width > _WIDEST_M:
        raise InputError(f"{file} is {width / 1000:.0f} km wide; a scene is at most {_WIDEST_M / 1000:g} km: cut it")
    buildings = []
    for ring, (_, tags) in zip(rings, found, strict=True):
        outline = _tidy((ring - origin) * scale)
        if outline is not None:
            buildings.append(Footprint(outline, _height(tags, default_height_m), _material(tags)))
    if not buildings:
        raise InputError(f"{file} holds no building of at least {_SMALLEST_M2:g} m²: export another area")
    return buildings


def _from_xml(text: bytes) -> Iterator[_Building]:
    root = ElementTree.fromstring(text)
    nodes = {n.get("id"): (float(n.attrib["lon"]), float(n.attrib["lat"])) for n in root.iter("node")}
    ways = {
        w.get("id"): [nodes[str(d.get("ref"))] for d in w.iter("nd") if d.get("ref") in nodes] for w in root.iter("way")
    }
    for way in root.iter("way"):
        tags = _xml_tags(way)
        if _is_building(tags):
            yield ways[way.get("id")], tags
    for relation in root.iter("relation"):
        tags = _xml_tags(relation)
        if _is_building(tags):
            members = (m for m in relation.iter("member") if m.get("type") == "way" and m.get("role") != "inner")
            for ring in _joined(ways[m.get("ref")] for m in members if m.get("ref") in ways):
                yield ring, tags


def _xml_tags(element: ElementTree.Element) -> dict[str, str]:
    return {str(t.get("k")): str(t.get("v")) for t in element.iter("tag")}


def _from_json(document: Any) -> Iterator[_Building]:
    if "elements" in document:
        yield from _from_overpass(document["elements"])
        return
    features = document["features"] if document["type"] == "FeatureCollection" else [document]
    for feature in features:
        geometry: dict[str, Any] = feature["geometry"] or {"type": ""}
        tags = feature.get("properties") or {}
        corners = geometry.get("coordinates")
        polygons: dict[str, Any] = {"Polygon": [corners], "MultiPolygon": corners}
        if str(tags.get("building", "yes")) != "no":
            for polygon in polygons.get(geometry["type"]) or []:
                yield [(float(c[0]), float(c[1])) for c in polygon[0]], tags


def _from_overpass(elements: list[dict[str, Any]]) -> Iterator[_Building]:
    nodes = {e["id"]: (float(e["lon"]), float(e["lat"])) for e in elements if e["type"] == "node"}

    def line(way: Mapping[str, Any]) -> _Ring:
        if way.get("geometry"):
            return [(float(p["lon"]), float(p["lat"])) for p in way["geometry"] if p]
        return [nodes[n] for n in way.get("nodes", ()) if n in nodes]

    ways = {e["id"]: line(e) for e in elements if e["type"] == "way"}
    for element in elements:
        tags = element.get("tags", {})
        if not _is_building(tags):
            continue
        if element["type"] == "way":
            yield ways[element["id"]], tags
        elif element["type"] == "relation":
            members = [m for m in element["members"] if m["type"] == "way" and m.get("role") != "inner"]
            for ring in _joined(line(m) or ways.get(m["ref"], []) for m in members):
                yield ring, tags


def _is_building(tags: Mapping[str, Any]) -> bool:
    return str(tags.get("building", "no")) != "no"


def _joined(lines: Iterable[_Ring]) -> Iterator[_Ring]:
    """Closed rings from the pieces of a multipolygon; pieces that do not close are left out."""
    open_lines = [line for line in lines if len(line) > 1]
    while open_lines:
        ring = open_lines.pop()
        while ring[0] != ring[-1]:
            piece = next((p for p in open_lines if ring[-1] in (p[0], p[-1])), None)
            if piece is None:
                break
            open_lines.remove(piece)
            ring = ring + (piece if piece[0] == ring[-1] else piece[::-1])[1:]
        if ring[0] == ring[-1]:
            yield ring


def _tidy(ring: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Without repeated corners and anticlockwise; None for what is no area."""
    ring = ring[np.hypot(*(ring - np.roll(ring, -1, 0)).T) > 0.01]
    if len(ring) < 3:
        return None
    following = np.roll(ring, -1, 0)
    area = 0.5 * float((ring[:, 0] * following[:, 1] - following[:, 0] * ring[:, 1]).sum())
    if abs(area) < _SMALLEST_M2:
        return None
    return ring if area > 0 else ring[::-1]


def _height(tags: Mapping[str, Any], default_m: float) -> float:
    for key, unit in (("height", 1.0), ("building:height", 1.0), ("building:levels", _LEVEL_M)):
        match = re.match(r"\s*(\d+(?:\.\d+)?)\s*('|ft|feet)?", str(tags.get(key, "")))
        if match and 0 < (value := float(match[1]) * (_FOOT_M if match[2] else unit)) <= _HIGHEST_M:
            return value
    return default_m


def _material(tags: Mapping[str, Any]) -> str:
    return _MATERIALS.get(str(tags.get("building:material", "")).lower(), "concrete")
