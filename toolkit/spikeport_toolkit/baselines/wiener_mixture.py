"""The mixture of Wiener filters as a baseline: told the times of the symbols and nothing else."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.sampler import Batch
from ..models.wiener_mixture import WienerMixture

__all__ = ["wiener_mixture"]

_AT_ONCE = 64


def wiener_mixture(batch: Batch) -> NDArray[np.complex64]:
    """The prediction `[batch, T_pred, antenna, frequency]` of models/wiener_mixture.py; no training, no known SNR."""
    scaled = batch.observed / batch.scale
    _, _, antennas, tones = scaled.shape
    wanted = len(batch.times_predicted)
    times = (tuple(np.asarray(batch.times_s, np.float64).tolist()),)
    mixture = WienerMixture(times, wanted, antennas, tones, batch.carrier_hz, batch.spacing_hz)
    both = torch.from_numpy(np.concatenate((scaled.real, scaled.imag), 1).astype(np.float32))
    with torch.no_grad():
        parts = torch.cat([mixture(part)[0] for part in both.split(_AT_ONCE)]).numpy()
    predicted: NDArray[np.complex64] = (parts[:, :wanted] + 1j * parts[:, wanted:]).astype(np.complex64)
    return np.asarray(predicted * batch.scale, np.complex64)
