"""The error tree. It stands below every room, because rooms that know nothing of each other raise from it.

    SpikeportError                 exit code 2: usage or environment
    ├── UsageError                 an unknown name, option or value; suggests the nearest
    ├── InputError                 a file or array that cannot be used (missing, truncated, NaN, wrong shape)
    ├── CardError                  a target card that breaks a rule of the loader
    ├── MissingDependencyError     an optional package is absent; names the extra
    ├── UnsupportedError           the target cannot run this model; names the part, the limit and the remedy
    └── CheckFailed                exit code 1: hashes, parity or a budget did not hold

Each message names the thing, the limit it hit and the remedy, in one line.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "CardError",
    "CheckFailed",
    "InputError",
    "MissingDependencyError",
    "SpikeportError",
    "UnsupportedError",
    "UsageError",
    "unknown_name",
]


class SpikeportError(Exception):
    """Base of every error that spikeport raises on purpose."""

    exit_code = 2


class UsageError(SpikeportError):
    """An unknown name, option or value."""


class InputError(SpikeportError):
    """A file or array that cannot be used."""


class CardError(SpikeportError):
    """A target card that breaks a rule of the loader."""


class MissingDependencyError(SpikeportError):
    """An optional package is absent."""


class UnsupportedError(SpikeportError):
    """The target cannot run this model."""


class CheckFailed(SpikeportError):
    """Hashes, parity or a budget did not hold."""

    exit_code = 1


def unknown_name(what: str, name: str, known: Iterable[str], remedy: str) -> UsageError:
    """UsageError for an unknown `name`, with the nearest known one if there is one."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UsageError(f"unknown {what} {name!r}: {hint}known are {', '.join(names)}; {remedy}")
