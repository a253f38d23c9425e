"""The main job, as `make demo` runs it, on fewer links."""

import json
import shutil
from pathlib import Path

import pytest

from spikeport.cli.app import run

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
        spikes = [row for row in rows if row["kind"] == "spikes"]
        assert len(spikes) == 7
        assert all(row["value"] == 0 for row in spikes)


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


def test_the_report_says_what_was_run(demo: Path) -> None:
    text = (demo / "report.md").read_text()
    for word in ("spikewfm-nano", "wiener", "jetson-orin-nano", "loihi2", "cmos45", "estimated", "simulated"):
        assert word in text
