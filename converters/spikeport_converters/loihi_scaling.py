"""Weight scales for Loihi, chosen on the task: what counts is the channel's NMSE, not the error of a weight."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spikeport_errors import unknown_name

from .fold import fold_time
from .loihi import (
    WEIGHT_BITS,
    Block,
    LoihiIsland,
    block_inputs,
    block_stairs,
    loihi_island,
    place,
    spiking_blocks,
)  # fmt: skip
from .loihi_currents import CurrentScale, aligned_currents, max_currents

SCALINGS = ("task", "output", "max")
CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Candidates: the largest weight times so much becomes the largest integer, and what is larger saturates."""

Loss = Callable[[nn.Module], float]


def quantize_islands(
    folded: nn.Module,
    patches: NDArray[np.float32],
    target: NDArray[np.float32] | None = None,
    *,
    bits: int = WEIGHT_BITS,
    scaling: str = "task",
) -> tuple[LoihiIsland, ...]:
    """Every spiking block of the BatchNorm-folded model in integers, with `bits`-bit weights.

    `scaling` says how thresholds and weight scales are chosen:

    - max: plain max-scaling, the largest current and the largest weight of a layer fill their integers;
    - output: thresholds aligned (`aligned_currents`), and of every output's candidates the weight scale w with the
      least  (w - w_q / s) R (w - w_q / s)^T,  R = E[r r^T] of the spike rates on `patches`;
    - task: as output, then island by island the candidate (also of a whole layer) that adds the least NMSE to the
      model's prediction on `patches` float32 [batch, token, 336], all other islands being quantised too:

          mean over samples of |y_q - y|^2 / |y - h|^2,   y the float prediction, h the clean `target`

      [batch, predicted token, 336], or |y - h| = |y| without one. It is the relative rise of NMSE as long as the
      quantisation error does not point to h. NMSE itself must not choose: it prefers scales that saturate, which
      shrink predictions of the noisiest samples and lose a tenth of a dB on all others.
    """
    if scaling not in SCALINGS:
        raise unknown_name("scaling", scaling, SCALINGS, "task, output and max are there")
    blocks, sample = spiking_blocks(folded), torch.from_numpy(patches)
    entering = block_inputs(folded, blocks, sample)
    islands = []
    for block in blocks:
        config, stairs, current = block.ffn.neuron.config, block_stairs(block), entering[block.name]
        if scaling == "max":
            currents = max_currents(stairs, config, float(current.abs().max()))  # type: ignore[arg-type]
            islands.append(loihi_island(block, currents, _layer(block, bits, 1.0), bits, "max"))
        else:
            currents = aligned_currents(stairs, config)  # type: ignore[arg-type]
            with torch.no_grad():
                rates = block.ffn.neuron(current).double().numpy()
            scale = _least_output_error(block.weight(), rates, bits)
            islands.append(loihi_island(block, currents, scale, bits, "output"))
    if scaling != "task" or not islands:
        return tuple(islands)
    return _least_task_error(folded, islands, bits, _loss(folded, sample, target))


def _least_output_error(weight: NDArray[np.float64], rates: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    moments = rates.T @ rates / len(rates)
    best: NDArray[np.float64] = np.full(len(weight), np.inf)
    scale: NDArray[np.float64] = np.ones(len(weight))
    for clip in CLIPS:
        tried = _row(weight, bits, clip)
        error = weight - _round(weight, tried, bits)
        cost = np.einsum("oi,ij,oj->o", error, moments, error, optimize=True)
        scale, best = np.where(cost < best, tried, scale), np.minimum(cost, best)
    return scale


def _least_task_error(folded: nn.Module, islands: list[LoihiIsland], bits: int, loss: Loss) -> tuple[LoihiIsland, ...]:
    model = copy.deepcopy(folded).eval()
    for island in islands:
        place(model, island)
    for k, island in enumerate(islands):
        tried = list(_candidates(island.block, island.currents, bits))
        costs = []
        for candidate in (island, *tried):
            place(model, candidate)
            costs.append(loss(model))
        islands[k] = (island, *tried)[int(np.argmin(costs))]
        place(model, islands[k])
    return tuple(islands)


def _candidates(block: Block, currents: CurrentScale, bits: int) -> Iterator[LoihiIsland]:
    for clip in CLIPS[:4]:
        yield loihi_island(block, currents, _layer(block, bits, clip), bits, f"layer x {clip:g}")
        yield loihi_island(block, currents, _row(block.weight(), bits, clip), bits, f"output x {clip:g}")


def _loss(folded: nn.Module, sample: torch.Tensor, target: NDArray[np.float32] | None) -> Loss:
    with torch.no_grad():
        own = fold_time(folded)(sample)
    power = (own if target is None else own - torch.from_numpy(target)).flatten(1).square().sum(1)

    def loss(model: nn.Module) -> float:
        with torch.no_grad():
            return float(((model(sample) - own).flatten(1).square().sum(1) / power).mean())

    return loss


def _layer(block: Block, bits: int, clip: float) -> NDArray[np.float64]:
    weight = block.weight()
    largest = np.abs(weight).max() * clip
    return np.full(len(weight), _top(bits) / (largest if largest else 1.0))


def _row(weight: NDArray[np.float64], bits: int, clip: float) -> NDArray[np.float64]:
    largest = np.abs(weight).max(1) * clip
    return np.asarray(_top(bits) / np.where(largest > 0, largest, 1.0))


def _round(weight: NDArray[np.float64], scale: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    quantized = np.clip(np.rint(weight * scale[:, None]), -_top(bits) - 1, _top(bits))
    return np.asarray(quantized / scale[:, None])


def _top(bits: int) -> int:
    return int(2 ** (bits - 1) - 1)
