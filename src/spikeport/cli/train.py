"""`spikeport train`: run a recipe."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from .output import DEFAULTS, Common, Whole, say

if TYPE_CHECKING:
    from spikeport_toolkit.training.loop import Progress

LINES = 20
"""Lines of progress where there is no terminal."""


def train(
    recipe: str,
    *,
    out: Path | None = None,
    data: Path | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    max_steps: Whole | None = None,
    save_every: Whole | None = None,
    start: str | None = None,
    tensorboard: Path | None = None,
    device: str = "auto",
    common: Common = DEFAULTS,
) -> None:
    """Run a recipe: pre-training and adaptation on the embedded cities, or on a store of your own.

    Several processes: torchrun --nproc-per-node 2 -m spikeport train RECIPE.

    Parameters
    ----------
    recipe
        A shipped recipe (`spikeport recipes`) or a TOML file.
    out
        Checkpoint folder to write; default: the recipe's name.
    data
        Store to train on (`spikeport data make`); default: the embedded cities.
    resume
        Go on with a killed run, to the same weights.
    max_steps
        Shorten every stage to this many steps.
    save_every
        Steps between states that --resume can go on from; default: the recipe's, or 250.
    start
        Trained model of the recipe's configuration to begin with: a preset or a checkpoint folder.
    tensorboard
        Folder for TensorBoard's event files (extra [tensorboard]).
    device
        auto (CUDA where there is one), cpu or cuda.
    """
    from spikeport import api
    from spikeport_toolkit.models.load import config_of
    from spikeport_toolkit.models.presets import presets
    from spikeport_toolkit.training.loop import state_of
    from spikeport_toolkit.training.recipe import load_recipe

    first = os.environ.get("RANK", "0") == "0"
    common = common if first else Common(quiet=True)
    folder = out or Path(Path(recipe).name.removesuffix(".toml"))
    if resume and folder.name and not folder.exists() and not state_of(folder).exists():
        say(f"{state_of(folder)} does not exist: there is nothing to resume, the run starts anew", common)
    resumed = resume and state_of(folder).exists()
    if start is None and not resumed and (model := load_recipe(recipe).model) not in presets():
        say(f"weights are drawn anew; add --start {model} to begin with those of {model}", common)
    with _bar(common) as tell:
        folder = api.train(
            recipe,
            out=out,
            data=data,
            resume=resume,
            max_steps=max_steps,
            save_every=save_every,
            start=start,
            tensorboard=tensorboard,
            device=device,
            progress=tell,
        )
    if common.json:
        print(json.dumps({"checkpoint": str(folder)}))
    task = {"spikewfm": "", "lwm": " --task los", "encoder": " --task los"}.get(config_of(str(folder)).family)
    advice = "" if task is None else f"; next: spikeport evaluate {folder}{task} --out {folder}-run"
    say(f"wrote {folder}{advice}", common)


@contextmanager
def _bar(common: Common) -> Iterator[Callable[[Progress], None]]:
    """Progress with loss and spike rate on standard error: a bar on a terminal, some lines elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if common.quiet or common.json:
        yield lambda _: None
    elif not console.is_terminal:

        def line(now: Progress) -> None:
            if now.step in (1, now.steps) or now.step % max(1, now.steps // LINES) == 0:
                print(f"{now.stage} {now.step}/{now.steps} {_figures(now)}", file=sys.stderr, flush=True)

        yield line
    else:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        text, figures = TextColumn("{task.description}"), TextColumn("{task.fields[figures]}")
        columns = text, BarColumn(), MofNCompleteColumn(), figures, TimeElapsedColumn(), TimeRemainingColumn()
        with Bars(*columns, console=console) as bars:
            task = bars.add_task("train", total=None, figures="")

            def advance(now: Progress) -> None:
                bars.update(task, description=now.stage, completed=now.step, total=now.steps, figures=_figures(now))

            yield advance


def _figures(now: Progress) -> str:
    rate = "" if now.spike_rate is None else f", spike rate {now.spike_rate:.3f}"
    loss = f"{now.loss:.4f}" if now.loss_db is None else f"{now.loss_db:.2f} dB"
    return f"loss {loss}{rate}"
