"""Read a .nir file that nobody vouches for. Needs numpy and nir; imports nothing of spikeport.

A .nir file is HDF5, and HDF5 can point anywhere: links to other files and to itself, data kept elsewhere, filters to
load, a terabyte behind one flipped bit. libhdf5 follows all of it, and some flipped bits send it round for ever. So
the plain form that `nir.write` makes is read here in Python, from the bytes of the one file: superblock 0, groups of
hard links, numbers and texts stored whole or in deflated chunks. Everything else is refused by name.

Source of the layout: HDF5 File Format Specification, version 2.0 (parts that carry its version 0 or 1 structures).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIGNATURE = b"\x89HDF\r\n\x1a\n"
NODES = (
    "Affine", "AvgPool2d", "Conv1d", "Conv2d", "Flatten", "IF", "Input", "LIF", "Linear", "Output", "SumPool2d",
)  # fmt: skip
MOST_OBJECTS = 4096
MOST_DEPTH = 8
BYTES_OF = (1 << 28, 16)
"""Reading may touch or make 256 MiB and 16 times the file's size, so that no small file fills memory or time."""

_SPACE, _TYPE, _LAYOUT, _FILTERS, _CONTINUED, _TABLE = 0x01, 0x03, 0x08, 0x0B, 0x10, 0x11
_IGNORED = (0x00, 0x04, 0x05, 0x0C, 0x0E, 0x12)  # padding, fill values, attributes, times
_DEFLATE, _SHUFFLE = 1, 2


def read_graph(path: Path) -> Any:
    """The nir.NIRGraph in a file; ValueError, in one line, for anything but a plain graph of known nodes."""
    import nir

    try:
        tree = _Reader(Path(path).read_bytes()).root()["node"]
        _check_nodes(tree)
        with np.errstate(all="ignore"):
            return nir.dict2NIRNode({**tree, "type_check": True})
    except Exception as error:  # a hostile file can raise anything in struct, zlib, numpy and nir
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(reason) from None


def read_tree(path: Path) -> dict[str, Any]:
    """Groups (as dicts), arrays, numbers and texts of any plain HDF5 file; ValueError, in one line, for another."""
    try:
        return _Reader(Path(path).read_bytes()).root()
    except Exception as error:  # as above
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(reason) from None


def _check_nodes(tree: dict[str, Any]) -> None:
    if tree.get("type") != "NIRGraph" or not set(tree) <= {"type", "nodes", "edges", "metadata"}:
        raise ValueError("its root is not a plain NIRGraph")
    if len(tree["edges"]) > MOST_OBJECTS:
        raise ValueError(f"it has more than {MOST_OBJECTS:,} edges")
    for name, node in tree["nodes"].items():
        if node.get("type") not in NODES:
            raise ValueError(f"node {name!r} is of the kind {node.get('type')!r}; known are {', '.join(NODES)}")
        if any(isinstance(value, np.ndarray) and value.dtype == object for value in node.values()):
            raise ValueError(f"node {name!r} holds texts where numbers belong")


class _Reader:
    """Nested dicts of one file's groups; every object is read at most once."""

    def __init__(self, data: bytes):
        self.data = data
        self.left = BYTES_OF[0] + BYTES_OF[1] * len(data)
        self.seen: set[int] = set()
        self.heaps: dict[int, dict[int, bytes]] = {}

    def root(self) -> dict[str, Any]:
        head = self.take(0, 96)
        if head[:8] != SIGNATURE:
            raise ValueError("it is not an HDF5 file")
        if head[8:11] != b"\0\0\0" or head[13:15] != b"\x08\x08" or self.number(24):
            raise ValueError("it is HDF5 of another form than nir.write makes")
        found: dict[str, Any] = self.object(self.number(64), 0)
        return found

    def spend(self, amount: int) -> None:
        self.left -= max(amount, 256)
        if self.left < 0:
            raise ValueError(f"it unfolds to more than {BYTES_OF[0] + BYTES_OF[1] * len(self.data):,} bytes")

    def take(self, offset: int, length: int) -> bytes:
        self.spend(length)
        if offset < 0 or length < 0 or offset + length > len(self.data):
            raise ValueError(f"it points past its {len(self.data):,} bytes")
        return self.data[offset : offset + length]

    def number(self, offset: int, size: int = 8) -> int:
        return int.from_bytes(self.take(offset, size), "little")

    def once(self, address: int) -> None:
        if address in self.seen or len(self.seen) >= MOST_OBJECTS:
            raise ValueError(f"it reaches an object twice, or holds more than {MOST_OBJECTS:,}")
        self.seen.add(address)

    def object(self, address: int, depth: int) -> Any:
        self.once(address)
        if depth > MOST_DEPTH:
            raise ValueError(f"its groups nest deeper than {MOST_DEPTH}")
        messages = dict(self.messages(address))
        if _TABLE in messages:
            tree, heap = struct.unpack("<QQ", messages[_TABLE][:16])
            return {name: self.object(place, depth + 1) for name, place in self.members(tree, self.local_heap(heap))}
        return self.dataset(messages)

    def messages(self, address: int) -> Iterator[tuple[int, bytes]]:
        """Messages of an object header, version 1, with its continuation blocks."""
        if self.number(address, 1) != 1:
            raise ValueError("it is HDF5 of another form than nir.write makes")
        blocks = [(address + 16, self.number(address + 8, 4))]
        while blocks:
            place, length = blocks.pop()
            end = place + length
            while place + 8 <= end:
                kind, size, flags = struct.unpack("<HHB", self.take(place, 5))
                body = self.take(place + 8, size)
                place += 8 + size
                if kind == _CONTINUED:
                    place_next, length_next = struct.unpack("<QQ", body[:16])
                    self.once(place_next)
                    blocks.append((place_next, length_next))
                elif kind in (_SPACE, _TYPE, _LAYOUT, _FILTERS, _TABLE) and not flags & 2:
                    yield kind, body
                elif kind not in _IGNORED:
                    raise ValueError(f"an object does not hold its data itself (message {kind:#x})")

    def members(self, tree: int, names: bytes) -> Iterator[tuple[str, int]]:
        for _key, node in self.leaves(tree, 0, 8):
            if self.take(node, 4) != b"SNOD":
                raise ValueError("a group's table is damaged")
            for i in range(self.number(node + 6, 2)):
                name, place, cache = struct.unpack("<QQI", self.take(node + 8 + 40 * i, 20))
                text = names[name : names.find(b"\0", name)].decode()
                if cache not in (0, 1):
                    raise ValueError(f"{text!r} is a link out of its group")
                yield text, place

    def local_heap(self, address: int) -> bytes:
        if self.take(address, 4) != b"HEAP":
            raise ValueError("a group's names are damaged")
        return self.take(self.number(address + 24), self.number(address + 8))

    def leaves(self, address: int, kind: int, key: int) -> Iterator[tuple[bytes, int]]:
        """(key, address) below a B-tree node, version 1; `key` is the length of a key."""
        self.once(address)
        mark, found, level, count = struct.unpack("<4sBBH", self.take(address, 8))
        if mark != b"TREE" or found != kind:
            raise ValueError("a tree is damaged")
        for i in range(count):
            place = address + 24 + i * (key + 8)
            child = self.number(place + key)
            if level:
                yield from self.leaves(child, kind, key)
            else:
                yield self.take(place, key), child

    def dataset(self, messages: dict[int, bytes]) -> Any:
        shape, dtype = _shape(messages[_SPACE]), _dtype(messages[_TYPE])
        raw = self.values(messages, shape, dtype.itemsize)
        if dtype != _TEXT:
            flat = np.frombuffer(raw, np.uint8) != 0 if dtype.kind == "b" else np.frombuffer(raw, dtype)
            return flat.reshape(shape).copy() if shape else flat[0]
        if messages[_LAYOUT][1] != 1:
            raise ValueError("it is HDF5 of another form than nir.write makes")
        texts = [self.text(raw[i : i + 16]) for i in range(0, len(raw), 16)]
        return np.array(texts, dtype=object).reshape(shape) if shape else texts[0]

    def values(self, messages: dict[int, bytes], shape: tuple[int, ...], size: int) -> bytes | bytearray:
        layout = messages[_LAYOUT]
        total = math.prod(shape) * size
        self.spend(total)
        if layout[0] != 3 or layout[1] not in (1, 2):
            raise ValueError("it is HDF5 of another form than nir.write makes")
        if layout[1] == 1:
            place, length = struct.unpack("<QQ", layout[2:18])
            if length != total or _FILTERS in messages:
                raise ValueError("an array's size is damaged")
            return self.take(place, length) if total else b""
        return self.chunks(layout, messages.get(_FILTERS), shape, size)

    def chunks(self, layout: bytes, filters: bytes | None, shape: tuple[int, ...], size: int) -> bytearray:
        rank, tree = layout[2], int.from_bytes(layout[3:11], "little")
        dims = struct.unpack(f"<{rank}I", layout[11 : 11 + 4 * rank])
        box = dims[:-1]
        if rank != len(shape) + 1 or dims[-1] != size or not all(0 < b <= n for b, n in zip(box, shape, strict=True)):
            raise ValueError("an array's chunks do not fit it")
        out = bytearray(math.prod(shape) * size)
        whole = np.frombuffer(out, np.uint8).reshape(*shape, size)
        codes = _filters(filters)
        counts = [-(-n // b) for n, b in zip(shape, box, strict=True)]
        if math.prod(counts) > len(self.data) // 32:
            raise ValueError("an array's chunks do not fit it")
        wanted = set(np.ndindex(*counts))
        for key, place in self.leaves(tree, 1, 8 + 8 * rank):
            stored, mask = struct.unpack("<II", key[:8])
            corner = struct.unpack(f"<{rank}Q", key[8:])[:-1]
            wanted.remove(tuple(c // b for c, b in zip(corner, box, strict=True)))
            chunk = _unfiltered(self.take(place, stored), codes, mask, math.prod(box) * size, size)
            part = tuple(slice(c, c + b) for c, b in zip(corner, box, strict=True))
            room = whole[part]
            room[...] = np.frombuffer(chunk, np.uint8).reshape(*box, size)[tuple(slice(n) for n in room.shape[:-1])]
        if wanted:
            raise ValueError("an array lacks chunks")
        return out

    def text(self, reference: bytes | bytearray) -> str:
        length, heap, index = struct.unpack("<IQI", reference)
        if heap not in self.heaps:
            self.heaps[heap] = dict(self.global_heap(heap))
        found = self.heaps[heap][index]
        self.spend(length)
        if length > len(found):
            raise ValueError("a text is damaged")
        return found[:length].decode()

    def global_heap(self, address: int) -> Iterator[tuple[int, bytes]]:
        if self.take(address, 4) != b"GCOL":
            raise ValueError("a text is damaged")
        end, place = address + self.number(address + 8), address + 16
        while place + 16 <= end and (index := self.number(place, 2)):
            size = self.number(place + 8)
            yield index, self.take(place + 16, size)
            place += 16 + -(-size // 8) * 8


_TEXT = np.dtype("V16")


def _types() -> dict[bytes, np.dtype[Any]]:
    """Every type that nir.write makes, by its encoding: little-endian integers and floats, booleans, texts."""
    found: dict[bytes, np.dtype[Any]] = {}
    for size in (1, 2, 4, 8):
        for sign, letter in ((0, "u"), (8, "i")):
            code = struct.pack("<BBHIHH", 0x10, sign, 0, size, 0, 8 * size)
            found[code] = np.dtype(f"<{letter}{size}")
    for size, top, exponent, mantissa, bias in ((2, 15, 5, 10, 15), (4, 31, 8, 23, 127), (8, 63, 11, 52, 1023)):
        fields = (0x11, 0x20, top, 0, size, 0, 8 * size, mantissa, exponent, 0, mantissa, bias)
        found[struct.pack("<BBBBIHHBBBBI", *fields)] = np.dtype(f"<f{size}")
    return found


_NUMBERS = _types()


def _dtype(message: bytes) -> np.dtype[Any]:
    for code, dtype in _NUMBERS.items():
        if message[: len(code)] == code:
            return dtype
    kind = message[0] & 15
    if kind == 8 and message[4:8] == b"\x01\0\0\0" and b"FALSE" in message and b"TRUE" in message:
        return np.dtype(bool)
    if kind == 9 and message[1] & 15 == 1 and message[4:8] == b"\x10\0\0\0":
        return _TEXT
    raise ValueError(f"an array has a type that nir.write never makes (HDF5 class {kind})")


def _shape(message: bytes) -> tuple[int, ...]:
    if message[0] != 1 or message[1] > 8:
        raise ValueError("it is HDF5 of another form than nir.write makes")
    shape = struct.unpack(f"<{message[1]}Q", message[8 : 8 + 8 * message[1]])
    return tuple(int(n) for n in shape)


def _filters(message: bytes | None) -> list[int]:
    if message is None:
        return []
    codes, place = [], 8
    for _ in range(message[1]):
        code, name, _flags, values = struct.unpack("<HHHH", message[place : place + 8])
        place += 8 + -(-name // 8) * 8 + 4 * (values + values % 2)
        codes.append(code)
    if message[0] != 1 or not set(codes) <= {_DEFLATE, _SHUFFLE}:
        raise ValueError(f"an array needs the HDF5 filters {codes}")
    return codes


def _unfiltered(chunk: bytes, codes: list[int], mask: int, length: int, size: int) -> bytes:
    for i, code in reversed(list(enumerate(codes))):
        if mask >> i & 1:
            continue
        if code == _DEFLATE:
            chunk = zlib.decompressobj().decompress(chunk, length)
        else:
            chunk = np.frombuffer(chunk, np.uint8).reshape(size, -1).T.tobytes()
    if len(chunk) != length:
        raise ValueError("an array's chunk is damaged")
    return chunk
