"""Atomic writes: an artefact is written to a temporary name beside its place and renamed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spikeport_errors import InputError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it replaces `path`, on error nothing is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling folder; on success it takes the place of `path` (an older one is removed last).

    What a process of ours that was killed left behind for the same `path` is removed first.
    """
    path = path.resolve()
    if path == Path.cwd() or path in Path.cwd().parents:
        raise InputError(f"{path} is the working folder or above it; name a new folder inside it")
    path.parent.mkdir(parents=True, exist_ok=True)
    ours = f".{path.name}.{socket.gethostname()}-"
    for left in path.parent.iterdir():
        if left.name.startswith(ours) and _abandoned(left, left.name.removeprefix(ours).partition(".")[0]):
            shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{ours}{os.getpid()}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            with tempfile.TemporaryDirectory(prefix=f".{path.name}.old.", dir=path.parent) as old:
                path.rename(Path(old) / "old")
                temporary.rename(path)
        else:
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _abandoned(folder: Path, process: str) -> bool:
    """Whether a temporary folder is this user's, and the process in its name, of this machine, runs no more."""
    if os.name != "posix" or not process.isdecimal() or folder.is_symlink() or not folder.is_dir():
        return False
    try:
        if folder.stat().st_uid == os.getuid():
            os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def write_text(path: Path, text: str) -> None:
    """Atomically write UTF-8 text."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Atomically write indented JSON; NaN and infinities are refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Parse a JSON file; a missing or broken one is an InputError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON ({error}); it may be truncated: make it again") from None
