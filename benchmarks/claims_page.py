"""docs/claims.md and docs/claims.png from what benchmarks/claims.py measured; run by `claims.py page`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport_toolkit import theory
from spikeport_toolkit.models.config import NeuronConfig

DOCS = Path(__file__).parent.parent / "docs"
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""97.5 % quantile of Student's t by degrees of freedom."""
PLATEAU_DB = 0.5
BASELINE = -1
"""In the place of a training seed."""
NAMES = {
    "lif": "LIF, T = 4, BN", "relu": "ReLU, BN", "relu_plain": "ReLU, no norm", "ilif": "I-LIF, BN",
    "qrelu": "quantised ReLU, BN", "slots": "LIF, time axis slots, BN",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One measurement of a claim: per seed `values`; `wanted` is the sign that the claim says, 0 for none."""

    claim: str
    text: str
    values: tuple[float, ...]
    wanted: int
    unit: str = "dB"

    @property
    def interval(self) -> tuple[float, float, float]:
        """Mean over seeds and its 95 % confidence interval (Student's t)."""
        mean, n = float(np.mean(self.values)), len(self.values)
        half = STUDENT[n - 1] * float(np.std(self.values, ddof=1)) / math.sqrt(n) if n > 1 else math.inf
        return mean, mean - half, mean + half

    @property
    def verdict(self) -> str:
        """Whether the interval excludes zero, and on the claim's side."""
        mean, low, high = self.interval
        if self.wanted == 0:
            return ""
        if len(self.values) < 3:
            return "too few seeds"
        if low <= 0 <= high:
            return "not shown"
        return "reproduced" if np.sign(mean) == self.wanted else "opposite"

    def line(self) -> str:
        """A line of the table."""
        mean, low, high = self.interval
        bounds = f"{low:+.2f} to {high:+.2f}" if math.isfinite(low) else "one seed"
        return f"| {self.claim} | {self.text} | {mean:+.2f} {self.unit} | {bounds} | {self.verdict} |"


class Results:
    """All runs of one size, by arm and seed."""

    def __init__(self, runs: Sequence[dict[str, Any]], evaluation: dict[str, Any]):
        self.curves = {(r["arm"], r["seed"]): np.array(r["curve"]) for r in runs}
        self.firing = {(r["arm"], r["seed"]): r["firing"] for r in runs}
        self.nmse: dict[tuple[str, str, str, int], NDArray[np.float64]] = {}
        for c in evaluation["curves"]:
            arm, _, seed = c["method"].rpartition("-")
            trained = arm in NAMES
            key = (arm if trained else c["method"], c["regime"], c["split"], int(seed) if trained else BASELINE)
            self.nmse[key] = np.array(c["nmse_db"])
        self.snr = list(evaluation["curves"][0]["snr_db"])
        self.links = evaluation["links"]
        self.arms = [arm for arm in NAMES if any(a == arm for a, _ in self.curves)]

    def seeds(self, *arms: str) -> list[int]:
        """Seeds under which all of `arms` were trained."""
        return sorted(set.intersection(*({s for a, s in self.curves if a == arm} for arm in arms)))

    def training(self, of: Callable[[NDArray[np.float64]], float], a: str, b: str) -> tuple[float, ...]:
        """of(curve of a) - of(curve of b), seed by seed."""
        return tuple(of(self.curves[a, s]) - of(self.curves[b, s]) for s in self.seeds(a, b))

    def testing(
        self, of: Callable[[NDArray[np.float64]], float], a: str, b: str | None, regime: str, split: str = "in-domain"
    ) -> tuple[float, ...]:
        """of(NMSE over SNR of a) - of(that of b), training seed by training seed."""
        values = []
        for seed in sorted({key[3] for key in self.nmse} - {BASELINE}):
            own = self.nmse.get((a, regime, split, seed))
            other = self.nmse.get((b, regime, split, seed), self.nmse.get((b, regime, split, BASELINE))) if b else None
            if own is not None and (other is not None or b is None):
                values.append(of(own) - (of(other) if other is not None else 0.0))
        return tuple(values)


def steps_to_plateau(curve: NDArray[np.float64]) -> float:
    """Step at which the validation loss, between validations a line, first is PLATEAU_DB above its lowest value."""
    level = curve[:, 1].min() + PLATEAU_DB
    at = int(np.argmax(curve[:, 1] <= level))
    if at == 0:
        return float(curve[0, 0])
    (step, above), (later, below) = curve[at - 1], curve[at]
    return float(step + (later - step) * (above - level) / (above - below))


def final_loss(curve: NDArray[np.float64]) -> float:
    """Lowest validation loss, dB."""
    return float(curve[:, 1].min())


def fluctuation(curve: NDArray[np.float64]) -> float:
    """Standard deviation of the increments of the validation loss in the second half, dB."""
    return float(np.diff(curve[len(curve) // 2 :, 1]).std())


def rows(results: Results) -> list[Row]:
    """Every claim's measurements."""
    at = {snr: i for i, snr in enumerate(results.snr)}
    mean: Callable[[NDArray[np.float64]], float] = lambda v: float(v.mean())  # noqa: E731
    found: list[Row] = []
    for a, b in (("lif", "relu_plain"), ("lif", "relu"), ("relu", "relu_plain")):
        claimed = 1 if a == "lif" else 0
        what, unit = f"steps to within {PLATEAU_DB} dB of the own plateau", "steps"
        found.append(Row("c1", f"{what}: {a} - {b}", results.training(steps_to_plateau, a, b), -claimed, unit))
        found.append(Row("c2", f"final validation loss: {a} - {b}", results.training(final_loss, a, b), claimed))
        found.append(Row("c3", f"std of loss increments: {a} - {b}", results.training(fluctuation, a, b), -claimed))
    for claim, split in (("c4", "in-domain"), ("c8", "unseen")):
        for regime in ("R1", "R2"):
            for a, b in (("lif", "relu_plain"), ("lif", "relu"), ("ilif", "relu"), ("qrelu", "relu"), ("slots", "lif")):
                text = f"NMSE, mean over SNR, {regime}, {split}: {a} - {b}"
                claimed = -1 if a == "lif" else 0
                found.append(Row(claim, text, results.testing(mean, a, b, regime, split), claimed))
    for b in ("relu_plain", "relu"):
        low = results.testing(lambda v: float(v[at[-10.0]]), "lif", b, "R1")
        found.append(Row("c5", f"NMSE at -10 dB, R1: lif - {b}", low, 1))
        slope = results.testing(lambda v: float(v[at[25.0]] - v[at[10.0]]), "lif", b, "R1")
        found.append(Row("c6", f"NMSE(25 dB) - NMSE(10 dB), R1: lif - {b}", slope, 1))
    for a in ("lif", "relu"):
        beyond = results.testing(lambda v: float(v[at[30.0]] - v[at[25.0]]), a, None, "R1")
        found.append(Row("c7", f"NMSE(30 dB) - NMSE(25 dB), R1: {a}", beyond, 1 if a == "lif" else 0))
    for regime in ("R1", "R2"):
        for b in ("last-value", "wiener", "lmmse"):
            text = f"NMSE, mean over SNR, {regime}, in-domain: lif - {b}"
            found.append(Row("c9", text, results.testing(mean, "lif", b, regime), -1))
    for text, near in (("below 0.05", 0), ("above 0.95", 1)):
        share = tuple(
            100 * float(np.mean(np.abs(np.concatenate(list(results.firing["lif", s].values())) - near) <= 0.05))
            for s in results.seeds("lif")
        )
        found.append(Row("c10", f"neurons whose firing probability is {text}: lif", share, 0, "%"))
    return sorted((row for row in found if row.values), key=lambda row: int(row.claim[1:]))


CLAIMS = {
    "c1": "the spiking backbone reaches its plateau sooner (negative)",
    "c2": "the ReLU backbone ends at a slightly lower loss (positive)",
    "c3": "the ReLU curve fluctuates more (negative)",
    "c4": "SpikeWFM is best over the SNR range in-domain (negative)",
    "c5": "the ANN is better at the lowest SNR (positive)",
    "c6": "the spiking model is flatter at high SNR (positive)",
    "c7": "it loses a little at the highest SNR, outside its training range (positive)",
    "c8": "the order of c4 holds zero-shot in unseen cities (negative)",
    "c9": "it beats traditional methods (negative)",
    "c10": "firing probabilities become bimodal, 0 or 1 (most neurons at either end)",
}


def theory_rows() -> list[str]:
    """The theory's claims against its own equations, computed here; tests/toolkit/test_theory.py holds them."""
    lif, decay = NeuronConfig("lif", steps=4), NeuronConfig("lif", steps=4, decay_input=True)
    rate, gain = theory.noise_firing_rate, theory.snr_gain
    trains = [
        len(theory.spike_trains(NeuronConfig("lif", steps=t, v_reset=reset))) for t in (4, 8) for reset in (0.0, None)
    ]
    rates = f"{rate(decay, 0.5):.3f} at 0.5 and {rate(decay, 1.0):.3f} at 1 with input decay, {rate(lif, 1.0):.3f} "
    return [
        "| claim of the paper | computed | so |",
        "|---|---|---|",
        f"| (3) a ReLU turns noise into a bias sigma / sqrt(2 pi) | {theory.dc_bias(1):.4f} sigma | true; the next "
        "bias or norm takes it away |",
        f"| a LIF removes that bias | spikes per step under noise of sigma: {rates}at 1 without | only far below the "
        "threshold; a normalised current has sigma 1 |",
        f"| (5) the SNR grows by T | fresh noise, no leak, T = 4: {gain(4, 1):.2f}; leak 0.5, T = 64: "
        f"{gain(64, 0.5):.2f}; correlation 0.9, T = 4: {gain(4, 1, 0.9):.2f}; the same noise at every step (direct "
        f"coding): {gain(4, 1, 1.0):.2f} | false for direct coding; true for fresh noise without leak |",
        f"| counting spikes helps detection (s = 0.8, sigma = 1) | AUC of the input itself "
        f"{theory.auc_of_gaussians(0.8):.3f}; spike counts of repeated noise 0.63 to 0.68, of fresh noise, T = 4, "
        f"0.73 to 0.84, of the mean of 4 inputs {theory.auc_of_gaussians(1.6):.3f} | a count only loses information |",
        f"| (6) entropy at most sum h_b(p) | spike trains of a constant drive: {trains[0]} (hard reset) and "
        f"{trains[1]} (soft) at T = 4, {trains[2]} and {trains[3]} at T = 8, of 16 and 256 | holds, and log2(T + 1) is "
        "far tighter |",
        f"| a PAC-Bayes gap follows | {theory.pac_bayes_gap(2560, 4, 0.2, 10_500):.2f} for one token of one layer, "
        f"{theory.pac_bayes_gap(2560 * 816, 4, 0.2, 10_500):.0f} for 816 tokens | vacuous |",
    ]


def write_page(runs: Sequence[dict[str, Any]], evaluation: dict[str, Any], recipe: str, facts: str) -> str:
    """Write both files; the page's text. `recipe` describes the training, `facts` the models."""
    results = Results(runs, evaluation)
    table = rows(results)
    draw(results, DOCS / "claims.png")
    seeds = {arm: len(results.seeds(arm)) for arm in results.arms}
    lines = [
        "# The claims of SpikeWFM, measured",
        "",
        "Written by `benchmarks/claims.py` (train, evaluate, page). Claims c1 to c10 are those of the paper",
        "(arXiv 2606.00120), which gives no number for any of them. Simulated channels of the embedded cities; metric",
        f"of `spikeport evaluate`, {results.links} links a point, R1: contiguous slots, R2: slots 5 ms apart.",
        "",
        facts,
        "",
        recipe,
        "",
        "Seeds an arm: " + ", ".join(f"{arm} {n}" for arm, n in seeds.items()) + ". A row is the difference of two",
        "arms under the same seed (initialisation, data, masks), its mean over seeds and Student's 95 % interval;",
        "`reproduced` and `opposite` say that the interval excludes zero. Arms:",
        "; ".join(f"`{arm}`: {NAMES[arm]}" for arm in results.arms) + ".",
        "",
        "![Pre-training and NMSE over SNR](claims.png)",
        "",
        "## Claims",
        "",
    ]  # fmt: skip
    lines += [f"- {claim}: {text}." for claim, text in CLAIMS.items()]
    lines += ["", "| claim | measured | mean | 95 % interval | verdict |", "|---|---|---|---|---|"]
    lines += [row.line() for row in table]
    judged = [row for row in table if row.verdict]
    for verdict, says in (
        ("reproduced", "Reproduced"), ("opposite", "The opposite was measured"), ("not shown", "Not shown either way"),
        ("too few seeds", "Not judged, with fewer than three seeds"),
    ):  # fmt: skip
        found = Counter(row.claim for row in judged if row.verdict == verdict)
        rows_of = Counter(row.claim for row in judged)
        named = ", ".join(f"{claim} in {n} of {rows_of[claim]} rows" for claim, n in found.items())
        lines += ["", f"{says}: {named or 'none'}."]
    lines += ["", *READING, "", "## NMSE over SNR, dB, mean over seeds", "", *nmse_tables(results)]
    lines += [
        "",
        "## Theory",
        "",
        "Computed by `spikeport_toolkit/theory.py`, no training involved.",
        "",
        *theory_rows(),
    ]
    (DOCS / "claims.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "\n".join(lines)


READING = [
    "The control that c1 needs is the ReLU with the same norm: `lif - relu_plain` changes neuron and norm at once,",
    "`lif - relu` the neuron alone, and `relu - relu_plain` is what the norm does without any spike. c10 has no",
    "confidence to exclude zero with: bimodal would mean that nearly all neurons are in its two rows together.",
]  # fmt: skip


def nmse_tables(results: Results) -> list[str]:
    """One table per regime and split."""
    lines = []
    for regime, split in dict.fromkeys((key[1], key[2]) for key in results.nmse):
        head = "| " + " | ".join([f"{regime}, {split}", *(f"{snr:g}" for snr in results.snr)]) + " |"
        lines += [head, "|---" * (len(results.snr) + 1) + "|"]
        for method in dict.fromkeys(key[0] for key in results.nmse if key[1:3] == (regime, split)):
            mean = np.mean([v for key, v in results.nmse.items() if key[:3] == (method, regime, split)], 0)
            lines.append(f"| {method} | " + " | ".join(f"{v:.2f}" for v in mean) + " |")
        lines.append("")
    return lines[:-1]


def draw(results: Results, file: Path) -> None:
    """Pre-training curves, NMSE over SNR in-domain and unseen (R1), firing probabilities of the LIF."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
    colours = dict(zip(NAMES, ("C0", "k", "0.55", "C1", "C2", "C3"), strict=True))
    for arm in results.arms:
        curves = [results.curves[arm, s] for s in results.seeds(arm)]
        values = np.stack([c[:, 1] for c in curves])
        axes[0].plot(curves[0][:, 0], values.mean(0), color=colours[arm], label=NAMES[arm], lw=1.2)
        axes[0].fill_between(curves[0][:, 0], values.min(0), values.max(0), color=colours[arm], alpha=0.15, lw=0)
    axes[0].set(xlabel="pre-training step", ylabel="validation NMSE, dB", title="masked pre-training")
    axes[0].legend(fontsize=7)
    for axis, split in zip(axes[1:3], ("in-domain", "unseen"), strict=True):
        for method, colour in (*colours.items(), ("wiener", "C4"), ("lmmse", "C5")):
            values = [v for key, v in results.nmse.items() if key[:3] == (method, "R1", split)]
            if values:
                style = "--" if method not in NAMES else "-"
                axis.plot(results.snr, np.mean(values, 0), style, color=colour, label=method, lw=1.2)
        axis.set(xlabel="SNR, dB", ylabel="NMSE, dB", title=f"prediction, R1, {split}", ylim=(-26, 0))
    axes[1].legend(fontsize=7)
    for arm in ("lif", "slots"):
        firing = [np.concatenate(list(results.firing[arm, s].values())) for s in results.seeds(arm)]
        if firing:
            axes[3].hist(np.concatenate(firing), np.linspace(0, 1, 41), density=True, histtype="step",
                         color=colours[arm], label=NAMES[arm])  # fmt: skip
    axes[3].set(xlabel="firing probability of a neuron", ylabel="density", title="claim c10")
    axes[3].legend(fontsize=7)
    figure.savefig(file, dpi=80)
    plt.close(figure)
