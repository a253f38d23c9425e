"""All baselines beside the shipped nano: writes docs/baselines.md and docs/baselines.png, in under eight minutes."""

from __future__ import annotations

import time
from pathlib import Path

from matplotlib.figure import Figure

import spikeport
from spikeport_profiles.report.accuracy import EQUAL_DB, accuracy_section
from spikeport_toolkit.baselines.registry import BASELINES
from spikeport_toolkit.tasks.channel_estimation import ESTIMATORS
from spikeport_toolkit.tasks.evaluation import METRIC, Curve, Evaluation

LINKS, SEEDS = 64, 3
SINR_LINKS = 32
MODEL, TWIN = "spikewfm-nano", "spikewfm-nano-relu"
DOCS = Path(__file__).parent.parent / "docs"
SUMMARIES = {
    "ls": "least squares at the pilots, the nearest pilot's value elsewhere",
    "ls-linear": "least squares, then linear interpolation over frequency and time",
    "wiener": "linear MMSE under the fixed prior of `wiener` above",
    "lmmse": "linear MMSE under the covariance of the training cities",
    "genie": "linear MMSE told all paths and the motion, not the phases",
}
COLOURS = ("#c2500a", "#00795a", "#a03b7d", "#7a6a00", "#59636e", "#8a4fbf", "#b3261e", "#4f7d00", "#8c6d4f", "#005f6b",
           "#c26aa0")  # fmt: skip
DASHES = ("-", "--", "-.", ":")


def main() -> None:
    start = time.process_time()
    clean = spikeport.evaluate(MODEL, compare=[TWIN], baselines="all", links=LINKS, seeds=SEEDS)
    crowded = spikeport.evaluate(MODEL, compare=[TWIN], sinr="-10:30:5", links=SINR_LINKS, seeds=SEEDS)
    pilots = spikeport.evaluate("baselines", task="channel-estimation", links=LINKS, seeds=SEEDS)
    seconds = time.process_time() - start
    (DOCS / "baselines.md").write_text(page(clean, crowded, pilots), encoding="utf-8")
    figure(clean).savefig(DOCS / "baselines.png", dpi=110, facecolor="white")
    print((DOCS / "baselines.md").read_text(encoding="utf-8"))
    print(f"{seconds:.0f} CPU-s")


def page(clean: Evaluation, crowded: Evaluation, pilots: Evaluation) -> str:
    lines = [
        "# Baselines and the limit",
        "",
        f"Written by `benchmarks/baselines.py`. {METRIC};",
        f"{LINKS} links a point and seed, {SEEDS} seeds of links, motion and noise ({LINKS * SEEDS} links a point),",
        f"{clean.data}, simulated. R1: contiguous slots. R2: slots 5 ms apart.",
        "Three slots of 14 symbols are observed and the next is wanted: 2 x 2 antennas, 48 subcarriers at 30 kHz,",
        "3.5 GHz, speeds U(0.1, 5) m/s. in-domain: held-out users of the seven training cities; unseen: three cities",
        "that nothing was trained on. The networks, lstm and gru are one training seed each.",
        "",
        "![NMSE over SNR of all baselines, four panels](baselines.png)",
        "",
        "## What the tables show",
        "",
        *findings(clean),
        "",
        "## The methods",
        "",
        *(f"- `{each.name}`: {each.summary}." for each in BASELINES.values()),
        "",
        "`genie` is the limit: why, and what it is told, stands in `baselines/genie.py`. `wiener`, `wiener-2x1d`,",
        "`wiener-threshold`, `kalman`, `lmmse` and `pad` are told the SNR; `ar`, `lstm`, `gru` and transformers not.",
        "",
        "## Prediction over SNR",
        *tables(clean),
        "",
        "## Prediction over SINR",
        "",
        f"{crowded.impairments[0]}, so half of the disturbance is interference; {SINR_LINKS} links a point and seed,",
        f"{SEEDS} seeds. The filters are told the SINR; the genie knows the interferers' channels, not their symbols.",
        *tables(crowded),
        "",
        "## Estimation from pilots",
        "",
        f"One slot is wanted from noisy pilots in it. {pilots.notes[0]} {LINKS} links a point and seed, {SEEDS} seeds.",
        "",
        *(f"- `{name}`: {SUMMARIES[name]}." for name in ESTIMATORS),
        *tables(pilots),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def tables(result: Evaluation) -> list[str]:
    lines = []
    for regime, split in dict.fromkeys((c.regime, c.split) for c in result.curves):
        rows = [c for c in result.curves if (c.regime, c.split) == (regime, split)]
        lines += ["", f"### {regime}, {split}", ""]
        lines += [f"| {result.axis}, dB | " + " | ".join(f"{v:g}" for v in rows[0].snr_db) + " |"]
        lines += ["|---|" + "---|" * len(rows[0].snr_db)]
        lines += [f"| {c.method} | " + " | ".join(f"{v:.2f}" for v in c.nmse_db) + " |" for c in rows]
        if result.task == "channel-prediction":
            gaps = [g for g in result.gaps if (g.regime, g.split, g.method) == (regime, split, MODEL)]
            lines += [f"| *{g.method} over {g.to}* | " + " | ".join(f"{v:.2f}" for v in g.gap_db) + " |" for g in gaps]
    return lines


def findings(result: Evaluation) -> list[str]:
    """Sentences from the figures; nothing here is typed in."""
    found = []
    by_key = {(c.method, c.regime, c.split): c for c in result.curves}
    for regime, split in dict.fromkeys((c.regime, c.split) for c in result.curves):
        ours = by_key[MODEL, regime, split]
        names = ("wiener", "lmmse", "lstm", "pad", "slot-mean")
        texts = [against(name, ours, by_key[name, regime, split]) for name in names]
        limit = [a - b for a, b in zip(ours.nmse_db, by_key["genie", regime, split].nmse_db, strict=True)]
        twin = [a - b for a, b in zip(ours.nmse_db, by_key[TWIN, regime, split].nmse_db, strict=True)]
        best = strongest(result, regime, split)
        found.append(
            f"- **{regime}, {split}.** {' '.join(texts)} The network stands {min(limit):.1f} to {max(limit):.1f} dB "
            f"above the genie, and {min(twin):+.2f} to {max(twin):+.2f} dB from its ReLU twin. Best but for the "
            f"genie: {best}."
        )
    closest = min(
        (a - b, c.method)
        for c in result.curves
        if c.role != "limit"
        for a, b in zip(c.nmse_db, by_key["genie", c.regime, c.split].nmse_db, strict=True)
    )
    found.append(
        f"- No method reaches the genie on any point; the nearest is {closest[1]}, {closest[0]:.1f} dB above it."
    )
    return found


def against(name: str, ours: Curve, theirs: Curve) -> str:
    """Where and by how much the baseline or the network wins."""
    gaps = dict(zip(ours.snr_db, (a - b for a, b in zip(ours.nmse_db, theirs.nmse_db, strict=True)), strict=True))
    wins = [s for s, g in gaps.items() if g > EQUAL_DB]
    loses = [s for s, g in gaps.items() if g < -EQUAL_DB]
    parts = []
    for who, points in ((f"`{name}` beats the network", wins), (f"the network beats `{name}`", loses)):
        if points:
            size = [abs(gaps[p]) for p in points]
            where = "at every SNR" if len(points) == len(gaps) else f"at {', '.join(f'{p:g}' for p in points)} dB"
            parts.append(f"{who} {where} by {span(size)}")
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def span(values: list[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return f"{low} dB" if low == high else f"{low} to {high} dB"


def strongest(result: Evaluation, regime: str, split: str) -> str:
    rows = [c for c in result.curves if (c.regime, c.split) == (regime, split) and c.role != "limit"]
    winners: dict[str, list[float]] = {}
    for index, snr in enumerate(rows[0].snr_db):
        winners.setdefault(min(rows, key=lambda c: c.nmse_db[index]).method, []).append(snr)
    return ", ".join(f"`{name}` at {', '.join(f'{s:g}' for s in snrs)} dB" for name, snrs in winners.items())


def figure(result: Evaluation) -> Figure:
    canvas = Figure(figsize=(12, 10.5), layout="constrained")
    axes = canvas.subplots(2, 2, sharex=True, sharey="col")
    panels = {(p["regime"], p["split"]): p for p in accuracy_section(result.to_dict())["panels"]}
    for row, split in enumerate(("in-domain", "unseen")):
        for column, regime in enumerate(("R1", "R2")):
            ax, panel = axes[row, column], panels[regime, split]
            others = 0
            for curve in panel["curves"]:
                style = {"color": COLOURS[others % len(COLOURS)], "linestyle": DASHES[others % 4], "linewidth": 1.4}
                if curve["role"] == "limit":
                    style = {"color": "black", "linewidth": 2.0}
                elif curve["role"] in {"model", "twin"}:
                    style = {
                        "color": "#0072b2",
                        "linewidth": 2.4,
                        "linestyle": "-" if curve["role"] == "model" else ":",
                    }
                else:
                    others += 1
                ax.plot(curve["snr_db"], curve["nmse_db"], label=curve["label"], **style)
            ax.set_title(panel["title"])
            ax.set_ylabel("NMSE (dB), lower is better")
            ax.set_xlabel("SNR (dB)")
            ax.grid(color="#d1d9e0", linewidth=0.7)
            limit = next(c for c in panel["curves"] if c["role"] == "limit")
            ax.fill_between(limit["snr_db"], limit["nmse_db"], -65, color="#eceff2", linewidth=0)
            ax.set_ylim(-63, 13)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return canvas


if __name__ == "__main__":
    main()
