"""Channel estimation by a model: least squares, interpolated, as the tokens of one slot, and a read-out of features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_errors import UnsupportedError

from ..data.patches import Channel, channel_from_patches, patches_from_channel, rms
from ..data.sampler import move
from ..models.config import GridConfig, ModelConfig
from .channel_estimation import Estimate, PilotBatch, Pilots, evaluate, linear, observed
from .evaluation import Evaluation
from .read_out import ReadOut, Tuning, read_out
from .request import Place, Request

__all__ = ["evaluate_models", "slot_rows"]


def evaluate_models(request: Request, tuning: Tuning | None = None) -> Evaluation:
    """The benchmark of channel_estimation.py with models among the estimators, fitted to links of the same split.

    Pilots are sparser than tokens, so no token is known and none unknown: the whole slot, least squares linearly
    interpolated, is the model's first slot; its other slots stand behind the mask token; and a linear read-out gives
    the clean slot from the features. `raw ridge` reads it from the interpolated slot itself. UnsupportedError for
    models other than SpikeWFM, whose samples have no slots.
    """
    for name, network in request.models.items():
        if not isinstance(getattr(network, "config", None), ModelConfig):
            raise UnsupportedError(
                f"{name} does not sample slots of 14 symbols, which the pilots stand in: take a spikewfm preset, or "
                "--task frequency-prediction"
            )
    grid: GridConfig = replace(request.config.grid, slots=2, predicted_slots=1)
    span, pattern = (min(request.snrs_db), max(request.snrs_db)), Pilots()

    def learned(place: Place, known: NDArray[np.intp], seed: int) -> Mapping[str, tuple[str, Estimate]]:
        found: dict[str, tuple[str, Estimate]] = {}
        batch = move(place.paths, known, grid, "R1", np.random.default_rng((seed, 1)))
        pilots = observed(batch, pattern, span, np.random.default_rng((seed, 2)))
        inputs, scale = _tokens(linear(pilots))
        clean = patches_from_channel(pilots.clean / scale)
        for labels in request.labels:
            some, wanted = inputs[:labels], clean[:labels]
            for name, network in request.models.items():
                fitted = read_out(network, slot_rows, some, wanted, request.adaptation, seed=seed, tuning=tuning)
                found[f"{name} {request.adaptation} {labels}"] = (request.role(name), partial(_estimate, fitted, grid))
            rows = partial(_by_antenna, grid.antennas)
            plain = read_out(nn.Identity(), rows, some, rows(nn.Identity(), torch.from_numpy(wanted)).numpy())
            found[f"raw ridge {labels}"] = ("baseline", partial(_estimate, plain, grid))
        return found

    return evaluate(
        model=request.model, pilots=pattern, snrs_db=request.snrs_db, links=request.links, seed=request.seed,
        splits={place.name: place.paths for place in request.splits()}, seeds=request.seeds, data=request.source,
        learned=learned, labels=max(request.labels), grid=grid, progress=request.progress,
    )  # fmt: skip


def slot_rows(model: nn.Module, inputs: Tensor) -> Tensor:
    """Features `[batch, token, d]` of the tokens `[batch, token, 336]` of the first slot, the other slots hidden."""
    encoder: Any = getattr(model, "backbone", model)
    hidden = encoder.mask_token.expand(len(inputs), encoder.config.grid.tokens - inputs.shape[1], -1)
    return encoder.encode(torch.cat((encoder.embed(inputs), hidden), 1))[:, : inputs.shape[1]]  # type: ignore[no-any-return]


def _by_antenna(antennas: int, _: nn.Module, tokens: Tensor) -> Tensor:
    rows: Tensor = tokens.unflatten(1, (antennas, -1))
    return rows.flatten(2)


def _tokens(slot: Channel) -> tuple[Tensor, NDArray[np.float32]]:
    scale = rms(slot)
    return torch.from_numpy(patches_from_channel(slot / scale)), scale


def _estimate(fitted: ReadOut, grid: GridConfig, batch: PilotBatch) -> Channel:
    tokens, scale = _tokens(linear(batch))
    return channel_from_patches(fitted(tokens).reshape(tokens.shape), grid.antennas, grid.blocks) * scale
