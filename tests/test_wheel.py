"""The wheel holds every file of the tree that the packages need, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("src/spikeport", "toolkit/spikeport_toolkit", "converters/spikeport_converters",
         "targets/spikeport_targets", "profiles/spikeport_profiles")  # fmt: skip


def test_the_wheel_is_the_tree(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tree = {"spikeport_errors.py"}
    for room in ROOMS:
        root = ROOT / room
        tree |= {
            str(path.relative_to(root.parent))
            for path in root.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
    assert packed == tree
    for room in ROOMS:
        assert f"{Path(room).name}/py.typed" in packed
    assert "spikeport_toolkit/data/embedded/paths_v1.npz" in packed
    assert "spikeport_toolkit/checkpoints/spikewfm-nano/model.safetensors" in packed
    assert any(name.startswith("spikeport_targets/cards/") for name in packed)
