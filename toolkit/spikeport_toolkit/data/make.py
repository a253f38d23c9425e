"""Make a store from a recipe: part by part, in processes of their own, keeping what is finished."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from spikeport_errors import InputError, UsageError

from ..files import write_json
from .parts import Interpreters, Part
from .path_store import CHANNELS, INDEX, SCHEMA, open_store
from .raytrace.llvm import import_sionna_rt
from .recipe import DataRecipe
from .shards import file_hash, read_facts, shard_of, verify_shard, write_shard
from .store import save_paths

__all__ = ["make"]

Report = Callable[[str, int, int], None]
"""Progress: what, done, of how many."""


def make(
    recipe: DataRecipe,
    out: Path,
    *,
    workers: int | None = None,
    interpreters: Interpreters | None = None,
    report: Report = lambda what, done, total: None,
) -> Path:
    """Write the store `out`: a shard a part, then the index; gives `out`.

    Whole shards of the same settings are kept, so a run that was killed, or stopped by a full disk, is finished by
    running it again; a damaged shard is made again. `workers` parts are made at once, each in a process of its own
    (default: half the cores); one worker works in this process. UsageError if `out` holds another recipe's shard,
    MissingDependencyError without what the source needs, InputError for input that cannot be used or a write that
    fails: the shards before it stay.
    """
    out, parts = Path(out), recipe.parts
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: wanted at least 1")
    if recipe.source == "raytrace":
        import_sionna_rt()
    keys = {part.name: part.key() for part in parts}
    todo = [part for part in parts if not _is_done(out / part.name, keys[part.name])]
    count = min(len(todo), workers or max(1, (os.cpu_count() or 1) // 2))
    done = len(parts) - len(todo)
    what = f"making {recipe.name}"
    report(what, done, len(parts))
    one = partial(_make_part, out=out, keys=keys, interpreters=dict(interpreters or {}))
    for _ in _all_of(one, todo, count, traced=recipe.source == "raytrace"):
        done += 1
        report(what, done, len(parts))
    with _writing(out):
        shards = {part.name: file_hash(out / part.name / "shard.json") for part in parts}
        index = {
            "schema": SCHEMA,
            "name": recipe.name,
            "source": recipe.source,
            "kind": read_facts(out / parts[0].name)["kind"],
            "speed_m_s": list(recipe.speed_m_s),
            "unseen_cities": list(recipe.unseen_cities),
            "shards": shards,
            "recipe": recipe.text,
        }
        write_json(out / INDEX, index)
        if recipe.pack:
            save_paths(list(open_store(out).sets()), out / recipe.pack)
    return out


def _is_done(folder: Path, key: str) -> bool:
    if not folder.exists():
        return False
    if not (folder / "shard.json").is_file():
        raise UsageError(f"{folder} is there and is no shard: give another --out, or move it away")
    try:
        facts = verify_shard(folder)
    except InputError:
        return False
    if facts.get("key") != key:
        raise UsageError(f"{folder} was made with other settings: give another --out, or remove it")
    return True


def _make_part(part: Part, *, out: Path, keys: Mapping[str, str], interpreters: Interpreters) -> None:
    made = part.make(interpreters)
    licence, attribution = part.rights
    about = {"key": keys[part.name], "licence": licence, "attribution": attribution}
    with _writing(out):
        if isinstance(made, list):
            write_shard(out / part.name, shard_of(part.name, made), about)
        else:
            from .channel_set import save_channels

            def content(folder: Path) -> Sequence[dict[str, Any]]:
                save_channels(made, folder / CHANNELS)
                return [made.to_dict()]

            write_shard(out / part.name, content, about)


def _all_of(one: Callable[[Part], None], todo: Sequence[Part], count: int, *, traced: bool) -> Iterator[None]:
    """Run `one` on every part, `count` at once; the first error ends it, after the parts that are under way."""
    if count <= 1:
        yield from map(one, todo)
        return
    threads = max(1, (os.cpu_count() or 1) // count) if traced else None
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=(threads,)) as pool:
        running: set[Future[None]] = {pool.submit(one, part) for part in todo}
        try:
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        except BrokenProcessPool:
            raise InputError(
                "a worker process died (killed, or out of memory: ray tracing takes up to 2 GB a worker): run the same "
                "command again with fewer --workers; the finished shards are kept"
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _start(threads: int | None) -> None:
    if sys.platform == "linux":  # a worker must not outlive a killed parent
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if threads is not None:
        import_sionna_rt(threads)


PR_SET_PDEATHSIG = 1


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        usage = shutil.disk_usage(next(p for p in (out, *out.resolve().parents) if p.exists()))
        raise InputError(
            f"writing to {out} failed ({error.strerror or error}; {usage.free / 1e6:,.0f} MB are free): make room and "
            "run the same command again; the finished shards are kept"
        ) from error
