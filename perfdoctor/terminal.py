"""Lines at the bottom of a terminal that another program goes on writing to, undisturbed.

The rows above them are made the scrolling region (DECSTBM of the VT100, ECMA-48 terminals since),
so whatever is printed scrolls there, and a line that is rewritten after a carriage return stays
where it is. Each drawing is one write, which no other output to the terminal can come between; it
saves and restores the cursor with its colours, and never asks the terminal anything, since the
answer would arrive on the program's stdin.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

#: With fewer rows nothing is drawn; of more, at most half are taken.
FEWEST_ROWS = 12
#: With fewer columns there is nothing to read.
_FEWEST_COLUMNS = 20
#: What a terminal that takes no output (Ctrl-S) or a thread that is drawing may hold up an end.
_PATIENCE_S = 1.0

_SAVE, _RESTORE = "\x1b7", "\x1b8"
_WHOLE_REGION = "\x1b[r"
#: One row down at the same column; at the bottom all rows move up. (A newline goes to column 1.)
_INDEX = "\x1bD"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
_ERASE_LINE, _ERASE_BELOW, _PLAIN = "\x1b[2K", "\x1b[J", "\x1b[0m"


def unfit(fd: int, environment: Mapping[str, str]) -> str | None:
    """Why nothing can be drawn on it; None where it can."""
    if sys.platform == "win32":
        return "it needs a POSIX terminal"
    if not os.isatty(fd):
        return "stderr is not a terminal"
    if environment.get("TERM", "dumb") in ("", "dumb", "unknown"):
        return "this terminal (TERM) cannot do more than print"
    return None


class BottomLines:
    """The last lines of the terminal behind `fd`; any thread may draw and close.

    Nothing is ever raised for a terminal that has gone. Forked children do nothing.

    Args:
        fd: is used as it is, never copied: if the script points it elsewhere, drawing ends.
        encoding: how lines are written.

    Attributes:
        errors: the error handler for what the encoding has no code for.
    """

    def __init__(self, fd: int, *, encoding: str = "utf-8") -> None:
        self._fd = fd
        self._encoding = encoding
        self.errors = "replace"
        self._process = os.getpid()
        self._lock = threading.RLock()  # a signal's handler may close while its thread does
        self._closed = False
        self._size: tuple[int, int] | None = None
        self._held = 0
        self._terminal, self._path = _identity(fd), _path(fd)

    def draw(self, lines: Callable[[int, int], Sequence[str]]) -> None:
        """Shows `lines(width, height)`: at most `height`, each of at most `width` cells."""
        with self._alone():
            if self._closed or not self._ours():
                return
            size = os.get_terminal_size(self._fd)
            if size.lines < FEWEST_ROWS or size.columns < _FEWEST_COLUMNS:
                self._write(self._erased(size))
                self._held = 0
                return
            shown = list(lines(size.columns - 1, size.lines // 2))[: size.lines // 2]
            self._write(self._drawn(shown, size))

    def close(self) -> None:
        """Erases the lines and gives the rows back. Asked twice it does it once."""
        with self._alone():
            if self._closed:
                return
            self._closed = True
            with suppress(OSError):
                if self._held and self._process == os.getpid():
                    self._give_back()

    def _give_back(self) -> None:
        if _identity(self._fd) == self._terminal:
            self._write(self._erased(os.get_terminal_size(self._fd)))
        elif self._path is not None:  # the script has put something else there
            self._fd = os.open(self._path, os.O_WRONLY | os.O_NOCTTY)
            self._write(self._erased(os.get_terminal_size(self._fd)))
            os.close(self._fd)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        held = self._lock.acquire(timeout=_PATIENCE_S)
        try:
            with suppress(OSError):
                yield
        finally:
            if held:
                self._lock.release()

    def _ours(self) -> bool:
        """Whether this process may draw: on the same terminal, in its foreground."""
        if os.getpid() != self._process or _identity(self._fd) != self._terminal:
            return False
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # not its controlling terminal, so there is no foreground
            return True

    def _drawn(self, lines: list[str], size: os.terminal_size) -> str:
        """Fewer lines than last time are filled up: rows that are given back look torn."""
        resized = self._held and self._size != size
        height = len(lines) if resized else max(self._held, len(lines))
        lines = lines + [""] * (height - len(lines))
        parts = []
        if resized or height > self._held:
            parts += [self._erased(size), _INDEX * height, f"\x1b[{height}A"]
        self._held, self._size = height, size
        top = size.lines - height
        parts += [_SAVE, f"\x1b[1;{top}r", _NO_WRAP]
        for row, line in enumerate(lines, start=top + 1):
            parts.append(f"\x1b[{row};1H{_PLAIN}{_ERASE_LINE}{line}")
        return "".join([*parts, _PLAIN, _WRAP, _RESTORE])

    def _erased(self, size: os.terminal_size) -> str:
        if not self._held:
            return ""
        if size != self._size:  # nobody knows where they are, but below the cursor
            return f"{_SAVE}{_WHOLE_REGION}{_RESTORE}{_PLAIN}{_ERASE_BELOW}"
        first = size.lines - self._held + 1
        rows = "".join(f"\x1b[{row};1H{_ERASE_LINE}" for row in range(first, size.lines + 1))
        return f"{_SAVE}{_WHOLE_REGION}{_PLAIN}{rows}{_RESTORE}"

    def _write(self, text: str) -> None:
        rest = text.encode(self._encoding, self.errors)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # the script made it so
                if not select.select([], [self._fd], [], _PATIENCE_S)[1]:
                    return


def _identity(fd: int) -> tuple[int, int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_rdev


def _path(fd: int) -> str | None:
    try:
        return os.ttyname(fd)
    except OSError:
        return None
