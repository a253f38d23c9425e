"""The main job, as `make demo` runs it, on fewer links."""

import json
import shutil
from pathlib import Path

import pytest

from spikeport.cli.app import run
from spikeport_converters.manifest import manifest_bytes

LINKS = "16"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "run"
    assert run(["demo", "--out", str(out), "--links", LINKS, "-q"]) == 0
    return out


def test_it_leaves_the_report_and_the_bundles(demo: Path) -> None:
    for name in ("report.html", "report.json", "report.md", "evaluation.json", "profile.json"):
        assert (demo / name).stat().st_size > 1000
    manifests = {path.parent.name: json.loads(path.read_text()) for path in demo.glob("*/manifest.json")}
    assert {"jetson-orin-nano-fp16", "jetson-orin-nano-int8", "snntorch-fp32", "norse-fp32"} <= set(manifests)
    assert all(manifest["parity"]["ok"] for manifest in manifests.values())
    assert not list(demo.rglob(".*")), "nothing temporary is left"


def test_every_nir_island_spikes_as_spikingjelly_does(demo: Path) -> None:
    for name in ("snntorch-fp32", "norse-fp32"):
        rows = json.loads((demo / name / "manifest.json").read_text())["parity"]["rows"]
        islands = [row for row in rows if row["kind"] == "spikes" and row["limit"] == 0]
        assert len(islands) == 7
        assert all(row["value"] == 0 for row in islands)


@pytest.mark.parametrize("name", ["jetson-orin-nano-int8", "snntorch-fp32"])
def test_check_passes_then_names_a_changed_byte(
    demo: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / name
    shutil.copytree(demo / name, bundle)
    assert run(["check", str(bundle)]) == 0
    files = [path for path in sorted(bundle.rglob("*")) if path.is_file()]
    for file in files:
        whole = file.read_bytes()
        middle = len(whole) // 2
        file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        capsys.readouterr()
        assert run(["check", str(bundle)]) == 1, file
        assert file.name in capsys.readouterr().out
        file.write_bytes(whole)


@pytest.mark.parametrize(
    ("route", "key", "value"),
    [("jetson-orin-nano-fp16", "dense", {"model": "../evil.onnx", "golden": "golden/model.npz", "layers": []}),
     ("jetson-orin-nano-fp16", "dense", None), ("snntorch-fp32", "hybrid", {}), ("snntorch-fp32", "runtime", 3)],
)  # fmt: skip
def test_a_forged_manifest_reaches_no_file_outside(
    demo: Path, tmp_path: Path, route: str, key: str, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / route
    shutil.copytree(demo / route, bundle)
    shutil.copy(bundle / "golden" / "model.npz", tmp_path / "evil.onnx")
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_bytes(manifest_bytes({**manifest, key: value}))
    assert run(["check", str(bundle)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_an_export_keeps_what_a_user_put_beside_the_bundle(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "mine"
    shutil.copytree(demo / "snntorch-fp32", bundle)
    (bundle / "notes.txt").write_text("mine")
    assert run(["export", "spikewfm-nano", "--target", "snntorch", "--out", str(bundle), "-q"]) == 2
    assert "notes.txt" in capsys.readouterr().err
    assert (bundle / "notes.txt").read_text() == "mine"


def test_the_report_says_what_was_run(demo: Path) -> None:
    text = (demo / "report.md").read_text()
    for word in ("spikewfm-nano", "Wiener", "jetson-orin-nano", "Loihi 2", "45 nm", "estimated", "simulated"):
        assert word in text
