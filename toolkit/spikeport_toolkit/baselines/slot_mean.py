"""The last observed slot, averaged over its symbols: last value with the noise of one slot averaged out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..models.config import SYMBOLS_PER_SLOT
from .last_value import last_value

__all__ = ["slot_mean"]


def slot_mean(observed: NDArray[np.complex64], symbols: int) -> NDArray[np.complex64]:
    """H_hat[b, t, a, f] = mean over the last 14 observed symbols, for t = 0 ... `symbols` - 1.

    Shapes and errors as last_value; fewer than 14 symbols are averaged where fewer were observed.
    """
    if observed.ndim == 4 and observed.shape[1]:
        observed = observed[:, -SYMBOLS_PER_SLOT:].mean(axis=1, keepdims=True, dtype=np.complex64)
    return last_value(observed, symbols)
