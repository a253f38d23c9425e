"""What a hurried reader must know: model, accuracy, sparsity, cost, bundles, and what none of it shows."""

from __future__ import annotations

from typing import Any

from .accuracy import snr_text
from .bundles import bundle_sentence
from .costs import cost_sentence
from .numbers import count_text, decibel_text, percent_text, plural

Point = dict[str, Any]
REFERENCE_SNR_DB = 10.0
"""The SNR that the headline quotes, in dB, where it was evaluated; the middle of the range otherwise."""


def headline(run: dict[str, Any]) -> list[Point]:
    """Points of one run, each with a topic and one or more sentences; baselines alone have no cost to tell."""
    if baselines_only(run):
        return [{"topic": "Baselines", "sentences": _baselines(run["accuracy"])}]
    if run["table"] and not (run["accuracy"] or run["cost"] or run["bundles"]):
        return [{"topic": "Task", "sentences": [_task(run["table"])]}]
    return [
        {"topic": "Model", "sentences": [_model(run)]},
        *([{"topic": "Budget", "sentences": [_budget(run["budget"])]}] if run["budget"] else []),
        {"topic": "Accuracy", "sentences": _accuracy(run)},
        {"topic": "Sparsity", "sentences": _sparsity(run)},
        {"topic": "Cost per inference", "sentences": _cost(run)},
        {"topic": "Bundles", "sentences": [bundle_sentence(b) for b in run["bundles"]] or [_absent("export", run)]},
    ]


def baselines_only(run: dict[str, Any]) -> bool:
    """Whether the run is an evaluation without any model."""
    section = run["accuracy"]
    if section is None or run["cost"] or run["bundles"]:
        return False
    return not any(c["role"] == "model" for p in section["panels"] for c in p["curves"])


def limits(runs: list[dict[str, Any]]) -> list[str]:
    """What the report does not show, as far as it can be told from the runs."""
    if not runs:
        return []
    targets = [t for run in runs if run["cost"] for t in run["cost"]["targets"]]
    evaluations = [run["accuracy"] for run in runs if run["accuracy"]]
    priced = [run for run in runs if not baselines_only(run)]
    return [
        *_untrained(runs),
        *_accuracy_limits(evaluations, any(run["table"] or _deployed(run) for run in runs)),
        *(_cost_limits(targets, any(run["measured"] for run in runs)) if priced else []),
        *(["Parity ran on this computer's runtimes, not on the target devices."] if any(r["bundles"] for r in runs)
          else []),
    ]  # fmt: skip


def quoted(curve: dict[str, Any]) -> tuple[float, float]:
    """SNR and NMSE of a curve at the reference SNR, or at its middle point."""
    points = list(zip(curve["snr_db"], curve["nmse_db"], strict=True))
    return next((p for p in points if p[0] == REFERENCE_SNR_DB), points[len(points) // 2])


def _model(run: dict[str, Any]) -> str:
    model = run["model"]
    text = model["name"]
    if model["parameters"] is not None:
        text += f", {model['parameters']:,} parameters"
    if model["head_parameters"]:
        text += f" plus {model['head_parameters']:,} in its prediction head"
    if model["steps"] is not None:
        text += f"; {plural(model['steps'], 'time step')}, {plural(model['levels'], 'spike level')} a step"
    trained = {True: "trained weights", False: "UNTRAINED weights", None: "weights of unknown training"}
    inference = f" {model['inference']}." if model["inference"] else ""
    return f"{text}; {trained[model['trained']]}.{inference}"


def _accuracy(run: dict[str, Any]) -> list[str]:
    section = run["accuracy"]
    if section is None:
        return [_task(run["table"])] if run["table"] else _deployed(run) or [_absent("evaluate", run)]
    points = [
        (quoted(curve), _place(panel))
        for panel in section["panels"]
        for curve in panel["curves"]
        if curve["role"] == "model"
    ]
    if not points:
        return _baselines(section)
    axis = section["panels"][0]["axis"]
    snrs = " or ".join(dict.fromkeys(snr_text(snr) for (snr, _), _ in points))
    values = "; ".join(f"{decibel_text(nmse)} dB in {place}" for (_, nmse), place in points)
    lower = "has a lower mean NMSE than"
    return [
        f"NMSE at {snrs} dB {axis}: {values} ({section['kind']}, {section['links']} links a point).",
        *_duel(
            section,
            "ahead",
            f"Robust Wiener, a fixed filter that is told the SNR, {lower} the network",
        ),
        *_duel(section, "behind", f"The network {lower} robust Wiener"),
        *_to_limit(section),
    ]


def _deployed(run: dict[str, Any]) -> list[str]:
    """The artefacts' NMSE, in one sentence, where the profile ran some."""
    targets = run["cost"]["targets"] if run["cost"] else ()
    found = [
        f"{decibel_text(t['accuracy']['nmse_db'])} dB for {t['name']} ({t['precision']})"
        for t in targets
        if t["accuracy"] and t["accuracy"]["nmse_db"] is not None
    ]
    text = f"NMSE of the deployed artefacts, mean over regimes, splits and SNRs: {'; '.join(found)} (simulated)."
    return [text, f"Beside the baselines: not in this run. {_absent('evaluate', run)[17:]}"] if found else []


def _baselines(section: dict[str, Any]) -> list[str]:
    """That no model is here, and the baseline of the lowest mean NMSE in each panel."""
    found = []
    for panel in section["panels"]:
        rows = [(quoted(c), c["label"]) for c in panel["curves"] if c["role"] == "baseline"]
        if rows:
            (snr, nmse), name = min(rows, key=lambda row: row[0][1])
            found.append(f"{name} in {_place(panel)} ({decibel_text(nmse)} dB at {snr_text(snr)} dB {panel['axis']})")
    lowest = [f"Lowest mean NMSE of the baselines: {'; '.join(found)}."] if found else []
    return [f"Baselines only, {section['links']} links a point ({section['kind']}): no model here.", *lowest]


def _task(table: dict[str, Any]) -> str:
    methods = len({row["method"] for row in table["rows"]})
    on = f"{table['links']} links ({table['kind']})"
    return f"{table['task']} with {table['model']}: {plural(methods, 'method')} on {on}."


def _budget(budget: dict[str, Any]) -> str:
    missed = [row["message"] for row in budget["rows"] if not row["ok"]]
    held = f"{len(budget['rows']) - len(missed)} of {plural(len(budget['rows']), 'figure')} within budget"
    return f"{held}; {'; '.join(missed)}." if missed else f"{held}."


def _duel(section: dict[str, Any], side: str, lead: str) -> list[str]:
    """One sentence over all panels, or none where that side wins nowhere."""
    wins = [
        f"in {_place(panel)} {versus[side]}"
        for panel in section["panels"]
        for versus in panel["versus"]
        if versus["method"] == "wiener" and versus[side]
    ]
    return [f"{lead} {'; '.join(wins)}."] if wins else []


def _to_limit(section: dict[str, Any]) -> list[str]:
    """How far the model stands above the limit, in one sentence over all panels."""
    gaps = [
        f"{versus['gap']} in {_place(panel)}"
        for panel in section["panels"]
        for versus in panel["versus"]
        if versus["role"] == "limit" and versus["gap"]
    ]
    return [f"Above the limit (genie LMMSE, told every path): {'; '.join(gaps)}."] if gaps else []


def _place(panel: dict[str, Any]) -> str:
    return f"{panel['regime']} {panel['split']}"


def _sparsity(run: dict[str, Any]) -> list[str]:
    section = run["sparsity"]
    if section is None:
        return [_absent("profile", run)]
    if not section["rows"]:
        return section["findings"]  # type: ignore[no-any-return]
    synops = count_text(run["layers"]["total"]["synops"])
    return [
        f"Neurons spike at {percent_text(section['mean_rate'])} on average: {synops} synaptic operations per inference "
        f"({section['kind']}).",
        *section["findings"][1:],
    ]


def _cost(run: dict[str, Any]) -> list[str]:
    if run["cost"] is None or not run["cost"]["targets"]:
        return [_absent("profile", run)]
    return [cost_sentence(target, run["cost"]["twin"]) for target in run["cost"]["targets"]]


def _absent(command: str, run: dict[str, Any]) -> str:
    target = "" if command == "evaluate" else " --target ID"
    return f"Not in this run. Get it with `spikeport {command} {run['model']['name']}{target}`."


def _untrained(runs: list[dict[str, Any]]) -> list[str]:
    parts = [part for run in runs for part in (run["model"], run["twin"]) if part]
    names = dict.fromkeys(part["name"] for part in parts if part["trained"] is False)
    return [f"{name} has untrained weights: its accuracy, spike rates and costs say nothing." for name in names]


def _accuracy_limits(evaluations: list[dict[str, Any]], other: bool) -> list[str]:
    if not evaluations:
        return [] if other else ["How accurate the model is: no evaluation is among these runs."]
    found = []
    if any(e["kind"] == "simulated" for e in evaluations):
        found.append("How the model does on measured channels: the channels here are simulated.")
    found.append(
        "How results vary over training seeds: each curve is one trained model, and its band covers test links."
    )
    methods = {c["method"] for e in evaluations for p in e["panels"] for c in p["curves"]}
    if not any("lmmse" in method.lower() for method in methods):
        found.append("How far the bound is: LMMSE with known statistics, and with known paths, are not plotted.")
    return found


def _cost_limits(targets: list[dict[str, Any]], on_device: bool) -> list[str]:
    if not targets:
        return ["What the model costs on any target: no profile with targets is among these runs."]
    numbers = [q for t in targets for q in (*t["energy"].values(), t["latency"]) if q is not None]
    found = []
    if all(q["kind"] != "measured" for q in numbers) and not on_device:
        found.append("A measurement on any device: energy and latency are estimates from published constants.")
    if any(t["class"] == "event" for t in targets):
        found.append(
            "A validated total for a model split between a host and a neuromorphic chip: no end-to-end figure has been "
            "published for such a split, so those totals are composed, unvalidated."
        )
    if len({t["boundary"] for t in targets}) > 1:
        found.append(
            "A ranking of targets: their energies are drawn at different boundaries (chip, board, convention)."
        )
    missing = dict.fromkeys(f"{', '.join(t['missing'])} of {t['name']}" for t in targets if t["missing"])
    found += [f"What depends on constants that nobody has published: {text}." for text in missing]
    return found
