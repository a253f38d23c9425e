"""Makes lava 0.10.0 and lava-dl 0.6.0 import where their metadata says they do not. Every process there loads it.

Python 3.11 refuses a dataclass default that has no hash, which lava uses in many places; and lava-dl imports cv2 and
torchvision for its object detection, which nothing here needs.
"""

from __future__ import annotations

import dataclasses
import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any

_ABSENT = ("cv2", "torchvision")


class _Absent(types.ModuleType):
    """Stands for a package that is not installed; any name in it is an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] not in _ABSENT:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> _Absent:
        return _Absent(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


sys.meta_path.append(_Finder())

_dataclasses: Any = dataclasses
_get_field = _dataclasses._get_field


def _with_hash(cls: type, name: str, *rest: Any) -> Any:
    kind: Any = type(getattr(cls, name, None))
    if kind.__module__.startswith("lava.") and kind.__hash__ is None:
        kind.__hash__ = object.__hash__
    return _get_field(cls, name, *rest)


_dataclasses._get_field = _with_hash
