"""Fetch a DeepMIMO scenario by name, through DeepMIMO's own package in its own environment (its licence is GPL)."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from spikeport_errors import InputError, MissingDependencyError, UsageError

__all__ = ["download_deepmimo"]

# deepmimo.download prints what went wrong and returns None, so the folder alone says whether it worked.
_SCRIPT = """
import sys
import deepmimo
name, archive_folder, scenarios = sys.argv[1:]
deepmimo.config.set("scenarios_folder", scenarios)
deepmimo.download(name, output_dir=archive_folder)
"""


def download_deepmimo(name: str, out: Path, *, python: Path | None = None) -> Path:
    """The folder `out/name` of the DeepMIMO v4 scenario `name`, downloaded unless it is there already.

    `python` is the interpreter that has the package deepmimo (`spikeport env make deepmimo`); None is this one. A
    `NAME_downloaded.zip` that lies in `out` is unpacked in place of a download. The folder appears whole or not at
    all. DeepMIMO's scenarios are CC BY-NC-SA 4.0 unless their page says otherwise: not for commercial use.

    Raises UsageError for a name that is none, MissingDependencyError without deepmimo, and InputError with DeepMIMO's
    own message where the network, the name or the archive fails.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", name):
        raise UsageError(f"{name!r} is no DeepMIMO scenario: names look like asu_campus_3p5 or city_18_denver_28")
    out = Path(out).resolve()
    folder = out / name
    if (folder / "params.json").is_file():
        return folder
    if folder.exists():
        raise InputError(f"{folder} is there but is no DeepMIMO v4 scenario: move it away, or name another --out")
    out.mkdir(parents=True, exist_ok=True)
    archive = out / f"{name}_downloaded.zip"
    given = archive.exists()
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=out) as scratch:
        command = [str(python or sys.executable), "-I", "-c", _SCRIPT, name, str(out), scratch]
        try:
            run = subprocess.run(
                command, cwd=scratch, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise MissingDependencyError(f"{command[0]} does not run ({error}): spikeport env make deepmimo") from None
        said = run.stdout + run.stderr
        if "No module named 'deepmimo'" in said:
            raise MissingDependencyError("downloading needs the package deepmimo: spikeport env make deepmimo")
        made = Path(scratch) / name
        if not (made / "params.json").is_file():
            last = " ".join((said.strip().splitlines() or ["it gave no reason"])[-1].split())[:300]
            remedy = f"remove {archive}" if given else f"or put its zip at {archive}"
            if not given:
                archive.unlink(missing_ok=True)
            raise InputError(
                f"DeepMIMO's scenario {name} was not had ({last}): check the name and the network, {remedy}"
            )
        made.rename(folder)
    return folder
