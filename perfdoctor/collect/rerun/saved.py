"""Files in the place of those that are not saved: a script may read back what it has saved."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

#: Of so many kinds of files the last one is kept open.
_MOST_KINDS = 32

#: Who saves, and its file's name without what counts in it.
Kind = tuple[str, str]


def kind_of(saver: str, path: str) -> Kind:
    """Files of one kind can be read alike: model_1.pt and model_2.pt."""
    return saver, re.sub(r"\d+", "#", path)


class SavedFiles:
    """The last file of each kind that was really saved, open, so that it may be renamed or gone."""

    def __init__(self) -> None:
        self._open: dict[Kind, int] = {}

    def begins(self, saver: str, path: str) -> None:
        """This is saved now, and not through the other names of an older file."""
        fd = self._open.get(kind_of(saver, path))
        with suppress(OSError):
            if fd is not None and os.fstat(fd).st_nlink > 1 and _is_open_as(path, fd):
                Path(path).unlink()

    def ends(self, saver: str, path: str) -> None:
        """This was saved."""
        kind = kind_of(saver, path)
        self._drop(kind)
        if len(self._open) >= _MOST_KINDS:
            self._drop(next(iter(self._open)))
        with suppress(OSError):  # a saver may add to the name
            self._open[kind] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def put(self, saver: str, path: str) -> bool:
        """Puts the last file of this kind in the place of a new one; False: there is none."""
        fd = self._open.get(kind_of(saver, path))
        if fd is None:
            return False
        try:
            if not _is_open_as(path, fd):
                Path(path).unlink(missing_ok=True)
                _give_name(fd, path)
        except OSError:
            return False
        return True

    def _drop(self, kind: Kind) -> None:
        fd = self._open.pop(kind, None)
        if fd is not None:
            os.close(fd)


def _is_open_as(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(Path(path).stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _give_name(fd: int, path: str) -> None:
    """One name more, which takes no time; a copy where the file has lost all of its names."""
    try:  # any `src_dir_fd` makes the kernel follow the link
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
    except OSError:
        os.lseek(fd, 0, os.SEEK_SET)
        with open(fd, "rb", closefd=False) as old, Path(path).open("wb") as new:
            shutil.copyfileobj(old, new)
