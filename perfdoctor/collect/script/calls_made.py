"""Which operations of autograd were made in which call of a module, and where that call stands."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from pathlib import PurePath
from types import FrameType
from typing import Any

#: Calls that are remembered: those of a step with many.
_MOST = 256


@dataclass(frozen=True)
class Call:
    """One call of an outermost module: its operations have numbers from `first` up to `end`."""

    name: str
    file: str
    line: int
    first: int
    end: int

    @property
    def place(self) -> str:
        """Such as "train.py:81"."""
        return f"{PurePath(self.file).name}:{self.line}"


class CallsMade:
    """The last calls. Keeps no module, no tensor and no frame."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque(maxlen=_MOST)
        self._open: tuple[str, str, int, int] | None = None

    def begins(self, module: Any, frame: FrameType | None, first: int | None) -> None:
        """A module is called in this frame; the next operation has this number."""
        while frame is not None and "/torch/" in frame.f_code.co_filename:
            frame = frame.f_back
        self._open = None
        if frame is not None and first is not None:
            place = frame.f_code.co_filename, frame.f_lineno
            self._open = type(module).__name__, *place, first

    def ends(self, end: int | None) -> None:
        """It has returned, or raised."""
        if self._open is not None and end is not None:
            self._calls.append(Call(*self._open, end))
        self._open = None

    def of(self, node: Any) -> Call | None:
        """The call that made this operation; None where it was made outside of any."""
        number = int(node._sequence_nr())
        after = bisect_right(self._calls, number, key=lambda call: call.first)
        call = self._calls[after - 1] if after else None
        return call if call is not None and number < call.end else None
