"""Accuracy of the shipped nano models, and the gaps the README states: writes docs/nano-accuracy.md."""

from __future__ import annotations

from pathlib import Path

import spikeport
from spikeport_toolkit.tasks.channel_prediction import METRIC, Curve

LINKS = 500
MODELS = ("spikewfm-nano", "spikewfm-nano-ilif", "spikewfm-nano-qrelu", "spikewfm-nano-relu")
PAGE = Path(__file__).parent.parent / "docs" / "nano-accuracy.md"


def main() -> None:
    result = spikeport.evaluate(MODELS[0], compare=MODELS[1:], links=LINKS)
    places = list(dict.fromkeys((c.regime, c.split) for c in result.curves))
    lines = [
        "# Accuracy of the shipped nano models",
        "",
        f"Written by `benchmarks/nano_accuracy.py`. {METRIC};",
        f"{LINKS} links a point, seed {result.seed}, {result.data}.",
        "R1: contiguous slots. R2: slots 5 ms apart. Simulated channels, speeds U(0.1, 5) m/s, 3.5 GHz; `in-domain`:",
        "held-out users of the seven training cities. `wiener` is a fixed filter that is told the SNR; one number of",
        "its prior, the mean excess delay, was chosen from four on the training cities. `last-value` repeats the last",
        "noisy symbol. `lmmse` has the covariance of the training cities; `genie` is told every path of the link and",
        "is the limit (docs/baselines.md has the other baselines). One training seed.",
    ]
    for place in places:
        curves = {c.method: c for c in result.curves if (c.regime, c.split) == place}
        lines += ["", f"## {place[0]}, {place[1]}", "", *table(curves)]
    lines += ["", "## Gaps", "", "Positive: the first is worse than the second.", "", *gaps(result.curves, places)]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def table(curves: dict[str, Curve]) -> list[str]:
    snrs = next(iter(curves.values())).snr_db
    rows = ["| SNR, dB | " + " | ".join(f"{snr:g}" for snr in snrs) + " |", "|---|" + "---|" * len(snrs)]
    return rows + [f"| {name} | " + " | ".join(f"{v:.2f}" for v in c.nmse_db) + " |" for name, c in curves.items()]


def gaps(curves: tuple[Curve, ...], places: list[tuple[str, str]]) -> list[str]:
    by_key = {(c.method, c.regime, c.split): c for c in curves}
    rows = [
        "| | regime, split | smallest gap | largest gap | SNRs at which the first is better |",
        "|---|---|---|---|---|",
    ]
    pairs = [(name, "spikewfm-nano-relu") for name in MODELS[:3]]
    pairs += [(MODELS[0], "last-value"), (MODELS[0], "wiener")]
    for first, second in pairs:
        for place in places:
            a, b = by_key[(first, *place)], by_key[(second, *place)]
            gap = [x - y for x, y in zip(a.nmse_db, b.nmse_db, strict=True)]
            better = ", ".join(f"{snr:g}" for snr, value in zip(a.snr_db, gap, strict=True) if value < 0) or "none"
            rows.append(
                f"| {first} against {second} | {', '.join(place)} | {min(gap):.2f} dB | {max(gap):.2f} dB | {better} |"
            )
    return rows


if __name__ == "__main__":
    main()
