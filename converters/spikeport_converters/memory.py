"""Memory that a large model's export frees goes back to the system at once, so that its peak is what it holds.

The C library raises the size from which a block gets pages of its own to that of the largest block ever freed (at most
32 MiB). Tensors of a few MB then share the heap with small objects that outlive them, and what is freed between those
stays with the process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_MMAP_THRESHOLD, _OWN_PAGES, _USUAL_MOST = -3, 1 << 20, 32 << 20


@contextmanager
def large_blocks_apart() -> Iterator[None]:
    """Within it, blocks of 1 MiB and more have pages of their own (GNU C library; elsewhere nothing changes).

    Afterwards the limit is what the library itself ends at once a large block was freed.
    """
    set_limit = _mallopt()
    set_limit(_MMAP_THRESHOLD, _OWN_PAGES)
    try:
        yield
    finally:
        set_limit(_MMAP_THRESHOLD, _USUAL_MOST)


def _mallopt() -> Any:
    try:
        return ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return lambda *_: 0
