"""The NIR route: islands, golden runs and dense segments into a bundle, and parity in the real simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spikeport_errors import InputError
from spikeport_targets.card import Card
from spikeport_targets.runtime import Runtime, get_runtime
from spikeport_targets.runtimes import nir_runner

from .bundle import BundleWriter
from .coexecution import coexecution_rows
from .dense_segments import Hybrid, dense_segments
from .fold import fold_batchnorm
from .islands import Golden, Island, find_islands, golden, nir_from_island, record
from .module_graph import own_neurons
from .module_islands import write_module
from .nir_plan import nir_plan
from .nir_profiles import Profile, profile_of, write_island
from .onnx_graph import INPUT, OUTPUT, save_onnx
from .parity import ParityReport, ParityRow, gated
from .plan import Plan, check_patches, model_name
from .reference import golden_samples, neurons_per_sample
from .traffic import Traffic, traffic

__all__ = ["nir_parity", "nir_plan", "write_dense", "write_nir_bundle"]


def write_nir_bundle(
    model: nn.Module,
    patches: NDArray[np.float32],
    card: Card,
    writer: BundleWriter,
    target: NDArray[np.float32] | None = None,
    *,
    allow_approximate: bool = False,
) -> dict[str, Any]:
    """Write islands, golden runs, dense segments, runner and README of `model`; the route's part of the manifest.

    The first samples of `patches` float32 [sample, token, 336], already scaled, give the golden runs, with their clean
    `target` where it is known; a user's own module is run on its `example_input` instead. Raises UnsupportedError,
    naming part, limit and remedy, where the plan refuses a part, or has an approximate one without leave for it,
    InputError for patches that are not finite.
    """
    made = Plan(model_name(model), card.id, nir_plan(model, card)).require(allow_approximate=allow_approximate)
    profile = profile_of(card)
    if own_neurons(model):
        written = write_module(model, profile, writer)
    else:
        written = _write_toolkit(model, check_patches(patches), target, card, profile, writer)
    moved = traffic(writer.root, {"model": _grid(model), **written})
    tokens = max(island["tokens"] for island in written["hybrid"]["islands"])
    _write_runner(model, card, moved, tokens, writer)
    return {
        "route": "nir",
        "precision": "fp32",
        "time_axis": "direct",
        "profile": profile.name,
        "runtime": card.runtime,
        "simulator": get_runtime(str(card.runtime)).available().reason,
        "approximate": bool(made.approximate),
        "golden_tokens": tokens,
        **written,
        "traffic": moved.to_dict(),
    }


def _write_toolkit(
    model: nn.Module,
    patches: NDArray[np.float32],
    target: NDArray[np.float32] | None,
    card: Card,
    profile: Profile,
    writer: BundleWriter,
) -> dict[str, Any]:
    """Islands, golden runs and dense segments of a toolkit model; its part of the manifest."""
    folded = fold_batchnorm(model)
    islands = find_islands(folded)
    patches = patches[: _golden_samples(folded, patches, card)]
    sample = torch.from_numpy(patches)
    entering, output = record(folded, islands, sample)
    entries = []
    for island in islands:
        run = golden(island, entering[island.name], profile)
        write_island(writer.path(f"spiking/{island.name}.nir"), nir_from_island(island, profile), profile)
        np.savez_compressed(writer.path(f"golden/{island.name}.npz"), **vars(run))
        entries.append(_entry(island, run))
    truth = {} if target is None else {"target": target[: len(patches)]}
    arrays = {"input": patches, "output": output.numpy(), **truth}
    np.savez_compressed(writer.path("golden/model.npz"), **arrays)  # type: ignore[arg-type]
    hybrid = write_dense(dense_segments(folded, islands, sample, profile), writer, entries)
    neuron = islands[0].neuron
    return {"steps": neuron.steps, "levels": neuron.levels, "hybrid": hybrid}


def _golden_samples(folded: nn.Module, patches: NDArray[np.float32], card: Card) -> int:
    """Samples of a golden run; a slow simulator's card limits the tokens, of which one sample is the least."""
    samples = golden_samples(neurons_per_sample(folded, patches), len(patches))
    most = card.limits.get("golden_tokens")
    return samples if most is None else max(1, min(samples, int(most) // patches.shape[1]))


def nir_parity(folder: Path, manifest: Mapping[str, Any]) -> ParityReport:
    """Run every island in the simulator on its golden input, then the whole model; rows per island.

    No spike may differ from SpikingJelly's, the output by at most 1e-5 of its largest value. In the whole model one
    current next to its threshold may fire differently where the dense part rounds differently: its rows are those of
    `coexecution_rows`. Raises InputError for damaged files, MissingDependencyError without the simulator.
    """
    runtime = get_runtime(str(manifest["runtime"]))
    rows: list[ParityRow] = []
    try:
        for island in manifest["hybrid"]["islands"]:
            rows += _island_rows(folder, island, runtime)
        rows += coexecution_rows(folder, manifest, runtime)
    except nir_runner.IslandError as error:
        raise InputError(str(error)) from None
    if manifest.get("approximate"):
        note = "reported, not gated: the target is approximate"
        rows = [replace(row, ok=True, detail=f"{note}; {row.detail}".rstrip("; ")) for row in rows]
    return ParityReport(tuple(rows))


def _island_rows(folder: Path, island: Mapping[str, Any], runtime: Runtime) -> list[ParityRow]:
    run = nir_runner.read_arrays(folder / island["golden"], nir_runner.GOLDEN)
    got = runtime.run(folder / island["file"], {"input": run["input"]})
    wrong, error = nir_runner.disagreement(got.values, run)
    detail = f"{wrong} of {run['spikes'].size:,} differ, {len(run['output']):,} tokens in {runtime.name}"
    return [
        gated(island["path"], "spikes", wrong / run["spikes"].size, 0.0, "1", detail=detail),
        gated(island["path"], "output", error, nir_runner.OUTPUT_LIMIT, "1", detail="of the largest output"),
    ]


def _entry(island: Island, run: Golden) -> dict[str, Any]:
    return {
        "file": f"spiking/{island.name}.nir",
        "golden": f"golden/{island.name}.npz",
        "path": island.path,
        "takes": island.takes,
        "shape": [run.input.shape[1]],
        "out_shape": [run.output.shape[1]],
        "input_steps": 1,
        "hidden": island.hidden,
        "tokens": len(run.input),
    }


def write_dense(hybrid: Hybrid, writer: BundleWriter, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Write the segments; the manifest's `hybrid` table, from which a runner puts the whole model together."""
    segments = []
    for k, segment in enumerate(hybrid.segments):
        name = f"dense/segment-{k:02d}.onnx"
        save_onnx(segment.graph, writer.path(name))
        segments.append({"file": name, "inputs": list(segment.inputs), "outputs": list(segment.outputs)})
    ties = zip(entries, hybrid.reads, hybrid.writes, strict=True)
    islands = [{**entry, "reads": reads, "writes": writes} for entry, reads, writes in ties]
    return {"input": INPUT, "output": OUTPUT, "segments": segments, "islands": islands}


def _grid(model: nn.Module) -> dict[str, Any]:
    config: Any = getattr(model, "config", None)
    return {"config": config.to_dict() if hasattr(config, "to_dict") else {}}


def _golden_note(tokens: int, card: Card) -> str:
    most = card.limits.get("golden_tokens")
    slow = f", since {card.name} is slow (`golden_tokens` = {most} in its card)" if most is not None else ""
    return f"{tokens:,} token{'s' if tokens != 1 else ''}{slow}"


def _write_runner(model: nn.Module, card: Card, moved: Traffic, tokens: int, writer: BundleWriter) -> None:
    targets = files("spikeport_targets")
    for source, name in (("nir_runner.py", "run.py"), ("nir_file.py", "nir_file.py")):
        text = (targets / "runtimes" / source).read_text(encoding="utf-8")
        writer.path(name).write_text(text, encoding="utf-8")
    simulator = targets / "simulators" / f"{card.runtime}.py"
    if simulator.is_file():  # another package's runtime is not ours to copy
        writer.path(f"simulators/{card.runtime}.py").write_text(simulator.read_text(encoding="utf-8"), encoding="utf-8")
    readme = Template((files(__package__) / "runner" / "nir_README.md.in").read_text(encoding="utf-8"))
    version = f"{card.runtime} {card.limits.get('version', '')}".strip()
    text = readme.substitute(
        model=model_name(model),
        target=card.name,
        version=version,
        traffic=moved.markdown(),
        unit=moved.unit,
        tokens=_golden_note(tokens, card),
    )
    writer.path("README.md").write_text(text, encoding="utf-8")
