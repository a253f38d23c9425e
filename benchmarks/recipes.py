"""The first step of every shipped recipe with all its layers: seconds, peak memory, loss.

    python benchmarks/recipes.py [--batch 2] [NAME ...]

Prints a table; every recipe runs in a process of its own, so that peak memory is its own. The step is an optimiser step
of each stage at `--batch` samples (at least 4 for triplets), not the recipe's batch.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from spikeport_toolkit.training.loop import train
from spikeport_toolkit.training.recipe import load_recipe, recipe_names


def first_step(name: str, batch: int) -> None:
    recipe = load_recipe(name)
    least = {"charting": 4}
    stages = tuple(replace(s, batch=max(batch, least.get(s.objective, 2)), accumulation=1) for s in recipe.stages)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = train(replace(recipe, stages=stages), Path(folder) / "c", max_steps=1, device="cpu")
        losses = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    what = ", ".join(f"{stage.objective} {loss:.3g}" for stage, loss in zip(recipe.stages, losses, strict=True))
    print(f"| {name} | {seconds:.1f} | {peak:.1f} | {what} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        first_step(options.names[0], options.batch)
        return
    print("| recipe | seconds, model and checkpoint included | peak memory, GiB | loss of each stage's first step |")
    print("|---|---|---|---|", flush=True)
    for name in options.names or recipe_names():
        subprocess.run([sys.executable, __file__, name, "--one", "--batch", str(options.batch)], check=True)


if __name__ == "__main__":
    main()
