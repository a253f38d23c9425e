"""manifest.json: what a bundle says about itself, and the hashes that hold it to that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikeport_errors import InputError

SCHEMA = "spikeport.bundle/1"
MANIFEST = "manifest.json"
DIGEST = "digest"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class FileFault:
    """One file that is not as the manifest says: `fault` is changed, missing or extra."""

    name: str
    fault: str

    def __str__(self) -> str:
        return f"{self.name} ({self.fault})"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle; InputError, naming the file, where it is missing, broken or of another schema."""
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} is not a bundle: it holds no {MANIFEST}; `spikeport export` writes one") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is broken ({error}): export again") from None
    if (
        not isinstance(manifest, dict)
        or manifest.get("schema") != SCHEMA
        or not isinstance(manifest.get("files"), dict)
    ):
        raise InputError(f"{path} is not a manifest of schema {SCHEMA}: export again with this version")
    return manifest


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """The file's exact bytes: JSON that ends with the digest of everything before it."""
    body = {key: value for key, value in manifest.items() if key != DIGEST}
    return _encoded({**body, DIGEST: hashlib.sha256(_encoded(body)).hexdigest()})


def file_entries(folder: Path) -> dict[str, dict[str, Any]]:
    """`{relative path: {"sha256", "bytes"}}` of every file under `folder` except the manifest."""
    return {
        name: {"sha256": _sha256(folder / name), "bytes": (folder / name).stat().st_size} for name in _names(folder)
    }


def verify_hashes(folder: Path) -> list[FileFault]:
    """Every file that was changed, is missing, or does not belong to the bundle; empty when all is as written.

    A manifest.json with a changed byte is named like any other file. Raises InputError where there is none.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        read_manifest(folder)
    try:
        manifest = read_manifest(folder)
        intact = manifest_bytes(manifest) == (folder / MANIFEST).read_bytes()
    except (InputError, ValueError):
        return [FileFault(MANIFEST, "changed")]
    faults = [] if intact else [FileFault(MANIFEST, "changed")]
    listed, present = manifest["files"], set(_names(folder))
    for name, entry in listed.items():
        if name not in present:
            faults.append(FileFault(name, "missing"))
        elif (folder / name).is_symlink():
            faults.append(FileFault(name, "a link"))
        elif not (folder / name).is_file():
            faults.append(FileFault(name, "no file"))
        elif not isinstance(entry, dict) or _sha256(folder / name) != entry.get("sha256"):
            faults.append(FileFault(name, "changed"))
    return faults + [FileFault(name, "extra") for name in sorted(present - set(listed))]


def require_listed(folder: Path, manifest: Mapping[str, Any]) -> None:
    """InputError unless every file that a run would open because the manifest names it is a file of the bundle."""
    for name in named_files(manifest):
        if name not in manifest["files"]:
            raise InputError(f"{folder / MANIFEST} names {name!r}, which is no file of the bundle: export again")


def named_files(manifest: Mapping[str, Any]) -> list[Any]:
    """Every file that a parity run opens because the manifest names it."""
    if manifest["route"] == "onnx":
        return [manifest["dense"]["model"], manifest["dense"]["golden"]]
    hybrid = manifest["hybrid"]
    islands = [island[key] for island in hybrid["islands"] for key in ("file", "golden")]
    return [*islands, *(s["file"] for s in hybrid["segments"] if s is not None), "golden/model.npz"]


@contextmanager
def blaming_manifest(folder: Path) -> Iterator[None]:
    """Whatever a manifest or golden file without the wanted keys makes Python raise is one InputError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        what = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{folder / MANIFEST} or a golden file lacks what a bundle holds ({what}): export again"
        ) from None


def _names(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for path in files if (name := path.relative_to(folder).as_posix()) != MANIFEST)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _encoded(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
