"""What executes artefacts: one protocol, and a registry that other packages extend through entry points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError, MissingDependencyError, unknown_name

Array = NDArray[Any]

ENTRY_POINTS = "spikeport.targets"

_SHIPPED = {
    "onnxruntime": "spikeport_targets.runtimes.onnxruntime:OnnxRuntime",
    "snntorch": "spikeport_targets.runtimes.snntorch:SnnTorch",
    "norse": "spikeport_targets.runtimes.norse:Norse",
    "spikingjelly": "spikeport_targets.runtimes.spikingjelly:SpikingJelly",
    "sinabs": "spikeport_targets.runtimes.sinabs:Sinabs",
    "brian2": "spikeport_targets.runtimes.own_environment:Brian2",
    "lava": "spikeport_targets.runtimes.own_environment:Lava",
    "sanafe": "spikeport_targets.runtimes.own_environment:Sanafe",
    "reference": "spikeport_targets.runtimes.reference:Reference",
    "loihi-integer": "spikeport_targets.runtimes.loihi:LoihiInteger",
}


@dataclass(frozen=True)
class Availability:
    """Whether a runtime can run here; truthy when it can, else `reason` and `remedy` say what is missing."""

    ok: bool
    reason: str = ""
    remedy: str = ""

    def __bool__(self) -> bool:
        return self.ok

    def summary(self) -> str:
        """One line."""
        return f"available ({self.reason})" if self.ok else f"{self.reason}; {self.remedy}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"ok": self.ok, "reason": self.reason, "remedy": self.remedy}


@dataclass(frozen=True)
class Outputs:
    """What an artefact gave: arrays by name."""

    values: dict[str, Array]

    def __getitem__(self, name: str) -> Array:
        return self.values[name]

    def summary(self) -> str:
        """One line: names, types and shapes."""
        return ", ".join(f"{k} {v.dtype} {list(v.shape)}" for k, v in self.values.items())

    def to_dict(self) -> dict[str, Any]:
        """Types and shapes, not the values."""
        return {k: {"dtype": str(v.dtype), "shape": list(v.shape)} for k, v in self.values.items()}


@runtime_checkable
class Runtime(Protocol):
    """Something that executes artefacts of one `route` (`onnx` files or `nir` islands).

    A NIR runtime takes {'input': float32 [batch, *in], or [steps, batch, *in]} and gives {'spikes': uint8 [steps,
    batch, neurons], all spiking nodes in topological order, 'output': float32 [batch, *out], the mean over steps}. An
    ONNX runtime takes and gives what the graph names.
    """

    name: str
    route: str

    def available(self) -> Availability:
        """Whether it can run here, without running anything."""

    def run(self, artefact: Path, inputs: Mapping[str, Array]) -> Outputs:
        """Execute `artefact`.

        Raises InputError for a damaged file or unfit inputs, MissingDependencyError without the package.
        """


def runtimes() -> dict[str, Runtime]:
    """Every runtime by name: the shipped ones, and classes or instances behind the entry points."""
    found = {name: _load(place) for name, place in _SHIPPED.items()}
    for point in entry_points(group=ENTRY_POINTS):
        try:
            loaded = point.load()
        except Exception as error:  # another package's code: whatever it raises becomes one message
            raise MissingDependencyError(
                f"entry point {point.name!r} of {ENTRY_POINTS} ({point.value}) fails to load: {error}; "
                "repair or uninstall the package that declares it"
            ) from error
        runtime = loaded() if isinstance(loaded, type) else loaded
        if isinstance(runtime, Runtime):
            found.setdefault(runtime.name, runtime)
    return found


def get_runtime(name: str) -> Runtime:
    """The runtime called `name`; UsageError with the nearest name otherwise."""
    if name in _SHIPPED:
        return _load(_SHIPPED[name])
    known = runtimes()
    if name not in known:
        raise unknown_name("runtime", name, known, "`spikeport doctor` lists them")
    return known[name]


def installed(package: str, tested: str, extra: str) -> Availability:
    """Availability of a Python package: its version, or which extra of spikeport brings it."""
    try:
        found = version(package)
    except PackageNotFoundError:
        return Availability(
            False, f"{package} is not installed", f"pip install {package}=={tested} (the extra [{extra}])"
        )
    note = "" if found == tested else f", tested with {tested}"
    return Availability(True, f"{package} {found}{note}")


def require(runtime: Runtime) -> None:
    """MissingDependencyError with the remedy unless `runtime` is available."""
    answer = runtime.available()
    if not answer:
        raise MissingDependencyError(f"{answer.reason}; {answer.remedy}")


def check_arrays(inputs: Mapping[str, Array], wanted: Mapping[str, tuple[int | None, ...]], what: str) -> None:
    """InputError unless `inputs` are finite arrays with the `wanted` names and shapes (None: any size)."""
    if set(inputs) != set(wanted):
        raise InputError(f"{what} takes {', '.join(sorted(wanted))}; got {', '.join(sorted(inputs)) or 'nothing'}")
    for name, shape in wanted.items():
        value = np.asarray(inputs[name])
        if value.ndim != len(shape) or any(w not in (None, g) for w, g in zip(shape, value.shape, strict=True)):
            text = ", ".join("any" if w is None else str(w) for w in shape)
            raise InputError(f"{what}: {name} has shape {[*value.shape]}; it takes [{text}]")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise InputError(f"{what}: {name} holds values that are not finite; clean it first")


def _load(place: str) -> Runtime:
    module, _, name = place.partition(":")
    runtime: Runtime = getattr(import_module(module), name)()
    return runtime
