"""Find an LLVM that Dr.Jit can use, before sionna-rt is imported.

Dr.Jit loads libLLVM itself. Without one the import fails with a message about its internals; with LLVM 15 (Debian
12's default) the first kernel aborts the process, because f32 fminimum has no lowering there. So the library is
chosen here, by version, and handed over in DRJIT_LIBLLVM_PATH.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

from spikeport_errors import MissingDependencyError

__all__ = ["MIN_LLVM", "find_llvm", "import_sionna_rt", "llvm_version"]

MIN_LLVM = 17
_VARIABLE = "DRJIT_LIBLLVM_PATH"
_REMEDY = "install it (Debian: apt-get install libllvm19) or set DRJIT_LIBLLVM_PATH to the library file"
_FOLDERS = ("/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib", "/usr/lib/llvm-*/lib", "/opt/llvm*/lib")


def find_llvm() -> Path:
    """The libLLVM to use: DRJIT_LIBLLVM_PATH if set, else the newest in ldconfig's list and the usual folders.

    MissingDependencyError if the variable names no usable library, or if none of version 17 or newer is found.
    """
    chosen = os.environ.get(_VARIABLE)
    if chosen:
        path = Path(chosen)
        if not path.is_file():
            raise MissingDependencyError(f"{_VARIABLE} is {chosen}, which is no file: unset it, or {_REMEDY}")
        version = llvm_version(path)
        if version < MIN_LLVM:
            raise MissingDependencyError(
                f"{_VARIABLE} is {chosen}, LLVM {version or 'of unknown version'}, and ray tracing needs LLVM "
                f"{MIN_LLVM} or newer (older ones abort the process): {_REMEDY}"
            )
        return path
    found = sorted({(llvm_version(p), p) for p in _candidates()})
    if not found or found[-1][0] < MIN_LLVM:
        older = f" (found only {', '.join(str(v) for v in sorted({v for v, _ in found}))})" if found else ""
        raise MissingDependencyError(f"ray tracing needs LLVM {MIN_LLVM} or newer{older}: {_REMEDY}")
    return found[-1][1]


def llvm_version(path: Path) -> int:
    """Major version of a libLLVM file, from its name or else from LLVMGetVersion (LLVM 16 on); 0 if unknown."""
    for name in (path.name, path.resolve().name):
        match = re.match(r"libLLVM(?:-(\d+)\.so|\.so\.(\d+)|\.(\d+)\.dylib)", name)
        if match:
            return int(next(g for g in match.groups() if g))
    major = ctypes.c_uint(0)
    try:
        ctypes.CDLL(str(path)).LLVMGetVersion(ctypes.byref(major), None, None)
    except (OSError, AttributeError):
        return 0
    return int(major.value)


def import_sionna_rt(threads: int | None = None) -> tuple[Any, Any]:
    """The modules (sionna.rt, mitsuba) on the LLVM backend; MissingDependencyError without LLVM or the extra.

    `threads` is how many threads this process traces with from now on (default: as many as there are cores).
    """
    os.environ[_VARIABLE] = str(find_llvm())
    try:
        mitsuba = import_module("mitsuba")
        mitsuba.set_variant("llvm_ad_mono_polarized")
        if threads is not None:
            import_module("drjit").set_thread_count(threads)
        return import_module("sionna.rt"), mitsuba
    except ImportError as error:
        raise MissingDependencyError(
            f"ray tracing needs sionna-rt 2.2.0 ({error}): pip install sionna-rt==2.2.0 (the extra [rt])"
        ) from error


def _candidates() -> set[Path]:
    paths = {p for folder in _FOLDERS for p in Path("/").glob(f"{folder[1:]}/libLLVM*.so*") if p.is_file()}
    ldconfig = shutil.which("ldconfig", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
    if ldconfig:
        listing = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=False).stdout
        paths |= {Path(m) for m in re.findall(r"=> (\S*libLLVM\S*)", listing) if Path(m).is_file()}
    return paths
