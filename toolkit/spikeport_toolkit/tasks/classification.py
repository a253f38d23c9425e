"""LoS and beam prediction as `spikeport evaluate` runs them: ridge probes on frozen features of models, few-shot."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from spikeport_errors import InputError, unknown_name

from ..data.canonical import Sampling, canonical_channels
from ..data.deepmimo import load_deepmimo
from ..data.patches import Channel
from ..data.sampler import folder_sets, symbol_times, window_frequencies
from ..data.schema import PathSet
from ..data.splits import link_keys
from ..data.store import TRAIN_CITIES, load_embedded
from ..data.synthesis import channels
from ..training.adaptation import Adaptation
from . import beam, los
from .array_channels import array_channels
from .features import KINDS, sequences_of
from .few_shot import Classification, few_shot
from .probe import FineTuned, network_probe, ridge_probe

__all__ = ["TASKS", "channels_for", "evaluate", "load_sets"]

TASKS = ("los", "beam")
COUNTS = (10, 20, 50, 100, 200, 500, 900)
DRAWS = 20
TRAINED_SHARE = 2 / 3
"""Of the links, at most this share is labelled; the others are tested."""
MOST_PATHS = 20
"""LWM's scenarios keep 20 paths a link."""


def load_sets(
    folder: Path | None, trained: Collection[str] | None = None, links: Collection[bytes] = ()
) -> list[PathSet]:
    """The path sets of a folder: DeepMIMO scenarios (itself, or folders in it), a store, or npz files.

    Default: the embedded cities. Cities that a model was `trained` on (None: the shipped models' own) and the links
    whose `link_keys` are in `links` are left out; InputError where nothing is left.
    """
    if folder is None:
        sets = load_embedded()
    else:
        scenarios = [f for f in (folder, *sorted(folder.glob("*/"))) if any((f / n).is_file() for n in _SCENARIO)]
        sets = [item for scenario in scenarios for item in load_deepmimo(scenario, max_paths=MOST_PATHS)]
        sets = sets or folder_sets(folder)
    known = TRAIN_CITIES if trained is None else trained
    fresh = [item for item in sets if item.city not in known]
    if links:
        rows = [np.flatnonzero([key not in links for key in link_keys(item)]) for item in fresh]
        fresh = [item.select(kept) for item, kept in zip(fresh, rows, strict=True) if len(kept)]
    if not fresh:
        raise InputError(f"{folder or 'the embedded cities'} hold only what the model was trained on: take other data")
    return fresh


_SCENARIO = ("params.mat", "params.json")


def channels_for(model: nn.Module, paths: PathSet, seed: int = 0) -> Channel:
    """Clean channels `[link, time, antenna, frequency]` of all links of `paths`, as `model` samples them.

    One instant: a static array turned as LWM's. More: data/canonical's, with random motion; for a SpikeWFM its own
    grid, contiguous slots, users at rest.
    """
    config: Any = getattr(model, "config", None)
    users = np.arange(paths.links)
    sampling = getattr(config, "sampling", None)
    if isinstance(sampling, Sampling):
        if sampling.time > 1:
            return canonical_channels(paths, users, sampling, np.random.default_rng(seed))
        return array_channels(
            paths, users, antennas=sampling.antenna, subcarriers=sampling.frequency,
            spacing_hz=sampling.frequency_step_hz,
        )  # fmt: skip
    if not hasattr(config, "grid"):
        raise InputError(
            f"{type(model).__name__} does not say which channels it takes: give a model of `spikeport models`"
        )
    times, frequencies = symbol_times(config.grid, "R1"), window_frequencies(config.grid, 0)
    return channels(paths, users, times, frequencies, np.zeros((len(users), 3)), align_delays=True)


def evaluate(
    task: str,
    models: Mapping[str, nn.Module],
    *,
    data: Path | None = None,
    links: int = 500,
    beams: int = 64,
    draws: int = DRAWS,
    seed: int = 0,
    counts: Sequence[int] | None = None,
    adaptation: str = "probe",
    trained: Collection[str] | None = None,
    trained_links: Collection[bytes] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Classification:
    """Accuracy of a ridge probe on raw channels, channel embeddings and [CLS] of `models`, over numbers of labels.

    At most `links` links, drawn with `seed` from all sets of `data`. `counts` are the numbers of labels. An
    `adaptation` other than probe adds [CLS] of models that are trained with a linear head (probe.FineTuned). Raises
    UsageError for an unknown task, InputError for data without line-of-sight flags of both kinds, without a second
    band (beam), or with too few links.
    """
    if task not in TASKS:
        raise unknown_name("task", task, TASKS, "choose one")
    sets = load_sets(data, trained, trained_links)
    pairs = beam.paired(sets) if task == "beam" else [(low, low) for low in _lowest(sets)]
    chosen = _chosen([low.links for low, _ in pairs], links, seed)
    pairs = [
        (low.select(rows), high.select(rows)) for (low, high), rows in zip(pairs, chosen, strict=True) if len(rows)
    ]
    wanted = [beam.labels(high, beams) if task == "beam" else los.labels(high) for _, high in pairs]
    labels = np.concatenate(wanted)
    if len(np.unique(labels)) < 2:
        raise InputError(f"all {len(labels)} links are of one class: {task} needs links of several")
    features = {}
    for name, model in models.items():
        parts = [channels_for(model, low, seed) for low, _ in pairs]
        for kind in KINDS:
            values = np.concatenate([sequences_of(model, part, kind) for part in parts])
            features[f"{name} {kind}"] = (kind, values)
    counts = counts or [count for count in COUNTS if count <= TRAINED_SHARE * len(labels)]
    if not counts:
        raise InputError(f"{len(labels)} links are too few: take {int(COUNTS[0] / TRAINED_SHARE) + 1} or more")
    classes = beams if task == "beam" else los.CLASSES
    curves = few_shot(features, labels, classes, ridge_probe, counts=counts, draws=draws, seed=seed, progress=progress)
    for name, model in models.items() if adaptation != "probe" else ():
        inputs = np.concatenate([model.inputs(channels_for(model, low, seed)).numpy() for low, _ in pairs])  # type: ignore[operator]
        method = {f"{name} cls {adaptation}": ("cls", inputs)}
        fit = network_probe(partial(_fine_tuned, model, adaptation), standardise=False)
        curves += few_shot(method, labels, classes, fit, counts=counts, draws=draws, seed=seed, progress=progress)
    where = "embedded cities (ray-traced) the models were not trained on" if data is None else str(data)
    return Classification(task, next(iter(models)), where, len(labels), classes, draws, seed, curves)


def _fine_tuned(model: nn.Module, adaptation: str, _: tuple[int, ...], classes: int) -> nn.Module:
    return FineTuned(model, Adaptation(adaptation), classes)


def _lowest(sets: list[PathSet]) -> list[PathSet]:
    """The sets at the lowest carrier, links with a path only."""
    carrier = min((item.carrier_hz for item in sets), default=0.0)
    reached = [item.select(np.flatnonzero(item.n_paths > 0)) for item in sets if item.carrier_hz == carrier]
    return [item for item in reached if item.links]


def _chosen(sizes: list[int], links: int, seed: int) -> list[np.ndarray[Any, np.dtype[np.intp]]]:
    """At most `links` rows over sets of `sizes`, drawn together, as rows of each set."""
    drawn = np.sort(np.random.default_rng(seed).permutation(sum(sizes))[:links])
    starts = np.cumsum([0, *sizes])
    return [drawn[(drawn >= a) & (drawn < b)] - a for a, b in pairwise(starts)]
