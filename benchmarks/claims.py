"""The measurements behind docs/claims.md: train every arm with one recipe, evaluate all arms on the same channels.

    python benchmarks/claims.py train --arm lif --seed 0 --cache DIR     one arm and seed; resumable, cached as JSON
    python benchmarks/claims.py evaluate --cache DIR                     NMSE over SNR of everything trained
    python benchmarks/claims.py page --cache DIR                         docs/claims.md and docs/claims.png

`--size 80m` trains the 80m models with the same recipe (benchmarks/claims.toml): the model is all that differs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeport_toolkit.data.sampler import draw, embedded_split
from spikeport_toolkit.files import write_json
from spikeport_toolkit.models.checkpoint import load_checkpoint
from spikeport_toolkit.models.neuron import SpikingNeuron, SteppedNeuron
from spikeport_toolkit.models.presets import preset
from spikeport_toolkit.tasks.channel_prediction import evaluate
from spikeport_toolkit.training.loop import train
from spikeport_toolkit.training.recipe import load_recipe

ARMS = {"lif": "", "relu": "-relu", "relu_plain": "-relu_plain", "ilif": "-ilif", "qrelu": "-qrelu", "slots": "-slots"}
"""Arm to the end of its preset's name; all but `relu_plain` normalise before the activation."""
MICRO: dict[str, Any] = {
    "d": 64, "layers": 2, "heads": 1, "d_ff": 256, "head": {"d": 64, "heads": 1, "d_ff": 256}
}  # fmt: skip
"""`--size micro`, the default: nano at half the width with half the layers, which two CPU cores train in minutes."""
FIRING_SAMPLES, FIRING_SEED = 64, 12_345
LINKS = 100
MOST_SEEDS = 100
BINS = 20
RECIPE = Path(__file__).with_suffix(".toml")


def train_arm(arm: str, seed: int, size: str, cache: Path, max_steps: int | None) -> None:
    """Train one arm under one seed unless its result is there; leaves NAME/ and NAME.json in `cache`."""
    name = f"{size}-{arm}-{seed}"
    if (cache / f"{name}.json").is_file():
        return
    preset_size, settings = ("nano", MICRO) if size == "micro" else (size, {})
    model = f"spikewfm-{preset_size}{ARMS[arm]}"
    recipe = replace(load_recipe(str(RECIPE)), name=name, model=model, seed=seed, model_settings=settings)
    folder = train(recipe, cache / name, resume=True, max_steps=max_steps)
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    curve = [(row["step"], row["validation_loss_db"]) for row in rows if "validation_loss_db" in row]
    result = {"arm": arm, "seed": seed, "size": size, "curve": curve, "firing": firing(load_checkpoint(folder))}
    write_json(cache / f"{name}.json", result)


def firing(model: nn.Module) -> dict[str, list[float]]:
    """Firing probability p_d of every neuron of every block on noisy held-out channels, by block; {} without spikes."""
    sums: dict[str, list[Tensor]] = {}
    neurons = {p: m for p, m in model.named_modules() if isinstance(m, SpikingNeuron | SteppedNeuron)}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, p=path: sums.setdefault(p, []).append(out.mean((0, 1))))
        for path, module in neurons.items()
    ]
    links, rng = embedded_split("in-domain"), np.random.default_rng(FIRING_SEED)
    with torch.no_grad():
        for regime in ("R1", "R2"):
            users = rng.integers(0, links.links, FIRING_SAMPLES)
            batch = draw(links, users, model.config.grid, regime, (-10.0, 25.0), rng)  # type: ignore[arg-type]
            model(torch.from_numpy(batch.patches()))
    for hook in hooks:
        hook.remove()
    return {path: [round(float(p), 4) for p in torch.stack(rates).mean(0)] for path, rates in sums.items()}


def evaluate_all(size: str, cache: Path) -> None:
    """NMSE over SNR of all trained arms and seeds and of the baselines, in-domain and unseen: curves-SIZE.json."""
    torch.set_grad_enabled(False)
    trained = [
        f"{arm}-{seed}" for arm in ARMS for seed in range(MOST_SEEDS) if (cache / f"{size}-{arm}-{seed}").is_dir()
    ]
    predictors = {name: ("model", predictor(load_checkpoint(cache / f"{size}-{name}"))) for name in trained}
    grid = preset(f"spikewfm-{'nano' if size == 'micro' else size}").config.grid
    write_json(cache / f"curves-{size}.json", evaluate("claims", predictors, grid, links=LINKS, seed=0).to_dict())


def predictor(model: nn.Module) -> Callable[..., Any]:
    """`model` as a function of arrays."""
    return lambda patches: model(torch.from_numpy(patches)).numpy()


def write_results(size: str, cache: Path) -> None:
    """docs/claims.md and docs/claims.png from what lies in `cache`."""
    from claims_page import write_page

    def read(pattern: str) -> list[dict[str, Any]]:
        return [json.loads(file.read_text()) for file in sorted(cache.glob(pattern))]

    stages = load_recipe(str(RECIPE)).stages
    lengths = ", then ".join(f"{s.objective}, {s.steps} steps of {s.batch} samples" for s in stages)
    recipe = (
        f"Training, the same for every arm (`benchmarks/claims.toml`): {lengths}; backbone and head are both trained.\n"
        "The same recipe trains another size with `--size 80m`; nothing but the model's name differs."
    )
    facts = f"Models: spikewfm-{size}."
    if size == "micro":
        facts = (
            "Models: nano at half the width with half the layers (d 64, 2 layers, head of 3 layers of 64; 64 tokens).\n"
            "That is what this machine trains in minutes: it says nothing of 80 million parameters."
        )
    (evaluation,) = read(f"curves-{size}.json")
    write_page(read(f"{size}-*.json"), evaluation, recipe, facts)


def main() -> None:
    """Parse and run; see the module."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("what", choices=("train", "evaluate", "page"))
    parser.add_argument("--arm", choices=ARMS, nargs="+", default=list(ARMS))
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", default="micro")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--max-steps", type=int)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    if options.what == "page":
        write_results(options.size, options.cache)
        return
    if options.what == "evaluate":
        evaluate_all(options.size, options.cache)
        return
    for seed in options.seed:
        for arm in options.arm:
            train_arm(arm, seed, options.size, options.cache, options.max_steps)


if __name__ == "__main__":
    main()
