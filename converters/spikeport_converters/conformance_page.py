"""The page "simulator x feature", in Markdown, from a conformance run."""

from __future__ import annotations

from collections.abc import Sequence

from .conformance import VERDICTS, Conformance, Row, worst

NOT_HERE = {
    "rockpool": "3.1.0 (AGPL-3.0) stops at a LIF node: `'LIF' object has no attribute 'tau_mem'`",
    "spyx": "1.0.0 walks one chain, spikes from the membrane before the update and subtracts one step late",
    "jaxsnn": "0.3.0 reads CubaLIF and Linear only",
    "nengo": "4.1.0 (GPL-2.0) has no NIR bridge, and its own LIF spikes between steps",
    "snn-mlir": "1.0.0 needs an LLVM tool chain to run anything",
}
"""Simulators that were looked at and have no target here, and why."""

_MEANING = {
    "exact": "no spike differs; the simulator's own import suffices, or where it has none our adapter",
    "patched": "no spike differs; the runner sets after import what NIR cannot say",
    "approximate": "spikes differ; the rate stands in the cell",
    "refused": "the card or the runner says so before anything runs; the reason stands below",
    "unavailable": "not installed where the page was made",
}


def page(result: Conformance, head: Sequence[str] = ()) -> str:
    """The whole page; `head` are lines under its title that say how it was made."""
    lines = ["# Conformance: simulator x feature", "", *head, *_legend(result)]
    lines += ["## With spikeport's profile", "", *_table(result, plain=False), ""]
    if result.plain:
        lines += [
            "## With the plain export",
            "",
            "What each simulator's own importer makes of NIR as SpikingJelly's exporter writes it (soft reset, which",
            "that exporter refuses, written as any other): the share of spikes that differ, over all T of the feature.",
            "",
            *_table(result, plain=True),
            "",
        ]
    lines += ["## What is refused, and what the runner sets", "", *_notes(result)]
    lines += ["## Not run", "", *_not_run(result)]
    return "\n".join(lines) + "\n"


def _legend(result: Conformance) -> list[str]:
    seen = [verdict for verdict in VERDICTS if any(row.verdict == verdict for row in result.rows)]
    total = sum(row.spikes for row in result.rows)
    wrong = sum(row.mismatches for row in result.rows)
    return [
        "The reference is SpikingJelly's own nodes, stepped one by one. Every cell compares each spike of each step,",
        "token and neuron, and the mean output (at most 1e-5 of the largest), for every T given.",
        f"In all, {wrong:,} of {total:,} spikes differ.",
        "",
        *(f"- **{verdict}**: {_MEANING[verdict]}" for verdict in seen),
        "",
    ]


def _table(result: Conformance, *, plain: bool) -> list[str]:
    rows = result.plain if plain else result.rows
    names = [name for name in result.simulators if any(row.simulator == name and row.ran for row in rows)]
    versions = {name: next(row.version for row in rows if row.simulator == name) for name in names}
    heads = [f"{name} {versions[name]}".strip() for name in names]
    lines = ["| feature | T | " + " | ".join(heads) + " |", "|---|---|" + "---|" * len(names)]
    for feature in dict.fromkeys(row.feature for row in rows):
        steps = dict.fromkeys(row.steps for row in rows if row.feature == feature)
        cells = [_cell(result.of(name, feature, plain), plain) for name in names]
        lines.append(f"| {feature} | {', '.join(map(str, steps))} | " + " | ".join(cells) + " |")
    return lines


def _cell(rows: tuple[Row, ...], plain: bool) -> str:
    if not rows:
        return ""
    row = worst(rows)
    if plain and row.verdict == "refused":
        return "import fails"
    total, wrong = sum(r.spikes for r in rows), sum(r.mismatches for r in rows)
    share = "another shape" if row.ran and row.output_error is None else _percent(wrong, total)
    if plain:
        return share
    if row.verdict == "approximate":
        return f"approximate, {share}"
    return row.verdict


def _percent(wrong: int, total: int) -> str:
    if not wrong:
        return "0"
    return f"{wrong / total:.2%}" if wrong / total >= 1e-4 else "< 0.01%"


def _notes(result: Conformance) -> list[str]:
    lines = []
    for simulator in result.simulators:
        notes: dict[tuple[str, str], list[str]] = {}
        for feature in dict.fromkeys(row.feature for row in result.rows):
            rows = result.of(simulator, feature)
            if rows and worst(rows).note and worst(rows).verdict != "unavailable":
                notes.setdefault((worst(rows).verdict, worst(rows).note), []).append(feature)
        if notes:
            lines += [f"**{simulator}**", ""]
            lines += [f"- {verdict}, {'; '.join(features)}: {note}" for (verdict, note), features in notes.items()]
            lines.append("")
    return lines


def _not_run(result: Conformance) -> list[str]:
    missing = {row.simulator: row.note for row in result.rows if row.verdict == "unavailable"}
    lines = [f"- {simulator}: {note}" for simulator, note in missing.items()]
    return lines + [f"- {name} {why}" for name, why in NOT_HERE.items()]
