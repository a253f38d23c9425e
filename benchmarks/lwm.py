"""The published LWM v1.0 weights on genuine DeepMIMO cities: writes docs/lwm.md, docs/lwm.json and its pictures.

    python benchmarks/lwm.py DATA [nmse nmse:Denver los tuned spiking spiking:ilif-4 beam noise ...]

DATA is the folder of evaluation data (SPIKEPORT_DATA). Each section named is run and replaces its part of
docs/lwm.json; lwm_page.py writes the page from that file. All sections take about 40 minutes of one core.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from lwm_page import page

import spikeport
from spikeport_toolkit.data.deepmimo import load_deepmimo
from spikeport_toolkit.data.impairments import awgn
from spikeport_toolkit.data.sampler import Batch
from spikeport_toolkit.models.lwm import LWM
from spikeport_toolkit.models.lwm_masking import mask
from spikeport_toolkit.models.presets import neuron_preset
from spikeport_toolkit.models.res1dcnn import Res1DCNN
from spikeport_toolkit.tasks import beam, los
from spikeport_toolkit.tasks.array_channels import array_channels
from spikeport_toolkit.tasks.beamforming import beamforming
from spikeport_toolkit.tasks.features import KINDS, features_of, sequences_of
from spikeport_toolkit.tasks.few_shot import few_shot, weighted_f1
from spikeport_toolkit.tasks.probe import FineTuned, network_probe, ridge_probe
from spikeport_toolkit.training.adaptation import Adaptation
from spikeport_toolkit.training.ann_to_snn import Sample, convert

DOCS = Path(__file__).parent.parent / "docs"
RESULTS, PAGE = DOCS / "lwm.json", DOCS / "lwm.md"
CITIES = {
    "Denver": ("city_18_denver", 3),
    "Indianapolis": ("city_15_indianapolis", 3),
    "Oklahoma": ("city_19_oklahoma", 1),
}
MASK_SEEDS = range(5)
BEAM_LABELS = (95, 284, 948)
DATA = Path()


@cache
def model() -> LWM:
    with tempfile.TemporaryDirectory() as folder:
        spikeport.import_weights(DATA / "lwm" / "lwm-v1.0.pth", preset="lwm-1.0-code", out=Path(folder) / "lwm")
        return spikeport.load_model(f"{folder}/lwm")


@cache
def city(name: str):
    scenario, station = CITIES[name]
    paths = load_deepmimo(DATA / "deepmimo_v3" / scenario, stations=[station], max_paths=20)[0]
    paths = paths.select(np.flatnonzero(paths.n_paths > 0))
    return paths, array_channels(paths, np.arange(paths.links))


@cache
def features(name: str, kind: str):
    return sequences_of(model(), city(name)[1], kind)


def nmse(only: str = "") -> dict:
    return {name: masked_nmse(model(), name) for name in ([only] if only else CITIES)}


def spiking(only: str = "") -> dict:
    """The weights converted to spiking neurons, calibrated on other cities than they are tested on; mask seed 0."""
    neurons = {
        "ilif-4": neuron_preset("ilif"), "lif": neuron_preset("lif"), "ilif-16": neuron_preset("ilif", levels=16),
    }  # fmt: skip
    found: dict = {}
    for key in [only] if only else neurons:
        row: dict = {"pooled_db": {}, "median_db": {}}
        for seen, unseen in ((("Indianapolis", "Oklahoma"), ("Denver",)), (("Denver",), ("Indianapolis", "Oklahoma"))):
            network, parts = convert(model(), neurons[key], calibration(seen))
            row["rate"] = float(np.mean([part.rate for part in parts]))
            for name in unseen:
                made = masked_nmse(network, name, (0,))
                row["pooled_db"][name], row["median_db"][name] = made["pooled_db"][0], made["median_db"]
            if unseen == ("Denver",):
                flat = {"cls": ("cls", sequences_of(network, city("Denver")[1], "cls"))}
                labels = los.labels(city("Denver")[0])
                (probe,) = few_shot(flat, labels, 2, ridge_probe, counts=(50, 200, 900), draws=20, seed=0)
                row["los"] = vars(probe)
        found[key] = row
        print(key, row, flush=True)
    return found


def calibration(names: tuple[str, ...], samples: int = 256) -> list[Sample]:
    """Channels of cities, as many of each, in batches of 64."""
    none = np.zeros(0)
    found = []
    for name in names:
        clean = city(name)[1]
        chosen = np.random.default_rng(0).permutation(len(clean))[: samples // len(names)]
        for number, part in enumerate(np.split(chosen, len(chosen) // 64)):
            batch = Batch(clean[part], clean[part][:, :0], none, none, 3.5e9)
            found.append(Sample(model().inputs(clean[part]), batch, (0, number)))
    return found


def masked_nmse(network: LWM, name: str, seeds: Iterable[int] = MASK_SEEDS) -> dict:
    tokens = network.inputs(city(name)[1])
    pooled, ratio, median = [], [], []
    for seed in seeds:
        masked = mask(tokens, network.config, np.random.default_rng(seed))
        made = []
        with torch.inference_mode():
            for start in range(0, len(tokens), 64):
                part = slice(start, start + 64)
                hidden = network(masked.tokens[part])[:, 1:]
                index = masked.positions[part, :, None].expand(-1, -1, hidden.shape[2])
                made.append(network.decoder(hidden.gather(1, index)))
        error = (torch.cat(made) - masked.targets).square().sum((1, 2)).double().numpy()
        power = masked.targets.square().sum((1, 2)).double().numpy()
        pooled.append(float(10 * np.log10(error.sum() / power.sum())))
        ratio.append(error.sum() / masked.targets.numel() / float(masked.targets.var()))
        median.append(10 * np.log10(np.median(error / power)))
    found = {
        "links": len(tokens), "pooled_db": pooled, "mse_over_variance": float(np.mean(ratio)),
        "median_db": float(np.mean(median)),
    }  # fmt: skip
    print(name, found, flush=True)
    return found


def los_curves() -> dict:
    paths, _ = city("Denver")
    labels = los.labels(paths)
    flat = {kind: (kind, features("Denver", kind)) for kind in KINDS}
    probes = few_shot(flat, labels, 2, ridge_probe, counts=(50, 200, 900), draws=20, seed=0)
    print(probes, flush=True)
    network = network_probe(los.Fcn, steps=150)
    curves = few_shot(flat, labels, 2, network, counts=(6, 24, 100, 900), draws=2, seed=0)
    print(curves, flush=True)
    return {"ridge": [vars(c) for c in probes], "fcn": [vars(c) for c in curves]}


def tuned() -> list[dict]:
    """The last 3 layers trained with a linear head on [CLS], against the same without training any layer."""
    paths, _ = city("Denver")
    kept = np.random.default_rng(0).permutation(paths.links)[:400]
    tokens, labels = features("Denver", "raw")[kept], los.labels(paths)[kept]
    found = []
    for name, how in (("last 3 layers", Adaptation("last-k", layers=3)), ("head only", Adaptation("probe"))):
        network = network_probe(
            lambda shape, classes, how=how: FineTuned(model(), how, classes), steps=60, batch=32, standardise=False
        )
        found += few_shot({name: ("cls", tokens)}, labels, 2, network, counts=(6, 24, 100), draws=2, seed=0)
        print(found[-1], flush=True)
    return [vars(curve) for curve in found]


def beam_curves(only: str = "") -> dict:
    paths, _ = city("Denver")
    high = load_deepmimo(DATA / "deepmimo_v3" / "denver_28ghz", stations=[3], max_paths=20)[0]
    wide = load_deepmimo(DATA / "deepmimo_v3" / CITIES["Denver"][0], stations=[3], max_paths=20)[0]
    ((low, high),) = beam.paired([wide, high])
    assert np.array_equal(low.ue, paths.ue)
    flat = {kind: (kind, features("Denver", kind)) for kind in KINDS}
    found: dict = {}
    network = network_probe(lambda shape, classes: Res1DCNN(shape[-1], classes), steps=200)
    for beams in [int(only)] if only else (16, 64, 256):
        labels = beam.labels(high, beams)
        coherent = beam.labels(high, beams, coherent=True)
        probes = few_shot(flat, labels, beams, ridge_probe, counts=BEAM_LABELS, draws=5, seed=0)
        curves = few_shot(flat, labels, beams, network, counts=BEAM_LABELS, draws=1, seed=0)
        found[str(beams)] = {
            "used": len(np.unique(labels)), "top_share": float(np.bincount(labels).max() / len(labels)),
            "coherent_agrees": float((labels == coherent).mean()),
            "ridge": [vars(c) for c in probes], "res1dcnn": [vars(c) for c in curves],
        }  # fmt: skip
        print(beams, found[str(beams)], flush=True)
    return found


def noise() -> dict:
    paths, clean = city("Denver")
    labels = los.labels(paths)
    power = np.mean(np.abs(clean) ** 2, axis=(1, 2, 3), dtype=np.float64)
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[:900], order[900:]
    found: dict = {"snr_db": [0, 5, 10, 20], "f1": {}, "cosine": []}
    known = {kind: features("Denver", kind) for kind in ("cls", "raw")}
    for snr in found["snr_db"]:
        noisy = awgn(clean, power, float(snr), np.random.default_rng(snr))
        for kind in ("cls", "raw"):
            seen = features_of(model(), noisy[test], kind)
            guess = ridge_probe(known[kind][train], labels[train], seen, 2, 0)
            found["f1"].setdefault(kind, []).append(weighted_f1(labels[test], guess))
            if kind == "cls":
                centre = known[kind][train].reshape(len(train), -1).mean(0)
                a, b = seen - centre, known[kind][test].reshape(len(test), -1) - centre
                cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
                found["cosine"].append(float(np.median(cosine)))
    for kind in ("cls", "raw"):
        guess = ridge_probe(known[kind][train], labels[train], known[kind][test], 2, 0)
        found["f1"][kind].append(weighted_f1(labels[test], guess))
    print(found, flush=True)
    return found


def beams_made() -> dict:
    _, clean = city("Denver")
    shuffled = clean[np.random.default_rng(0).permutation(len(clean))]
    found = {
        f"{snr:g}": dict(beamforming(model(), shuffled, snr_db=snr, train=900, rng=np.random.default_rng(0)).gain_db)
        for snr in (-5.0, 5.0)
    }
    print(found, flush=True)
    return found


def pictures() -> dict:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    try:
        from sklearn.manifold import TSNE
    except ImportError:
        sys.exit("t-SNE needs scikit-learn: pip install 'spikeport[analysis]'")
    paths, clean = city("Denver")
    labels = los.labels(paths)
    few_shot_picture(plt)
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.6))
    for axis, kind, title in zip(axes, ("raw", "cls"), ("raw channels", "[CLS] embeddings"), strict=True):
        flat = features("Denver", kind).reshape(len(labels), -1)
        placed = TSNE(init="pca", random_state=0).fit_transform(flat / np.linalg.norm(flat, axis=1, keepdims=True))
        for value, name, colour in ((0, "NLoS", "#d95f02"), (1, "LoS", "#1b9e77")):
            axis.scatter(*placed[labels == value].T, s=3, label=name, color=colour)
        axis.set(title=title, xticks=[], yticks=[])
    axes[0].legend(markerscale=3)
    figure.tight_layout()
    figure.savefig(DOCS / "lwm-tsne.png", dpi=80)
    with torch.inference_mode():
        each = model().attention_maps(model().inputs(clean[labels == 1][:8]))
    uneven = (each * each.shape[-1] - 1).abs().amax((1, 3, 4))  # [layer, head]: 0 where attention is uniform
    maps, active = each.mean(1), [int((row > 0.01).sum()) for row in uneven]
    layer = int(np.argmax(active))
    figure, axes = plt.subplots(2, 6, figsize=(9, 3.3))
    for head, axis in enumerate(axes.ravel()):
        axis.imshow(maps[layer, head].clamp(max=float(maps[layer].quantile(0.99))), cmap="viridis")
        axis.set(title=f"head {head}", xticks=[], yticks=[])
    figure.suptitle(f"Layer {layer}: attention of 129 tokens, mean of 8 LoS links")
    figure.tight_layout()
    figure.savefig(DOCS / "lwm-attention.png", dpi=80)
    print(active)
    return {"active_heads": active, "layer": layer}


def few_shot_picture(plt) -> None:
    """The paper's Fig. 3 and 4 on one city, from what docs/lwm.json holds."""
    found = json.loads(RESULTS.read_text())
    panels = [("line of sight, FCN", found["los"]["fcn"])]
    panels += [(f"{beams} beams, Res-1D-CNN", row["res1dcnn"]) for beams, row in found["beam"].items()]
    figure, axes = plt.subplots(1, len(panels), figsize=(3 * len(panels), 3))
    for axis, (title, curves) in zip(axes, panels, strict=True):
        for curve, colour in zip(curves, ("#1b9e77", "#7570b3", "#d95f02"), strict=True):
            f1 = [100 * value for value in curve["f1"]]
            axis.plot(curve["labels"], f1, "o-", markersize=3, color=colour, label=curve["method"])
        axis.set(title=title, xscale="log", xlabel="labels")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("weighted F1, %")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(DOCS / "lwm-few-shot.png", dpi=80)


SECTIONS = {
    "nmse": nmse, "los": los_curves, "tuned": tuned, "spiking": spiking, "beam": beam_curves,
    "noise": noise, "beamforming": beams_made, "pictures": pictures,
}  # fmt: skip


def main() -> None:
    global DATA
    torch.set_num_threads(1)
    DATA = Path(sys.argv[1])
    for name in sys.argv[2:] or SECTIONS:
        name, _, only = name.partition(":")
        start, part = time.process_time(), SECTIONS[name](*[only] * bool(only))
        found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        found[name] = found.get(name, {}) | part if only else part
        ordered = {key: found[key] for key in SECTIONS if key in found}
        RESULTS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(page(ordered), encoding="utf-8")
        print(f"{name}: {time.process_time() - start:.0f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
