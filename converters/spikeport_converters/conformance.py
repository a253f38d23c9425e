"""Conformance: every simulator on every feature against SpikingJelly's own nodes, spike by spike.

verdict      exact         no spike differs, and the simulator's own import of our file suffices
             patched       no spike differs, once the runner has set what NIR cannot say
             approximate   spikes differ, at the rate the note gives
             refused       the card or the runner says beforehand that it cannot be exact, and why
             unavailable   the simulator is not here; the note says how to get it
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikeport_errors import InputError, UnsupportedError, UsageError
from spikeport_targets.card import Card, list_cards
from spikeport_targets.runtime import Array, get_runtime
from spikeport_targets.runtimes import nir_runner

from .conformance_features import FEATURES, Feature
from .conformance_plain import IMPORTERS, plain_nir, quiet, run_as_imported
from .fidelity import graph_refusal, refusal
from .nir_profiles import profile_of, write_island
from .spiking_graph import SpikingGraph, nir_from_graph

SCHEMA = "spikeport.conformance/1"
VERDICTS = ("exact", "patched", "approximate", "refused", "unavailable")
OUTPUT_LIMIT = nir_runner.OUTPUT_LIMIT
TOKENS, TOKENS_ELSEWHERE = 64, 16
"""Tokens of a run; fewer, and T up to 4 but for hard reset, where a simulator runs in an environment of its own."""

Step = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Row:
    """One simulator on one feature over `steps` steps: `mismatches` of `spikes` places differ.

    `spikes` is steps x tokens x neurons, 0 where nothing ran; `output_error` the largest difference as a part of the
    largest output, None where nothing ran or shapes do not fit.
    """

    simulator: str
    version: str
    feature: str
    steps: int
    spikes: int
    mismatches: int
    output_error: float | None
    verdict: str
    note: str = ""

    @property
    def ran(self) -> bool:
        """Whether the simulator gave spikes."""
        return self.spikes > 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Conformance:
    """Every row of a run; true when no simulator differs in what its card claims.

    `plain` holds the same measurements for the plain export, imported as it comes: verdict exact or approximate, or
    refused where the import fails.
    """

    rows: tuple[Row, ...]
    plain: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """Whether no row is approximate: a card claims exactness for whatever it does not refuse."""
        return not any(row.verdict == "approximate" for row in self.rows)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def simulators(self) -> tuple[str, ...]:
        """The targets that were asked, in order."""
        return tuple(dict.fromkeys(row.simulator for row in self.rows))

    def of(self, simulator: str, feature: str, plain: bool = False) -> tuple[Row, ...]:
        """The rows of one cell of the page."""
        rows = self.plain if plain else self.rows
        return tuple(row for row in rows if (row.simulator, row.feature) == (simulator, feature))

    def summary(self) -> str:
        """One line per simulator and feature."""
        lines = []
        for simulator in self.simulators:
            rows = [row for row in self.rows if row.simulator == simulator]
            if {row.verdict for row in rows} == {"unavailable"}:
                lines.append(f"unavailable  {simulator}: {rows[0].note}")
                continue
            for feature in dict.fromkeys(row.feature for row in rows):
                lines.append(_line(self.of(simulator, feature)))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Schema, `rows` and `plain`."""
        return {
            "schema": SCHEMA,
            "rows": [row.to_dict() for row in self.rows],
            "plain": [row.to_dict() for row in self.plain],
        }

    @classmethod
    def from_dict(cls, values: Any) -> Conformance:
        """Inverse of to_dict; InputError for another schema."""
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            raise InputError(f"not a conformance file of schema {SCHEMA}: `spikeport conformance --out DIR` writes one")
        return cls(*(tuple(Row(**row) for row in values[key]) for key in ("rows", "plain")))


def worst(rows: Sequence[Row]) -> Row:
    """The row of a cell that decides its verdict: the worst verdict, then the highest rate."""
    return max(rows, key=lambda row: (VERDICTS.index(row.verdict), row.mismatches / max(row.spikes, 1)))


def conformance(
    cards: Sequence[Card] | None = None,
    *,
    features: Sequence[Feature] = FEATURES,
    progress: Step = lambda what, done, total: None,
) -> Conformance:
    """Run `features` on the targets of `cards` (default: every card with route nir), each in its card's profile.

    A target that is not available gets rows that say so. Raises UsageError for a card that runs no NIR.
    """
    chosen = list(cards) if cards is not None else [card for card in list_cards() if card.route == "nir"]
    for card in chosen:
        if card.route != "nir":
            raise UsageError(f"{card.id} runs no NIR islands (route {card.route}): take a target of route nir")
    rows: list[Row] = []
    plain: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for card in chosen:
            for done, feature in enumerate(features):
                progress(f"conformance {card.id}", done, len(features))
                for steps in _steps(feature, card):
                    case = _Case(card, feature, steps, Path(folder) / "island.nir")
                    rows.append(case.row())
                    if card.runtime in IMPORTERS and rows[-1].verdict != "unavailable":
                        plain.append(case.plain_row())
            progress(f"conformance {card.id}", len(features), len(features))
    return Conformance(tuple(rows), tuple(plain))


def _steps(feature: Feature, card: Card) -> tuple[int, ...]:
    """Every T for hard reset; up to T = 4 for the rest where each run starts a process of its own."""
    few = "environment" in card.limits and len(feature.steps) < 5
    return tuple(steps for steps in feature.steps if steps <= 4) if few else feature.steps


class _Case:
    """One simulator, feature and T."""

    def __init__(self, card: Card, feature: Feature, steps: int, path: Path):
        self.card, self.feature, self.steps, self.path = card, feature, steps, path
        self.simulator = str(card.runtime)
        self.runtime = get_runtime(self.simulator)
        self.available = self.runtime.available()
        numbers = re.search(r"\d+(\.\d+)+", self.available.reason)
        self.version = numbers.group() if numbers and self.available else str(card.limits.get("version", ""))

    def row(self) -> Row:
        """Run the feature in the card's profile."""
        if not self.available:
            return self._verdict("unavailable", f"{self.available.reason}; {self.available.remedy}")
        graph, values = self._drawn()
        if reason := _refused(graph, self.card):
            return self._verdict("refused", reason)
        try:
            write_island(self.path, nir_from_graph(graph, profile_of(self.card)), profile_of(self.card))
            with quiet():
                got = self.runtime.run(self.path, {"input": values})
        except (InputError, UnsupportedError) as error:
            return self._verdict("refused", str(error).replace(f"{self.path}: ", "").replace(str(self.path), "it"))
        found = self._compare(graph, values, got["spikes"], got["output"])
        if not found.exact:
            return self._measured(found, "approximate", found.difference)
        return self._measured(found, *self._how(graph, values))

    def plain_row(self) -> Row:
        """Run the plain export, imported as it comes."""
        graph, values = self._drawn()
        try:
            nir_file = plain_nir(graph, self.simulator)
            write_island(self.path, nir_file, profile_of(self.card))
            got = run_as_imported(self.simulator, self.path, values)
            found = self._compare(graph, values, *_slots_summed(self.path, *got))
        except Exception as error:  # another package's importer on a file it was not tried on
            return self._verdict("refused", f"import fails: {_first_line(error)}")
        return self._measured(found, "exact" if found.exact else "approximate", "")

    def _drawn(self) -> tuple[SpikingGraph, Array]:
        tokens = TOKENS_ELSEWHERE if "environment" in self.card.limits else TOKENS
        graph, entering = self.feature.build(self.steps, tokens)
        return graph, np.ascontiguousarray(entering.numpy())

    def _compare(self, graph: SpikingGraph, values: Array, spikes: Array, output: Array) -> _Difference:
        names = [neuron.name for neuron in nir_runner.read_island(self.path).neurons]
        want = graph.run(torch.from_numpy(values), names)
        golden = {"spikes": want.spikes.numpy(), "output": want.output.numpy()}
        size = golden["spikes"].size
        if spikes.shape != golden["spikes"].shape or output.shape != golden["output"].shape:
            return _Difference(size, size, None)
        return _Difference(size, *nir_runner.disagreement({"spikes": spikes, "output": output}, golden))

    def _how(self, graph: SpikingGraph, values: Array) -> tuple[str, str]:
        """`exact` where the simulator's own import of the same file gives the same spikes, else `patched`."""
        if self.simulator not in IMPORTERS:
            return "exact", ""
        try:
            got = run_as_imported(self.simulator, self.path, values)
            found = self._compare(graph, values, *_slots_summed(self.path, *got))
        except Exception as error:  # whatever the importer of another package raises
            return "patched", f"its own import fails: {_first_line(error)}"
        return ("exact", "") if found.exact else ("patched", f"as imported, {found.difference}")

    def _verdict(self, verdict: str, note: str) -> Row:
        return Row(self.card.id, self.version, self.feature.name, self.steps, 0, 0, None, verdict, note)

    def _measured(self, found: _Difference, verdict: str, note: str) -> Row:
        error = None if found.error is None else float(f"{found.error:.1e}")
        numbers = (found.spikes, found.wrong, error)
        return Row(self.card.id, self.version, self.feature.name, self.steps, *numbers, verdict, note)


@dataclass(frozen=True)
class _Difference:
    """`wrong` of `spikes` differ; `error` of the output, None where shapes do not even fit."""

    spikes: int
    wrong: int
    error: float | None

    @property
    def exact(self) -> bool:
        return self.wrong == 0 and self.error is not None and self.error <= OUTPUT_LIMIT

    @property
    def difference(self) -> str:
        if self.error is None:
            return "spikes or output have another shape"
        return (
            f"{self.wrong / self.spikes:.2%} of the spikes differ" if self.wrong else f"output off by {self.error:.0e}"
        )


def _refused(graph: SpikingGraph, card: Card) -> str:
    """The card's own reason not to run `graph`; what earlier runs measured plays no part here."""
    neurons = [node.neuron for node in graph.neurons if node.neuron is not None]
    answers = [graph_refusal(graph, card), *(refusal(neuron, card) for neuron in neurons)]
    return next((answer[0] for answer in answers if answer), "")


def _slots_summed(path: Path, spikes: Array, output: Array) -> tuple[Array, Array]:
    """Slots of one integer neuron added to its count, as the runner does."""
    parts, start = [], 0
    for neuron in nir_runner.read_island(path).neurons:
        fired = spikes[..., start : start + neuron.size]
        parts.append(fired.reshape(*fired.shape[:2], neuron.slots, -1).sum(2))
        start += neuron.size
    return np.concatenate(parts, -1), output


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


def _line(rows: tuple[Row, ...]) -> str:
    row = worst(rows)
    steps = ", ".join(str(r.steps) for r in rows)
    what = f"{row.simulator:12} {row.feature} (T = {steps})"
    if not row.ran:
        return f"{row.verdict:12} {what}: {row.note}"
    total, wrong = sum(r.spikes for r in rows), sum(r.mismatches for r in rows)
    error = max(r.output_error or 0.0 for r in rows)
    note = f"; {row.note}" if row.note else ""
    return f"{row.verdict:12} {what}: {wrong:,} of {total:,} spikes differ, output off by at most {error:.0e}{note}"
