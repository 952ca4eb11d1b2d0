"""Folders for what experiments write. None outlives its processes for long.

Each process that uses one holds a shared lock on it (flock(2), let go by the kernel when the
process ends, however it does). A folder that nobody holds was left behind by one that was killed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from perfdoctor.interrupts import heard, undisturbed

#: The variable with which a process is told its folder.
PLACE = "PERFDOCTOR_SCRATCH"
_PREFIX = "perfdoctor-scratch-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that is gone afterwards, whatever is in it; SIGTERM and SIGHUP end it as Ctrl-C."""
    remove_leftovers()
    with heard():
        folder, lock = _made()
        try:
            yield folder
        finally:
            with undisturbed():
                remove(folder)
                os.close(lock)


def _made() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with suppress(FileNotFoundError, BlockingIOError):  # another process tidies up just now
            lock = _lock(folder, fcntl.LOCK_SH)
            if folder.exists():
                return folder, lock
            os.close(lock)


def hold(folder: Path) -> None:
    """This process uses something in it until it ends, also where the leading one was killed."""
    if folder.name.startswith(_PREFIX):
        _lock(folder, fcntl.LOCK_SH)


def remove_leftovers() -> None:
    """Removes those of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # in use, another user's, or gone already
            lock = _lock(folder, fcntl.LOCK_EX)
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    remove(folder)
            finally:
                os.close(lock)


def _lock(folder: Path, kind: int) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # a file system without locks: nobody gets the other kind either
        if kind == fcntl.LOCK_EX:
            os.close(descriptor)
            raise
    return descriptor


def remove(folder: Path) -> None:
    """Removes the folder, closed subfolders (an overlay's work folder is one) included."""
    shutil.rmtree(folder, onerror=_opened_first)


def _opened_first(again: Callable[..., Any], path: str, _: Any) -> None:
    place = Path(path)
    for closed in (place.parent, place):
        with suppress(OSError):
            closed.chmod(stat.S_IRWXU)
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    elif os.path.lexists(path):
        again(path)
