"""What a model is traced on: real channels, cut and scaled as it wants them, or a module's own example."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import nn

from spikeport_converters.module_graph import example_input
from spikeport_errors import UnsupportedError
from spikeport_toolkit.data.canonical import Sampling, canonical_batch
from spikeport_toolkit.data.sampler import draw, embedded_split
from spikeport_toolkit.models.config import ModelConfig
from spikeport_toolkit.models.families import FoundationModel
from spikeport_toolkit.tasks.channel_prediction import REGIMES, example_pairs

SNR_DB = (-10.0, 30.0)


def takes_channels(network: nn.Module) -> bool:
    """Whether real channels can be made its input; a user's own module has an `example_input` instead."""
    config = getattr(network, "config", None)
    return isinstance(config, ModelConfig) or (
        isinstance(getattr(config, "sampling", None), Sampling) and hasattr(network, "inputs")
    )


def calibration_inputs(
    name: str, network: nn.Module, samples: int, seed: int = 0, snr_db: float | None = None
) -> tuple[NDArray[np.float32], str]:
    """`samples` inputs of `network`, called `name`, and in words what they are.

    Noisy channels of the embedded training cities, at U(-10, 30) dB or at `snr_db`, where the network takes channels;
    else its `example_input`, whole. Raises UnsupportedError where it has neither.
    """
    config: Any = getattr(network, "config", None)
    at = "SNR U(-10, 30) dB" if snr_db is None else f"SNR {snr_db:g} dB"
    source = f"{samples} ray-traced links of the embedded training cities, {at}"
    if isinstance(config, ModelConfig):
        both = source.replace(", SNR", ", both slot spacings, SNR")
        if snr_db is None:
            return example_pairs(config, samples, seed)[0], both
        return _patches(config, samples, seed, snr_db), both
    if takes_channels(network):
        rng, paths = np.random.default_rng(seed), embedded_split("train")
        users = rng.integers(0, paths.links, samples)
        made = canonical_batch(paths, users, config.sampling, SNR_DB if snr_db is None else snr_db, rng)
        return np.asarray(cast(FoundationModel, network).inputs(made.observed), np.float32), source
    if getattr(network, "example_input", None) is None:
        raise UnsupportedError(
            f"{name} says nothing about its input: give the module an attribute `example_input` (float32 [batch, ...], "
            "or [T, batch, ...] if its neurons take all steps at once)"
        )
    if snr_db is not None:
        raise UnsupportedError(f"{name} runs on its own example_input, which has no SNR: leave --rates-snr out")
    return example_input(network).detach().numpy(), "the module's own example_input"


def _patches(config: ModelConfig, samples: int, seed: int, snr_db: float) -> NDArray[np.float32]:
    """As example_pairs, at one SNR: the same links and motion at every SNR, half of them in each slot spacing."""
    paths, parts = embedded_split("train"), []
    for index, regime in enumerate(REGIMES):
        size = (samples + 1 - index) // 2
        rng = np.random.default_rng((seed, index))
        if size:
            users = rng.integers(0, paths.links, size)
            parts.append(draw(paths, users, config.grid, regime, (snr_db, snr_db), rng).patches())
    return np.concatenate(parts)
