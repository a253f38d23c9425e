"""Load the scene of a city: built in, a Mitsuba file, an OpenStreetMap file, or procedural."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from spikeport_errors import InputError, SpikeportError
from spikeport_toolkit.data.raytrace.extrude import write_scene
from spikeport_toolkit.data.raytrace.footprints import read_footprints
from spikeport_toolkit.data.raytrace.llvm import import_sionna_rt
from spikeport_toolkit.data.raytrace.procedural import procedural_city
from spikeport_toolkit.data.raytrace.settings import City

__all__ = ["load_city"]


def load_city(city: City) -> Any:
    """The sionna-rt scene of `city`, with one vertical isotropic antenna at both ends.

    An `.xml` file is a Mitsuba scene unless its root is `osm`; `.osm`, `.json` and `.geojson` files hold footprints.
    InputError for a file that is missing, does not load or holds no building.
    """
    rt, _ = import_sionna_rt()
    try:
        scene = _load(rt, city)
    except SpikeportError:
        raise
    except Exception as error:  # Mitsuba and Sionna raise whatever the file leads them to
        what = city.file or f"scene {city.scene or city.name}"
        raise InputError(
            f"{what} does not load as a scene ({' '.join(str(error).split())[:200]}): it must be a Mitsuba XML file "
            "with ITU radio materials, its meshes beside it"
        ) from error
    scene.tx_array = scene.rx_array = rt.PlanarArray(num_rows=1, num_cols=1, pattern="iso", polarization="V")
    return scene


def _load(rt: Any, city: City) -> Any:
    if city.file is None:
        if city.scene:
            return rt.load_scene(getattr(rt.scene, city.scene))
        return rt.load_scene_from_string(procedural_city(city.seed, city.style, city.size_m))
    if not city.file.is_file():
        raise InputError(f"{city.file}, the scene of {city.name}, is not a file: check the path in the recipe")
    if not _is_map(city.file):
        return rt.load_scene(str(city.file))
    with tempfile.TemporaryDirectory() as folder:
        return rt.load_scene(str(write_scene(read_footprints(city.file, city.default_height_m), Path(folder))))


def _is_map(file: Path) -> bool:
    if file.suffix.lower() != ".xml":
        return True
    with file.open("rb") as stream:
        return bool(next(ElementTree.iterparse(stream, events=("start",)))[1].tag == "osm")
