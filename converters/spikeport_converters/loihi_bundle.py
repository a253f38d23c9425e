"""The Loihi route: integer islands as netx files, golden integer runs and the mapping in a bundle, and its parity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from spikeport_targets.environments import python_of
from spikeport_targets.runtimes import nir_runner
from spikeport_targets.runtimes.loihi import ENVIRONMENTS, run_lava
from spikeport_targets.runtimes.loihi_runner import IslandError, chip_weight, read_island, run_island
from spikeport_toolkit.files import write_json

from .bundle import BundleWriter
from .dense_segments import Hybrid, dense_segments
from .fold import fold_batchnorm, fold_time
from .islands import Island
from .loihi import LoihiIsland, block_inputs, loihi_model, spiking_blocks
from .loihi_mapping import loihi_mapping
from .loihi_netx import write_net
from .loihi_plan import loihi_plan
from .loihi_scaling import quantize_islands
from .nir import write_dense
from .nir_profiles import PROFILES
from .parity import ParityReport, ParityRow, gated, nmse_db
from .plan import Plan, check_patches, model_name
from .reference import golden_samples

GOLDEN_TOKENS = 512
LAVA_TOKENS = 8
OUTPUT_LIMIT_DB, TASK_LIMIT_DB = -60.0, 0.1
"""Most that 8-bit islands may cost a trained model in NMSE on the golden samples."""
_GOLDEN = ("input", "spikes", "accumulators", "output", "spikingjelly")


def write_loihi_bundle(
    model: nn.Module,
    patches: NDArray[np.float32],
    card: Card,
    writer: BundleWriter,
    target: NDArray[np.float32] | None,
    trained: bool,
) -> dict[str, Any]:
    """Write islands, golden runs, mapping, runner and README of `model`; the route's part of the manifest.

    The weight scales of a trained model are chosen on the task (`quantize_islands`), those of an untrained one by the
    error of each layer's output. Raises UnsupportedError where the plan refuses a part.
    """
    Plan(model_name(model), card.id, loihi_plan(model, card)).require()
    folded, patches = fold_batchnorm(model), check_patches(patches)
    tokens = patches.shape[1] * sum(block.ffn.fc1.out_features for block in spiking_blocks(folded))
    samples = golden_samples(tokens, len(patches))
    patches, target = patches[:samples], None if target is None else target[:samples]
    bits = int(card.limits["weight_bits"])
    islands = quantize_islands(folded, patches, target, bits=bits, scaling="task" if trained else "output")
    entering = block_inputs(folded, tuple(island.block for island in islands), torch.from_numpy(patches))
    entries = []
    for island in islands:
        name = island.block.name
        write_net(writer.path(f"spiking/{name}.net"), island.net)
        run = _golden(island, entering[name][:GOLDEN_TOKENS])
        np.savez_compressed(writer.path(f"golden/{name}.npz"), **run)  # type: ignore[arg-type]
        entries.append(_entry(island, run))
    sample, quantized = torch.from_numpy(patches), loihi_model(folded, islands)
    with torch.no_grad():
        arrays = {"input": patches, "output": fold_time(folded)(sample).numpy(), "integer": quantized(sample).numpy()}
    truth = {} if target is None else {"target": target}
    np.savez_compressed(writer.path("golden/model.npz"), **arrays, **truth)  # type: ignore[arg-type]
    write_json(writer.path("mapping.json"), loihi_mapping(model, card).to_dict())
    _write_runner(model, card, writer)
    neuron: Any = islands[0].block.ffn.neuron.config
    return {
        "route": "loihi",
        "steps": neuron.steps,
        "levels": neuron.levels,
        "runtime": card.runtime,
        "hybrid": write_dense(_segments(folded, islands, sample), writer, entries),
    }


def _segments(folded: nn.Module, islands: tuple[LoihiIsland, ...], sample: torch.Tensor) -> Hybrid:
    """The host's part: every island takes currents as they are, its scale being in the .net file."""
    cut = tuple(Island(i.block.name, i.block.path, i.block.ffn, "currents") for i in islands)
    plain = replace(PROFILES["generic"], name="loihi", gain=lambda _neuron: 1.0)
    return dense_segments(folded, cut, sample, plain)


def loihi_parity(folder: Path, manifest: Mapping[str, Any]) -> ParityReport:
    """Run every island's file again in integers, and in real Lava and netx where their environments are made.

    Spikes and accumulators must be the golden ones, bit for bit, everywhere. Spikes against SpikingJelly's float
    neuron are gated where the thresholds stand exactly in place, else reported. The whole model was run at export;
    its rows repeat what was measured then. Raises InputError for damaged files.
    """
    rows: list[ParityRow] = []
    try:
        for entry in manifest["hybrid"]["islands"]:
            rows += _island_rows(folder, entry)
        rows += _lava_rows(folder.resolve(), manifest["hybrid"]["islands"])
        rows += _model_rows(folder, manifest)
    except (IslandError, nir_runner.IslandError) as error:
        raise InputError(str(error)) from None
    return ParityReport(tuple(rows))


def _island_rows(folder: Path, entry: Mapping[str, Any]) -> list[ParityRow]:
    run, path = _read_golden(folder / entry["golden"]), str(entry["path"])
    island = read_island(folder / entry["file"])
    got = run_island(island, run["input"])
    wrong = sum(int((got[name] != run[name]).sum()) for name in ("spikes", "accumulators", "output"))
    detail = f"spikes, accumulators and outputs of {len(run['input']):,} tokens, integer model"
    rows = [gated(path, "spikes", float(wrong), 0.0, "differing values", detail=detail)]
    moved = np.abs(got["spikes"].astype(int) - run["spikingjelly"].astype(int)).mean()
    placed = bool(entry["exact"])
    detail = f"against SpikingJelly in float, {got['spikes'].size:,} neuron-steps"
    rows.append(ParityRow(path, "spikes", float(moved), 0.0 if placed else None, "1", not (placed and moved), detail))
    return rows


def _lava_rows(folder: Path, entries: Sequence[Mapping[str, Any]]) -> list[ParityRow]:
    """The first golden tokens of every island in netx, which runs the file in Lava, or else in Lava alone."""
    kind = next((kind for kind in ("netx", "island") if python_of(ENVIRONMENTS[kind]) is not None), None)
    if kind is None:
        return []
    islands = [read_island(folder / entry["file"]) for entry in entries]
    cases: list[dict[str, NDArray[Any]]] = []
    rows = []
    for island, entry in zip(islands, entries, strict=True):
        currents = _read_golden(folder / entry["golden"])["input"][:LAVA_TOKENS]
        weight, exponent = chip_weight(island.weight)
        case: dict[str, Any] = {
            "steps": island.steps,
            "mantissas": island.mantissas(currents),
            "net": str(folder / entry["file"]),
        }
        chip = {"weight": weight, "weight_exp": exponent, "vth": island.vth, "dv": island.dv}
        cases.append({key: np.asarray(value) for key, value in (case | chip).items()})
    for island, entry, given, real in zip(islands, entries, cases, run_lava(kind, cases), strict=True):
        spikes, accumulators = island.run(given["mantissas"])
        wrong = int((real["spikes"] != spikes).sum() + (real["accumulators"] != accumulators).sum())
        what = "this file in netx" if kind == "netx" else "Lava"
        detail = f"integer model against {what}, fixed point, {len(given['mantissas'])} tokens"
        rows.append(gated(str(entry["path"]), "spikes", float(wrong), 0.0, "differing values", detail=detail))
    return rows


def _model_rows(folder: Path, manifest: Mapping[str, Any]) -> list[ParityRow]:
    """The whole model, host segments in onnxruntime and islands in integers, against torch and against the truth."""
    run, trained = _arrays(folder / "golden/model.npz", ("input", "output", "integer")), manifest["model"]["trained"]
    got = nir_runner.run_hybrid(
        folder, manifest["hybrid"], run["input"], lambda path, x: run_island(read_island(path), x)["output"]
    )
    detail = "host segments in onnxruntime, islands in integers, against the same in torch"
    rows = [gated("model", "output", nmse_db(got, run["integer"]), OUTPUT_LIMIT_DB, "dB", gate=trained, detail=detail)]
    change = nmse_db(got, run["output"])
    rows.append(ParityRow("model", "output", change, None, "dB", True, "against the float model"))
    if "target" in run:
        before, after = (nmse_db(a, run["target"]) for a in (run["output"], got))
        detail = f"NMSE {before:.3f} dB in float, {after:.3f} dB with 8-bit islands"
        rows.append(gated("task NMSE change", "task", after - before, TASK_LIMIT_DB, "dB", gate=trained, detail=detail))
    return rows


def _golden(island: LoihiIsland, current: torch.Tensor) -> dict[str, NDArray[Any]]:
    given: Any = island.block.ffn.neuron
    with torch.no_grad():
        spikes = given.spikes(current).to(torch.uint8).numpy()
    run = run_island(island.net, current.numpy())
    return {"input": current.numpy(), **run, "spikingjelly": spikes}


def _entry(island: LoihiIsland, run: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    name = island.block.name
    return {
        "file": f"spiking/{name}.net",
        "golden": f"golden/{name}.npz",
        "takes": "currents",
        "shape": [island.net.inputs],
        "out_shape": [len(island.net.decode)],
        "input_steps": 1,
        **island.to_dict(),
        "exact": island.currents.exact,
        "tokens": len(run["input"]),
    }


def _read_golden(path: Path) -> dict[str, NDArray[Any]]:
    return _arrays(path, _GOLDEN)


def _arrays(path: Path, wanted: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
        return {name: found[name] for name in wanted} | {k: v for k, v in found.items() if k == "target"}
    except Exception as error:  # a damaged zip raises zipfile, zlib, struct, key or value errors
        raise InputError(f"{path} is not readable ({error}): export again") from None


def _write_runner(model: nn.Module, card: Card, writer: BundleWriter) -> None:
    for source, name in (("loihi_runner.py", "run.py"), ("nir_file.py", "nir_file.py")):
        text = (files("spikeport_targets") / "runtimes" / source).read_text(encoding="utf-8")
        writer.path(name).write_text(text, encoding="utf-8")
    readme = Template((files(__package__) / "runner" / "loihi_README.md.in").read_text(encoding="utf-8"))
    writer.path("README.md").write_text(readme.substitute(model=model_name(model), target=card.name), encoding="utf-8")
