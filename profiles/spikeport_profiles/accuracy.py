"""How well a model predicts as it would run on each target: its bundles, exported and run, on the same samples."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from spikeport_converters.contenders import float_predictor, model_config
from spikeport_converters.deployed import Deployed
from spikeport_converters.export import export
from spikeport_errors import MissingDependencyError, UnsupportedError
from spikeport_targets.card import Card
from spikeport_toolkit.data.sampler import embedded_split
from spikeport_toolkit.tasks import channel_prediction
from spikeport_toolkit.tasks.evaluation import METRIC, Curve

SLOT_S, SLOT = 0.5e-3, "5G slot at 30 kHz subcarrier spacing"
MODEL, TWIN = "float model", "float twin"


@dataclass(frozen=True)
class Accuracy:
    """NMSE over SNR of one artefact, by regime and split, run in `runtime`; no curves and a `reason` where it cannot.

    `parity` is the verdict of its export, `same_as` another target whose artefact is the same bytes.
    """

    runtime: str | None
    precision: str
    curves: tuple[Curve, ...] = ()
    parity: bool | None = None
    same_as: str | None = None
    reason: str = ""
    kind: str = "simulated"

    @property
    def nmse_db(self) -> float | None:
        """Mean in dB over regimes, splits and SNRs."""
        return mean_db(self.curves)

    def to_dict(self) -> dict[str, Any]:
        """The `accuracy` of a target in profile.json."""
        return {**asdict(self), "nmse_db": self.nmse_db, "curves": plain(self.curves)}


@dataclass(frozen=True)
class AccuracyReport:
    """What all targets were evaluated on, the float models' curves, and the artefacts' by target (and the twin's)."""

    links: int
    seed: int
    data: str
    model: tuple[Curve, ...]
    twin: tuple[Curve, ...]
    targets: tuple[Accuracy, ...]
    twins: tuple[Accuracy | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """The `accuracy` of profile.json."""
        return {
            "links": self.links,
            "seed": self.seed,
            "data": self.data,
            "metric": METRIC,
            "slot_s": SLOT_S,
            "slot": SLOT,
            "model": plain(self.model),
            "twin": plain(self.twin),
        }


def deployed_accuracy(
    model: nn.Module,
    twin: nn.Module | None,
    cards: Sequence[Card],
    precisions: Sequence[str],
    samples: tuple[NDArray[np.float32], NDArray[np.float32]],
    *,
    name: str,
    trained: bool = False,
    snrs_db: Sequence[float] = (-10.0, 0.0, 10.0, 20.0, 30.0),
    links: int = 50,
    seed: int = 0,
    bundles: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> AccuracyReport:
    """Export `model` (and its `twin`, where the whole network becomes one engine) for every card, and evaluate them.

    `samples` are patches and clean targets for calibration and parity. Bundles stay in `bundles`/<target>-<precision>
    if given. A card without an artefact, or whose plan refuses a part, gets the reason instead of curves. Raises
    UnsupportedError for a model without a token grid.
    """
    grid = model_config(name, model).grid
    predictors: dict[str, tuple[str, Any]] = {MODEL: ("model", float_predictor(model))}
    if twin is not None:
        predictors[TWIN] = ("twin", float_predictor(twin))
    known: dict[str, tuple[str, str]] = {}
    with ExitStack() as stack:
        folder = bundles or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spikeport-")))

        def artefact(network: nn.Module, which: str, card: Card, precision: str) -> tuple[str, Accuracy]:
            """The predictor's name, empty where there is none, and what is known before it ran."""
            label = f"{card.id}-{precision}{which}"
            try:
                if card.route == "estimate":
                    raise UnsupportedError(f"no artefact is made for {card.id}: it is only costed")
                bundle = export(network, card, precision, folder / label, *samples, name=name + which, trained=trained)
                ran = Deployed(folder / label, "reference" if card.klass == "simulator" else None)
            except (UnsupportedError, MissingDependencyError) as error:
                return "", Accuracy(None, precision, reason=str(error))
            files = ran.manifest["files"]
            parts = [files[f]["sha256"] for f in sorted(files) if f.startswith(("dense", "spiking"))]
            digest = " ".join([str(ran.islands), *parts])
            same = known.setdefault(digest, (label, card.id))
            predictors.setdefault(same[0], ("deployed" if not which else "twin", ran))
            runtime = "onnxruntime" if ran.islands is None else f"onnxruntime, islands in {ran.islands}"
            other = same[1] if same[0] != label else None
            return same[0], Accuracy(runtime, precision, parity=bool(bundle.parity), same_as=other)

        mine = [artefact(model, "", card, p) for card, p in zip(cards, precisions, strict=True)]
        theirs = [
            artefact(twin, "-twin", card, p) if twin is not None and card.route == "onnx" else None
            for card, p in zip(cards, precisions, strict=True)
        ]
        found = channel_prediction.evaluate(
            name, predictors, grid, snrs_db=snrs_db, links=links, seed=seed, baselines=None, progress=progress
        )

    def curves(label: str) -> tuple[Curve, ...]:
        return tuple(c for c in found.curves if c.method == label)

    def filled(entry: tuple[str, Accuracy]) -> Accuracy:
        return replace(entry[1], curves=curves(entry[0])) if entry[0] else entry[1]

    return AccuracyReport(
        links=links,
        seed=seed,
        data="embedded cities (ray-traced)",
        model=curves(MODEL),
        twin=curves(TWIN),
        targets=tuple(filled(entry) for entry in mine),
        twins=tuple(None if entry is None else filled(entry) for entry in theirs),
    )


def check_links(links: int, seed: int) -> None:
    """Raise InputError where a split of the embedded cities does not hold so many links, or `links` is below 1."""
    for split in channel_prediction.SPLITS:
        channel_prediction.choose_links(embedded_split(split), links, split, seed)


def mean_db(curves: Sequence[Curve]) -> float | None:
    """Mean of all points in dB; None without curves."""
    values = [value for curve in curves for value in curve.nmse_db]
    return sum(values) / len(values) if values else None


def plain(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Curves as profile.json holds them: without the method, which is the place they stand in."""
    keys = ("regime", "split", "snr_db", "nmse_db", "low_db", "high_db")
    return [{k: list(v) if isinstance(v := getattr(c, k), tuple) else v for k in keys} for c in curves]
