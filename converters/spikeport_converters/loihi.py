"""Loihi islands: a spiking feed-forward block in the chip's integers, and the model that computes with them.

The host computes attention, LayerNorm, fc1 and the residual sums in float. What enters the chip is a current per
neuron, as a bias of 13 bits shifted left by 6; what leaves it is a 24-bit accumulator per output of fc2, read after T
steps. On the chip stand the LIF neurons and the 8-bit weights of fc2.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport_targets.runtimes.loihi_runner import VTH_HIGH, NetIsland
from spikeport_toolkit.models.layers import FeedForward
from spikeport_toolkit.models.neuron import SpikingNeuron

from .fold import staircase
from .loihi_currents import CurrentScale

WEIGHT_BITS = 8
MOST_TOKENS = 2048
"""Tokens from which scales are chosen."""


@dataclass(frozen=True)
class Block:
    """A spiking FeedForward of a BatchNorm-folded model; `name` as in a bundle's files, `path` of the module."""

    name: str
    path: str
    ffn: FeedForward

    @property
    def slots(self) -> int:
        """Most spikes of a neuron over a token's steps, T D."""
        config: Any = self.ffn.neuron.config
        return int(config.steps * config.levels)

    def weight(self) -> NDArray[np.float64]:
        """Weights of fc2 [out, hidden]."""
        return self.ffn.fc2.weight.detach().double().numpy()


@dataclass(frozen=True)
class LoihiIsland:
    """One block in integers: `net` is what the chip and the host hold, `currents` how its threshold was placed.

    `scaling` says how the weight scale was chosen.
    """

    block: Block
    net: NetIsland
    currents: CurrentScale
    bits: int
    scaling: str

    def summary(self) -> str:
        """One line: neurons, bits, and how far its thresholds stand from those of the float neuron."""
        outputs, hidden = self.net.weight.shape[0], self.net.inputs
        where = "exactly in place" if self.currents.exact else f"within {self.currents.distance:.1e} of their place"
        return f"{self.block.path}: {hidden} neurons to {outputs} outputs, {self.bits} bits ({self.scaling}), {where}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the weights."""
        return {
            "name": self.block.name,
            "path": self.block.path,
            "hidden": self.net.inputs,
            "outputs": int(self.net.weight.shape[0]),
            "steps": self.net.steps,
            "slots": len(self.net.offsets),
            "weight_bits": self.bits,
            "scaling": self.scaling,
            "vth": self.net.vth,
            "dv": self.net.dv,
            "current_scale": self.net.scale,
            "threshold_distance": self.currents.distance,
        }


def spiking_blocks(folded: nn.Module) -> tuple[Block, ...]:
    """Every spiking FeedForward in the order of the modules; BatchNorm must be folded already."""
    found = [
        (path, m)
        for path, m in folded.named_modules()
        if isinstance(m, FeedForward) and isinstance(m.neuron, SpikingNeuron)
    ]
    return tuple(Block(f"island-{i:02d}", path, ffn) for i, (path, ffn) in enumerate(found))


def block_inputs(folded: nn.Module, blocks: tuple[Block, ...], patches: Tensor) -> dict[str, Tensor]:
    """Currents float32 [token, hidden] of every block by name, in one run on `patches`: evenly chosen, MOST_TOKENS."""
    seen: dict[str, Tensor] = {}
    hooks = [
        block.ffn.neuron.register_forward_pre_hook(
            lambda _m, args, name=block.name: seen.update({name: _some(args[0].detach().flatten(0, -2))})
        )
        for block in blocks
    ]
    try:
        with torch.no_grad():
            folded(patches)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def loihi_island(
    block: Block, currents: CurrentScale, scale: NDArray[np.float64], bits: int, scaling: str
) -> LoihiIsland:
    """The block with fc2's weights w_q = clip(round(scale w)) in `bits` bits; `scale` float64 [out], one per output.

        y = a / (scale T D) + b2,   a = sum_t sum_j w_q s_t

    A scale with which an accumulator of 24 bits could overflow, for any spikes at all, is lowered until it cannot.
    """
    weight, steps = block.weight(), int(block.ffn.neuron.config.steps)  # type: ignore[union-attr, arg-type]
    while True:
        quantized = np.clip(np.rint(weight * scale[:, None]), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        most = np.maximum(quantized.clip(0).sum(1), -quantized.clip(None, 0).sum(1)) * block.slots
        if most.max() <= VTH_HIGH:
            break
        scale = np.where(most > VTH_HIGH, scale * 0.999 * VTH_HIGH / most, scale)
    bias = block.ffn.fc2.bias
    net = NetIsland(
        weight=np.tile(quantized.astype(np.int64), (1, len(currents.offsets))),
        vth=currents.vth,
        dv=currents.dv,
        steps=steps,
        offsets=np.array(currents.offsets, np.int64),
        scale=currents.scale,
        decode=1 / (scale * block.slots),
        shift=np.zeros(len(scale)) if bias is None else bias.detach().double().numpy(),
    )
    return LoihiIsland(block, net, currents, bits, scaling)


class LoihiFeedForward(nn.Module):
    """A FeedForward whose spikes and second product are those of the chip, folded over time.

    T steps on a constant bias are an integer staircase, count = sum_c [floor(scale I) >= m_c], and the accumulator is
    the sum of integer weights times counts, below 2^17 and so exact in float32: the same integers as `NetIsland.run`.
    """

    thresholds: Tensor
    weight: Tensor
    decode: Tensor
    shift: Tensor

    def __init__(self, island: LoihiIsland):
        super().__init__()
        self.ffn = island.block.ffn
        hidden = island.net.inputs
        self.register_buffer("thresholds", torch.from_numpy(island.currents.float_thresholds()))
        self.register_buffer("weight", torch.from_numpy(island.net.weight[:, :hidden].astype(np.float32)))
        self.register_buffer("decode", torch.from_numpy(island.net.decode))
        self.register_buffer("shift", torch.from_numpy(island.net.shift))

    def counts(self, current: Tensor) -> Tensor:
        """Spikes over a token's steps, float32 in the shape of `current`."""
        total = torch.zeros_like(current)
        for threshold in self.thresholds:
            total += current >= threshold
        return total

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, token, d]` to the same shape."""
        accumulators = nn.functional.linear(self.counts(self.ffn.current(x)), self.weight)
        return (accumulators.double() * self.decode + self.shift).to(x.dtype)


def loihi_model(folded: nn.Module, islands: tuple[LoihiIsland, ...]) -> nn.Module:
    """A copy of `folded` that computes every island in the chip's integers and everything else in float."""
    model = copy.deepcopy(folded).eval()
    for island in islands:
        place(model, island)
    return model


def place(model: nn.Module, island: LoihiIsland) -> None:
    """Put the integer block of `island` in its place in `model`."""
    parent, _, name = island.block.path.rpartition(".")
    setattr(model.get_submodule(parent), name, LoihiFeedForward(island))


def _some(tokens: Tensor) -> Tensor:
    return tokens[:: max(1, len(tokens) // MOST_TOKENS)].contiguous()


def block_stairs(block: Block) -> Any:
    """The exact float staircase of the block's neuron."""
    return staircase(block.ffn.neuron)  # type: ignore[arg-type]
