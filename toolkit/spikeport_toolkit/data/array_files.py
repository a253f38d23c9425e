"""Arrays of a file that somebody else wrote: npz, MATLAB `.mat` (5 and 7.3) and HDF5, found by looking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from .mat5 import read_mat5

__all__ = ["read_arrays"]

_HDF5_MAGIC, _ZIP_MAGIC, _MAT5_MAGIC = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"MATLAB 5.0"


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an npz, `.mat` or HDF5 file by name; the kind is read from the first bytes.

    HDF5 groups give names with slashes, `(real, imag)` pairs become complex, and a MATLAB 7.3 file's axes, which
    HDF5 holds reversed, are put in MATLAB's order. No pickle is read. InputError for a file that is missing,
    truncated, corrupt or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file: check the path")
    try:
        with path.open("rb") as file:
            head = file.read(1024)
        if head.startswith(_ZIP_MAGIC):
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if head.startswith(_HDF5_MAGIC) or head[512:].startswith(_HDF5_MAGIC):
            return _hdf5(path, reverse=head.startswith(b"MATLAB"))
        if head.startswith(_MAT5_MAGIC):
            return read_mat5(path.read_bytes())
    except Exception as error:  # the parsers raise whatever the damaged bytes lead them to
        raise InputError(f"{path} is truncated or corrupt ({_one_line(error)}): fetch or save it again") from error
    raise InputError(f"{path} is no npz, MATLAB or HDF5 file: save it as one of these")


def _hdf5(path: Path, *, reverse: bool) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "biufcV" and item.shape is not None:
            value = item[()]
            if value.dtype.names and {"real", "imag"} <= set(value.dtype.names):
                value = value["real"] + 1j * value["imag"]
            arrays[name] = np.asarray(value).T if reverse else np.asarray(value)

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return arrays


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
