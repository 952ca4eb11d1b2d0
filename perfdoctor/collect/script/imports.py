"""Being called once a package has been imported, without importing it earlier.

A script may set OMP_NUM_THREADS or CUDA_VISIBLE_DEVICES before it imports torch; whoever imports
torch for it changes what it measures.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

#: Seconds that importing took, of the packages that were waited for.
took_s: dict[str, float] = {}


def after_import(name: str, call: Callable[[], None]) -> None:
    """Calls `call` when the package `name` has been imported, or now if it has been."""
    if name in sys.modules:
        call()
    else:
        sys.meta_path.insert(0, _Waiting(name, call))


class _Waiting(MetaPathFinder):
    """Finds nothing itself; puts a loader that calls back in front of the package's own.

    It waits until the package has been imported: many only ask whether there is one
    (`importlib.util.find_spec("torch")`, as transformers and datasets do).
    """

    def __init__(self, name: str, call: Callable[[], None]) -> None:
        self._name = name
        self._call = call

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name or self not in sys.meta_path:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            find = getattr(finder, "find_spec", None)  # finders of before Python 3.4 have none
            spec: ModuleSpec | None = find and find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Calling(spec.loader, self._name, self._imported)
                return spec
        return None

    def _imported(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            self._call()


class _Calling(Loader):
    """The package's own loader, timed, and a call afterwards. Leaves no trace in the module."""

    def __init__(self, inner: Any, name: str, call: Callable[[], None]) -> None:
        self._inner = inner
        self._name = name
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._inner.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._inner
        module.__loader__ = self._inner
        began_s = time.perf_counter()
        self._inner.exec_module(module)
        took_s[self._name] = time.perf_counter() - began_s
        self._call()
