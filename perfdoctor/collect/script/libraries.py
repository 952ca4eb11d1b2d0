"""Whose code a file is: the user's, perfdoctor's, the standard library's or a package's.

Only paths are looked at (and remembered): no import, no metadata, no disk.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

USER = "user"
OWN = "perfdoctor"
STDLIB = "stdlib"

#: Where installers put packages; whatever lies elsewhere was not installed, or is editable.
_INSTALLED = re.compile(r"[\\/](?:site|dist)-packages[\\/]")
#: Names that generated code carries instead of a path; everything else in <> is the library's.
_GENERATED = (
    ("<ipython-input", USER),
    ("<stdin>", USER),
    ("<cell", USER),
    ("<eval_with_key>", "torch"),
    ("<torch", "torch"),
    ("<__array_function__", "numpy"),
    ("<attrs", "attr"),
)
#: People build these two from a checkout, and it is still not their training code.
_NEVER_THE_USERS = ("torch", "numpy")
#: One project, several names on disk.
_ALIASES = {"pytorch_lightning": "lightning", "lightning_fabric": "lightning"}
_FRAMEWORKS = (
    "lightning transformers accelerate ignite fastai trl composer mmengine mmcv detectron2 catalyst"
    " skorch sentence_transformers ultralytics torchtune setfit flair monai poutyne keras"
)
#: Libraries that hold the training loop themselves and call the user's code from it.
FRAMEWORKS = frozenset(_FRAMEWORKS.split())
#: A run of weeks with generated files must not grow without end.
_REMEMBERED = 8192


class Libraries:
    """Sorts files by owner.

    `user_folders` are folders whose files are the user's even inside site-packages: the package
    that `perfdoctor run -m package.train` runs.
    """

    def __init__(self, user_folders: Iterable[str] = ()) -> None:
        folders = [_folder(path) for path in user_folders]
        # Only there do they decide; a script in / must not make the standard library its own.
        self._users = tuple(folder for folder in folders if _below_installed(folder))
        self._own = _folder(str(Path(__file__).parents[2]))
        self._stdlib = _stdlib_folders()
        self._known: dict[str, tuple[str, str]] = {}

    def of(self, path: str) -> str:
        """`user`, `perfdoctor`, `stdlib` or the name under which the package is imported."""
        return self._place(path)[0]

    def module(self, path: str) -> str:
        """Dotted name of a library's module (`sklearn.metrics._ranking`); empty for the user's."""
        return self._place(path)[1]

    def _place(self, path: str) -> tuple[str, str]:
        known = self._known.get(path)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[path] = self._sort(path)
        return known

    def _sort(self, path: str) -> tuple[str, str]:
        if path.startswith("<") or not path:
            return _generated(path)
        path = os.path.normcase(path)
        if path.startswith(self._own):
            return OWN, ""
        if path.startswith(self._users):
            return USER, ""
        found = list(_INSTALLED.finditer(path))
        if found:
            return _package(path[found[-1].end() :])
        return self._not_installed(path)

    def _not_installed(self, path: str) -> tuple[str, str]:
        for folder in self._stdlib:
            if path.startswith(folder):
                return STDLIB, _dotted(path[len(folder) :])
        for name in _NEVER_THE_USERS:
            file = getattr(sys.modules.get(name), "__file__", None)
            folder = _folder(str(Path(file).parent)) if file else ""
            if folder and path.startswith(folder):
                return name, _dotted(name + os.sep + path[len(folder) :])
        return USER, ""


def _folder(path: str) -> str:
    return os.path.normcase(str(Path(path).absolute())).rstrip(os.sep) + os.sep


def _below_installed(folder: str) -> bool:
    found = list(_INSTALLED.finditer(folder))
    return bool(found) and found[-1].end() < len(folder)


def _stdlib_folders() -> tuple[str, ...]:
    """Longest first; the zipped library of an embedded Python counts too."""
    paths = sysconfig.get_paths()
    folders = {_folder(paths[name]) for name in ("stdlib", "platstdlib") if paths.get(name)}
    # A virtual environment may hold links to it; code objects carry either path.
    folders |= {_folder(str(Path(folder).resolve())) for folder in folders}
    folders |= {
        _folder(entry) for entry in sys.path if entry.endswith(".zip") and "python" in entry
    }
    folders.add(_folder(str(Path(os.__file__).parent)))
    return tuple(sorted(folders, key=len, reverse=True))


def _generated(name: str) -> tuple[str, str]:
    if name.startswith("<frozen "):
        return STDLIB, name[len("<frozen ") :].rstrip(">")
    for prefix, owner in _GENERATED:
        if name.startswith(prefix):
            return owner, "" if owner == USER else owner
    return STDLIB, ""


def _package(inside: str) -> tuple[str, str]:
    module = _dotted(inside)
    top = module.partition(".")[0]
    name = _ALIASES.get(top, top)
    return name, name + module[len(top) :]


def _dotted(path: str) -> str:
    parts = re.split(r"[\\/]", path.removesuffix(".py").removesuffix(".pyc"))
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    return ".".join(parts)
