"""What channel data cost: channels a second of every source, the loader beside the training step, memory at a million
links, ray tracing a user. Writes the generated sections of docs/data.md; arguments name sections (default: all).

What is not installed (extras [rt] and [phy]) or not at hand (SPIKEPORT_DATA) is left out of the table and named.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from spikeport_errors import MissingDependencyError
from spikeport_toolkit.data.deepmimo import load_deepmimo
from spikeport_toolkit.data.loader import Loader
from spikeport_toolkit.data.measured import load_measured
from spikeport_toolkit.data.path_store import INDEX, SCHEMA, open_store
from spikeport_toolkit.data.raytrace import City, Tracing, generate_city
from spikeport_toolkit.data.sampler import (
    draw,
    embedded_split,
    merge,
    random_velocity,
    symbol_times,
    window_frequencies,
)
from spikeport_toolkit.data.schema import PathSet
from spikeport_toolkit.data.shards import file_hash, shard_of, write_shard
from spikeport_toolkit.data.statistical import statistical_channels
from spikeport_toolkit.data.store import load_embedded
from spikeport_toolkit.data.synthesis import channels
from spikeport_toolkit.files import write_json
from spikeport_toolkit.models.presets import preset
from spikeport_toolkit.models.spikewfm import ChannelPredictor
from spikeport_toolkit.objectives.prediction import Prediction

PAGE = Path(__file__).parent.parent / "docs" / "data.md"
NANO, BIG = (preset(f"spikewfm-{size}").config for size in ("nano", "20m"))
BATCH, STEPS, MILLION = 8, 2, 1_000_000


def main() -> None:
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        store = million_links(Path(folder))
        sections = {"sources": sources, "memory": memory, "tracing": tracing, "loading": loading}
        for name in sys.argv[1:] or sections:
            begin, end = f"<!-- benchmarks/data_throughput.py {name} -->\n", "<!-- end -->\n"
            lines = [
                *sections[name](store),
                "",
                f"({os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch "
                f"{torch.__version__}; CPU-s is processor time summed over threads; load average "
                f"{os.getloadavg()[0]:.0f}, and above the number of cores wall times are that much too long.)",
            ]
            head, rest = PAGE.read_text(encoding="utf-8").split(begin)
            PAGE.write_text(head + begin + "\n".join(lines) + "\n" + end + rest.split(end, 1)[1], encoding="utf-8")
            print("\n".join(lines), flush=True)


def cpu_seconds(work: Callable[[], object], repeats: int = 1, *, warm: bool = True) -> float:
    """Processor time of one call, after one that is not counted (`warm`)."""
    if warm:
        work()
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def sources(store: Path) -> list[str]:
    """Channels per CPU-second on the grids of nano and of 20M."""
    rows: list[tuple[str, str, float]] = []
    missing: list[str] = []
    rng = np.random.default_rng(0)

    def synthesise(paths: PathSet, config: object, links: int) -> Callable[[], object]:
        grid = config.grid  # type: ignore[attr-defined]
        times, frequencies = symbol_times(grid, "R2"), window_frequencies(grid, 0)
        users = rng.integers(0, paths.links, links)
        return lambda: channels(paths, users, times, frequencies, random_velocity(rng, links), align_delays=True)

    def add(name: str, config: object, links: int, work: Callable[[], object], repeats: int = 3) -> None:
        rows.append((name, config.name, links / cpu_seconds(work, repeats)))  # type: ignore[attr-defined]

    embedded, mapped = embedded_split("train"), open_store(store)
    data = Path(os.environ.get("SPIKEPORT_DATA", "."))
    for config, links in ((NANO, 256), (BIG, 16)):
        add("embedded cities, channels only", config, links, synthesise(embedded, config, links))
        if (data / "deepmimo_v3").is_dir():
            city = merge(load_deepmimo(data / "deepmimo_v3" / "city_19_oklahoma"))
            city = city.select(np.flatnonzero(city.n_paths > 0))
            add("DeepMIMO (Oklahoma), channels only", config, links, synthesise(city, config, links))
        users = rng.integers(0, embedded.links, links)
        add("embedded cities, with noise (a training batch)", config, links,
            lambda u=users, c=config: draw(embedded, u, c.grid, "R2", (-10.0, 25.0), rng))  # fmt: skip
        add("store of a million links, with noise", config, links,
            lambda c=config, n=links: draw(mapped.take(rng.integers(0, MILLION, n)), np.arange(n), c.grid, "R2",
                                           (-10.0, 25.0), rng))  # fmt: skip
    for model in ("cdl-c", "tdl-c", "umi"):
        try:
            work = lambda m=model: statistical_channels(m, 64, NANO.grid)  # noqa: E731
            add(f"3GPP {model}, channels only", NANO, 64, work, 1)
        except MissingDependencyError:
            missing.append(f"3GPP {model} (extra [phy])")
    if (data / "measured").is_dir():
        capture = data / "measured" / "measured_wifi_csi.npz"
        frames = load_measured(capture).h.shape[1]
        seconds = cpu_seconds(lambda: load_measured(capture))
        rows.append(("measured Wi-Fi, frames read and sanitised", "56 tones or more", frames / seconds))
    else:
        missing.append("DeepMIMO and measured files (SPIKEPORT_DATA)")
    grids = {c.name: f"{c.grid.slots * 14} x {c.grid.antennas} x {c.grid.subcarriers}" for c in (NANO, BIG)}
    table = ["| source | time x antenna x subcarrier | channels per CPU-s |", "|---|---|---|"]
    table += [f"| {name} | {grids.get(size, size)} | {rate:,.0f} |" for name, size, rate in rows]
    return table + ([f"\nNot measured: {', '.join(missing)}."] if missing else [])


def loading(store: Path) -> list[str]:
    """Samples per second out of the loader alone, and how long the 20M training step waits for it."""
    links = open_store(store)
    rows = ["| loader threads | 20M grid, samples per s | nano grid, samples per s |", "|---|---|---|"]
    for workers in (0, 1, 2):
        rates = []
        for config, batch, steps in ((BIG, BATCH, 12), (NANO, 64, 40)):
            loader = Loader(links, config.grid, batch, ("R1", "R2"), (-10.0, 25.0), (0,), workers)
            steps_of = loader.steps(0, steps + 2)
            next(steps_of), next(steps_of)
            start = time.perf_counter()
            for _ in steps_of:
                pass
            rates.append(batch * steps / (time.perf_counter() - start))
        rows.append(f"| {workers} | {rates[0]:,.0f} | {rates[1]:,.0f} |")
    rows += ["", "| 20M training step, batch 8 | step, s | of that waiting for data, ms |", "|---|---|---|"]
    for workers in (0, 1):
        step, waiting = training_step(Loader(links, BIG.grid, BATCH, ("R1", "R2"), (-10.0, 25.0), (0,), workers))
        rows.append(f"| {workers} loader threads | {step:.1f} | {1e3 * waiting:.1f} |")
    return rows


def training_step(loader: Loader) -> tuple[float, float]:
    """Seconds a step of the 20M preset (forward, backward, AdamW), and how many of them it waits for its batch."""
    torch.manual_seed(0)
    model = ChannelPredictor(BIG)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4)
    whole, waiting = [], []
    batches = loader.steps(0, STEPS + 1)
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        _, batch, rng = next(batches)
        waiting.append(time.perf_counter() - start)
        optimiser.zero_grad(set_to_none=True)
        Prediction().loss(model, nn.ModuleDict(), batch, rng).backward()
        optimiser.step()
        whole.append(time.perf_counter() - start)
    return float(np.mean(whole[1:])), float(np.mean(waiting[1:]))


def million_links(folder: Path) -> Path:
    """A store of a million links: the embedded ones at 3.5 GHz again and again, gains and delays moved a little."""
    base = merge([item for item in load_embedded() if item.carrier_hz == 3.5e9])
    base = base.select(np.flatnonzero(base.n_paths > 0))
    shards, left, number = {}, MILLION, 0
    while left:
        rng = np.random.default_rng(number)
        count = min(left, 50_000)
        part = base.select(rng.integers(0, base.links, count))
        turn = np.exp(2j * np.pi * rng.random(part.a.shape)).astype(np.complex64)
        later = rng.uniform(1, 1.01, (count, 1)).astype(np.float32)
        name = f"part{number}"
        part = replace(part, a=part.a * turn, tau=part.tau * later, city=name, station=0)
        write_shard(folder / name, shard_of(name, [part]), {"key": name, "licence": "ODbL-1.0", "attribution": "OSM"})
        shards[name] = file_hash(folder / name / "shard.json")
        left, number = left - count, number + 1
    write_json(folder / INDEX, {"schema": SCHEMA, "name": "million", "kind": "paths", "shards": shards,
                                "unseen_cities": []})  # fmt: skip
    return folder


CHILD = """
import resource, sys, time
from pathlib import Path
import numpy as np
from spikeport_toolkit.data.path_store import open_store
from spikeport_toolkit.data.sampler import draw
from spikeport_toolkit.models.config import GridConfig
def own():  # memory of the process's own, and pages of the files it has mapped
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return [int(status[k].split()[0]) / 1024 for k in ("RssAnon", "RssFile")]
before, start = own(), time.perf_counter()
store = open_store(sys.argv[1])
opened, seconds = own(), time.perf_counter() - start
train = store.select("train")
selected, rng = own(), np.random.default_rng(0)
for _ in range(200):
    draw(train.take(rng.integers(0, train.links, 64)), np.arange(64), GridConfig(slots=4, antennas=4, blocks=4), "R2",
         10.0, rng)
for row in (before, opened, selected, own()):
    print(*row)
print(seconds)
"""


def memory(store: Path) -> list[str]:
    """Memory of a process that opens a million links, selects a split, and draws 200 batches of 64."""
    run = subprocess.run([sys.executable, "-c", CHILD, str(store)], capture_output=True, text=True, check=True)
    *stages, (opening,) = [[float(v) for v in line.split()] for line in run.stdout.splitlines()]
    size = sum(path.stat().st_size for path in store.rglob("*.npy")) / 1e6
    names = ("before (Python, NumPy, spikeport)", "store open", "split selected", "200 batches of 64 drawn")
    rows = ["| a million links, " + f"{size:,.0f} MB on disk | own memory, MB | mapped pages, MB |", "|---|---|---|"]
    rows += [f"| {name} | {own:,.0f} | {file:,.0f} |" for name, (own, file) in zip(names, stages, strict=True)]
    return [*rows, "", f"Opening took {opening:.2f} s. Mapped pages are the disk cache's and given back when needed."]


def tracing(_: Path) -> list[str]:
    """CPU-seconds of ray tracing: a scene's start and placement, and each further user at one carrier."""
    plain = Tracing(stations=1, carriers_ghz=(3.5,), users_per_station=100)
    munich, grid = City("munich", scene="munich"), City("proc1", seed=1)
    cases = ("munich", munich, False), ("munich", munich, True), ("procedural", grid, True)
    rows = ["| ray tracing, one station and carrier | start and placement, CPU-s | per user, CPU-s |", "|---|---|---|"]
    try:
        for name, city, diffraction in cases:
            options = [replace(plain, users_per_station=n, diffraction=diffraction) for n in (100, 500)]
            few, many = (cpu_seconds(partial(generate_city, city, o), warm=o is options[0]) for o in options)
            user = (many - few) / 400
            with_it = "with" if diffraction else "without"
            rows.append(f"| {name}, four reflections, {with_it} diffraction | {few - 100 * user:.1f} | {user:.3f} |")
    except MissingDependencyError as error:
        return [f"Ray tracing was not measured: {error}"]
    return rows


if __name__ == "__main__":
    main()
