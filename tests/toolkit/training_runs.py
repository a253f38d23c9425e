"""Small training runs in processes of their own, for the tests of resuming and of several processes."""

import faulthandler
import multiprocessing
import os
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

from spikeport_toolkit.data.sampler import embedded_split
from spikeport_toolkit.training.loop import Progress, train
from spikeport_toolkit.training.recipe import Recipe, Stage

STOPPED = 7
embedded_split("train")  # read here, once, for all processes that are forked from the one that imports this

SMALL: dict[str, Any] = {
    "d": 16, "layers": 2, "heads": 2, "d_ff": 32, "norm": "ln",
    "grid": {"slots": 2, "antennas": 4, "blocks": 1}, "head": {"d": 16, "heads": 2, "d_ff": 32, "layers": 1},
}  # fmt: skip
"""A SpikeWFM of 17 thousand values, without batch statistics."""


def fork_server() -> Any:
    """A context whose processes start with everything imported, from a server of one thread: safe to fork."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training_runs"])
    ours = {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",  # and of OpenBLAS: numpy's starts its threads on import
    }
    with patch.dict(os.environ, ours):
        forkserver.ensure_running()
    return context


def recipe(*stages: Stage, **values: Any) -> Recipe:
    """A recipe of SMALL."""
    values = {"model": "spikewfm-nano-ilif", "seed": 3, "model_settings": SMALL, "threads": 1, "workers": 0} | values
    return Recipe("small", "", stages=stages, **values)


def run(chosen: Recipe, out: Path, steps: Connection) -> None:
    """Train, on from a saved state if there is one; tell every step, and wait for leave to go on."""

    def report(now: Progress) -> None:
        steps.send(now.step)
        steps.recv()

    train(chosen, out, resume=True, report=report)


def run_rank(chosen: Recipe, out: Path, rank: int, size: int, port: int, stop: int | None) -> None:
    """One of `size` processes that train together, as torchrun would start it; it exits after step `stop`."""
    faulthandler.enable()
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip

    def report(now: Progress) -> None:
        if now.step == stop:
            os._exit(STOPPED)

    train(chosen, out, resume=True, report=report)
