"""Hostile .nir, .npz and manifest files against their readers: each must run or be one clear error, and nothing else.

    python benchmarks/fuzz_nir.py [CASES]        default 20,000; prints what was refused and the slowest case

The mutators are seeded, so that case k is the same file in every run; tests/targets/test_hostile_files.py runs the
first 10,000.
"""

from __future__ import annotations

import copy
import io
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based import layer, neuron

from spikeport.testing import CASES, golden_island
from spikeport_converters.export import check, export
from spikeport_converters.manifest import manifest_bytes, read_manifest
from spikeport_errors import SpikeportError
from spikeport_targets.card import load_card
from spikeport_targets.runtime import get_runtime
from spikeport_targets.runtimes import nir_runner

LIMIT_S = 10
"""A case that takes longer hangs."""

HOSTILE: tuple[Any, ...] = (
    float("nan"), float("inf"), -1, 0, 1e308, 2**62, -(2**63), "", "x" * 5000, "../../etc/passwd", "\u202e", b"\xff",
    True, 1j, np.array([]), np.zeros((0, 3)), np.ones((1,) * 8), np.array(["a", "b"], dtype=object), np.float16(1),
    np.full(48, np.nan, np.float32), np.ones(48, ">f4"), np.ones(48, np.int8), np.ones((48, 48), np.float32),
    np.array([2**40], np.int64), np.array([-5, -5]), h5py.Empty("f4"), np.zeros(2, "i4,f4"), np.void(b"abc"),
    {}, {"a": 1},
)  # fmt: skip


class Slow(Exception):
    """A case ran into the limit."""


@contextmanager
def limited() -> Iterator[None]:
    """Raise Slow after LIMIT_S seconds; an endless loop in native code ends in the signal's default instead."""

    def stop(_signal: int, _frame: Any) -> None:
        raise Slow(f"a case took more than {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(call: Callable[[], Any]) -> str:
    """`ran`, or `refused` with one clear line; AssertionError for any other error."""
    try:
        with limited():
            call()
    except (SpikeportError, nir_runner.IslandError) as error:
        text = str(error)
        assert text, "the error says something"
        assert "\n" not in text, f"the error is one line: {text!r}"
        assert len(text) < 1000, f"the error is short: {text[:200]!r}..."
        return "refused"
    return "ran"


def mutant(data: bytes, rng: np.random.Generator) -> bytes:
    """`data` cut, with bits flipped, or with bytes overwritten, mostly where there are not only zeros."""
    new, kind = bytearray(data), int(rng.integers(8))
    busy = np.flatnonzero(np.frombuffer(data, np.uint8))
    if kind == 0:
        return bytes(new[: rng.integers(len(new))])
    if kind == 1:
        for place in rng.integers(len(new), size=rng.integers(1, 4)):
            new[place] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        for place in rng.choice(busy, 2):
            new[place] ^= 1 << int(rng.integers(8))
    elif kind == 3:
        for place in rng.choice(busy, 8):
            new[place] = int(rng.integers(256))
    elif kind == 4:
        place, size = int(rng.choice(busy)), int(rng.choice([1, 2, 4, 8]))
        new[place : place + size] = bytes([int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))]) * size
    elif kind == 5:
        start, target = rng.integers(len(new) - 1, size=2)
        size = int(rng.integers(1, 512))
        new[target : target + size] = new[start : start + size]
    elif kind == 6:
        place = int(rng.integers(len(new)))
        del new[place : place + int(rng.integers(1, 64))]
    else:
        place = int(rng.integers(len(new)))
        new[place:place] = rng.bytes(int(rng.integers(1, 64)))
    return bytes(new)


def noise(data: bytes, rng: np.random.Generator) -> bytes:
    """Random bytes, half of them behind the first bytes of a sound file."""
    head = data[: int(rng.integers(1, 200))] if rng.integers(2) else b""
    return head + rng.bytes(int(rng.integers(0, 4096)))


def write_tree(path: Path, tree: dict[str, Any], damage: Callable[[h5py.File], None] | None = None) -> None:
    """`tree` as HDF5, whatever it holds."""

    def fill(group: h5py.Group, values: dict[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                fill(group.create_group(name), value)
            elif value is not None:
                group.create_dataset(name, data=value)

    with h5py.File(path, "w") as file:
        fill(file.create_group("node"), tree)
        if damage is not None:
            damage(file)


def hostile_tree(tree: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """`tree` with one value, name, node or edge replaced by a hostile one."""
    new = _copied(tree)
    groups = [group for group in _groups(new) if group]
    kind = int(rng.integers(10))
    group = groups[int(rng.integers(len(groups)))]
    name = str(rng.choice(sorted(group)))
    edges: list[tuple[str, str]] = list(new["edges"])
    nodes = sorted(new["nodes"])
    if kind <= 4:
        group[name] = HOSTILE[int(rng.integers(len(HOSTILE)))]
    elif kind == 5:
        del group[name]
    elif kind == 6:
        group[str(rng.choice(["..", "a" * 300, "input", "x y", "class", "__init__", "\u00e4"]))] = group.pop(name)
    elif kind == 7:
        new["edges"] = [*edges, (str(rng.choice(nodes)), str(rng.choice(nodes)))]
    elif kind == 8:
        new["edges"] = [edge for edge in edges if rng.integers(3)]
    else:
        new["nodes"][str(rng.choice(nodes))] = _copied(new if rng.integers(2) else new["nodes"]["lif"])
    new["edges"] = np.array([[a, b] for a, b in new["edges"]], dtype=object) if _pairs(new["edges"]) else new["edges"]
    return new


def _pairs(edges: Any) -> bool:
    return isinstance(edges, list) and bool(edges)


def _copied(tree: Any) -> Any:
    return {key: _copied(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


def _groups(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield tree
    for value in tree.values():
        if isinstance(value, dict):
            yield from _groups(value)


def _deep(file: h5py.File) -> None:
    group = file["node"]
    for _ in range(1500):
        group = group.create_group("nodes2")


def _elsewhere(file: h5py.File) -> None:
    lif = file["node/nodes/lif"]
    size = len(lif["tau"])
    del lif["tau"]
    lif.create_dataset("tau", (size,), "f4", external=[("secret.bin", 0, 4 * size)])


def _virtual(file: h5py.File) -> None:
    lif = file["node/nodes/lif"]
    layout = h5py.VirtualLayout(lif["tau"].shape, "f4")
    layout[:] = h5py.VirtualSource("secret.nir", "node/nodes/lif/tau", lif["tau"].shape)
    del lif["tau"]
    lif.create_virtual_dataset("tau", layout)


def _replaced(name: str, value: Any) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        del file[name]
        file[name] = value(file) if callable(value) else value

    return damage


def _stored(**how: Any) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        weight = file["node/nodes/fc1/weight"][()]
        del file["node/nodes/fc1/weight"]
        file["node/nodes/fc1"].create_dataset("weight", data=weight, **how)

    return damage


def _ragged() -> NDArray[Any]:
    rows = np.empty(2, dtype=h5py.vlen_dtype(np.int32))
    rows[:] = [np.arange(3, dtype=np.int32), np.arange(5, dtype=np.int32)]
    return rows


def _bomb(file: h5py.File) -> None:
    del file["node/nodes/fc1/weight"]
    file["node/nodes/fc1"].create_dataset("weight", (1 << 20, 1 << 20), "f4", chunks=(1 << 10, 1 << 10), compression=9)


def _zeros(file: h5py.File) -> None:
    del file["node/nodes/fc1/weight"]
    data = np.zeros((8192, 12288), np.float32)
    file["node/nodes/fc1"].create_dataset("weight", data=data, compression=1, chunks=(8192, 1536))


LINKED = "node/nodes/fc1/weight"
DAMAGES: dict[str, Callable[[h5py.File], None]] = {
    "a soft link": _replaced(LINKED, h5py.SoftLink("/node/nodes/fc2/weight")),
    "a link to a file outside": _replaced(LINKED, h5py.ExternalLink("../secret.nir", LINKED)),
    "a link to an absolute path": _replaced(LINKED, h5py.ExternalLink("/etc/passwd", "/")),
    "a group that holds itself": _replaced("node/nodes/fc1", lambda file: file["node/nodes"]),
    "one array under two names": _replaced("node/nodes/lif/tau", lambda file: file["node/nodes/lif/r"]),
    "groups 1,500 deep": _deep,
    "data in another file": _elsewhere,
    "data in a virtual array": _virtual,
    "a shape of four terabytes": _bomb,
    "zeros that unfold a thousandfold": _zeros,
    "an lzf filter": _stored(compression="lzf"),
    "a checksum": _stored(fletcher32=True),
    "a scale-offset filter": _stored(scaleoffset=3),
    "big-endian numbers": _stored(dtype=">f4"),
    "an object reference": _replaced(LINKED, lambda file: np.array([file.ref], dtype=h5py.ref_dtype)),
    "ragged integers": _replaced(LINKED, lambda file: _ragged()),
}
"""Structures that libhdf5 follows and nir.write never makes."""


def zip_bomb(path: Path, size: int) -> None:
    """An npz whose `input` claims `size` float32 zeros, deflated."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (size,)})
    block = bytes(1 << 20)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("input.npy", "w", force_zip64=True) as entry,
    ):
        entry.write(header.getvalue())
        for _ in range(4 * size // len(block)):
            entry.write(block)


PATHS = (
    "../secret.nir",
    "/etc/passwd",
    "spiking/../../secret.nir",
    "",
    ".",
    "spiking",
    "a\0b",
    "x" * 300,
    "~",
    "//h/x",
)
PLAIN: tuple[Any, ...] = (*PATHS, None, -1, 0, 2**70, 1e308, True, [], {}, [[]], {"a": {}}, ["../secret.nir"], "norse ")


def hostile_manifest(manifest: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """`manifest` with one or two values replaced, dropped or repeated; its digest is right again when it is written."""
    new = copy.deepcopy(manifest)
    for _ in range(int(rng.integers(1, 3))):
        places = list(_places(new))
        parent, key = places[int(rng.integers(len(places)))]
        kind = int(rng.integers(6))
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent[key], list):
            parent[key] = parent[key] * 2
        else:
            parent[key] = copy.deepcopy(PLAIN[int(rng.integers(len(PLAIN)))])
    return new


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every value of what a parity run reads, as (parent, key)."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    for key in keys:
        if key in ("versions", "parity", "plan", "licences", "seeds", "created", "spikeport"):
            continue
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


class Spiking(torch.nn.Module):
    """A small network of a user's own, which becomes one island."""

    steps = 4
    example_input = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2, self.lif = layer.Linear(8, 16), layer.Linear(16, 8), neuron.LIFNode(v_threshold=0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One step."""
        result: torch.Tensor = self.fc2(self.lif(self.fc1(x)))
        return result


def sound_bundle(folder: Path) -> Path:
    """A bundle that `spikeport check` passes in a tenth of a second."""
    export(Spiking().eval(), load_card("nir-legacy"), "fp32", folder, Spiking.example_input.numpy())
    return folder


class Fuzzer:
    """Runs cases in `folder` and keeps count: (family, outcome) -> cases."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.island, self.arrays = folder / "island.nir", folder / "golden.npz"
        want = golden_island(CASES["hard reset"], "norse", self.island)
        np.savez_compressed(self.arrays, input=want.input[:4], spikes=want.spikes[:, :4], output=want.output[:4])
        self.input: NDArray[np.float32] = want.input[:2]
        self.sound = self.island.read_bytes(), self.arrays.read_bytes()
        self.tree = nir.read(self.island).to_dict()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.slowest = ("", 0.0)

    def case(self, family: str, call: Callable[[], Any], what: str = "") -> None:
        """Run one case and count its outcome."""
        start = time.perf_counter()
        try:
            self.counts[family, outcome(call)] += 1
        except BaseException as error:
            error.add_note(f"in {family} {what}")
            raise
        taken = time.perf_counter() - start
        if taken > self.slowest[1]:
            self.slowest = (f"{family} {what}".strip(), taken)

    def run(self) -> Any:
        """The island as it lies there, in the reference."""
        return get_runtime("reference").run(self.island, {"input": self.input})

    def read(self) -> Any:
        """The golden arrays as they lie there."""
        return nir_runner.read_arrays(self.arrays, nir_runner.GOLDEN)

    def bytes_of_islands(self, cases: range) -> None:
        """Cut, flipped and overwritten .nir files, and noise."""
        for seed in cases:
            rng = np.random.default_rng(seed)
            damage = noise if seed % 10 == 0 else mutant
            self.island.write_bytes(damage(self.sound[0], rng))
            self.case("bytes of a .nir file", self.run, f"seed {seed}")

    def bytes_of_arrays(self, cases: range) -> None:
        """The same of .npz files."""
        for seed in cases:
            rng = np.random.default_rng(seed)
            damage = noise if seed % 10 == 0 else mutant
            self.arrays.write_bytes(damage(self.sound[1], rng))
            self.case("bytes of a .npz file", self.read, f"seed {seed}")

    def values(self, cases: range) -> None:
        """Sound HDF5 with one hostile value, name, node or edge."""
        for seed in cases:
            rng = np.random.default_rng(seed)
            try:
                write_tree(self.island, hostile_tree(self.tree, rng))
            except (TypeError, ValueError, KeyError, AttributeError):
                continue  # not even h5py can write it
            self.case("values of a .nir file", self.run, f"seed {seed}")

    def structures(self) -> None:
        """Each of DAMAGES."""
        tree = {**self.tree, "edges": np.array(self.tree["edges"], dtype=object)}
        for name, damage in DAMAGES.items():
            write_tree(self.island, tree, damage)
            self.case("structures of a .nir file", self.run, name)

    def manifests(self, bundle: Path, cases: range) -> None:
        """A bundle whose files are sound and whose manifest, digest included, is not; `spikeport check` runs it."""
        sound = read_manifest(bundle)
        try:
            for seed in cases:
                hostile = hostile_manifest(sound, np.random.default_rng(seed))
                (bundle / "manifest.json").write_bytes(manifest_bytes(hostile))
                self.case("manifests", lambda: check(bundle), f"seed {seed}")
        finally:
            (bundle / "manifest.json").write_bytes(manifest_bytes(sound))

    def all(self, cases: int) -> None:
        """`cases` cases, give or take those that cannot be written."""
        self.structures()
        share = cases // 20
        self.bytes_of_islands(range(13 * share))
        self.values(range(2 * share))
        self.bytes_of_arrays(range(cases - 15 * share))

    def summary(self) -> str:
        """Counts by family."""
        lines = [f"{sum(self.counts.values()):,} cases; slowest {self.slowest[1]:.2f} s ({self.slowest[0]})"]
        families = dict.fromkeys(family for family, _ in self.counts)
        for family in families:
            ran, refused = (self.counts[family, result] for result in ("ran", "refused"))
            lines.append(f"  {family}: {refused:,} refused in one line, {ran:,} ran")
        return "\n".join(lines)


def main() -> None:
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder))
        fuzzer.all(cases)
        fuzzer.manifests(sound_bundle(Path(folder) / "bundle"), range(cases // 20))
        print(fuzzer.summary())


if __name__ == "__main__":
    main()
