"""Every task of `spikeport evaluate` on the shipped nano, its ReLU twin, raw features and baselines: docs/tasks.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import spikeport
from spikeport_toolkit.tasks import beam, los
from spikeport_toolkit.tasks.classification import load_sets
from spikeport_toolkit.tasks.evaluation import Evaluation
from spikeport_toolkit.tasks.few_shot import Classification
from spikeport_toolkit.tasks.score_table import ScoreTable

MODEL, TWIN = "spikewfm-nano", "spikewfm-nano-relu"
SNRS = "-10:30:20"
LABELS = "50,200"
CALLS: dict[str, dict[str, object]] = {
    "frequency-prediction": {"snr": SNRS, "links": 100, "labels": LABELS},
    "channel-estimation": {"snr": SNRS, "links": 100, "labels": LABELS},
    "csi-feedback": {"links": 100, "labels": "200"},
    "positioning": {"links": 100, "labels": LABELS, "seeds": 3},
    "charting": {"links": 100, "labels": "200"},
    "los": {"links": 400, "labels": "10,50,200", "seeds": 10},
    "beam": {"links": 400, "labels": "50,200", "seeds": 10},
}
PAGE = Path(__file__).parent.parent / "docs" / "tasks.md"
INTRODUCTION = f"""# Tasks

Written by `benchmarks/tasks.py`, which calls `spikeport evaluate {MODEL} --task TASK --compare {TWIN}` once a task.
Simulated: embedded ray-traced cities at 3.5 GHz, 2 x 2 links, 48 subcarriers of 30 kHz (1.44 MHz), four slots.
Shipped weights, one training seed; a `probe` is ridge regression on frozen features, its penalty by generalised
cross-validation; labels are of the cities, or of the base station, that is tested, and none of them is tested.
`raw ridge` is the same regression on the network's input.

**The frozen features of the shipped nano mostly lose to classical methods**, and to the raw input where a linear map
of it suffices. It is a small model, trained to predict the next slot; its second stage moved the backbone away from
the decoder of its pre-training, so zero-shot fails; and 1.44 MHz and 2 x 2 antennas resolve neither delay nor angle
(a delay bin is 200 m long), so places, lines of sight and beams are hardly to be seen in these channels. What one
learns here is that the tasks and their baselines are honest, not what a foundation model can do.

```
spikeport evaluate MODEL --task positioning --labels 20,50,200 --adaptation lora --out DIR
```

| adaptation | what is trained |
|---|---|
| `probe` | a linear read-out of frozen features, in closed form |
| `last-k` | the read-out and the last 3 layers |
| `lora` | the read-out and low-rank updates (rank 4) of the linear maps of every layer |
| `full` | the read-out and every weight |
| `zero-shot` | nothing: frequency-prediction reads masked tokens with the decoder of pre-training |

All but `probe` and `zero-shot` start at the probe and take 150 steps of AdamW. In a recipe the same names are a
stage's `adaptation`, with `adaptation_settings` (`layers`; `rank`, `alpha`), and `samples` makes it few-shot.
"""


def main() -> None:
    PAGE.write_text(page({task: measure(task) for task in CALLS}), encoding="utf-8")


def measure(task: str) -> object:
    result = spikeport.evaluate(MODEL, task=task, compare=[TWIN], **CALLS[task])  # type: ignore[arg-type]
    print(result.summary(), flush=True)
    return result


def page(results: dict[str, object]) -> str:
    lines: list[str] = []
    verdicts = [
        "## In short",
        "",
        "The best row of the model against the best row without one, then the best of its ReLU twin.",
        "",
    ]
    for task, result in results.items():
        settings = " ".join(f"--{key} {value}" for key, value in CALLS[task].items())
        lines += [f"## {task}", "", f"`--task {task} {settings}`", ""]
        if isinstance(result, Evaluation):
            lines += curves(result)
            verdicts.append(f"- {task}: {better_curve(result)}")
        elif isinstance(result, ScoreTable):
            lines += scores(result)
            verdicts.append(f"- {task}: {better_score(result)}")
        elif isinstance(result, Classification):
            lines += classes(result)
            verdicts.append(f"- {task}: {better_class(result)}")
    return "\n".join([INTRODUCTION, *verdicts, "", *lines]).rstrip() + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"] + ["| " + " | ".join(row) + " |" for row in rows]


def curves(result: Evaluation) -> list[str]:
    found = [f"NMSE in dB against the clean truth, mean over {result.links} links of each split.", ""]
    snrs = [f"{snr:g} dB" for snr in result.curves[0].snr_db]
    rows = [[c.split, c.method, *(f"{v:.2f}" for v in c.nmse_db)] for c in result.curves]
    return [*found, *table(["split", "method", *snrs], rows), "", *result.notes, ""]


def scores(result: ScoreTable) -> list[str]:
    snr = "No noise" if result.snr_db is None else f"SNR {result.snr_db:g} dB"
    where = f" at each of {result.places} base stations" * (result.places > 1)
    found = [f"{snr}, {result.links} test links{where}; means over these and {result.seeds} draw(s) of the labels."]
    settings = list(dict.fromkeys(score.setting for score in result.scores))
    named = settings != [""]
    titles = [f"{m.name}, {m.unit}" if m.unit else m.name for m in result.metrics]
    rows = [
        [
            *[s.setting] * named,
            s.method,
            str(s.labels),
            *(f"{s.values[m.name][0]:.{m.digits}f}" for m in result.metrics),
        ]
        for s in sorted(result.scores, key=lambda s: settings.index(s.setting))
    ]
    return [*found, "", *table([*["setting"] * named, "method", "labels", *titles], rows), "", *result.notes, ""]


def classes(result: Classification) -> list[str]:
    head = ["features", *(f"{count} labels" for count in result.curves[0].labels)]
    rows = [[c.method, *(f"{100 * value:.1f}" for value in c.accuracy)] for c in result.curves]
    text = f"Accuracy in %, {result.classes} classes, {result.links} links, mean of {result.draws} draws of the labels."
    guess = f"The most frequent class has {100 * most_frequent(result.task):.1f} % of all links."
    return [text, guess, "", *table(head, rows), "", *result.notes]


def most_frequent(task: str) -> float:
    """Share of the largest class in the cities that no model was trained on."""
    sets = load_sets(None)
    if task == "beam":
        found = [beam.labels(high) for _, high in beam.paired(sets)]
    else:
        found = [los.labels(item.select(np.flatnonzero(item.n_paths > 0))) for item in sets if item.carrier_hz < 10e9]
    labels = np.concatenate(found)
    return float(np.bincount(labels).max() / len(labels))


def verdict(rows: dict[str, dict[str, float]], unit: str, *, higher: bool) -> str:
    """The best row of the model, of the twin and of the rest, by role."""
    best = {role: (max if higher else min)(found.items(), key=lambda item: item[1]) for role, found in rows.items()}
    (ours, value), (rest, other) = best["model"], best["baseline"]
    word = "better" if (value > other if higher else value < other) else "worse"
    twin = f"; {best['twin'][0]}: {best['twin'][1]:.3g}{unit}"
    return f"{ours} with {value:.3g}{unit} is {word} than {rest} with {other:.3g}{unit}{twin}"


def better_curve(result: Evaluation) -> str:
    """At the middle SNR, in unseen cities."""
    middle = len(result.curves[0].snr_db) // 2
    rows: dict[str, dict[str, float]] = {}
    for curve in (c for c in result.curves if c.split == "unseen"):
        rows.setdefault(curve.role, {})[curve.method] = curve.nmse_db[middle]
    return f"{verdict(rows, ' dB', higher=False)} (unseen cities, {result.curves[0].snr_db[middle]:g} dB)"


def better_score(result: ScoreTable) -> str:
    """The first metric in the last setting, with most labels."""
    metric, setting = result.metrics[0], result.scores[-1].setting
    most = max(s.labels or 0 for s in result.scores)
    rows: dict[str, dict[str, float]] = {}
    for score in (s for s in result.scores if s.setting == setting and s.labels == most):
        rows.setdefault(score.role, {})[score.method] = score.values[metric.name][0]
    text = verdict(rows, f" {metric.unit}" * bool(metric.unit), higher=metric.better == "higher")
    return f"{text} ({metric.name}, {setting + ', ' if setting else ''}{most} labels)"


def better_class(result: Classification) -> str:
    """With most labels, the models' features against raw channels and against guessing the most frequent class."""
    rows: dict[str, dict[str, float]] = {"baseline": {"the most frequent class": 100 * most_frequent(result.task)}}
    for curve in result.curves:
        name = curve.method.split()[0]
        role = "baseline" if curve.features == "raw" else "model" if name == MODEL else "twin"
        rows.setdefault(role, {})[curve.method] = 100 * curve.accuracy[-1]
    return f"{verdict(rows, ' %', higher=True)} ({result.curves[0].labels[-1]} labels)"


if __name__ == "__main__":
    main()
