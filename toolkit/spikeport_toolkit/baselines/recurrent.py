"""LSTM and GRU predictors, as the channel-prediction papers compare with: small, trained on the training cities."""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from spikeport_errors import InputError, unknown_name

from ..data.sampler import Batch, draw, embedded_split
from ..models.config import SYMBOLS_PER_SLOT, GridConfig
from ..objectives.nmse import nmse

__all__ = ["RecurrentPredictor", "inputs_of", "load_recurrent", "recurrent", "train_recurrent"]

KINDS = {"lstm": nn.LSTM, "gru": nn.GRU}
GRID = GridConfig(slots=4, antennas=4, blocks=4)
HIDDEN, HALF = 96, SYMBOLS_PER_SLOT // 2
SNR_DB = (-10.0, 25.0)


class RecurrentPredictor(nn.Module):
    """One recurrent layer over the half-slot means of one antenna link, then the next slot as level and slope.

        h_n = RNN(x_1 ... x_n),   H_hat[t] = (s(w h_n) x_n + W_0 h_n) + u_t (W_1 h_n),   u_t from -1 to 1 over the slot

    The sigmoid s lets x_n through as far as it can be trusted, since it carries its noise. x_i holds 48 subcarriers,
    real then imaginary. Antennas are a batch: one network serves all of them.
    """

    def __init__(self, kind: str):
        super().__init__()
        if kind not in KINDS:
            raise unknown_name("recurrent baseline", kind, KINDS, "both take the same inputs")
        width = 2 * GRID.subcarriers
        self.rnn = KINDS[kind](width, HIDDEN, batch_first=True)
        self.out = nn.Linear(HIDDEN, 2 * width + 1)

    def forward(self, halves: Tensor) -> Tensor:
        """`[batch, half slot, 96]` to `[batch, 14, 96]`."""
        state = self.rnn(halves)[0][:, -1]
        trust, level, slope = self.out(state).split((1, halves.shape[2], halves.shape[2]), -1)
        turn = torch.linspace(-1, 1, SYMBOLS_PER_SLOT)[:, None]
        slot: Tensor = (trust.sigmoid() * halves[:, -1] + level)[:, None] + turn * slope[:, None]
        return slot


def inputs_of(batch: Batch) -> NDArray[np.float32]:
    """Half-slot means of the scaled observation, `[batch * antenna, half slot, 2 * subcarriers]`."""
    scaled = batch.observed / batch.scale
    samples, symbols, antennas, tones = scaled.shape
    halves = scaled.reshape(samples, symbols // HALF, HALF, antennas, tones).mean(2).transpose(0, 2, 1, 3)
    flat = halves.reshape(samples * antennas, symbols // HALF, tones)
    return np.asarray(np.concatenate((flat.real, flat.imag), -1), np.float32)


def recurrent(kind: str, batch: Batch) -> NDArray[np.complex64]:
    """The next slot by the shipped network `kind`, repeated over the predicted slots if there are several.

    Subcarriers beyond multiples of 48 are served by an overlapping last window; every antenna link alone.
    """
    samples, _, antennas, tones = batch.observed.shape
    width = GRID.subcarriers
    if tones < width:
        raise InputError(f"{kind} was trained on {width} subcarriers and the grid has {tones}: leave it out")
    halves = inputs_of(batch)
    slot = np.empty((samples, SYMBOLS_PER_SLOT, antennas, tones), np.complex64)
    network = load_recurrent(kind)
    for first in [*range(0, tones - width, width), tones - width]:
        window = np.r_[first : first + width, tones + first : tones + first + width]
        with torch.no_grad():
            out = network(torch.from_numpy(np.ascontiguousarray(halves[..., window]))).numpy()
        values = (out[..., :width] + 1j * out[..., width:]).reshape(samples, antennas, SYMBOLS_PER_SLOT, width)
        slot[..., first : first + width] = values.transpose(0, 2, 1, 3)
    repeats = len(batch.times_predicted) // SYMBOLS_PER_SLOT
    return np.tile(slot * batch.scale, (1, repeats, 1, 1))


@cache
def load_recurrent(kind: str) -> RecurrentPredictor:
    """The shipped network, trained by `benchmarks/recurrent_baselines.py`, in eval mode."""
    network = RecurrentPredictor(kind)
    with as_file(files("spikeport_toolkit.baselines") / "weights" / f"{kind}.safetensors") as path:
        network.load_state_dict({name: value.float() for name, value in load_file(Path(path)).items()})
    return network.eval()


def train_recurrent(kind: str, *, steps: int, batch: int = 64, lr: float = 2e-3, seed: int = 0) -> RecurrentPredictor:
    """Train on the embedded training cities: NMSE loss, both regimes, SNR U(-10, 25) dB, Adam with cosine decay.

    The same data as the shipped transformers get; deterministic by `seed` on one machine and number of threads.
    """
    torch.manual_seed(seed)
    network = RecurrentPredictor(kind)
    optimiser = torch.optim.Adam(network.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    links = embedded_split("train")
    for step in range(steps):
        rng = np.random.default_rng((seed, step))
        users = rng.integers(0, links.links, batch)
        made = draw(links, users, GRID, str(rng.choice(("R1", "R2"))), SNR_DB, rng)
        target = (made.target / made.scale).transpose(0, 2, 1, 3).reshape(-1, SYMBOLS_PER_SLOT, GRID.subcarriers)
        wanted = torch.from_numpy(np.concatenate((target.real, target.imag), -1).astype(np.float32))
        predicted = network(torch.from_numpy(inputs_of(made)))
        by_sample = (batch, -1, 2 * GRID.subcarriers)
        loss = nmse(predicted.reshape(by_sample), wanted.reshape(by_sample)).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return network.eval()
