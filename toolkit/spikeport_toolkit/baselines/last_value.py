"""The last observed symbol, noise and all, repeated: what a receiver does that does not predict."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

__all__ = ["last_value"]


def last_value(observed: NDArray[np.complex64], symbols: int) -> NDArray[np.complex64]:
    """H_hat[b, t, a, f] = observed[b, last, a, f] for t = 0 ... `symbols` - 1.

    `observed` `[batch, time, antenna, frequency]`; returns `[batch, symbols, antenna, frequency]`. InputError for
    another number of axes, an empty one, or no symbol to predict.
    """
    if observed.ndim != 4 or 0 in observed.shape or symbols < 1:
        raise InputError(
            f"observed has shape {observed.shape} and {symbols} symbols are to be predicted: give "
            "[batch, time, antenna, frequency], none empty, and at least one symbol"
        )
    return np.repeat(observed[:, -1:], symbols, axis=1)
