"""The bundle: the folder a user copies to the device. It is written whole or not at all."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from spikeport_errors import InputError
from spikeport_toolkit.files import atomic_folder

from .ladder import PARITY, Rung
from .manifest import MANIFEST, file_entries, manifest_bytes, read_manifest, verify_hashes
from .parity import ParityReport


@dataclass(frozen=True)
class Bundle:
    """A committed bundle: its folder, its manifest and the verdict of the parity run that followed the export."""

    folder: Path
    manifest: dict[str, Any]
    parity: ParityReport

    @property
    def ok(self) -> bool:
        """Whether parity holds and no rung of the verify ladder failed."""
        return self.parity.ok and all(rung["verdict"] != "failed" for rung in self.manifest.get("ladder", ()))

    def summary(self) -> str:
        """One line on what it is, then the parity rows and the rungs of the verify ladder."""
        files = self.manifest["files"]
        size = sum(entry["bytes"] for entry in files.values()) / 1e6
        what = f"{self.manifest['model']['name']} for {self.manifest['target']['id']}, {self.manifest['precision']}"
        lines = [f"{self.folder}: {what}, {len(files)} files, {size:.1f} MB", self.parity.summary()]
        rungs = [Rung(**rung) for rung in self.manifest.get("ladder", ())]
        lines += [rung.summary() for rung in rungs if rung.name != PARITY or not rung.ok]
        if table := self.manifest.get("sensitivity"):
            from .sensitivity import Sensitivity

            lines.append(Sensitivity.from_dict(table).summary())
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Folder and manifest (which holds the parity rows)."""
        return {"folder": str(self.folder), "manifest": self.manifest}


class BundleWriter:
    """Context manager: files go into a temporary sibling folder, which `commit` puts in place of `folder`.

    Without a commit, or on any error, nothing is left and an older bundle stays as it was. Raises InputError for
    a target that exists and is neither empty nor a bundle, so that no foreign folder is ever replaced.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self._stack = ExitStack()
        self._temporary: Path | None = None

    def __enter__(self) -> Self:
        _refuse_foreign(self.folder)
        try:
            self._temporary = self._stack.enter_context(atomic_folder(self.folder))
        except OSError as error:
            raise InputError(f"{self.folder} cannot be written ({error.strerror}): choose another --out") from None
        return self

    @property
    def root(self) -> Path:
        """The temporary folder that becomes the bundle."""
        assert self._temporary is not None, "BundleWriter is used inside `with`, before commit"
        return self._temporary

    def path(self, name: str) -> Path:
        """Path of a file of the bundle, its parent folders made."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def commit(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Add sha256 and size of every file, write manifest.json, and rename; the manifest as written."""
        manifest = {**manifest, "files": file_entries(self.root)}
        self.path(MANIFEST).write_bytes(manifest_bytes(manifest))
        manifest = read_manifest(self.root)
        self._temporary = None
        self._stack.close()
        return manifest

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._temporary is not None:
            self._temporary = None
            abandoned = error or _AbandonedError()
            self._stack.__exit__(type(abandoned), abandoned, trace)


class _AbandonedError(Exception):
    """Tells the atomic folder that no commit came."""


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: choose another --out")
    if any(folder.iterdir()):
        try:
            read_manifest(folder)
        except InputError:
            raise InputError(
                f"{folder} exists and is not a bundle; an export replaces only bundles: choose another --out, "
                "or remove it yourself"
            ) from None
        foreign = [fault.name for fault in verify_hashes(folder) if fault.fault == "extra"]
        if foreign:
            raise InputError(
                f"{folder} is a bundle that also holds {foreign[0]}, which an export would remove: move it, or choose "
                "another --out"
            )
