"""Export and check: from a model to a bundle that has been run, and from a bundle to the same verdict again."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from spikeport_errors import InputError, UsageError
from spikeport_targets.card import load_card
from spikeport_toolkit.models.identity import model_sha256

from .bisection import bundle_divergence
from .bundle import Bundle, BundleWriter
from .divergence import Divergence, divergence
from .fold import fold_batchnorm
from .jetson import MODEL, write_dense_bundle
from .ladder import Ladder, climb
from .manifest import SCHEMA, FileFault, blaming_manifest, read_manifest, require_listed, verify_hashes
from .memory import large_blocks_apart
from .onnx_parity import onnx_parity
from .parity import ParityReport
from .plan import check_patches, model_name, plan
from .precision import Assignment, assignment, check_precision
from .tokens import Tokens, check_tokens
from .traffic import Traffic, traffic

if TYPE_CHECKING:
    from spikeport_targets.card import Card

_PACKAGES = ("torch", "spikingjelly", "onnx", "onnxscript", "onnxruntime", "torchao", "nir", "numpy")
_LICENCES = {"code": "Apache-2.0"}
MOST_PADDING = 256


@dataclass(frozen=True)
class CheckReport:
    """Verdict over a bundle: files that are not as written, and parity run again (None where files are not intact).

    `ladder` is climbed again for graphs, without the compiler; `divergence` says, where it was asked for, which layer
    is the first to differ from the model.
    """

    folder: Path
    faults: tuple[FileFault, ...]
    parity: ParityReport | None
    traffic: Traffic | None = None
    ladder: Ladder | None = None
    divergence: Divergence | None = None

    @property
    def ok(self) -> bool:
        """Whether every file is as written, parity holds, no rung of the ladder fails and no layer diverges."""
        climbed = self.ladder is None or self.ladder.ok
        return not self.faults and bool(self.parity) and climbed and not self.divergence

    def __bool__(self) -> bool:
        return self.ok

    def summary(self) -> str:
        """One line per damaged file, or the parity rows."""
        if self.faults:
            return "\n".join(f"FAIL file   {fault}" for fault in self.faults)
        parts = (self.parity, self.traffic, self.ladder, self.divergence)
        found = [part.summary() for part in parts if part is not None]
        return "\n".join(["ok   files  as written", *found])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "folder": str(self.folder),
            "ok": self.ok,
            "files": [{"name": f.name, "fault": f.fault} for f in self.faults],
            "parity": self.parity.to_dict() if self.parity else None,
            "traffic": self.traffic.to_dict() if self.traffic else None,
            "ladder": self.ladder.to_dict() if self.ladder else None,
            "divergence": self.divergence.to_dict() if self.divergence is not None else None,
        }


@large_blocks_apart()
def export(
    model: nn.Module,
    card: Card,
    precision: str | Assignment,
    out_dir: Path | str,
    patches: NDArray[np.float32],
    target: NDArray[np.float32] | None = None,
    *,
    name: str | None = None,
    trained: bool = False,
    seeds: Mapping[str, int] | None = None,
    licences: Mapping[str, str] | None = None,
    allow_approximate: bool = False,
    original: nn.Module | None = None,
    compilers: bool = False,
    notes: Mapping[str, Any] | None = None,
    pad_heads: int = 1,
    tokens: Sequence[int] | None = None,
) -> Bundle:
    """Convert `model` for the target of `card`, run the result beside the reference, and write the bundle.

    `patches` float32 [sample, token, 336] are scaled inputs (golden and calibration), `target` the clean truth of
    the predicted tokens in the same scale. A user's own spiking module goes to NIR with its `example_input` instead.
    `allow_approximate` writes also what the target reproduces only in part, with parity reported and not gated. The
    bundle is written also when parity fails, or a rung of the verify ladder: look at `.ok`. `original` is what `model`
    was before it was fine-tuned for `precision`; `compilers` climbs the ladder to TensorRT-RTX; `notes` are further
    entries of the manifest; `pad_heads` pads attention heads to a multiple of it, and `tokens` (fewest, best, most)
    lets the number of tokens of a [batch, token, feature] input vary, both in a graph.
    Raises UnsupportedError for a plan with a refused part, InputError for inputs or an `out_dir` that cannot be
    used, UsageError for an unknown precision; nothing is written then.
    """
    patches = check_patches(patches, free=card.route == "onnx" or hasattr(model, "example_input"))
    _check_target(target, patches)
    chosen = _checked(card, precision)
    _check_padding(card, pad_heads)
    span = _checked_tokens(card, tokens)
    if chosen.kind and len(patches) < 2:
        raise InputError(f"{chosen.name} calibrates on at least 2 samples, got 1: take more --samples")
    made = plan(model, patches if card.route == "onnx" else None, card).require(allow_approximate=allow_approximate)
    gc.collect()  # traced graphs are cycles, and hold copies of weights
    with BundleWriter(out_dir) as writer:
        if card.route == "onnx":
            fragment = write_dense_bundle(
                model, patches, card, chosen, writer, target, trained, original, pad_heads=pad_heads, tokens=span
            )
        elif card.route == "loihi":
            from .loihi_bundle import write_loihi_bundle

            fragment = write_loihi_bundle(model, patches, card, writer, target, trained)
        else:
            from .nir import write_nir_bundle

            fragment = write_nir_bundle(model, patches, card, writer, target, allow_approximate=allow_approximate)
        manifest: dict[str, Any] = {
            "schema": SCHEMA,
            "spikeport": _version("spikeport"),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": _model_entry(model, name, trained, original),
            "target": {"id": card.id, "card_sha256": card.sha256},
            "route": card.route,
            "precision": chosen.name,
            "time_axis": str(getattr(getattr(model, "config", None), "time_axis", "direct")),
            "versions": {package: _version(package) for package in _PACKAGES},
            "seeds": dict(seeds or {}),
            "licences": {**_LICENCES, **(licences or {})},
            "plan": [item.to_dict() for item in made.items],
            **fragment,
            **(notes or {}),
        }
        gc.collect()
        parity = _parity(writer.root, manifest)
        manifest["parity"] = parity.to_dict()
        if card.route == "onnx":
            ladder = climb(
                writer.root / MODEL,
                card,
                chosen,
                parity=lambda: parity,
                diverging=lambda: divergence(
                    fold_batchnorm(model), onnx.load(writer.root / MODEL), patches, chosen.gates
                ),
                shapes=manifest["dense"]["profile"],
                compilers=compilers and card.klass == "gpu",
            )
            manifest["ladder"] = ladder.to_dict()
        manifest = writer.commit(manifest)
    return Bundle(writer.folder, manifest, parity)


def precision_of(card: Card, name: str | None, calibration: str = "minmax", *, integer: bool = False) -> Assignment:
    """The preset `name` as the target of `card` has it; refused before anything is made.

    Without a name it is the card's own; with `integer` the INT8 preset whose rest is in the type of that.
    """
    own = str(card.limits.get("default_precision", "fp32"))
    chosen = _checked(card, name or ({"fp16": "int8-fp16", "fp32": "int8"}.get(own, own) if integer else own))
    return assignment(chosen.name, calibration) if card.route == "onnx" else chosen


@large_blocks_apart()
def check(folder: Path | str, *, bisect: bool = False) -> CheckReport:
    """Verify every hash of a bundle, then run its parity again. Raises InputError where there is no bundle.

    A graph climbs the verify ladder again, but for the compiler; `bisect` names the first layer of it that differs from
    the model, which has to be at hand.
    """
    folder = Path(folder)
    faults = tuple(verify_hashes(folder))
    if faults:
        return CheckReport(folder, faults, None)
    manifest = read_manifest(folder)
    with blaming_manifest(folder):
        require_listed(folder, manifest)
        moved = traffic(folder, manifest) if manifest["route"] == "nir" else None
        parity = _parity(folder, manifest)
        if manifest["route"] != "onnx":
            if bisect:
                raise UsageError(f"--bisect looks into one graph; {folder} is of the route {manifest['route']}")
            return CheckReport(folder, (), parity, moved)
        card, chosen = load_card(manifest["target"]["id"]), Assignment.from_dict(manifest["dense"]["assignment"])
        path, shapes = folder / manifest["dense"]["model"], manifest["dense"]["profile"]
        ladder = climb(path, card, chosen, parity=lambda: parity, shapes=shapes, compilers=False)
    return CheckReport(folder, (), parity, moved, ladder, bundle_divergence(folder, manifest) if bisect else None)


def _parity(folder: Path, manifest: dict[str, Any]) -> ParityReport:
    if manifest["route"] == "onnx":
        return onnx_parity(folder, manifest)
    if manifest["route"] == "loihi":
        from .loihi_bundle import loihi_parity

        verdict: ParityReport = loihi_parity(folder, manifest)
        return verdict
    from .nir import nir_parity

    report: ParityReport = nir_parity(folder, manifest)
    return report


def _checked(card: Card, precision: str | Assignment) -> Assignment:
    """The assignment of a precision that the target has."""
    if card.route == "onnx":
        chosen = assignment(precision)
        check_precision(card, chosen)
        return chosen
    known = tuple(card.limits.get("precisions", ("fp32",)))
    name = precision if isinstance(precision, str) else precision.name
    if name not in known:
        raise UsageError(f"{card.id} has no precision {name!r}: take {', '.join(known)}")
    return replace(assignment("fp32"), name=name)


def _check_padding(card: Card, pad_heads: int) -> None:
    if not 1 <= pad_heads <= MOST_PADDING:
        raise UsageError(f"--pad-heads is {pad_heads}; 1 to {MOST_PADDING} are possible")
    if pad_heads > 1 and card.route != "onnx":
        raise UsageError(f"--pad-heads is for one dense graph; {card.id} is of the route {card.route}: leave it out")


def _checked_tokens(card: Card, tokens: Sequence[int] | None) -> Tokens | None:
    if tokens is not None and card.route != "onnx":
        raise UsageError(f"--tokens is for one dense graph; {card.id} is of the route {card.route}: leave it out")
    return None if tokens is None else check_tokens(tokens)


def _check_target(target: NDArray[np.float32] | None, patches: NDArray[np.float32]) -> None:
    if target is not None and (len(target) != len(patches) or not np.isfinite(target).all()):
        raise InputError(f"the target has {len(target)} samples for {len(patches)} of patches, or is not finite")


def _model_entry(model: nn.Module, name: str | None, trained: bool, original: nn.Module | None) -> dict[str, Any]:
    """Name, configuration and size; `sha256` is of the weights of the model that the user named."""
    config = getattr(model, "config", None)
    return {
        "name": name or model_name(model),
        "config": config.to_dict() if config is not None and hasattr(config, "to_dict") else {},
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "trained": trained,
        "sha256": model_sha256(model if original is None else original),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
