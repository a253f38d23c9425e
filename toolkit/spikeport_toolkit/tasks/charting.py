"""Channel charting: a map in which users that stand near are near, made from channels alone."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spikeport_errors import InputError

from ..data.patches import Channel
from ..data.sampler import Batch
from ..objectives.chart_metrics import continuity, trustworthiness
from ..objectives.charting import Charting
from ..training.adaptation import Adaptation, adapt, merge, training_mode
from .positioning import fingerprints, require_encoder
from .read_out import Tuning, pooled_rows
from .request import Request, clean_batch, inputs_of, noisy
from .score_table import Metric, Scores, ScoreTable

__all__ = ["chart_of", "evaluate", "principal"]

METRICS = (Metric("trustworthiness", "", "higher", 3), Metric("continuity", "", "higher", 3))
NEIGHBOURS = 0.05
AT_ONCE = 64
Points = NDArray[np.floating]


def evaluate(request: Request, tuning: Tuning | None = None) -> ScoreTable:
    """Trustworthiness and continuity of 2-D charts of the tested users of a base station, k = 5 % of them.

    `labels` counts the users whose channels, without their positions, the chart is made from. Charts: the two
    principal components of the raw input, of `fingerprints` and of the model's pooled features; and the head of the
    objective `charting` (triplets by CSI), trained on the frozen model (`probe`) or with it.
    """
    (snr,), config, scores, places = request.snrs_db, request.config, Scores(), request.sites()
    for network in request.models.values():
        require_encoder(network, "charting")
    neighbours, most = max(1, round(NEIGHBOURS * request.links)), max(request.labels)
    if request.links < 3 or min(request.labels) < 3:
        raise InputError(f"--links {request.links} and --labels {min(request.labels)}: a chart needs 3 users or more")
    done, total = 0, len(places) * request.seeds
    for place in places:
        rng = np.random.default_rng(request.seed)
        batch = clean_batch(config, place.paths, np.arange(place.paths.links), rng)
        channel = noisy(batch.clean, snr, rng)
        where, prints = place.paths.ue[:, :2].astype(np.float64), fingerprints(channel)
        raw = inputs_of(request.models[request.model], channel).flatten(1).numpy()
        pooled = {name: _pooled(network, channel) for name, network in request.models.items()}
        for seed in range(request.seed, request.seed + request.seeds):
            tested, known = place.draw(request.links, most, seed)

            def add(method: str, role: str, labels: int, chart: Points, truth: Points = where[tested]) -> None:
                values = {
                    "trustworthiness": trustworthiness(truth, chart, neighbours),
                    "continuity": continuity(truth, chart, neighbours),
                }
                scores.add(method, role, values, labels)

            for labels in request.labels:
                some = known[:labels]
                add("raw pca", "baseline", labels, principal(raw[some], raw[tested]))
                add("fingerprint pca", "baseline", labels, principal(prints[some], prints[tested]))
                for name, network in request.models.items():
                    role = request.role(name)
                    add(f"{name} pooled pca", role, labels, principal(pooled[name][some], pooled[name][tested]))
                    made = chart_of(network, _some(batch, channel, some), request.adaptation, seed, tuning)
                    add(f"{name} triplets {request.adaptation}", role, labels, made(channel[tested]))
            request.progress(done := done + 1, total)
    return ScoreTable(
        "charting", request.model, request.adaptation, request.source, len(places), request.links, snr, request.seed,
        request.seeds, METRICS, scores.rows(),
        notes=(f"Places: {', '.join(p.name for p in places)}; {neighbours} neighbours; a random chart has about 0.5.",),
    )  # fmt: skip


def principal(known: Points, unknown: Points, dimensions: int = 2) -> NDArray[np.float64]:
    """Coordinates `[sample, dimensions]` of `unknown` on the principal components of `known` `[sample, value]`."""
    mean = known.mean(0, dtype=np.float64)
    _, _, axes = np.linalg.svd(known - mean, full_matrices=False)
    return np.asarray((unknown - mean) @ axes[:dimensions].T, np.float64)


def chart_of(
    model: nn.Module, batch: Batch, adaptation: str, seed: int = 0, tuning: Tuning | None = None
) -> Callable[[Channel], NDArray[np.float64]]:
    """Train the chart of objectives/charting.py on the channels `clean` of `batch`; `model` stays as it is."""
    frozen = adaptation == "probe"
    tuned: nn.Module = _Frozen(_pooled(model, batch.clean)) if frozen else deepcopy(model)
    objective, settings = Charting(), Adaptation(adaptation)
    tuning, rng = tuning or Tuning(steps=60, batch=48, lr=1e-3), np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = objective.parts(tuned)
        trained = [*([] if frozen else adapt(tuned, settings, seed)), *parts.parameters()]
        training_mode(tuned, settings, freeze_statistics=True)
        optimiser = torch.optim.AdamW(trained, tuning.lr)
        for _ in range(tuning.steps):
            chosen = rng.permutation(len(batch.clean))[: tuning.batch]
            if isinstance(tuned, _Frozen):
                tuned.chosen = chosen
            loss = objective.loss(tuned, parts, _some(batch, batch.clean, chosen), rng)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
    merge(tuned)
    used, head = model if frozen else tuned.eval(), parts["chart"]  # type: ignore[index]

    def chart(channel: Channel) -> NDArray[np.float64]:
        with torch.no_grad():
            return np.asarray(head(torch.from_numpy(_pooled(used, channel))).numpy(), np.float64)

    return chart


class _Frozen(nn.Module):
    """Stands for a frozen model while a chart is trained: its features of all channels, computed once."""

    chosen: NDArray[np.intp]
    """Which channels the objective is about to ask for."""

    def __init__(self, features: NDArray[np.float32]):
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(features.shape[1]), requires_grad=False)
        self.features = torch.from_numpy(features)

    def inputs(self, channel: Channel) -> torch.Tensor:
        return self.features[torch.from_numpy(self.chosen)]

    def cls_features(self, features: torch.Tensor) -> torch.Tensor:
        return features


def _some(batch: Batch, channel: Channel, chosen: NDArray[np.intp]) -> Batch:
    """The samples `chosen` of `channel` as a batch without geometry: nobody is told where users stand."""
    return replace(batch, clean=channel[chosen], geometry=None)


def _pooled(network: nn.Module, channel: Channel) -> NDArray[np.float32]:
    with torch.no_grad():
        parts = [
            pooled_rows(network, inputs_of(network, channel[i : i + AT_ONCE])) for i in range(0, len(channel), AT_ONCE)
        ]
    return torch.cat(parts).float().numpy()
