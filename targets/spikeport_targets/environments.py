"""Environments of simulators that cannot share ours: incompatible pins, or a licence that stays in its own process.

Each is a virtual environment under `SPIKEPORT_ENVS` (default: the user's cache folder, spikeport/envs), made by
`spikeport env make NAME` and driven by subprocess. A marker is written last, so an interrupted one is made anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from spikeport_errors import InputError, MissingDependencyError, unknown_name

MARKER = "spikeport-environment.json"
MAKE_LIMIT_S = 1800.0
VENV = ("-m", "venv")
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


@dataclass(frozen=True)
class Recipe:
    """What an environment holds: `requirements` per minor Python version, tried in this order."""

    name: str
    summary: str
    licence: str
    requirements: dict[str, tuple[str, ...]]
    bare: dict[str, tuple[str, ...]] = field(default_factory=dict)
    "Requirements installed without their own dependencies, and whatever Python they ask for."
    shim: str = ""
    "A module of `environment_shims` that every process of the environment imports first."


_NIR = ("nir==1.0.8", "h5py>=3.12,<4")
_LAVA = (
    "numpy==1.26.4", "scipy==1.13.1", "asteval<0.10", "networkx<=2.8.7", "scikit-learn<1.6", "h5py>=3.12,<3.13",
    "matplotlib>=3.8,<3.10", "nir==1.0.8",
)  # fmt: skip
_DEEPMIMO = ("numpy==2.2.6", "scipy==1.17.1", "utm", "pandas", "shapely")

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "brian2",
            "Brian 2.9.0",
            "CeCILL-2.1 (in its own process)",
            {"3.11": ("brian2==2.9.0", "numpy==2.2.6", *_NIR)},
        ),
        Recipe(
            "sanafe",
            "SANA-FE 2.2.9",
            "GPL-3.0 (in its own process)",
            dict.fromkeys(("3.11", "3.12"), ("sanafe==2.2.9", "numpy==2.2.6", *_NIR)),
        ),
        Recipe(
            "lava",
            "Lava 0.10.0",
            "BSD-3-Clause and LGPL-2.1",
            {"3.10": ("lava-nc==0.10.0", "nir==1.0.8"), "3.11": _LAVA},
            bare={"3.11": ("lava-nc==0.10.0",)},
            shim="lava_shim",
        ),
        Recipe(
            "lava-dl",
            "Lava 0.10.0 with lava-dl 0.6.0 (netx) and torch",
            "BSD-3-Clause and LGPL-2.1",
            dict.fromkeys(("3.11", "3.10"), (*_LAVA, "torch==2.13.0")),
            bare=dict.fromkeys(("3.11", "3.10"), ("lava-nc==0.10.0", "lava-dl==0.6.0")),
            shim="lava_shim",
        ),
        Recipe(
            "deepmimo",
            "DeepMIMO 4.0.5 and DeepMIMOv3 0.2.8 (scenarios of channels: download, reference)",
            "GPL-2.0-or-later (in its own process)",
            dict.fromkeys(("3.11", "3.12"), ("deepmimo==4.0.5", "DeepMIMOv3==0.2.8", *_DEEPMIMO)),
        ),
        Recipe(
            "modelopt",
            "nvidia-modelopt 0.47.0 (its INT8 quantiser of ONNX graphs; pins another onnx and onnxruntime)",
            "Apache-2.0",
            dict.fromkeys(("3.11", "3.12"), ("nvidia-modelopt[onnx]==0.47.0", "numpy==2.2.6", "torch==2.13.0")),
        ),
    )
}


@dataclass(frozen=True)
class Environment:
    """One environment on this machine: whether it is made, where, with which Python, how large and in what time."""

    name: str
    holds: str
    licence: str
    made: bool
    folder: Path
    python: str = ""
    megabytes: int = 0
    seconds: float = 0.0

    def summary(self) -> str:
        """One line."""
        state = f"made, Python {self.python}, {self.megabytes} MB" if self.made else "not made"
        return f"{self.name:8} {self.holds}, {self.licence}: {state}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "folder": str(self.folder)}


def root() -> Path:
    """The folder of all environments."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("SPIKEPORT_ENVS") or cache / "spikeport" / "envs")


def environments() -> tuple[Environment, ...]:
    """Every known environment, made or not."""
    return tuple(environment(name) for name in RECIPES)


def environment(name: str) -> Environment:
    """The environment `name` as it stands; UsageError with the nearest name for an unknown one."""
    recipe, folder = _recipe(name), root() / name
    known = Environment(name, recipe.summary, recipe.licence, False, folder)
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        if marker["holds"] != _holds(recipe, marker["python"]) or not (folder / "bin" / "python").exists():
            return known
        size, seconds = int(marker["megabytes"]), float(marker["seconds"])
        return Environment(name, recipe.summary, recipe.licence, True, folder, marker["python"], size, seconds)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return known


def python_of(name: str) -> Path | None:
    """The Python of the environment `name`, None where it is not made."""
    found = environment(name)
    return found.folder / "bin" / "python" if found.made else None


def make_environment(name: str) -> Environment:
    """Make the environment `name`, or give the one that is made; nothing stays of one that cannot be made.

    MissingDependencyError without a fitting Python, pip or the packages; UsageError for an unknown name.
    """
    recipe, folder = _recipe(name), root() / name
    with _locked(name):
        if environment(name).made:
            return environment(name)
        version, python = _find_python(recipe)
        shutil.rmtree(folder, ignore_errors=True)
        started = time.monotonic()
        try:
            _step(name, [str(python), *VENV, str(folder)])
            pip = [str(folder / "bin" / "python"), *PIP]
            _step(name, [*pip, *recipe.requirements[version]])
            if version in recipe.bare:
                _step(name, [*pip, "--no-deps", "--ignore-requires-python", *recipe.bare[version]])
            if recipe.shim:
                _write_shim(recipe, folder)
            mark(recipe, version, folder, time.monotonic() - started)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return environment(name)


def mark(recipe: Recipe, version: str, folder: Path, seconds: float) -> None:
    """Say in `folder` that it is finished, and holds what `recipe` asks for on Python `version`."""
    marker = {
        "holds": _holds(recipe, version),
        "python": version,
        "megabytes": sum(file.lstat().st_size for file in folder.rglob("*")) >> 20,
        "seconds": round(seconds, 1),
    }
    partial = folder / f".{MARKER}"
    partial.write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / MARKER)


def remove_environment(name: str) -> bool:
    """Remove the environment `name`; whether there was one."""
    _recipe(name)
    with _locked(name):
        there = (root() / name).exists()
        (root() / name / MARKER).unlink(missing_ok=True)
        shutil.rmtree(root() / name, ignore_errors=True)
    return there


def run_in(name: str, arguments: Sequence[str], limit_s: float) -> None:
    """Run the Python of the environment `name` with `arguments`, cut off from ours; nothing of it survives `limit_s`.

    MissingDependencyError where the environment is not made; InputError where it fails or takes longer.
    """
    python = python_of(name)
    if python is None:
        raise MissingDependencyError(f"environment {name} is not made; spikeport env make {name}")
    code, text = _run([str(python), "-I", *arguments], limit_s)
    if code is None:
        raise InputError(f"{name} did not finish within {limit_s:g} s and was stopped; give it fewer tokens")
    if code:
        last = next((line for line in reversed(text.splitlines()) if line.strip()), f"exit code {code}")
        raise InputError(last.removeprefix("error: ") if last.startswith("error: ") else f"{name} failed: {last}")


def _run(command: Sequence[str], limit_s: float) -> tuple[int | None, str]:
    """Exit code (None: stopped after `limit_s`, with all its children) and everything it printed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON") and key != "VIRTUAL_ENV"}
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env=clean,
            cwd=tempfile.gettempdir(),
            start_new_session=True,
        )
        code: int | None = None
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        printed.seek(0)
        return code, printed.read().decode(errors="replace")


def _step(name: str, command: Sequence[str]) -> None:
    try:
        code, text = _run(command, MAKE_LIMIT_S)
    except OSError as error:
        raise MissingDependencyError(f"environment {name}: {command[0]} does not run ({error.strerror})") from None
    if code == 0:
        return
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("WARNING")]
    reason = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "no answer")
    offline = ("No matching distribution", "Could not find a version", "NewConnectionError", "Max retries")
    if code is None:
        problem, remedy = f"it did not finish within {MAKE_LIMIT_S:g} s", "check the network and try again"
    elif any(word in text for word in offline):
        problem, remedy = f"pip found no package ({reason[:160]})", "check the network and pip's index, and try again"
    elif "venv" in command or "No module named pip" in text:
        problem, remedy = f"{command[0]} has no venv or pip ({reason[:160]})", "install them (Debian: python3-venv)"
    else:
        problem, remedy = reason[:240], "mend what it names, and try again"
    raise MissingDependencyError(f"environment {name} was not made: {problem}; {remedy}")


def _find_python(recipe: Recipe) -> tuple[str, Path]:
    """Version and path of the first Python that fits; MissingDependencyError names the versions otherwise."""
    for version in recipe.requirements:
        for place in _pythons(version):
            test = "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != sys.argv[1])"
            try:
                if place.exists() and _run([str(place), "-I", "-c", test, version], 30.0)[0] == 0:
                    return version, place
            except OSError:
                continue
    wanted = " or ".join(recipe.requirements)
    raise MissingDependencyError(
        f"environment {recipe.name} needs Python {wanted}, and none with venv is on PATH, in pyenv or in uv; "
        f"install one, such as `uv python install {next(iter(recipe.requirements))}`"
    )


def _pythons(version: str) -> Iterator[Path]:
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        yield Path(getattr(sys, "_base_executable", sys.executable))
    if found := shutil.which(f"python{version}"):
        yield Path(found)
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from sorted(versions.glob(f"{version}.*/bin/python{version}"), reverse=True)
    if uv := shutil.which("uv"):
        code, text = _run([uv, "python", "find", version], 30.0)
        if code == 0 and text.strip():
            yield Path(text.strip().splitlines()[-1])


def _write_shim(recipe: Recipe, folder: Path) -> None:
    (packages,) = folder.glob("lib/python3.*/site-packages")
    source = files("spikeport_targets") / "environment_shims" / f"{recipe.shim}.py"
    (packages / f"{recipe.shim}.py").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    (packages / f"{recipe.shim}.pth").write_text(f"import {recipe.shim}\n", encoding="utf-8")


def _holds(recipe: Recipe, version: str) -> list[str]:
    return [*recipe.requirements[version], *recipe.bare.get(version, ()), recipe.shim]


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise unknown_name("environment", name, RECIPES, "`spikeport env list` lists them")
    return RECIPES[name]


@contextmanager
def _locked(name: str) -> Iterator[None]:
    root().mkdir(parents=True, exist_ok=True)
    with (root() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
