"""Positioning: where a user stands, from the channel to one base station, learned from few surveyed users."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spikeport_errors import UnsupportedError

from ..data.patches import Channel
from .features import backbone_of
from .read_out import Rows, Tuning, itself, pooled_rows, prepared, read_out, token_rows
from .request import Request, clean_batch, inputs_of, noisy
from .score_table import Metric, Scores, ScoreTable

__all__ = ["evaluate", "fingerprints", "nearest_neighbours", "require_encoder"]

METRICS = (Metric("median", "m", "lower", 1), Metric("90 %", "m", "lower", 1))
NEIGHBOURS = 5
Points = NDArray[np.floating]


def evaluate(request: Request, tuning: Tuning | None = None) -> ScoreTable:
    """Median and 90 % of the horizontal error in m, per base station, then averaged over stations and draws.

    A linear read-out of the model's pooled features and, for `probe`, of all its tokens' features, beside: the middle
    of the labelled users, ridge regression on the raw input, and k nearest neighbours of `fingerprints`. All labels are
    of the base station that is tested; delays count from the first arrival, so nobody sees the distance in the delay.
    """
    (snr,), config, scores, places = request.snrs_db, request.config, Scores(), request.sites()
    for network in request.models.values():
        require_encoder(network, "positioning")
    most, done = max(request.labels), 0
    total = len(places) * (request.seeds + 1)
    for place in places:
        everyone = np.arange(place.paths.links)
        rng = np.random.default_rng(request.seed)
        channel = noisy(clean_batch(config, place.paths, everyone, rng).clean, snr, rng)
        where, prints = place.paths.ue[:, :2].astype(np.float64), fingerprints(channel)
        raw = inputs_of(request.models[request.model], channel).flatten(1)
        ready = {
            (name, kind): prepared(network, rows, inputs_of(network, channel), request.adaptation)
            for name, network in request.models.items()
            for kind, rows in _kinds(network, request.adaptation).items()
        }
        request.progress(done := done + 1, total)
        for seed in range(request.seed, request.seed + request.seeds):
            tested, known = place.draw(request.links, most, seed)
            for labels in request.labels:
                some = known[:labels]
                guesses = {"middle of the labelled": np.repeat(where[some].mean(0)[None], len(tested), 0)}
                guesses["raw ridge"] = read_out(nn.Identity(), itself, raw[some], where[some])(raw[tested])
                guesses["fingerprint k-NN"] = nearest_neighbours(prints[some], where[some], prints[tested])
                for method, guess in guesses.items():
                    scores.add(method, "baseline", _errors(guess, where[tested]), labels)
                for (name, kind), (network, rows, inputs) in ready.items():
                    adaptation = request.adaptation
                    fitted = read_out(network, rows, inputs[some], where[some], adaptation, seed=seed, tuning=tuning)
                    found = _errors(fitted(inputs[tested]), where[tested])
                    scores.add(f"{name} {kind} {adaptation}", request.role(name), found, labels)
            request.progress(done := done + 1, total)
    return ScoreTable(
        "positioning", request.model, request.adaptation, request.source, len(places), request.links, snr,
        request.seed, request.seeds, METRICS, scores.rows(),
        notes=(f"Places: {', '.join(p.name for p in places)}; the error is horizontal.",),
    )  # fmt: skip


def fingerprints(channel: Channel) -> NDArray[np.float64]:
    """Angle-delay magnitudes `[sample, antenna * tap]` of channels `[sample, time, antenna, frequency]`, at norm 1:

    x = sqrt(mean_t |DFT_a IDFT_f H_t|^2),  x / |x|
    """
    profile = np.fft.fft(np.fft.ifft(channel.astype(np.complex128), axis=3), axis=2)
    flat = np.sqrt(np.mean(np.abs(profile) ** 2, axis=1)).reshape(len(channel), -1)
    return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True))


def nearest_neighbours(known: Points, targets: Points, unknown: Points, count: int = NEIGHBOURS) -> NDArray[np.float64]:
    """Mean of the targets of the `count` nearest known points, weighted by 1 / distance."""
    distance = np.linalg.norm(unknown[:, None] - known[None], axis=-1) + 1e-9
    nearest = np.argsort(distance, 1, kind="stable")[:, :count]
    weights = 1 / np.take_along_axis(distance, nearest, 1)
    weights /= weights.sum(1, keepdims=True)
    return np.asarray(np.einsum("nk,nkd->nd", weights, targets[nearest]))


def require_encoder(network: nn.Module, task: str) -> None:
    """UnsupportedError where the network has no features to read out."""
    encoder = backbone_of(network)
    if not (hasattr(encoder, "encode") or hasattr(encoder, "cls_features")):
        raise UnsupportedError(
            f"{type(network).__name__} has no encoder, so {task} has no features to read: "
            "give a model of `spikeport models`"
        )


def _kinds(network: nn.Module, adaptation: str) -> dict[str, Rows]:
    tokens = adaptation == "probe" and hasattr(backbone_of(network), "encode")
    return {"pooled": pooled_rows, "tokens": _all_tokens} if tokens else {"pooled": pooled_rows}


def _all_tokens(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    return token_rows(model, inputs).flatten(1)


def _errors(guess: Points, truth: Points) -> dict[str, float]:
    error = np.linalg.norm(guess - truth, axis=1)
    return {"median": float(np.median(error)), "90 %": float(np.quantile(error, 0.9))}
