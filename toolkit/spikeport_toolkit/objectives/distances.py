"""How unlike the samples of a batch are: by their channels, or by where their users stand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from ..data.patches import Channel
from ..data.sampler import Batch
from .views import impulse_response

DISTANCES = ("csi", "position")


def csi_distance(channel: Channel) -> NDArray[np.float64]:
    """Dissimilarity `[batch, batch]` of the first instants of channels `[batch, time, antenna, frequency]`:

        d_ij = 1 - sum over taps of sqrt(p_i p_j) |<h_i, h_j>|^2 / (|h_i|^2 |h_j|^2),   h[tap] in C^A

    Angle-delay profiles compared tap by tap (Stephan, Euchner and ten Brink, 2023, ADP dissimilarity), blind to phases.
    Theirs is a plain sum over taps; p, a tap's share of its sample's power, keeps empty taps from counting as far.
    """
    taps = impulse_response(channel[:, :1])[:, 0].transpose(2, 0, 1).astype(np.complex128)
    power = np.sum(np.abs(taps) ** 2, -1)
    product = power[:, :, None] * power[:, None, :]
    inner = np.abs(np.matmul(taps.conj(), taps.transpose(0, 2, 1))) ** 2
    share = power / np.maximum(power.sum(0), np.finfo(float).tiny)
    weight = np.sqrt(share[:, :, None] * share[:, None, :])
    alike = inner / np.maximum(product, np.finfo(float).tiny)
    distance: NDArray[np.float64] = 1 - np.sum(weight * alike, 0)
    return distance


def distances(kind: str, batch: Batch, who: str) -> NDArray[np.float64]:
    """Distances `[batch, batch]` by `csi` or by user `position` in m; infinite from a sample to itself.

    Positions are each city's own, so they compare users of one city only: train on a store of one.
    """
    if kind == "csi":
        far = csi_distance(batch.clean)
    else:
        if batch.geometry is None:
            raise InputError(f"{who} by position: this batch has no positions; take csi, or train on a path store")
        where = batch.geometry.paths.ue[batch.geometry.users].astype(np.float64)
        far = np.linalg.norm(where[:, None] - where[None], axis=-1)
    np.fill_diagonal(far, np.inf)
    return far
