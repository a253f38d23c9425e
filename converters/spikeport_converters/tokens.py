"""A free number of tokens: what of an input [batch, token, feature] may vary beside the batch, and where it is held.

A model has it whose forward takes its positions by x.shape[1]: one slice of a table, or computed. A table for one grid
fixes the number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from spikeport_errors import UnsupportedError, UsageError

from .marked_program import MarkedProgram
from .reference import run_reference

Tokens = tuple[int, int, int]
"""Fewest, best and most tokens of an engine."""
MOST_TOKENS = 65_536
_SAMPLES = 2
_PREFIX = "tokens/"


def check_tokens(tokens: Sequence[int]) -> Tokens:
    """`tokens` as they were asked for; UsageError where they are no rising range."""
    if len(tokens) != 3 or not 1 <= tokens[0] <= tokens[1] <= tokens[2] <= MOST_TOKENS:
        given = ":".join(map(str, tokens))
        raise UsageError(f"--tokens is {given}; give MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX <= {MOST_TOKENS}")
    return tokens[0], tokens[1], tokens[2]


def require_tokens(model: nn.Module, marked: MarkedProgram, example: Tensor, tokens: Tokens) -> None:
    """Raise UnsupportedError where the traced forward of `model` does not take every number of tokens asked for."""
    name, leave = type(model).__name__, "leave --tokens out; the batch varies all the same"
    if example.ndim != 3:
        raise UnsupportedError(
            f"--tokens is for an input [batch, token, feature], and {name} takes {[*example.shape]}: {leave}"
        )
    if marked.free == (1,):
        raise UnsupportedError(
            f"{name} fixes the first axis of its input, and --tokens needs the batch there: let forward take "
            "[batch, token, feature]"
        )
    count = example.shape[1]
    if 1 not in marked.free:
        raise UnsupportedError(
            f"{name} takes {count} tokens and no other number, as with a table of positions for one grid: {leave}, or "
            "slice or compute the positions by x.shape[1]"
        )
    most = _most(marked.program)
    if most is not None and tokens[2] > most:
        raise UnsupportedError(
            f"{name} takes at most {most} tokens, and --tokens asks for {tokens[2]}: give MAX {most}"
        )
    if not tokens[0] <= count <= tokens[2]:
        raise UnsupportedError(
            f"the golden input has {count} tokens, outside --tokens {tokens[0]} to {tokens[2]}: the device could not "
            "verify it; widen the range, or give an example_input within it"
        )


def token_golden(reference: nn.Module, patches: NDArray[np.float32], tokens: Tokens) -> dict[str, NDArray[np.float32]]:
    """Input and output of `reference` at the fewest and the most tokens, which repeat those of `patches`.

    Raises UnsupportedError where forward does not take so many.
    """
    arrays: dict[str, NDArray[np.float32]] = {}
    for count in sorted({tokens[0], tokens[2]}):
        given = np.ascontiguousarray(patches[:_SAMPLES, np.arange(count) % patches.shape[1]])
        try:
            output = run_reference(reference, given).output
        except Exception as error:  # whatever the user's own forward raises
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UnsupportedError(
                f"{type(reference).__name__} does not take {count} tokens ({reason}): give --tokens a range that its "
                "forward takes"
            ) from None
        arrays |= {f"{_PREFIX}{count}/input": given, f"{_PREFIX}{count}/output": output}
    return arrays


def token_counts(golden: Mapping[str, NDArray[np.float32]]) -> list[str]:
    """Prefixes of the golden inputs and outputs at other numbers of tokens."""
    return [name.removesuffix("input") for name in golden if name.startswith(_PREFIX) and name.endswith("/input")]


def _most(program: fx.GraphModule) -> int | None:
    """The most tokens that the trace found possible; None where it found no limit."""
    value = next(node for node in program.graph.nodes if node.op == "placeholder").meta["val"].shape[1]
    upper = value.node.shape_env.bound_sympy(value.node.expr).upper
    return int(upper) if upper < MOST_TOKENS else None
