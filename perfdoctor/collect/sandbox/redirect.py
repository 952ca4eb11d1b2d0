"""What Python writes goes to a scratch folder, and is found there: for machines without mounts.

The functions of `os` that take a path, `open` and the few writers by name that are not written in
Python ask `Layers` where a file is. Nearly everything else (pathlib, shutil, tempfile, logging,
zipfile, numpy.save, pandas.to_csv, ...) goes through them. All the rest is left to Landlock, which
refuses it.
"""

from __future__ import annotations

import _io
import builtins
import errno
import functools
import os
import posix
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from perfdoctor.collect.sandbox.layers import Layers
from perfdoctor.collect.script.imports import after_import

_ROOT = str(Path(__file__).resolve().parents[3])
_JOIN = (
    "import sys; sys.path.insert(0, {root!r}); "
    "from perfdoctor.collect.sandbox.redirect import install; sys.path.remove({root!r}); "
    "sys.path.append({root!r}); install({scratch!r}); "
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: A larger database is data to learn from, not a log; and to copy it takes seconds. [own]
_LARGE_BYTES = 1 << 30
#: Functions of `os` by what they do with their first argument.
_LOOKING = ("stat", "access", "statvfs", "getxattr", "listxattr")
_LOOKING_AT_LINKS = ("lstat", "readlink")
_CHANGING = ("chmod", "chown", "utime", "setxattr", "removexattr")
_CHANGING_LINKS = ("lchown", "mkfifo", "mknod")


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


class Files:
    """The functions that take the place of Python's own."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers

    def functions(self) -> Iterator[tuple[str, Callable[..., Any]]]:
        """Name in `os` → what replaces it."""
        groups = (
            (_LOOKING, self._looking, True),
            (_LOOKING_AT_LINKS, self._looking, False),
            (_CHANGING, self._changing, True),
            (_CHANGING_LINKS, self._changing, False),
        )
        made = {
            name: make(getattr(posix, name), follow)
            for names, make, follow in groups
            for name in names
            if hasattr(posix, name)
        }
        for name in ("open", "mkdir", "rmdir", "unlink", "rename", "link", "symlink", "truncate"):
            made[name] = getattr(self, name)
        for name in ("listdir", "scandir", "chdir", "getcwd", "getcwdb"):
            made[name] = getattr(self, name)
        made |= {"remove": self.unlink, "replace": self.rename}
        for name, ours in made.items():
            yield name, self.like(getattr(posix, name), ours, "os")

    def like(
        self, original: Callable[..., Any], ours: Callable[..., Any], module: str
    ) -> Callable[..., Any]:
        """With the original's name, also for pickle; errors tell the user's names."""

        @functools.wraps(original)
        def like(*args: Any, **kwargs: Any) -> Any:
            try:
                return ours(*args, **kwargs)
            except OSError as error:
                for name, given in zip(("filename", "filename2"), args, strict=False):
                    if isinstance(told := getattr(error, name), str):
                        known = self.layers.shown(told)
                        setattr(error, name, told if known == told else os.fspath(given))
                raise

        like.__module__ = module
        return like

    def to_read(self, path: Any) -> Any:
        """Where code that opens files by name finds it."""
        real = self.layers.real(path)
        return path if real is None else self.layers.found(real)

    def to_write(self, path: Any) -> Any:
        """Where code that opens files by name may write it."""
        real = self.layers.real(path)
        return path if real is None else self.layers.to_write(real)

    # -- opening ---------------------------------------------------------------------------

    def opened(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Callable[[str, int], int] | None = None,
    ) -> Any:
        """`open`: the file object keeps the name that it was given."""
        if opener is None and not isinstance(file, int):
            opener = _opener
        return _io.open(file, mode, buffering, encoding, errors, newline, closefd, opener)

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """`os.open`."""
        anew = flags & os.O_CREAT and flags & os.O_EXCL
        follow = not (anew or flags & os.O_NOFOLLOW)
        real = self.layers.real(path, follow=follow, folder=dir_fd)
        if real is None:
            return posix.open(path, flags, mode, dir_fd=dir_fd)
        if not flags & _WRITING:
            return posix.open(self.layers.found(real), flags, mode)
        copied = not flags & os.O_TRUNC
        return posix.open(self.layers.to_write(real, copied=copied), flags, mode)

    # -- looking ---------------------------------------------------------------------------

    def _looking(self, original: Callable[..., Any], follow: bool) -> Callable[..., Any]:
        def look(path: Any, *args: Any, **kwargs: Any) -> Any:
            folder, links = kwargs.get("dir_fd"), kwargs.get("follow_symlinks", follow)
            real = self.layers.real(path, follow=links, folder=folder)
            if real is None:
                return original(path, *args, **kwargs)
            kwargs.pop("dir_fd", None)
            return original(_same(path, self.layers.found(real)), *args, **kwargs)

        return look

    def listdir(self, path: Any = ".") -> list[Any]:
        """`os.listdir`: of both."""
        real = self.layers.real("." if path is None else path)
        if real is None:
            return posix.listdir(path)
        written, kept = self.layers.names(real)
        return [_same(path, name) for name in (*written, *kept)]

    def scandir(self, path: Any = ".") -> Any:
        """`os.scandir`: of both."""
        path = "." if path is None else path
        real = self.layers.real(path)
        if real is None or isinstance(path, bytes):
            return posix.scandir(path)
        written, kept = map(set, self.layers.names(real))
        entries = list[Any]()
        if kept:
            with posix.scandir(real) as found:
                entries += [one for one in found if one.name in kept]
        if written:
            with posix.scandir(self.layers.files + real) as found:
                entries += [one for one in found if one.name in written]
        return _Entries([_Entry(one, os.fspath(path)) for one in entries])

    def chdir(self, path: Any) -> None:
        """`os.chdir`: into the user's folder where there is one, for programs that are started."""
        real = self.layers.real(path)
        if real is None:
            posix.chdir(path)
        else:
            posix.chdir(real if self.layers.below(real) is not None else self.layers.files + real)

    def getcwd(self) -> str:
        """`os.getcwd`."""
        return self.layers.shown(posix.getcwd())

    def getcwdb(self) -> bytes:
        """`os.getcwdb`."""
        return os.fsencode(self.getcwd())

    # -- changing --------------------------------------------------------------------------

    def _changing(self, original: Callable[..., Any], follow: bool) -> Callable[..., Any]:
        def change(path: Any, *args: Any, **kwargs: Any) -> Any:
            folder, links = kwargs.get("dir_fd"), kwargs.get("follow_symlinks", follow)
            real = self.layers.real(path, follow=links, folder=folder)
            if real is None:
                return original(path, *args, **kwargs)
            kwargs.pop("dir_fd", None)
            return original(self.layers.to_write(real), *args, **kwargs)

        return change

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        """`os.mkdir`."""
        real = self.layers.real(path, follow=False, folder=dir_fd)
        if real is None:
            posix.mkdir(path, mode, dir_fd=dir_fd)
        elif self.layers.exists(real):
            raise _error(errno.EEXIST, path)
        else:
            posix.mkdir(self.layers.to_write(real), mode)

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        """`os.unlink`."""
        self._removed(path, dir_fd, posix.unlink)

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        """`os.rmdir`."""
        real = self.layers.real(path, follow=False, folder=dir_fd)
        if real is not None and any(self.layers.names(real)):
            raise _error(errno.ENOTEMPTY, path)
        self._removed(path, dir_fd, posix.rmdir)

    def _removed(self, path: Any, dir_fd: int | None, original: Callable[..., Any]) -> None:
        real = self.layers.real(path, follow=False, folder=dir_fd)
        if real is None:
            original(path, dir_fd=dir_fd)
            return
        below = self.layers.below(real)
        original(self.layers.to_write(real, copied=False))
        if below is not None:
            self.layers.hide(real)
        self.layers.links_changed()

    def rename(
        self, src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        """`os.rename` and `os.replace`, which are one on POSIX."""
        old = self.layers.real(src, follow=False, folder=src_dir_fd)
        new = self.layers.real(dst, follow=False, folder=dst_dir_fd)
        below = old is not None and self.layers.below(old) is not None
        source = src if old is None else self.layers.whole(old)
        if new is not None and new != old and os.path.isdir(source):  # noqa: PTH112
            self._emptied(new, dst)
        target = dst if new is None else self.layers.to_write(new, copied=False)
        posix.rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        if below and old is not None and new != old:
            self.layers.hide(old)
        self.layers.links_changed()

    def _emptied(self, real: str, path: Any) -> None:
        """An empty folder may be replaced; what the user had there is not the new one's."""
        if self.layers.below(real) is not None:
            if any(self.layers.names(real)):
                raise _error(errno.ENOTEMPTY, path)
            self.layers.to_write(real)
            self.layers.hide(real)

    def link(self, src: Any, dst: Any, **kwargs: Any) -> None:
        """`os.link`: to the copy."""
        follow = kwargs.get("follow_symlinks", True)
        old = self.layers.real(src, follow=follow, folder=kwargs.get("src_dir_fd"))
        new = self.layers.real(dst, follow=False, folder=kwargs.get("dst_dir_fd"))
        source = src if old is None else self.layers.to_write(old)
        posix.link(source, dst if new is None else self.layers.to_write(new), **kwargs)

    def symlink(
        self, src: Any, dst: Any, target_is_directory: bool = False, *, dir_fd: int | None = None
    ) -> None:
        """`os.symlink`."""
        real = self.layers.real(dst, follow=False, folder=dir_fd)
        place = dst if real is None else self.layers.to_write(real)
        posix.symlink(src, place, target_is_directory, dir_fd=dir_fd)
        self.layers.links_changed()

    def truncate(self, path: Any, length: int) -> None:
        """`os.truncate`."""
        posix.truncate(self.to_write(path), length)


class _Entry:
    """An `os.DirEntry` under the user's name."""

    def __init__(self, found: os.DirEntry[str], folder: str) -> None:
        self.name, self._found = found.name, found
        self.path = os.path.join(folder, found.name)  # noqa: PTH118

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return os.stat(self.path, follow_symlinks=follow_symlinks)  # noqa: PTH116

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        if follow_symlinks and self._found.is_symlink():
            return os.path.isdir(self.path)  # noqa: PTH112
        return self._found.is_dir(follow_symlinks=False)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        if follow_symlinks and self._found.is_symlink():
            return os.path.isfile(self.path)  # noqa: PTH113
        return self._found.is_file(follow_symlinks=False)


class _Entries:
    """What `os.scandir` gives: an iterator that can be closed."""

    def __init__(self, entries: list[_Entry]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> _Entries:
        return self

    def __next__(self) -> _Entry:
        return next(self._entries)

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())


def _opener(path: Any, flags: int) -> int:
    return os.open(path, flags, 0o666)


def _same(path: Any, name: str) -> Any:
    return os.fsencode(name) if isinstance(path, bytes) else name


def _error(number: int, path: Any) -> OSError:
    return OSError(number, os.strerror(number), os.fspath(path))


# -- putting them in place -----------------------------------------------------------------------


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
    accessor = getattr(sys.modules["pathlib"], "_NormalAccessor", None)  # Python 3.10
    for key, value in list(vars(accessor).items()) if accessor else ():
        original = getattr(value, "__func__", value)
        if id(original) in by_id:
            setattr(accessor, key, staticmethod(by_id[id(original)]))


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
