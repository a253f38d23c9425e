"""Giving memory back between the stages of an export."""

from __future__ import annotations

import ctypes
import gc


def release() -> None:
    """Collect traced programs, which are cycles that hold weights, and hand freed memory to the system (glibc only)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
