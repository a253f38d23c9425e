"""MATLAB 5 files (`save -v6`, `-v7`), read in Python: SciPy's reader kills the process on some damaged files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_mat5"]

_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
    16: "u1", 17: "u2", 18: "u4",
}  # fmt: skip
"""Element types of data, as NumPy names them."""
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""Classes of numeric arrays."""
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHARS = 1, 2, 4
_COMPLEX = 0x08
_DEEPEST = 16
_HEADER = 128


def read_mat5(data: bytes) -> dict[str, NDArray[Any]]:
    """The variables of a MATLAB 5 file by name: numbers as arrays, text as a string array, cells as object arrays.

    A struct array is an object array of dictionaries by field. Variables of other classes (sparse, functions,
    objects) are left out. ValueError, KeyError, struct.error or zlib.error for bytes that are no whole MATLAB 5 file.
    """
    order = {b"IM": "<", b"MI": ">"}[data[126:128]]
    found: dict[str, NDArray[Any]] = {}
    for kind, content in _elements(memoryview(data)[_HEADER:], order):
        if kind == _COMPRESSED:
            (kind, content), *_ = _elements(memoryview(zlib.decompress(content)), order)
        if kind == _MATRIX:
            name, value = _matrix(content, order, 0)
            if value is not None:
                found[name] = value
    return found


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """(type, content) of the elements that follow one another in `data`."""
    at = 0
    while at < len(data):
        (word,) = struct.unpack_from(f"{order}I", data, at)
        if word >> 16:
            kind, start, size, following = word & 0xFFFF, at + 4, word >> 16, at + 8
        else:
            kind, start = word, at + 8
            (size,) = struct.unpack_from(f"{order}I", data, at + 4)
            following = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if start + size > len(data):
            raise ValueError(f"an element of {size} bytes in {len(data) - start}")
        yield kind, data[start : start + size]
        at = following


def _matrix(data: memoryview, order: str, depth: int) -> tuple[str, NDArray[Any] | None]:
    if depth > _DEEPEST:
        raise ValueError(f"cells or structs more than {_DEEPEST} deep")
    if not len(data):
        return "", np.zeros((0, 0))
    parts = _elements(data, order)
    flags, shape, name = (_numbers(next(parts, (0, data[:0])), order) for _ in range(3))
    kind, is_complex = int(flags[0]) & 0xFF, bool(int(flags[0]) >> 8 & _COMPLEX)
    label = name.tobytes().decode()
    if kind in _CLASSES:
        value = _numbers(next(parts), order).astype(_CLASSES[kind])
        if is_complex:
            value = value + 1j * _numbers(next(parts), order).astype(_CLASSES[kind])
        return label, value.reshape(shape, order="F")
    if kind == _CHARS:
        return label, np.array("".join(map(chr, _numbers(next(parts), order))))
    if kind == _CELL:
        return label, _objects([_matrix(part, order, depth + 1)[1] for _, part in parts], shape)
    if kind == _STRUCT:
        width = int(_numbers(next(parts), order)[0])
        names = _numbers(next(parts), order).tobytes()
        fields = [names[i : i + width].split(b"\0")[0].decode() for i in range(0, len(names), width)]
        values = [_matrix(part, order, depth + 1)[1] for _, part in parts]
        rows = [dict(zip(fields, values[i : i + len(fields)], strict=True)) for i in range(0, len(values), len(fields))]
        return label, _objects(rows, shape)
    return label, None


def _numbers(element: tuple[int, memoryview], order: str) -> NDArray[Any]:
    kind, content = element
    return np.frombuffer(content, order + _NUMBERS[kind])


def _objects(values: list[Any], shape: NDArray[Any]) -> NDArray[Any]:
    flat = np.empty(len(values), object)
    for i, value in enumerate(values):
        flat[i] = value
    return flat.reshape(shape, order="F")
