"""Export and check: from a model to a bundle that has been run, and from a bundle to the same verdict again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from spikeport_errors import InputError, UsageError

from .bundle import Bundle, BundleWriter
from .jetson import PRECISIONS, write_dense_bundle
from .manifest import SCHEMA, FileFault, blaming_manifest, read_manifest, require_listed, verify_hashes
from .onnx_parity import onnx_parity
from .parity import ParityReport
from .plan import check_patches, model_name, plan
from .traffic import Traffic, traffic

if TYPE_CHECKING:
    from spikeport_targets.card import Card

_PACKAGES = ("torch", "spikingjelly", "onnx", "onnxscript", "onnxruntime", "torchao", "nir", "numpy")
_LICENCES = {"code": "Apache-2.0"}


@dataclass(frozen=True)
class CheckReport:
    """Verdict over a bundle: files that are not as written, and parity run again (None where files are not intact)."""

    folder: Path
    faults: tuple[FileFault, ...]
    parity: ParityReport | None
    traffic: Traffic | None = None

    @property
    def ok(self) -> bool:
        """Whether every file is as written and parity holds."""
        return not self.faults and bool(self.parity)

    def __bool__(self) -> bool:
        return self.ok

    def summary(self) -> str:
        """One line per damaged file, or the parity rows."""
        if self.faults:
            return "\n".join(f"FAIL file   {fault}" for fault in self.faults)
        found = [part.summary() for part in (self.parity, self.traffic) if part is not None]
        return "\n".join(["ok   files  as written", *found])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "folder": str(self.folder),
            "ok": self.ok,
            "files": [{"name": f.name, "fault": f.fault} for f in self.faults],
            "parity": self.parity.to_dict() if self.parity else None,
            "traffic": self.traffic.to_dict() if self.traffic else None,
        }


def export(
    model: nn.Module,
    card: Card,
    precision: str,
    out_dir: Path | str,
    patches: NDArray[np.float32],
    target: NDArray[np.float32] | None = None,
    *,
    name: str | None = None,
    trained: bool = False,
    seeds: Mapping[str, int] | None = None,
    licences: Mapping[str, str] | None = None,
    allow_approximate: bool = False,
) -> Bundle:
    """Convert `model` for the target of `card`, run the result beside the reference, and write the bundle.

    `patches` float32 [sample, token, 336] are scaled inputs (golden and calibration), `target` the clean truth of
    the predicted tokens in the same scale. A user's own spiking module goes to NIR with its `example_input` instead.
    `allow_approximate` writes also what the target reproduces only in part, with parity reported and not gated. The
    bundle is written also when parity fails: look at `.parity`.
    Raises UnsupportedError for a plan with a refused part, InputError for inputs or an `out_dir` that cannot be
    used, UsageError for an unknown precision; nothing is written then.
    """
    patches = check_patches(patches, free=card.route == "nir" and hasattr(model, "example_input"))
    _check_target(target, patches)
    _check_precision(card, precision)
    if precision == "int8" and len(patches) < 2:
        raise InputError("int8 calibrates on at least 2 samples, got 1: take more --samples")
    made = plan(model, None, card).require(allow_approximate=allow_approximate)
    with BundleWriter(out_dir) as writer:
        if card.route == "onnx":
            fragment = write_dense_bundle(model, patches, card, precision, writer, target, trained)
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
            "model": _model_entry(model, name, trained),
            "target": {"id": card.id, "card_sha256": card.sha256},
            "route": card.route,
            "precision": precision,
            "time_axis": "direct",
            "versions": {package: _version(package) for package in _PACKAGES},
            "seeds": dict(seeds or {}),
            "licences": {**_LICENCES, **(licences or {})},
            "plan": [item.to_dict() for item in made.items],
            **fragment,
        }
        parity = _parity(writer.root, manifest)
        manifest = writer.commit({**manifest, "parity": parity.to_dict()})
    return Bundle(writer.folder, manifest, parity)


def check(folder: Path | str) -> CheckReport:
    """Verify every hash of a bundle, then run its parity again. Raises InputError where there is no bundle."""
    folder = Path(folder)
    faults = tuple(verify_hashes(folder))
    if faults:
        return CheckReport(folder, faults, None)
    manifest = read_manifest(folder)
    with blaming_manifest(folder):
        require_listed(folder, manifest)
        moved = traffic(folder, manifest) if manifest["route"] == "nir" else None
        return CheckReport(folder, (), _parity(folder, manifest), moved)


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


def _check_precision(card: Card, precision: str) -> None:
    known = tuple(card.limits.get("precisions", PRECISIONS if card.route == "onnx" else ("fp32",)))
    if precision not in known:
        raise UsageError(f"{card.id} has no precision {precision!r}: take {', '.join(known)}")


def _check_target(target: NDArray[np.float32] | None, patches: NDArray[np.float32]) -> None:
    if target is not None and (len(target) != len(patches) or not np.isfinite(target).all()):
        raise InputError(f"the target has {len(target)} samples for {len(patches)} of patches, or is not finite")


def _model_entry(model: nn.Module, name: str | None, trained: bool) -> dict[str, Any]:
    config = getattr(model, "config", None)
    return {
        "name": name or model_name(model),
        "config": config.to_dict() if config is not None and hasattr(config, "to_dict") else {},
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "trained": trained,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
