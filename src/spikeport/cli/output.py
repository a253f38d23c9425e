"""What commands share: the common options, printing, progress."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from cyclopts import Parameter, Token
from rich.console import Console

from spikeport_errors import UsageError


def _whole(_: type, tokens: Sequence[Token]) -> int:
    given = tokens[0]
    try:
        return int(given.value)
    except ValueError:
        raise UsageError(f"{given.keyword or 'the value'} is {given.value!r}; give a whole number") from None


Whole = Annotated[int, Parameter(converter=_whole)]
"""A whole number: 1.5 is refused, not rounded."""


def decibels(text: str) -> float:
    """A number of dB, with or without the unit: 0.05dB."""
    try:
        return float(text.lower().removesuffix("db").strip())
    except ValueError:
        raise UsageError(f"{text!r} is no number of dB; write it as 0.05dB") from None


class Result(Protocol):
    """Anything a command prints."""

    def summary(self) -> str:
        """Text for people."""

    def to_dict(self) -> Any:
        """Plain values for --json."""


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every command."""

    json: Annotated[bool, Parameter(negative="")] = False
    "Print one JSON document on standard output instead of text."
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False
    "No progress and no text, only errors."
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], negative="")] = False
    "Show the traceback of an error."


DEFAULTS = Common()


def show(result: Result, common: Common) -> None:
    """Print `result` as text or JSON."""
    if common.json:
        print(json.dumps(result.to_dict(), indent=2, allow_nan=False))
    elif not common.quiet:
        print(result.summary())


def show_json(value: Any, common: Common) -> None:
    """Print `value` as JSON, in text mode too."""
    if not common.quiet or common.json:
        print(json.dumps(value, indent=2, allow_nan=False))


def say(text: str, common: Common) -> None:
    """Print a line for people."""
    if not (common.json or common.quiet):
        print(text)


@contextmanager
def progress(common: Common) -> Iterator[Callable[[str, int, int], None]]:
    """A callback (what, done, of how many): bars on a terminal, one line per new task elsewhere, on standard error."""
    console = Console(stderr=True)
    if common.quiet or common.json:
        yield lambda what, done, total: None
    elif not console.is_terminal:
        started: set[str] = set()

        def plain(what: str, done: int, total: int) -> None:
            if what not in started:
                started.add(what)
                print(what, file=sys.stderr, flush=True)

        yield plain
    else:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=console) as bars:
            tasks: dict[str, Any] = {}

            def advance(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(what, total=total)
                bars.update(tasks[what], completed=done, total=total)

            yield advance
