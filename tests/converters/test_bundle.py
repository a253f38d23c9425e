"""A bundle is written whole or not at all, and knows every byte of itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spikeport_converters.bundle import BundleWriter
from spikeport_converters.manifest import SCHEMA, read_manifest, verify_hashes
from spikeport_errors import InputError

MANIFEST = {"schema": SCHEMA, "model": {"name": "m"}, "target": {"id": "t"}, "route": "onnx", "precision": "fp32"}


def write(folder: Path, text: str = "weights") -> None:
    with BundleWriter(folder) as writer:
        writer.path("dense/model.onnx").write_text(text)
        writer.path("run.py").write_text("print('hello')")
        writer.commit(MANIFEST)


def test_a_committed_bundle_holds_its_files_and_their_hashes(folder):
    write(folder)
    assert set(read_manifest(folder)["files"]) == {"dense/model.onnx", "run.py"}
    assert verify_hashes(folder) == []


def fail_half_way(folder: Path, error: BaseException) -> None:
    with BundleWriter(folder) as writer:
        writer.path("dense/model.onnx").write_text("other")
        raise error


def test_an_error_leaves_nothing(folder):
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(folder, RuntimeError("half way"))
    assert list(folder.parent.iterdir()) == []


def test_no_commit_leaves_nothing(folder):
    with BundleWriter(folder) as writer:
        writer.path("dense/model.onnx").write_text("weights")
    assert list(folder.parent.iterdir()) == []


def test_an_error_keeps_the_older_bundle(folder):
    write(folder)
    with pytest.raises(KeyboardInterrupt):
        fail_half_way(folder, KeyboardInterrupt())
    assert (folder / "dense/model.onnx").read_text() == "weights"
    assert [p.name for p in folder.parent.iterdir()] == ["bundle"]


def test_what_a_killed_export_left_goes_with_the_next_one_and_nothing_else_does(folder):
    code = (
        "import os, signal, sys\nfrom spikeport_converters.bundle import BundleWriter\n"
        "with BundleWriter(sys.argv[1]) as writer:\n"
        "    writer.path('dense/model.onnx').write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = folder.parent.iterdir()
    foreign = [folder.parent / name for name in (f".{folder.name}.abcdefgh", f".{folder.name}.old.abcdefgh")]
    running = left.with_name(left.name.replace(left.name.rpartition("-")[2], f"{os.getpid()}.abcdefgh"))
    for other in (*foreign, running):
        other.mkdir()
    write(folder)
    names = {path.name for path in folder.parent.iterdir()}
    assert names == {folder.name, running.name, *(path.name for path in foreign)}


def test_a_new_bundle_takes_the_place_of_an_older_one(folder):
    write(folder)
    write(folder, "other")
    assert (folder / "dense/model.onnx").read_text() == "other"
    assert [p.name for p in folder.parent.iterdir()] == ["bundle"]


def test_a_foreign_folder_is_refused_and_not_touched(folder):
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"not a bundle.*choose another --out"):
        write(folder)
    assert [p.name for p in folder.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_way_is_refused(folder):
    folder.write_text("a file")
    with pytest.raises(InputError, match="is a file"):
        write(folder)


def test_an_empty_folder_is_taken(folder):
    folder.mkdir()
    write(folder)
    assert verify_hashes(folder) == []


@pytest.mark.parametrize("name", ["dense/model.onnx", "run.py", "manifest.json"])
def test_one_flipped_byte_anywhere_is_found_and_named(folder, name):
    write(folder)
    path = folder / name
    original = path.read_bytes()
    for place in range(len(original)):
        changed = bytearray(original)
        changed[place] ^= 1
        path.write_bytes(bytes(changed))
        assert name in [fault.name for fault in verify_hashes(folder)], f"byte {place}"


def test_missing_and_extra_files_are_named(folder):
    write(folder)
    (folder / "run.py").unlink()
    (folder / "notes.txt").write_text("mine")
    assert [str(f) for f in verify_hashes(folder)] == ["run.py (missing)", "notes.txt (extra)"]


def test_a_folder_without_a_manifest_is_no_bundle(folder):
    with pytest.raises(InputError, match=r"holds no manifest\.json"):
        verify_hashes(folder)
