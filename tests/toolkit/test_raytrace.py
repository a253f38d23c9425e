"""The generator reproduces what is stored, agrees with Sionna's own channels, and says what it lacks."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from xml.etree import ElementTree

import numpy as np
import pytest

from spikeport_errors import InputError, MissingDependencyError
from spikeport_toolkit.data.make import make
from spikeport_toolkit.data.path_store import open_store
from spikeport_toolkit.data.raytrace import City, Tracing, generate_city, llvm, trace
from spikeport_toolkit.data.raytrace.extrude import extrude
from spikeport_toolkit.data.raytrace.footprints import read_footprints
from spikeport_toolkit.data.raytrace.procedural import PLANS, procedural_city
from spikeport_toolkit.data.raytrace.scenes import load_city
from spikeport_toolkit.data.recipe import load_data_recipe
from spikeport_toolkit.data.schema import PATH_FIELDS
from spikeport_toolkit.data.store import load_embedded, load_paths
from spikeport_toolkit.data.synthesis import channels


def _lacking() -> str:
    if find_spec("sionna") is None:
        return "sionna-rt is not installed: pip install 'spikeport[rt]'"
    try:
        llvm.find_llvm()
    except MissingDependencyError as error:
        return str(error)
    return ""


needs_ray_tracing = pytest.mark.skipif(bool(_lacking()), reason=_lacking() or "ray tracing is available")


@pytest.mark.llvm
@needs_ray_tracing
def test_a_city_traced_again_gives_its_stored_paths(tmp_path):
    users = 20
    make(load_data_recipe("embedded").narrowed(["munich"], users), tmp_path / "store")
    stored = [s for s in load_embedded() if s.city == "munich"]
    again = load_paths(tmp_path / "store" / "paths_v1.npz")
    assert len(again) == len(stored) == 4
    for new, old in zip(again, stored, strict=True):
        first, width = old.select(np.arange(new.links)), new.a.shape[1]
        assert 0 < new.links <= users
        np.testing.assert_allclose(new.bs, first.bs)
        np.testing.assert_array_equal(new.ue, first.ue)
        np.testing.assert_array_equal(new.los, first.los)
        np.testing.assert_allclose(new.gain_db, first.gain_db, atol=1.0)
        # The same CPU gives the same bits; on another, rounding may decide whether a faint path is found.
        same = new.n_paths == first.n_paths
        for field in PATH_FIELDS:
            value, stored_value = getattr(new, field), getattr(first, field)[:, :width]
            same &= np.isclose(value, stored_value, rtol=1e-3, atol=1e-5 * np.abs(stored_value).max()).all(1)
        assert same.mean() >= 0.9


TOWN = """<osm><bounds/>{nodes}<way id="1"><nd ref="0"/><nd ref="1"/><nd ref="2"/><nd ref="3"/><nd ref="0"/>
<tag k="building" v="yes"/><tag k="height" v="24"/></way>
<way id="2"><nd ref="4"/><nd ref="5"/><nd ref="6"/><nd ref="7"/><nd ref="8"/><nd ref="9"/><nd ref="4"/>
<tag k="building" v="school"/><tag k="building:levels" v="4"/><tag k="building:material" v="brick"/></way></osm>"""
CORNERS = [(0, 0), (60, 0), (60, 30), (0, 30), (80, 0), (140, 0), (140, 60), (120, 60), (120, 20), (80, 20)]


def osm_file(folder):
    place = "".join(
        f'<node id="{i}" lon="{8.5 + x / 75e3}" lat="{47.4 + y / 111e3}"/>' for i, (x, y) in enumerate(CORNERS)
    )
    (folder / "town.osm").write_text(TOWN.format(nodes=place))
    return folder / "town.osm"


@pytest.mark.llvm
@needs_ray_tracing
@pytest.mark.parametrize("city", ["munich", "town"])
def test_synthesis_equals_sionnas_own_channel_with_motion_and_arrays(city, monkeypatch, tmp_path):
    """In a city of the wheel and in a scene that a recipe makes from a map, below -70 dB."""
    limits = {"_WEAKEST_PATH_DB": -300, "_WEAKEST_LINK_DB": -300, "MAX_PATHS": 10_000, "_MOST_COMPARED": 0}
    for limit, value in limits.items():
        monkeypatch.setattr(trace, limit, value)
    rt, mi = llvm.import_sionna_rt()
    kinds = {"munich": City("munich", scene="munich"), "town": City("town", file=osm_file(tmp_path))}
    scene, rng, tracing = (
        load_city(kinds[city]),
        np.random.default_rng(5),
        Tracing(stations=1, seed=1, cell_radius_m=150 if city == "munich" else 80),
    )
    bs = trace.place_stations(scene, tracing, rng)[0]
    users = trace.place_users(scene, bs, trace.GROUP, rng, tracing)
    paths = trace.trace_paths(scene, city, 0, bs, users, 3.5e9, tracing)
    velocity = np.column_stack([rng.uniform(-5, 5, (trace.GROUP, 2)), np.zeros(trace.GROUP)])
    for receiver, moving in zip(scene.receivers.values(), velocity.tolist(), strict=True):
        receiver.velocity = mi.Vector3f(*moving)
    scene.tx_array = scene.rx_array = rt.PlanarArray(
        num_rows=1, num_cols=2, horizontal_spacing=0.5, pattern="iso", polarization="V"
    )
    reference = rt.PathSolver(deterministic=True)(scene, seed=1, **trace.solver_options(tracing)).cfr(
        frequencies=rt.subcarrier_frequencies(48, 30e3), sampling_frequency=28e3, num_time_steps=14,
        normalize_delays=False, out_type="numpy",
    )  # fmt: skip
    frequencies = np.asarray(rt.subcarrier_frequencies(48, 30e3), dtype=np.float64)
    ours = channels(paths, np.arange(trace.GROUP), np.arange(14) / 28e3, frequencies, velocity)
    theirs = np.moveaxis(reference[:, :, 0], (1, 2, 3, 4), (2, 3, 1, 4)).reshape(ours.shape)
    assert (paths.n_paths > 0).sum() > 30
    error_db = 10 * np.log10((np.abs(ours - theirs) ** 2).sum() / (np.abs(theirs) ** 2).sum())
    assert error_db < -70


@pytest.mark.llvm
@needs_ray_tracing
def test_a_recipe_of_your_own_scenes_becomes_a_store_with_its_licences(tmp_path):
    osm_file(tmp_path)
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "mine.xml").write_text(procedural_city(4, "grid", 400))
    (tmp_path / "mine.toml").write_text("""
        source = "raytrace"
        stations = 1
        users_per_station = 10
        carriers_ghz = [28]
        cell_radius_m = 80
        [[city]]
        name = "hometown"
        file = "town.osm"
        [[city]]
        name = "campus"
        file = "scenes/mine.xml"
        licence = "CC-BY-4.0"
        attribution = "the campus"
    """)
    made = make(load_data_recipe(str(tmp_path / "mine.toml")), tmp_path / "store", workers=2)
    store = open_store(made)
    assert store.cities == ("hometown", "campus")
    assert store.carriers == (28e9,)
    rights = {name: json.loads((made / name / "shard.json").read_text()) for name in store.cities}
    assert rights["hometown"]["licence"] == "ODbL-1.0"
    assert "OpenStreetMap" in rights["hometown"]["attribution"]
    assert rights["campus"]["attribution"] == "the campus"


@pytest.mark.llvm
@needs_ray_tracing
def test_a_scene_that_does_not_load_is_named_with_the_reason(tmp_path):
    (tmp_path / "scene.xml").write_text('<scene version="2.1.0"><shape type="ply"/></scene>')
    with pytest.raises(InputError, match=r"scene\.xml does not load as a scene"):
        generate_city(City("mine", file=tmp_path / "scene.xml"), Tracing())
    with pytest.raises(InputError, match=r"no room for 50 base stations .* fewer stations"):
        generate_city(City("proc1", seed=1, size_m=300), Tracing(stations=50))


def test_a_map_gives_every_building_its_outline_height_and_wall(tmp_path):
    first, second = read_footprints(osm_file(tmp_path), 10.0)
    assert (first.height_m, first.material) == (24.0, "concrete")
    assert (second.height_m, second.material) == (12.0, "brick")
    np.testing.assert_allclose(np.ptp(first.ring, axis=0), (60, 30), rtol=0.02)


@pytest.mark.parametrize("reverse", [False, True])
def test_an_l_shaped_house_is_closed_and_has_its_volume(reverse, tmp_path):
    house = read_footprints(geojson(tmp_path, CORNERS[4:][:: -1 if reverse else 1], height=10), 3.0)[0]
    vertices, faces = extrude(house)
    area = abs(
        sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(house.ring, np.roll(house.ring, -1, 0), strict=True)) / 2
    )
    a, b, c = vertices[faces].transpose(1, 0, 2)
    assert np.einsum("fi,fi->f", a, np.cross(b, c)).sum() / 6 == pytest.approx(10 * area)
    assert len(faces) == 3 * len(house.ring) - 2


def geojson(folder, corners, **tags):
    ring = [[8.5 + x / 75e3, 47.4 + y / 111e3] for x, y in [*corners, corners[0]]]
    feature = {"type": "Feature", "properties": tags, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    (folder / "map.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return folder / "map.geojson"


def test_overpass_json_with_a_multipolygon_in_two_pieces(tmp_path):
    corner = [{"lon": 8.5 + x / 75e3, "lat": 47.4 + y / 111e3} for x, y in CORNERS[:4]]
    pieces = [{"type": "way", "ref": 1, "role": "outer", "geometry": corner[:3]},
              {"type": "way", "ref": 2, "role": "outer", "geometry": [corner[0], corner[3], corner[2]]}]  # fmt: skip
    relation = {"type": "relation", "id": 9, "tags": {"building": "yes", "height": "30 ft"}, "members": pieces}
    (tmp_path / "map.json").write_text(json.dumps({"elements": [relation]}))
    (house,) = read_footprints(tmp_path / "map.json", 3.0)
    assert len(house.ring) == 4
    assert house.height_m == pytest.approx(9.144)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("<osm/>", "holds no building"),
        ("<osm", "is no OpenStreetMap XML"),
        ("{}", "is no OpenStreetMap XML"),
        ('{"elements": [{"type": "way", "id": 1, "tags": {"building": "yes"}, "nodes": [7]}]}', "holds no building"),
        ('{"type": "Polygon"}', "is no OpenStreetMap XML"),
    ],
)
def test_a_map_without_buildings_or_of_another_kind_is_named(tmp_path, content, says):
    (tmp_path / "map.json").write_text(content)
    with pytest.raises(InputError, match=rf"map\.json {says}"):
        read_footprints(tmp_path / "map.json", 10.0)


def test_a_map_in_metres_or_of_a_whole_country_is_refused(tmp_path):
    with pytest.raises(InputError, match="WGS 84"):
        read_footprints(geojson(tmp_path, [(1e9, 0), (2e9, 0), (2e9, 5)]), 10.0)
    with pytest.raises(InputError, match="km wide"):
        read_footprints(geojson(tmp_path, [(0, 0), (9e4, 0), (9e4, 9e4)]), 10.0)


def test_without_llvm_the_error_is_one_clear_line_and_no_abort():
    code = "from spikeport_toolkit.data.raytrace import City, Tracing, generate_city as g; g(City('x'), Tracing())"
    environment = os.environ | {"DRJIT_LIBLLVM_PATH": "/nonexistent.so", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert "MissingDependencyError: DRJIT_LIBLLVM_PATH is /nonexistent.so" in last
    assert "libllvm19" in last


@pytest.mark.parametrize("name", ["libLLVM-15.so.1", "libLLVM.so.16.0", "libLLVM-14.so"])
def test_an_llvm_that_would_abort_is_refused_by_version(tmp_path, monkeypatch, name):
    (tmp_path / name).touch()
    monkeypatch.setenv("DRJIT_LIBLLVM_PATH", str(tmp_path / name))
    with pytest.raises(MissingDependencyError, match=r"LLVM 1[456], and ray tracing needs LLVM 17 or newer"):
        llvm.find_llvm()


def test_an_old_llvm_alone_is_refused_and_the_newest_is_chosen(tmp_path, monkeypatch):
    monkeypatch.delenv("DRJIT_LIBLLVM_PATH", raising=False)
    old, new = tmp_path / "libLLVM-15.so.1", tmp_path / "libLLVM.so.19.1"
    monkeypatch.setattr(llvm, "_candidates", lambda: {old})
    with pytest.raises(MissingDependencyError, match=r"found only 15.*libllvm19"):
        llvm.find_llvm()
    monkeypatch.setattr(llvm, "_candidates", lambda: {old, new})
    assert llvm.find_llvm() == new


@pytest.mark.parametrize("index", range(6))
def test_a_procedural_city_is_the_same_every_time_and_legal_at_28_ghz(index):
    scene = procedural_city(index)
    assert scene == procedural_city(index) != procedural_city(index + len(PLANS))
    root = ElementTree.fromstring(scene)
    kinds = {m.find("string").get("value") for m in root.iter("bsdf")}
    assert kinds <= {"concrete", "brick", "marble", "glass", "metal"}
    assert len(root.findall("shape[@type='cube']")) > 80


def test_a_procedural_city_has_the_style_and_size_that_are_asked_for():
    small, large = (len(procedural_city(1, "organic", size)) for size in (400.0, 1200.0))
    assert small < large
    assert procedural_city(1, "grid") == procedural_city(1, "grid") != procedural_city(1, "organic")
    assert procedural_city(1) == procedural_city(1, PLANS[1])
