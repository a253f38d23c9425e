"""The page docs/lwm.md from docs/lwm.json; benchmarks/lwm.py makes both."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from spikeport_toolkit.models.families import build, parameter_counts
from spikeport_toolkit.models.presets import preset

STATIONS = {"Denver": 3, "Indianapolis": 3, "Oklahoma": 1}
REFERENCE_DB = {"Denver": -10.2, "Indianapolis": -11.6, "Oklahoma": -11.1}
NEURONS = {
    "ilif-4": "I-LIF, T = 1, D = 4", "ilif-16": "I-LIF, T = 1, D = 16", "lif": "LIF, hard reset, T = 4",
}  # fmt: skip
REFERENCE_CLS = "94 / 96 / 97"

HEAD = """# LWM: the published weights on DeepMIMO cities

Written by `benchmarks/lwm.py` (figures in `docs/lwm.json`). Weights: LWM v1.0 as published, imported with
`spikeport models import lwm-v1.0.pth --as lwm-1.0-code --out lwm`; the output is the published code's to 1e-4.
Channels: genuine DeepMIMO v3 cities at 3.5 GHz (ray-traced, so simulated), 32 antennas turned by -135 degrees, 32
subcarriers of 30 kHz, 20 paths, every user with a path. LWM was not trained on these cities. Neither weights nor cities
are part of this repository.

## The versions

Paper and codes differ; every difference is a switch of `LWMConfig`. Each is a preset.
"""
NMSE = """
## Masked reconstruction

15 % of the patches masked by v1.0's rule, mask seeds 0 to 4. Pooled: squared errors over squares, each summed over all
links; the few links near a mast decide it (the 50 strongest of Oklahoma's 3,455 hold 40 % of the power), hence the
spread over seeds. Reference: measured earlier for this project with another implementation and other masks.
"""
LOS = f"""
## Line of sight, Denver BS3

Accuracy in % of a ridge probe (penalty 10, standardised features) by number of labels, mean of 20 draws of them.
Reference for [CLS] at 50 / 200 / 900 labels: {REFERENCE_CLS} %.
"""
FCN = """
Weighted F1 in % of LWM's classifier (512-256-128, 150 steps of 64) by number of labels, mean of 2 draws: the paper's
Fig. 3, where frozen embeddings win by most when labels are fewest.
"""
TUNED = """
The encoder fine-tuned from raw tokens with a linear head on [CLS] (60 steps of 32, Adam 1e-3), weighted F1 in % on 300
links, mean of 2 draws:
"""
SPIKING = """
## The published weights as a spiking network

`spikeport models ann-to-snn` (every ReLU replaced by a fitted neuron, nothing trained), calibrated on 256 links of the
other cities (Denver) or of Denver (the other two). With fewer links the pooled figure depends on which they are, and
the embedded cities are further from what the weights know: take `--samples 256` and a `--data` store of DeepMIMO's.
Mask seed 0. Line of sight: the ridge probe on [CLS] of above, accuracy in %. T: steps, D: most spikes a step; rate:
mean spikes a step over D.
"""
BEAM = """
## Beams at 28 GHz from the channel at 3.5 GHz, Denver BS3

Label: the strongest beam of a codebook over 180 degrees, wide-band power. Weighted F1 in % by number of labels: the
paper's Fig. 4, on one city. Ridge: mean of 5 draws. Res-1D-CNN: 200 steps of 64, one draw, so its rows are rough.
"""
NOISE = """
## Noise

Line of sight on Denver: a ridge probe fitted on clean features of 900 links, tested on noisy ones of the others,
weighted F1 in %. `cosine`: median over links between the centred [CLS] of noisy and of clean channels.
"""
BEAMFORMING = """
## Robust beamforming

Mean gain over the perfect maximum-ratio beam in dB (0 is perfect) on 454 Denver links; the ridge heads map features of
the noisy channel to the beam and were fitted on 900 other links. `masked` lacks 18 of 128 patches, `reconstructed` has
them from the model.
"""
PICTURES = """
## Pictures

t-SNE (scikit-learn, extra `[analysis]`, seed 0) of the Denver links, each sample at norm 1:

![t-SNE](lwm-tsne.png)
"""


def page(found: dict[str, Any]) -> str:
    """Markdown of every section that docs/lwm.json has."""
    text = HEAD + versions()
    for name, section in SECTIONS.items():
        if name in found:
            text += section(found[name], found) if name == "spiking" else section(found[name])
    return text


def versions() -> str:
    """What differs between the presets, from their configurations."""
    names = ["lwm-1.0-paper", "lwm-1.0-code", "lwm-1.1-code", "lwm-1.0-spiking"]
    configs = [preset(name).config for name in names]
    with torch.device("meta"):
        counts = [f"{parameter_counts(build(config))[0]:,}" for config in configs]
    flat = [flattened(config.to_dict()) for config in configs]
    rows = [[key, *(item.get(key, "") for item in flat)] for key in flat[3] if len({i.get(key) for i in flat}) > 1]
    return table(["", *names], [["parameters", *counts], *rows[1:]])


def flattened(values: dict[str, Any]) -> dict[str, Any]:
    """One level of names: neuron.kind and so on."""
    return {
        f"{key}.{inner}" if inner else key: value
        for key, item in values.items()
        for inner, value in (item.items() if isinstance(item, dict) else [("", item)])
    }


def nmse(found: dict[str, Any]) -> str:
    rows = []
    for name, row in found.items():
        mean = float(np.mean(row["pooled_db"]))
        seeds = ", ".join(f"{value:.2f}" for value in row["pooled_db"])
        rows.append([
            f"{name} BS{STATIONS[name]}", row["links"], f"**{mean:.2f}**", seeds, REFERENCE_DB[name],
            f"{mean - REFERENCE_DB[name]:+.2f}", f"{row['mse_over_variance']:.3f}", f"{row['median_db']:.1f}",
        ])  # fmt: skip
    head = ["city", "links", "pooled NMSE, dB", "by seed", "reference", "difference", "MSE / var", "median link, dB"]
    return NMSE + table(head, rows)


def los(found: dict[str, Any]) -> str:
    return LOS + curves(found["ridge"], "accuracy") + FCN + curves(found["fcn"], "f1")


def tuned(found: list[dict[str, Any]]) -> str:
    return TUNED + curves(found, "f1")


def spiking(found: dict[str, Any], whole: dict[str, Any]) -> str:
    head = ["neuron", *(f"{city}, pooled dB (median)" for city in STATIONS), "LoS, 50 / 200 / 900 labels", "rate"]
    probe = next(curve for curve in whole["los"]["ridge"] if curve["method"] == "cls")
    published = [f"{row['pooled_db'][0]:.2f} ({row['median_db']:.1f})" for row in map(whole["nmse"].get, STATIONS)]
    rows = [["ReLU, as published", *published, percents(probe), "-"]]
    for key, row in found.items():
        cells = [f"{row['pooled_db'][city]:.2f} ({row['median_db'][city]:.1f})" for city in STATIONS]
        rows.append([NEURONS[key], *cells, percents(row["los"]), f"{row['rate']:.3f}"])
    return SPIKING + table(head, rows)


def percents(curve: dict[str, Any]) -> str:
    return " / ".join(f"{100 * value:.1f}" for value in curve["accuracy"])


def beam(found: dict[str, Any]) -> str:
    text = BEAM
    for beams, row in found.items():
        text += (
            f"\n**{beams} beams**: {row['used']} occur, the commonest in {100 * row['top_share']:.1f} % of links; the "
        )
        text += f"code's coherent mean picks the same beam in {100 * row['coherent_agrees']:.1f} %.\n"
        text += "\nRidge:\n" + curves(row["ridge"], "f1") + "\nRes-1D-CNN:\n" + curves(row["res1dcnn"], "f1")
    return text + "\n![Few-shot curves](lwm-few-shot.png)\n"


def noise(found: dict[str, Any]) -> str:
    rows = [[kind, *(f"{100 * value:.1f}" for value in values)] for kind, values in found["f1"].items()]
    rows.append(["cosine", *(f"{value:.3f}" for value in found["cosine"]), "1"])
    return NOISE + table(["SNR, dB", *found["snr_db"], "clean"], rows)


def beamforming(found: dict[str, Any]) -> str:
    text = BEAMFORMING
    for snr, row in found.items():
        text += f"\nAt {snr} dB:\n" + table(list(row), [[f"{value:.2f}" for value in row.values()]])
    return text


def pictures(found: dict[str, Any]) -> str:
    heads = found["active_heads"]
    return PICTURES + (
        f"\nAttention of layer {found['layer']}. Heads whose attention differs from uniform by more than 1 %: "
        f"{', '.join(map(str, heads))}\nof 12 each, {sum(heads)} of {12 * len(heads)} in all: a claim about "
        "the energy of this network's\nattention must say so.\n\n![attention](lwm-attention.png)\n"
    )


def curves(found: list[dict[str, Any]], field: str) -> str:
    rows = [[item["method"], *(f"{100 * value:.1f}" for value in item[field])] for item in found]
    return table(["labels", *found[0]["labels"]], rows)


def table(head: list[Any], rows: list[list[Any]]) -> str:
    lines = [f"| {' | '.join(map(str, row))} |" for row in (head, *rows)]
    return "\n".join(["", lines[0], "|---" * len(head) + "|", *lines[1:], ""])


SECTIONS = {
    "nmse": nmse,
    "los": los,
    "tuned": tuned,
    "spiking": spiking,
    "beam": beam,
    "noise": noise,
    "beamforming": beamforming,
    "pictures": pictures,
}
