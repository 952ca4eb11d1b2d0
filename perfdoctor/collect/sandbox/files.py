"""The functions of `os` that take a path, and `open`, for files that have two places."""

from __future__ import annotations

import _io
import errno
import functools
import os
import posix
from collections.abc import Callable, Iterator
from typing import Any

from perfdoctor.collect.sandbox.layers import Layers

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Functions of `os` by what they do with their first argument.
_LOOKING = ("stat", "access", "statvfs", "getxattr", "listxattr")
_LOOKING_AT_LINKS = ("lstat", "readlink")
_CHANGING = ("chmod", "chown", "utime", "setxattr", "removexattr")
_CHANGING_LINKS = ("lchown", "mkfifo", "mknod")


class Files:
    """The functions that take the place of Python's own."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers

    def functions(self) -> Iterator[tuple[str, Callable[..., Any]]]:
        """Name in `os` → what replaces it."""
        groups = (
            (_LOOKING, self.layers.found, True),
            (_LOOKING_AT_LINKS, self.layers.found, False),
            (_CHANGING, self.layers.to_write, True),
            (_CHANGING_LINKS, self.layers.to_write, False),
        )
        made = {
            name: self._at(getattr(posix, name), place, follow)
            for names, place, follow in groups
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

    def _at(
        self, original: Callable[..., Any], place: Callable[[str], str], follow: bool
    ) -> Callable[..., Any]:
        def at(path: Any, *args: Any, **kwargs: Any) -> Any:
            folder, links = kwargs.get("dir_fd"), kwargs.get("follow_symlinks", follow)
            real = self.layers.real(path, follow=links, folder=folder)
            if real is None:
                return original(path, *args, **kwargs)
            kwargs.pop("dir_fd", None)
            return original(_same(path, place(real)), *args, **kwargs)

        return at

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
