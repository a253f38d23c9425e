"""What a user gets from attention on the host and spikes on the chip: the whole model, compared with SpikingJelly."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import InputError
from spikeport_targets.runtime import Runtime
from spikeport_targets.runtimes import nir_runner
from spikeport_targets.simulators import reference
from spikeport_toolkit.models.config import PATCH_VALUES
from spikeport_toolkit.models.layers import FeedForward
from spikeport_toolkit.models.load import is_trained, load_model
from spikeport_toolkit.models.presets import presets

from .deployed import Pass, Patches, has_feed_forwards, hybrid_pass, torch_pass
from .fold import fold_batchnorm
from .parity import ParityRow, gated, nmse_db

LAYER_LIMIT, DISTANCE_LIMIT = 1e-6, 1e-5
END_TO_END_LIMIT, OUTPUT_LIMIT, MODEL_LIMIT_DB, TASK_LIMIT_DB = 1e-4, 1e-3, -60.0, 0.001
"""Looser than the layers': in a sample where one current lies at its threshold, one flip makes others further on."""
SAME_MODEL_DB = -80.0


@dataclass(frozen=True)
class LayerMismatch:
    """Spikes of one island that differ from SpikingJelly's, of `spikes` (neurons x steps x tokens).

    `end_to_end` counts them in a run of the whole model, `alone` where every layer starts from the reference (None if
    not run). `distance` is the largest |h - threshold| / threshold of the latter, at the first step that differs.
    """

    path: str
    spikes: int
    end_to_end: int
    alone: int | None
    distance: float | None


@dataclass(frozen=True)
class Coexecution:
    """A hybrid bundle run as a whole on its golden samples, dense segments in `dense`, islands in `islands`.

    `output_error` is the largest difference as a part of the largest output, `task_db` the change of the task's NMSE
    (None where the clean truth is not known).
    """

    dense: str
    islands: str
    samples: int
    layers: tuple[LayerMismatch, ...]
    output_error: float
    output_nmse_db: float
    task_db: float | None

    @property
    def spikes(self) -> int:
        """Neurons x steps x tokens of all layers."""
        return sum(layer.spikes for layer in self.layers)

    @property
    def end_to_end(self) -> int:
        """Spikes that differ in a run of the whole model."""
        return sum(layer.end_to_end for layer in self.layers)

    @property
    def alone(self) -> int | None:
        """Spikes that differ where every layer starts from the reference."""
        found = [layer.alone for layer in self.layers if layer.alone is not None]
        return sum(found) if found else None

    @property
    def distance(self) -> float | None:
        """Largest relative distance from a threshold of the latter."""
        return max((layer.distance for layer in self.layers if layer.distance is not None), default=None)

    def summary(self) -> str:
        """One line per layer, then the output."""
        lines = [f"dense segments in {self.dense}, islands in {self.islands}, {self.samples} samples"]
        lines += [
            f"  {x.path}: {x.end_to_end} of {x.spikes:,} spikes differ end to end"
            + ("" if x.alone is None else f", {x.alone} layer by layer, {x.distance:.1e} from the threshold at most")
            for x in self.layers
        ]
        task = "" if self.task_db is None else f", task NMSE {self.task_db:+.6f} dB"
        return "\n".join([*lines, f"  output: off by {self.output_error:.1e} of the largest{task}"])

    def rows(self, trained: bool) -> list[ParityRow]:
        """As rows of a parity report; those end to end are gated for trained models only."""
        where = f"dense in {self.dense}"
        rate, found = self.end_to_end / self.spikes, f"{self.end_to_end} of {self.spikes:,} differ"
        found, off = f"{found}, islands in {self.islands}", "of the largest output"
        rows = [gated(f"{where}, end to end", "spikes", rate, END_TO_END_LIMIT, "1", gate=trained, detail=found)]
        if self.alone is not None and self.distance is not None:
            alone, limit = self.alone / self.spikes, max(LAYER_LIMIT, 1 / self.spikes)
            detail, far = f"{self.alone} differ, each layer fed the reference's own", "distance of those from threshold"
            rows.append(gated(f"{where}, layer by layer", "spikes", alone, limit, "1", detail=detail))
            rows.append(gated(f"{where}, {far}", "spikes", self.distance, DISTANCE_LIMIT, "relative"))
        rows.append(
            gated(f"{where}, end to end", "output", self.output_error, OUTPUT_LIMIT, "1", gate=trained, detail=off)
        )
        if self.task_db is not None:
            change = abs(self.task_db)
            rows.append(gated(f"{where}, task NMSE change", "task", change, TASK_LIMIT_DB, "dB", gate=trained))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values; an infinite NMSE (no difference at all) becomes null."""
        nmse = self.output_nmse_db if math.isfinite(self.output_nmse_db) else None
        totals = {"spikes": self.spikes, "end_to_end": self.end_to_end, "alone": self.alone, "distance": self.distance}
        return {**asdict(self), "output_nmse_db": nmse, **totals}


def coexecute(
    folder: Path,
    manifest: Mapping[str, Any],
    runtime: Runtime,
    *,
    model: nn.Module | None = None,
    layer_by_layer: bool = True,
) -> Coexecution:
    """Run the NIR bundle in `folder` as a whole on its golden input, its islands in `runtime`, twice.

    Once as a user runs it; then, `layer_by_layer`, with what every island gave replaced by what the reference gives
    there, so that a spike that differs in one layer does not reach the next. With `model` its dense
    segments run in torch, and the reference is SpikingJelly stepped as a simulator steps: y = mean_t (W2 S_t + b2).
    Without, they run in onnxruntime and the reference is the golden run of the bundle.
    """
    given = _arrays(folder / "golden/model.npz")
    patches, target = given["input"], given.get("target")
    if model is None:
        want = _golden(folder, manifest, given["output"])
        run = partial(hybrid_pass, folder, manifest, runtime, patches)
    else:
        folded = fold_batchnorm(model)
        want = stepped_reference(folded, manifest, patches)
        run = partial(torch_pass, folded, folder, manifest, runtime, patches)
    whole, alone = run(), run(forced=want.outputs) if layer_by_layer else None
    layers = [
        _layer(
            entry, folder, want.spikes[k], whole.spikes[k], None if alone is None else (alone.spikes[k], alone.fed[k])
        )
        for k, entry in enumerate(manifest["hybrid"]["islands"])
    ]
    output = whole.output
    return Coexecution(
        dense="onnxruntime" if model is None else "torch",
        islands=runtime.name,
        samples=len(patches),
        layers=tuple(layers),
        output_error=float(np.abs(output - want.output).max() / (np.abs(want.output).max() or 1.0)),
        output_nmse_db=nmse_db(output, want.output),
        task_db=None if target is None else nmse_db(output, target) - nmse_db(want.output, target),
    )


def coexecution_rows(folder: Path, manifest: Mapping[str, Any], runtime: Runtime) -> list[ParityRow]:
    """Rows of the whole model: dense segments in onnxruntime, and in torch where the model is a shipped preset.

    A manifest that names anything else is not followed: to check a bundle runs no code that it points to. A simulator
    in an environment of its own is slow, and runs the whole model once.
    """
    trained, slow = bool(manifest["model"]["trained"]), bool(getattr(runtime, "environment", ""))
    model = None if slow else _shipped(folder, manifest)
    rows = [] if model is None else coexecute(folder, manifest, runtime, model=model).rows(trained)
    found = coexecute(folder, manifest, runtime, layer_by_layer=not slow)
    detail = f"segments in onnxruntime, islands in {runtime.name}"
    whole = gated("model", "output", found.output_nmse_db, MODEL_LIMIT_DB, "dB", gate=trained, detail=detail)
    return [*rows, *found.rows(trained), whole]


def stepped_reference(folded: nn.Module, manifest: Mapping[str, Any], patches: Patches) -> Pass:
    """SpikingJelly's run of the folded model, W2 applied in every step: y = (1/T) sum_t (W2 S_t / D + b2)."""
    record: list[tuple[NDArray[Any], ...]] = []
    host = copy.deepcopy(folded)
    for entry in manifest["hybrid"]["islands"]:
        parent, _, name = entry["path"].rpartition(".")
        block = host.get_submodule(parent)
        ffn: Any = getattr(block, name)
        setattr(block, name, _Stepped(ffn, record))
    with torch.no_grad():
        output = host(torch.from_numpy(patches)).numpy()
    fed, spikes, outputs = zip(*record, strict=True)
    return Pass(output, fed, spikes, outputs)


class _Stepped(nn.Module):
    def __init__(self, ffn: FeedForward, record: list[tuple[NDArray[Any], ...]]):
        super().__init__()
        self.ffn, self.record = ffn, record

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, -2)
        neuron: Any = self.ffn.neuron
        spikes = neuron.spikes(self.ffn.current(tokens))
        output = torch.stack([self.ffn.fc2(step / neuron.config.levels) for step in spikes]).mean(0)
        self.record.append((tokens.numpy(), spikes.to(torch.uint8).numpy(), output.numpy()))
        return output.view(*x.shape[:-1], -1)


def _golden(folder: Path, manifest: Mapping[str, Any], output: Patches) -> Pass:
    runs = [_arrays(folder / entry["golden"]) for entry in manifest["hybrid"]["islands"]]
    fed, spikes, outputs = (tuple(run[name] for run in runs) for name in ("input", "spikes", "output"))
    return Pass(output, fed, spikes, outputs)


def _layer(
    entry: Mapping[str, Any],
    folder: Path,
    want: NDArray[np.uint8],
    end_to_end: NDArray[np.uint8],
    alone: tuple[NDArray[np.uint8], Patches] | None,
) -> LayerMismatch:
    if want.shape != end_to_end.shape:
        raise InputError(f"the golden run of {entry['file']} does not fit it: export the model again")
    found = str(entry["path"]), want.size, int((want != end_to_end).sum())
    if alone is None:
        return LayerMismatch(*found, None, None)
    wrong = want != alone[0]
    return LayerMismatch(*found, int(wrong.sum()), _distance(folder / entry["file"], alone[1], wrong))


def _distance(path: Path, fed: Patches, wrong: NDArray[np.bool_]) -> float:
    """Largest distance of the differing neurons of an island; only the first layer that differs counts for a token."""
    if not wrong.any():
        return 0.0
    island = nir_runner.read_island(path)
    currents, _, _ = reference.walk(island, fed)
    far, start, clean = 0.0, 0, np.ones(wrong.shape[1], np.bool_)
    for neuron, current in zip(island.neurons, currents, strict=True):
        size = neuron.size // neuron.slots
        own = wrong[..., start : start + size] & clean[:, None]
        if own.any():
            far = max(far, reference.distance(neuron, current, island.steps, own))
        clean &= ~own.any((0, 2))
        start += size
    return far


def _shipped(folder: Path, manifest: Mapping[str, Any]) -> nn.Module | None:
    """The shipped preset that the bundle was made from, if it still gives the golden output."""
    name = str(manifest["model"]["name"])
    if name not in presets() or not is_trained(name):
        return None
    model, given = load_model(name), _arrays(folder / "golden/model.npz")
    if not has_feed_forwards(model, manifest) or given["input"].shape[1:] != _shape(model):
        return None
    with torch.no_grad():
        output = fold_batchnorm(model)(torch.from_numpy(given["input"])).numpy()
    return model if nmse_db(output, given["output"]) <= SAME_MODEL_DB else None


def _shape(model: nn.Module) -> tuple[int, int]:
    config: Any = model.config
    return config.grid.tokens, PATCH_VALUES


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a golden file; IslandError for a missing or damaged one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # a damaged zip raises zipfile, zlib, struct or value errors
        raise nir_runner.IslandError(f"{path} is not readable ({type(error).__name__}): export again") from None
