"""The command line. One file a command; torch is imported only by the command that needs it."""

from __future__ import annotations

import io
import sys

from .app import run

__all__ = ["main"]


def main() -> None:
    """Entry point of `spikeport`: exit 0 fine, 1 a check failed, 2 usage or environment."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows ? for µ
    sys.exit(run(sys.argv[1:]))
