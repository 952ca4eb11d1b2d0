"""What Python writes goes to a scratch folder, and is found there: for machines without mounts.

Put in place here: the functions of `Files`, through which nearly everything in Python goes
(pathlib, shutil, tempfile, logging, zipfile, numpy.save, pandas.to_csv, ...), and the few libraries
that open files by name in other code. All the rest is left to Landlock, which refuses it.
"""

from __future__ import annotations

import _io
import builtins
import functools
import os
import posix
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perfdoctor.collect.sandbox.files import Files
from perfdoctor.collect.sandbox.layers import Layers
from perfdoctor.collect.script.imports import after_import

_ROOT = str(Path(__file__).resolve().parents[3])
_JOIN = (
    "import sys; sys.path.insert(0, {root!r}); "
    "from perfdoctor.collect.sandbox.redirect import install; sys.path.remove({root!r}); "
    "sys.path.append({root!r}); install({scratch!r}); "
)
#: A larger database is data to learn from, not a log; and to copy it takes seconds. [own]
_LARGE_BYTES = 1 << 30

#: Classes that hold functions of `os`: of Python 3.10, and from 3.13 on.
_HOLDERS = (("pathlib", "_NormalAccessor"), ("glob", "_StringGlobber"))


def install(scratch: str) -> None:
    """From now on; also in the processes that `multiprocessing` starts."""
    files = Files(Layers(scratch))
    replaced = {getattr(posix, name): ours for name, ours in files.functions()}
    replaced[_io.open] = files.like(_io.open, files.opened, "io")
    _everywhere(replaced)
    shutil._use_fd_functions = False  # type: ignore[attr-defined]  # folders have two places
    after_import("multiprocessing.util", lambda: _spawning(scratch))
    after_import("sqlite3", lambda: _databases(files))
    after_import("torch", lambda: _torch(files))
    after_import("safetensors", lambda: _safetensors(files))


def _everywhere(replaced: dict[Any, Callable[..., Any]]) -> None:
    """Also in modules that have imported a function by its name; not where the import system is."""
    by_id = {id(original): ours for original, ours in replaced.items()}
    for name, module in list(sys.modules.items()):
        if name in ("posix", "_io") or name.startswith("perfdoctor.collect.sandbox"):
            continue
        for key, value in list(getattr(module, "__dict__", {}).items()):
            if id(value) in by_id:
                setattr(module, key, by_id[id(value)])
    builtins.open = replaced[_io.open]
    for able in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        able |= {ours for original, ours in replaced.items() if original in able}
    for place, kind in _HOLDERS:
        holder = getattr(sys.modules.get(place), kind, None)
        for key, value in list(vars(holder).items()) if holder else ():
            original = getattr(value, "__func__", value)
            if id(original) in by_id:
                setattr(holder, key, staticmethod(by_id[id(original)]))


def _spawning(scratch: str) -> None:
    """Processes that are not forked are told what to do first."""
    util: Any = sys.modules["multiprocessing.util"]
    spawn = util.spawnv_passfds

    @functools.wraps(spawn)
    def joining(path: Any, args: Any, passfds: Any) -> Any:
        args = list(args)
        if "-c" in args and "resource_tracker" not in args[args.index("-c") + 1]:
            program = args.index("-c") + 1
            args[program] = _JOIN.format(root=_ROOT, scratch=scratch) + args[program]
        return spawn(path, args, passfds)

    util.spawnv_passfds = joining


def _databases(files: Files) -> None:
    import sqlite3

    connect = sqlite3.connect

    @functools.wraps(connect)
    def connects(database: Any, *args: Any, **kwargs: Any) -> Any:
        if database not in (":memory:", "", b"") and not kwargs.get("uri"):
            database = _placed(files, database)
        return connect(database, *args, **kwargs)

    sqlite3.connect = sqlite3.dbapi2.connect = connects


def _placed(files: Files, database: Any) -> Any:
    """Where SQLite is to look; what it may not write, it opens for reading."""
    if os.path.exists(database) and os.path.getsize(database) > _LARGE_BYTES:  # noqa: PTH110, PTH202
        return files.to_read(database)
    for suffix in ("-journal", "-wal"):  # what was not finished belongs to it
        if os.path.exists(journal := os.fsdecode(database) + suffix):  # noqa: PTH110
            files.to_write(journal)
    return files.to_write(database)


def _torch(files: Files) -> None:
    """Its archives are written and mapped by name in C++."""
    torch = sys.modules["torch"]
    core: Any = torch._C

    class PyTorchFileWriter(core.PyTorchFileWriter):  # type: ignore[misc]
        def __init__(self, file: Any, *args: Any, **kwargs: Any) -> None:
            place = files.to_write(file) if isinstance(file, str) else file
            super().__init__(place, *args, **kwargs)

    class PyTorchFileReader(core.PyTorchFileReader):  # type: ignore[misc]
        def __init__(self, file: Any, *args: Any, **kwargs: Any) -> None:
            place = files.to_read(file) if isinstance(file, str) else file
            super().__init__(place, *args, **kwargs)

    core.PyTorchFileWriter, core.PyTorchFileReader = PyTorchFileWriter, PyTorchFileReader
    storage: Any = torch.UntypedStorage
    mapped = storage.from_file

    def from_file(filename: Any, shared: bool = False, *args: Any, **kwargs: Any) -> Any:
        place = files.to_write(filename) if shared else files.to_read(filename)
        return mapped(place, shared, *args, **kwargs)

    storage.from_file = staticmethod(from_file)


def _safetensors(files: Files) -> None:
    """Reads and writes by name in Rust."""
    module: Any = sys.modules["safetensors"]
    save, read = module.serialize_file, module.safe_open

    @functools.wraps(save)
    def serialize_file(tensors: Any, filename: Any, *args: Any, **kwargs: Any) -> Any:
        return save(tensors, files.to_write(filename), *args, **kwargs)

    def safe_open(filename: Any, *args: Any, **kwargs: Any) -> Any:
        return read(files.to_read(filename), *args, **kwargs)

    module.serialize_file, module.safe_open = serialize_file, safe_open
