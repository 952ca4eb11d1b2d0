"""What the script prints, noted on its way out and never altered. Imports nothing heavy."""

from __future__ import annotations

import io
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import MethodType
from typing import Any

#: Characters kept of the first lines, and of the last ones: what tells of the epochs of any
#: training whose log a person reads.
KEPT = 256 * 1024
#: What a line takes besides its characters, in memory and when it is read.
_EACH = 100
#: Longer lines, and lines in more pieces, are no log.
_LONGEST, _MOST_PIECES = 4096, 256
#: What perfdoctor itself tells on stderr.
_OURS = "perfdoctor: "


@dataclass(frozen=True)
class PrintedLine:
    """A line as it stood on the terminal; `step`: how many steps had ended. `at_s`: since the
    script began."""

    text: str
    step: int
    at_s: float


class Printed:
    """Notes the lines written to stdout and stderr between `start` and `stop`.

    The streams stay the objects that they are; only their `write` is shadowed, by an attribute of
    the instance. What is written past it (to the descriptor, to the buffer, to a stream that the
    script puts in place of these) is not noted.

    Attributes:
        whole: nothing that was noted had to be dropped.
    """

    def __init__(
        self, steps: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._steps = steps
        self._clock = clock
        self._from_s = 0.0
        self._noting = False
        self._shadowed: list[tuple[io.TextIOWrapper, Any]] = []
        self._unfinished: list[list[str]] = []
        self._first: list[tuple[str, int, float]] = []
        self._last: deque[tuple[str, int, float]] = deque()
        self._first_size = self._last_size = 0
        self.whole = True

    def start(self, *streams: Any) -> None:
        """Only of plain text streams: others may not take it, or show it."""
        self._from_s = self._clock()
        self._noting = True
        for stream in streams:
            if type(stream) is io.TextIOWrapper and "write" not in vars(stream):
                with suppress(Exception):
                    self._shadow(stream)

    def stop(self) -> None:
        """Notes no more. A `write` of the script's own making stays where it is."""
        self._noting = False
        while self._shadowed:
            stream, shadow = self._shadowed.pop()
            with suppress(Exception):
                if vars(stream).get("write") is shadow:
                    del vars(stream)["write"]

    def lines(self) -> Iterator[PrintedLine]:
        """The lines, without those of perfdoctor; of one that was rewritten the last state."""
        ended = [("".join(pieces), self._steps(), self._passed()) for pieces in self._unfinished]
        for text, step, at_s in (*self._first, *self._last, *ended):
            for line in text.split("\n"):
                shown = _shown(line)
                if shown.strip() and not shown.startswith(_OURS):
                    yield PrintedLine(shown, step, at_s)

    def _passed(self) -> float:
        return self._clock() - self._from_s

    def _shadow(self, stream: io.TextIOWrapper) -> None:
        original, pieces = stream.write, list[str]()

        def write(_stream: object, *args: Any, **kwargs: Any) -> Any:
            written = original(*args, **kwargs)
            if self._noting:
                try:
                    self._note(pieces, args[0])
                except Exception:  # a line is lost: nothing to tell the script of
                    self.whole = False
            return written

        # Bound to the stream, as the method is that it stands for.
        shadow = MethodType(write, stream)
        vars(stream)["write"] = shadow
        self._shadowed.append((stream, shadow))
        self._unfinished.append(pieces)

    def _note(self, pieces: list[str], text: str) -> None:
        if text[:1] == "\r" and text[1:2] != "\n":
            pieces.clear()  # a progress bar draws itself anew
        pieces.append(text)
        if "\n" in text or len(pieces) > _MOST_PIECES or sum(map(len, pieces)) > _LONGEST:
            taken, pieces[:] = pieces[:], []  # at once: another thread may print meanwhile
            self._keep("".join(taken))

    def _keep(self, text: str) -> None:
        if len(text) > _LONGEST:
            short = [line for line in map(_shown, text.split("\n")) if len(line) <= _LONGEST]
            text = "\n".join(short)
        if not text:
            return
        if len(text) > KEPT:
            text, self.whole = text[-KEPT:], False
        entry, size = (text, self._steps(), self._passed()), len(text) + _EACH
        if self._first_size + size <= KEPT and not self._last:
            self._first.append(entry)
            self._first_size += size
            return
        self._last.append(entry)
        self._last_size += size
        while self._last_size > KEPT + _EACH:
            self._last_size -= len(self._last.popleft()[0]) + _EACH
            self.whole = False


def _shown(line: str) -> str:
    """What stays of it on the terminal."""
    return line.rstrip("\r").rpartition("\r")[2]
