"""The NIR route: islands, golden runs and dense segments into a bundle, and parity in the real simulator."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import nir
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spikeport_errors import InputError
from spikeport_targets.card import Card
from spikeport_targets.runtime import Runtime, get_runtime
from spikeport_targets.runtimes import nir_runner

from .bundle import BundleWriter
from .dense_segments import Hybrid, dense_segments
from .fold import fold_batchnorm
from .islands import Golden, Island, find_islands, golden, nir_from_island, record
from .nir_plan import nir_plan
from .nir_profiles import profile_of
from .onnx_graph import INPUT, OUTPUT, save_onnx
from .parity import ParityReport, ParityRow, gated, nmse_db
from .plan import Plan, check_patches, model_name
from .reference import golden_samples, neurons_per_sample

__all__ = ["nir_parity", "nir_plan", "write_nir_bundle"]

MAX_NMSE_DB = -60.0


def write_nir_bundle(
    model: nn.Module, patches: NDArray[np.float32], card: Card, writer: BundleWriter
) -> dict[str, Any]:
    """Write islands, golden runs, dense segments, runner and README of `model`; the route's part of the manifest.

    The first samples of `patches` float32 [sample, token, 336], already scaled, give the golden runs. Raises
    UnsupportedError, naming part, limit and remedy, where the plan refuses a part, InputError for patches that are
    not finite.
    """
    Plan(model_name(model), card.id, nir_plan(model, card)).require()
    profile, folded = profile_of(card), fold_batchnorm(model)
    islands = find_islands(folded)
    patches = check_patches(patches)
    patches = patches[: golden_samples(neurons_per_sample(folded, patches), len(patches))]
    sample = torch.from_numpy(patches)
    entering, output = record(folded, islands, sample)
    entries = []
    for island in islands:
        run = golden(island, entering[island.name], profile)
        nir.write(writer.path(f"spiking/{island.name}.nir"), nir_from_island(island, profile))
        np.savez_compressed(writer.path(f"golden/{island.name}.npz"), **vars(run))
        entries.append(_entry(island, run))
    np.savez_compressed(writer.path("golden/model.npz"), input=patches, output=output.numpy())
    hybrid = _write_dense(dense_segments(folded, islands, sample, profile), writer, entries)
    _write_runner(model, card, writer)
    neuron = islands[0].neuron
    return {
        "route": "nir",
        "precision": "fp32",
        "steps": neuron.steps,
        "levels": neuron.levels,
        "time_axis": "direct",
        "profile": profile.name,
        "runtime": card.runtime,
        "simulator": get_runtime(str(card.runtime)).available().reason,
        "hybrid": hybrid,
    }


def nir_parity(folder: Path, manifest: Mapping[str, Any]) -> ParityReport:
    """Run every island in the simulator on its golden input, then the whole model; rows per island.

    No spike may differ from SpikingJelly's, the output by at most 1e-5 of its largest value. The whole model's NMSE
    against the golden output is reported with the limit -60 dB and gated for trained models only: one current next to
    its threshold may fire differently where the dense part rounds differently. Raises InputError for damaged files,
    MissingDependencyError without the simulator.
    """
    runtime = get_runtime(str(manifest["runtime"]))
    rows: list[ParityRow] = []
    try:
        for island in manifest["hybrid"]["islands"]:
            rows += _island_rows(folder, island, runtime)
        rows.append(_model_row(folder, manifest, runtime))
    except nir_runner.IslandError as error:
        raise InputError(str(error)) from None
    return ParityReport(tuple(rows))


def _island_rows(folder: Path, island: Mapping[str, Any], runtime: Runtime) -> list[ParityRow]:
    run = nir_runner.read_arrays(folder / island["golden"], nir_runner.GOLDEN)
    got = runtime.run(folder / island["file"], {"input": run["input"]})
    wrong, error = nir_runner.disagreement(got.values, run)
    detail = f"{wrong} of {run['spikes'].size:,} differ, {len(run['input']):,} tokens in {runtime.name}"
    return [
        gated(island["path"], "spikes", wrong / run["spikes"].size, 0.0, "1", detail=detail),
        gated(island["path"], "output", error, nir_runner.OUTPUT_LIMIT, "1", detail="of the largest output"),
    ]


def _model_row(folder: Path, manifest: Mapping[str, Any], runtime: Runtime) -> ParityRow:
    run = nir_runner.read_arrays(folder / "golden/model.npz", ("input", "output"))
    got = nir_runner.run_hybrid(
        folder, manifest["hybrid"], run["input"], lambda path, x: runtime.run(path, {"input": x})["output"]
    )
    gate = bool(manifest.get("model", {}).get("trained", False))
    detail = f"segments in onnxruntime, islands in {runtime.name}"
    return gated("model", "output", nmse_db(got, run["output"]), MAX_NMSE_DB, "dB", gate=gate, detail=detail)


def _entry(island: Island, run: Golden) -> dict[str, Any]:
    return {
        "file": f"spiking/{island.name}.nir",
        "golden": f"golden/{island.name}.npz",
        "path": island.path,
        "takes": island.takes,
        "inputs": run.input.shape[1],
        "hidden": island.hidden,
        "outputs": run.output.shape[1],
        "tokens": len(run.input),
    }


def _write_dense(hybrid: Hybrid, writer: BundleWriter, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Write the segments; the manifest's `hybrid` table, from which a runner puts the whole model together."""
    segments = []
    for k, segment in enumerate(hybrid.segments):
        name = f"dense/segment-{k:02d}.onnx"
        save_onnx(segment.graph, writer.path(name))
        segments.append({"file": name, "inputs": list(segment.inputs), "outputs": list(segment.outputs)})
    ties = zip(entries, hybrid.reads, hybrid.writes, strict=True)
    islands = [{**entry, "reads": reads, "writes": writes} for entry, reads, writes in ties]
    return {"input": INPUT, "output": OUTPUT, "segments": segments, "islands": islands}


def _write_runner(model: nn.Module, card: Card, writer: BundleWriter) -> None:
    runner = (files("spikeport_targets") / "runtimes" / "nir_runner.py").read_text(encoding="utf-8")
    writer.path("run.py").write_text(runner, encoding="utf-8")
    readme = Template((files(__package__) / "runner" / "nir_README.md.in").read_text(encoding="utf-8"))
    version = f"{card.runtime} {card.limits.get('version', '')}".strip()
    text = readme.substitute(model=model_name(model), target=card.name, version=version)
    writer.path("README.md").write_text(text, encoding="utf-8")
