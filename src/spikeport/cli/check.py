"""`spikeport check`: hashes, then parity again."""

from __future__ import annotations

import sys
from pathlib import Path

from .output import DEFAULTS, Common, show


def check(folder: Path, *, bisect: bool = False, common: Common = DEFAULTS) -> int:
    """Verify every hash of a bundle, then run its parity again; exit 1 if anything does not hold.

    Parameters
    ----------
    folder
        A bundle, as `spikeport export` writes it.
    bisect
        Name the first layer of its graph whose output differs from the model's by more than its precision allows.
    """
    from spikeport import api

    result = api.check(folder, bisect=bisect)
    show(result, common)
    if not result and common.quiet:
        print(f"error: {folder} does not hold:\n{result.summary()}", file=sys.stderr)
    return 0 if result else 1
