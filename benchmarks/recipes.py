"""The first two steps of shipped recipes with all their layers: seconds of a step, peak memory, loss.

    python benchmarks/recipes.py [--batch 2] [--write] [NAME ...]

Prints a table, of all recipes without names; `--write` puts it in docs/training.md. Every recipe runs in a process of
its own, so that peak memory is its own. A step is an optimiser step of a stage at `--batch` samples (at least 4 for
triplets), not the recipe's batch. Seconds are those that one thread computes, whatever else the machine does; a step's
are the second step's, the making of its batch included.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from spikeport_toolkit.models.load import model_info
from spikeport_toolkit.training.loop import Progress, train
from spikeport_toolkit.training.recipe import load_recipe, recipe_names

PAGE = Path(__file__).parent.parent / "docs" / "training.md"
START, END = "<!-- benchmarks/recipes.py --write -->\n", "<!-- end -->"
HEAD = (
    "| recipe | values | seconds of a step, by stage | peak memory, GiB | seconds of the run | losses of these steps |",
    "|---|---|---|---|---|---|",
)
STEPS = 2


def first_steps(name: str, batch: int) -> str:
    recipe = load_recipe(name)
    least = {"charting": 4}
    stages = tuple(replace(s, batch=max(batch, least.get(s.objective, 2)), accumulation=1) for s in recipe.stages)
    told: list[tuple[float, Progress]] = []
    with tempfile.TemporaryDirectory() as folder:
        train(
            replace(recipe, stages=stages, threads=1, workers=0), Path(folder) / "c", max_steps=STEPS, device="cpu",
            report=lambda now: told.append((time.process_time(), now)),
        )  # fmt: skip
    seconds = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    firsts, lasts = told[::STEPS], told[STEPS - 1 :: STEPS]
    steps = [f"{after[1].stage} {after[0] - before[0]:.2g}" for before, after in zip(firsts, lasts, strict=True)]
    losses = ", ".join(f"{now.loss:.3g}" for _, now in lasts)
    info = model_info(recipe.model)
    values = info.parameters + info.head_parameters
    return f"| {name} | {values:,} | {', '.join(steps)} | {peak:.1f} | {seconds:.0f} | {losses} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(first_steps(options.names[0], options.batch))
        return
    lines = list(HEAD)
    print("\n".join(HEAD), flush=True)
    for name in options.names or recipe_names():
        command = [sys.executable, __file__, name, "--one", "--batch", str(options.batch)]
        result = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        lines.append(result.stdout.strip())
        print(lines[-1], flush=True)
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        table = START + "\n".join(lines) + "\n" + END
        PAGE.write_text(re.sub(f"{START}.*?{END}", lambda _: table, text, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
