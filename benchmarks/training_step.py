"""What a training step of a spiking model costs beside its ReLU twin: forward, loss and backward, one thread.

    python benchmarks/training_step.py [--sizes 3.5m nano] [--rounds 12]

All models take turns in one run; the figure is the ratio of the fastest rounds. `T-step loop` is the same model with
SpikingJelly's own neuron unrolled over its T steps in autograd, W1 and W2 still computed once.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import nn

from spikeport_toolkit.models.load import load_model
from spikeport_toolkit.models.neuron import SpikingNeuron

GRIDS = {"nano": (32, 64), "3.5m": (8, 204), "20m": (2, 204)}
"""Batch and tokens of a step."""
HEAD = (
    "| size, batch x tokens | ReLU step, s | I-LIF | LIF, soft reset, T = 4 | LIF, T = 4 | LIF, T-step loop |",
    "|---|---|---|---|---|---|",
)


class Unrolled(nn.Module):
    """SpikingJelly's node over T steps, differentiated by autograd."""

    def __init__(self, neuron: SpikingNeuron):
        super().__init__()
        self.neuron = neuron

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        """Rate, of the shape of `current`."""
        config = self.neuron.config
        return self.neuron.spikes(current).sum(0) / (config.steps * config.levels)


def blocks(name: str, *, unrolled: bool = False) -> nn.Sequential:
    chain = nn.Sequential(*load_model(name).train().backbone.blocks)
    if unrolled:
        for block in chain:
            block.ffn.neuron = Unrolled(block.ffn.neuron)
    return chain


def step(chain: nn.Sequential, batch: int, tokens: int) -> float:
    x = torch.randn(batch, tokens, chain[0].norm1.normalized_shape[0], requires_grad=True)
    started = time.perf_counter()
    chain(x).square().mean().backward()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["3.5m", "nano"], choices=GRIDS)
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("\n".join(HEAD))
    for size in options.sizes:
        print(row(size, ratios(size, options.rounds)), flush=True)


def ratios(size: str, rounds: int) -> list[float]:
    """Seconds of the ReLU twin's fastest step, then the fastest steps of the others over it."""
    name = f"spikewfm-{size}"
    chains = [blocks(f"{name}-relu"), blocks(f"{name}-ilif"), blocks(f"{name}-lif_soft"), blocks(name)]
    chains.append(blocks(name, unrolled=True))
    seconds = [[step(chain, *GRIDS[size]) for chain in chains] for _ in range(rounds)]
    best = [min(column) for column in zip(*seconds, strict=True)]
    return [best[0], *(value / best[0] for value in best[1:])]


def row(size: str, found: list[float]) -> str:
    """A line under HEAD."""
    return (
        f"| {size}, {GRIDS[size][0]} x {GRIDS[size][1]} | {found[0]:.3f} | "
        + " | ".join(f"{value:.2f}" for value in found[1:])
        + " |"
    )


if __name__ == "__main__":
    main()
