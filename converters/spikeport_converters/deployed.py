"""A bundle as a predictor: the artefact as it would run there, patches in, predicted patches out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import InputError, UnsupportedError, UsageError
from spikeport_targets.runtime import Runtime, get_runtime, require
from spikeport_targets.runtimes import nir_runner
from spikeport_targets.runtimes.onnxruntime import OnnxRuntime
from spikeport_toolkit.models.layers import FeedForward

from .manifest import blaming_manifest, read_manifest, require_listed, verify_hashes
from .onnx_graph import INPUT, OUTPUT

Patches = NDArray[np.float32]


@dataclass(frozen=True)
class Pass:
    """One run of a hybrid model: its output, and per island what it was fed, its spikes (counts 0..D), what it gave."""

    output: Patches
    fed: tuple[Patches, ...]
    spikes: tuple[NDArray[np.uint8], ...]
    outputs: tuple[Patches, ...]


class Deployed:
    """The bundle in `folder`, called with scaled patches `[batch, token, 336]`, gives predicted patches.

    A bundle of the route `onnx` runs in onnxruntime in its own precision. One of the route `nir` or `loihi` runs its
    dense segments in onnxruntime and its islands in its own simulator, or in the runtime `islands`, all tokens in one
    batch.
    Raises InputError for a bundle that is not as it was written.
    """

    def __init__(self, folder: Path | str, islands: str | None = None):
        self.folder = Path(folder)
        faults = verify_hashes(self.folder)
        if faults:
            raise InputError(f"{self.folder} is not as it was written: {faults[0]}; export again")
        self.manifest = read_manifest(self.folder)
        self._opened: dict[str, Any] = {}
        with blaming_manifest(self.folder):
            require_listed(self.folder, self.manifest)
            route = self.manifest["route"]
            self.islands = islands or str(self.manifest["runtime"]) if route in ("nir", "loihi") else None
            self.name = self._name()
        if route not in ("onnx", "nir", "loihi"):
            raise UnsupportedError(f"{self.folder} is of the route {route}, which runs no whole model: export to NIR")
        if self.islands is not None:
            runtime = get_runtime(self.islands)
            if runtime.route != route:
                raise UsageError(f"{self.islands} runs no islands of the route {route}: take a simulator, or reference")
            require(runtime)

    def _name(self) -> str:
        """`spikewfm-nano on jetson-orin-nano, int8`, or `... on snntorch, fp32`."""
        where = str(self.manifest["target"]["id"])
        where += "" if self.islands in (None, self.manifest.get("runtime")) else f" (islands in {self.islands})"
        return f"{self.manifest['model']['name']} on {where}, {self.manifest['precision']}"

    def __call__(self, patches: Patches) -> Patches:
        """Predicted patches `[batch, predicted token, 336]`."""
        with blaming_manifest(self.folder):
            if self.islands is not None:
                runtime = get_runtime(self.islands)
                return hybrid_pass(self.folder, self.manifest, runtime, patches, opened=self._opened).output
            session = self._opened.get(INPUT) or OnnxRuntime().open(self.folder / self.manifest["dense"]["model"])
            self._opened[INPUT] = session
            prediction: Patches = session.run({INPUT: patches})[OUTPUT]
            return prediction


def hybrid_pass(
    folder: Path,
    manifest: Mapping[str, Any],
    runtime: Runtime,
    patches: Patches,
    *,
    forced: Sequence[Patches] | None = None,
    opened: dict[str, Any] | None = None,
) -> Pass:
    """Run a hybrid bundle: dense segments in onnxruntime, islands in `runtime`.

    With `forced`, what island k gives is replaced by `forced[k]`, so that every layer starts from the reference and a
    spike that differs in one layer does not reach the next. `opened` keeps onnxruntime's sessions between calls.
    """
    record = _Record(runtime, forced)
    try:
        output = nir_runner.run_hybrid(folder, manifest["hybrid"], patches, record.run, opened)
    except nir_runner.IslandError as error:
        raise InputError(str(error)) from None
    return record.result(output)


def torch_pass(
    folded: nn.Module,
    folder: Path,
    manifest: Mapping[str, Any],
    runtime: Runtime,
    patches: Patches,
    *,
    forced: Sequence[Patches] | None = None,
) -> Pass:
    """As `hybrid_pass`, with the dense segments in torch: the modules of the BatchNorm-folded model itself.

    Every island stands in a FeedForward; see `has_feed_forwards`.
    """
    record, host = _Record(runtime, forced), copy.deepcopy(folded)
    for entry in manifest["hybrid"]["islands"]:
        parent, _, name = entry["path"].rpartition(".")
        block = host.get_submodule(parent)
        ffn: Any = getattr(block, name)
        setattr(block, name, _OnChip(ffn, entry["takes"], folder / entry["file"], record.run))
    with torch.no_grad():
        output: Tensor = host(torch.from_numpy(patches))
    return record.result(output.numpy())


def has_feed_forwards(folded: nn.Module, manifest: Mapping[str, Any]) -> bool:
    """Whether every island of the bundle is a FeedForward of `folded`, so that `torch_pass` can put it on the chip."""
    modules = dict(folded.named_modules())
    return all(isinstance(modules.get(entry["path"]), FeedForward) for entry in manifest["hybrid"]["islands"])


class _Record:
    """Runs islands in a runtime and keeps what they were fed and how they spiked."""

    def __init__(self, runtime: Runtime, forced: Sequence[Patches] | None):
        self.runtime, self.forced = runtime, forced
        self.fed: list[Patches] = []
        self.spikes: list[NDArray[np.uint8]] = []
        self.outputs: list[Patches] = []

    def run(self, path: Path, values: Patches) -> Patches:
        got = self.runtime.run(path, {"input": values})
        self.fed.append(values)
        self.spikes.append(got["spikes"])
        self.outputs.append(got["output"])
        return self.outputs[-1] if self.forced is None else self.forced[len(self.fed) - 1]

    def result(self, output: Patches) -> Pass:
        return Pass(output, tuple(self.fed), tuple(self.spikes), tuple(self.outputs))


class _OnChip(nn.Module):
    """Stands where a FeedForward stood: LayerNorm and W1 on the host where the island takes currents, the rest away."""

    def __init__(self, ffn: FeedForward, takes: str, path: Path, run: Callable[[Path, Patches], Patches]):
        super().__init__()
        self.ffn, self.takes, self.path, self.run = ffn, takes, path, run
        (neuron, *_) = nir_runner.read_island(path).neurons
        self.gain = float(neuron.node.metadata["gain"])

    def forward(self, x: Tensor) -> Tensor:
        entering = self.ffn.current(x) * self.gain if self.takes == "currents" else x
        values = np.ascontiguousarray(entering.flatten(0, -2).numpy())
        return torch.from_numpy(self.run(self.path, values)).view(*x.shape[:-1], -1)
