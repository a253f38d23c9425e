"""How far the spiking model with a Wiener skip gets: its twin, the mixture alone, the filters: docs/wiener-skip.md."""

from __future__ import annotations

from pathlib import Path

import spikeport
from spikeport_toolkit.tasks.channel_prediction import METRIC, Curve

LINKS, SEEDS = 150, 1
MODEL, TWIN, PLAIN = "spikewfm-nano-wiener", "spikewfm-nano-wiener-relu", "spikewfm-nano"
PAGE = Path(__file__).parent.parent / "docs" / "wiener-skip.md"
TIE_DB = 0.1


def main() -> None:
    result = spikeport.evaluate(
        MODEL, compare=(TWIN, PLAIN), baselines="wiener-mixture,lstm,gru", links=LINKS, seeds=SEEDS
    )
    places = list(dict.fromkeys((c.regime, c.split) for c in result.curves))
    curves = {(c.method, c.regime, c.split): c for c in result.curves}
    lines = [
        "# A Wiener skip: what the best model here is made of",
        "",
        f"Written by `benchmarks/wiener_skip.py`. {METRIC};",
        f"{LINKS} links a point and seed, {SEEDS} seeds of links, motion and noise, {result.data}, simulated;",
        "one training seed. R1: contiguous slots. R2: slots 5 ms apart.",
        "",
        "`wiener-mixture` is a mixture of Wiener filters over slot spacing, Doppler, delay profile and SNR, weighted",
        "by how well each explains the observation (`models/wiener_mixture.py`). It is trained on nothing and told",
        "neither the SNR nor the speed nor, inside the network, the slot spacing. `wiener` and `lmmse` are told the",
        f"SNR, `lmmse` the covariance of the training cities. `{MODEL}` is SpikeWFM nano with LIF neurons",
        f"whose output is added to that mixture; `{TWIN}`",
        "is the same with ReLU, trained by the same recipe.",
        "",
        "## What it comes to",
        "",
        *conclusions(curves, places),
    ]
    for place in places:
        lines += [
            "",
            f"## {place[0]}, {place[1]}",
            "",
            *table([c for c in result.curves if (c.regime, c.split) == place]),
        ]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def conclusions(curves: dict[tuple[str, str, str], Curve], places: list[tuple[str, str]]) -> list[str]:
    def gap(first: str, second: str, wanted: list[tuple[str, str]]) -> list[float]:
        return [
            x - y
            for place in wanted
            for x, y in zip(curves[first, *place].nmse_db, curves[second, *place].nmse_db, strict=True)
        ]

    slow = [place for place in places if place[0] == "R2"]
    twin, alone = gap(MODEL, TWIN, places), gap(MODEL, "wiener-mixture", places)
    verdict = "ties with" if max(twin) <= TIE_DB else "does not tie with"
    filters = {name: gap(MODEL, name, places) for name in ("wiener", "lmmse", "lstm", "gru", PLAIN)}
    robust = gap(MODEL, "wiener", slow)
    beats = "beats" if max(robust) < 0 else "does not beat"
    rows = [
        f"- The spiking model {verdict} its ReLU twin within {TIE_DB} dB at every SNR: {min(twin):+.2f} to "
        f"{max(twin):+.2f} dB (below 0: the spiking one is better).",
        f"- In R2 it {beats} the robust Wiener filter at every SNR, in-domain and unseen: {min(robust):+.2f} to "
        f"{max(robust):+.2f} dB.",
    ]
    for name, values in filters.items():
        better = sum(v < 0 for v in values)
        rows.append(
            f"- Against `{name}`: better at {better} of {len(values)} points, "
            f"{min(values):+.2f} to {max(values):+.2f} dB."
        )
    rows.append(
        f"- **The mixture does this, not the network**: against the mixture alone the spiking model stands at "
        f"{min(alone):+.2f} to {max(alone):+.2f} dB."
    )
    genie = gap(MODEL, "genie", places)
    rows.append(f"- The genie, which is told every path, stays {min(genie):.1f} to {max(genie):.1f} dB ahead.")
    return rows


def table(curves: list[Curve]) -> list[str]:
    snrs = curves[0].snr_db
    rows = ["| SNR, dB | " + " | ".join(f"{snr:g}" for snr in snrs) + " |", "|---|" + "---|" * len(snrs)]
    return rows + [f"| {c.method} | " + " | ".join(f"{v:.2f}" for v in c.nmse_db) + " |" for c in curves]


if __name__ == "__main__":
    main()
