"""The JSON of a Chrome trace in pieces, so that a large one needs little memory, and so that one
that is cut off or has a bad event in it gives all the others.

Format: "Trace Event Format" (Chromium's catapult project); PyTorch's writer is libkineto's
output_json.cpp. It writes one event after the other, and where the process dies the array has no
end; older ones wrote `inf` and unescaped backslashes, which are not JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

#: Decoded at a time: enough for msgspec to run at full speed. Below the smallest, one event.
_PIECE_BYTES, _SMALLEST_BYTES = 4 << 20, 1 << 12
#: Ends of objects that are tried as the end of an event: few of them are inside one.
_TRIES, _TRIES_FOR_ONE = 8, 64
_BETWEEN = re.compile(rb"\}\s*,\s*(?=\{)")
_EVENTS = re.compile(rb'"traceEvents"\s*:\s*\[')
_BLANK = re.compile(rb"(?:\xef\xbb\xbf)?\s*")
_COMMA = re.compile(rb"\s*,\s*")
_AT_END = re.compile(rb"\s*(?:,\s*)?\]")
_ARRAY_END = re.compile(rb"\}\s*(?:,\s*)?\]")
#: Everything that can be wrong with a piece of text that is not what it should be.
BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Event(msgspec.Struct, gc=False):
    """One event as written. Times are in µs."""

    ph: str | None = None
    cat: str | None = None
    name: str | int | float | None = None
    pid: str | int | float | None = None
    tid: str | int | float | None = None
    ts: float | None = None
    dur: float | None = None
    args: msgspec.Raw = msgspec.Raw(b"{}")


@dataclass
class Document:
    """A trace's text: what stands beside the events, and how reading them went.

    Attributes:
        head: the other keys of the top level, undecoded.
        start, end: the events' text, without the array's brackets. Where the whole is not JSON,
            its end is that of the text.
        bad: events that are not JSON. cut: the text ends within the events.
    """

    text: bytes
    head: Mapping[str, msgspec.Raw]
    start: int
    end: int
    bad: int = 0
    cut: bool = False

    def get(self, key: str) -> object:
        """A value of the top level; None if it is not there or no JSON."""
        try:
            return msgspec.json.decode(self.head[key]) if key in self.head else None
        except BAD_JSON:
            return None

    def pieces(self) -> Iterator[list[Event]]:
        """All events that can be read, in order."""
        at, size = self.start, _PIECE_BYTES
        while at < self.end:
            several = self._several(at, size) if size > _SMALLEST_BYTES else self._one(at)
            if several is None:
                size //= 8
                continue
            events, at = several
            size = min(2 * size, _PIECE_BYTES)
            yield events

    def _several(self, at: int, size: int) -> tuple[list[Event], int] | None:
        """Whole events from `at` on, about `size` bytes, and where the next begins; None if one
        of them is bad or none of them ends."""
        if at + size >= self.end:
            events, _ = _decoded(self.text, at, self.end)
            if events is not None:
                return events, self.end
        for stop in self._ends(at, min(at + size, self.end)):
            events, truncated = _decoded(self.text, at, stop)
            if events is not None:
                return events, self._behind_comma(stop)
            if not truncated:
                break
        return None

    def _one(self, at: int) -> tuple[list[Event], int]:
        """The event at `at`, none if it is bad, and where the next begins."""
        after = at
        for _ in range(_TRIES_FOR_ONE):
            between = _BETWEEN.search(self.text, after, self.end)
            if between is None:
                return self._last(at), self.end
            after = between.end()
            events, truncated = _decoded(self.text, at, between.start() + 1)
            if events is not None:
                return events, after
            if not truncated:
                break
        self.bad += 1
        return [], after

    def _last(self, at: int) -> list[Event]:
        """The last event. Where the array ends may not be known; something may follow it."""
        if _AT_END.match(self.text, at):
            self.cut = False
            return []
        stop = at
        for _ in range(_TRIES_FOR_ONE):
            stop = self.text.find(b"}", stop, self.end) + 1
            if stop == 0:
                break
            events, truncated = _decoded(self.text, at, stop)
            if events is not None:
                self.cut = self.cut and _AT_END.match(self.text, stop) is None
                return events
            if not truncated:
                self.bad += 1
                self.cut = self.cut and _ARRAY_END.search(self.text, at) is None
                break
        return []

    def _ends(self, at: int, before: int) -> Iterator[int]:
        """Ends of objects that another object follows, the last first."""
        stop = before
        for _ in range(_TRIES):
            while (stop := self.text.rfind(b"}", at, stop)) > at:
                if _BETWEEN.match(self.text, stop, self.end):
                    break
            else:
                return
            yield stop + 1

    def _behind_comma(self, stop: int) -> int:
        comma = _COMMA.match(self.text, stop, self.end)
        return comma.end() if comma else self.end


def document(text: bytes) -> Document | None:
    """The trace in `text`; None if there is none."""
    start = _before_all(text)
    if text[start : start + 1] == b"[":
        return Document(text, {}, start + 1, len(text), cut=True)
    begin = _EVENTS.search(text)
    if begin is None:
        return None
    try:
        head = msgspec.json.decode(memoryview(text)[start:], type=dict[str, msgspec.Raw])
        events = memoryview(head.pop("traceEvents", b""))
        end = begin.end() - 1 + len(events) - 1
        if text[end : end + 1] == b"]":
            return Document(text, head, begin.end(), end)
    except BAD_JSON:
        head = _keys_before(text, begin.start())
    return Document(text, head, begin.end(), len(text), cut=True)


def _before_all(text: bytes) -> int:
    begin = _BLANK.match(text)
    return begin.end() if begin else 0


def _keys_before(text: bytes, stop: int) -> dict[str, msgspec.Raw]:
    """What stands in front of the events, where the whole is not JSON."""
    try:
        head = text[:stop].rstrip().removesuffix(b",") + b"}"
        return msgspec.json.decode(head, type=dict[str, msgspec.Raw])
    except BAD_JSON:
        return {}


_decode = msgspec.json.Decoder(list[Event], strict=False).decode


def _decoded(text: bytes, start: int, stop: int) -> tuple[list[Event] | None, bool]:
    """The events in a piece of text; None if it is no list of events, and then whether it would
    have to go on."""
    piece = b"[%b]" % text[start:stop]
    try:
        return _decode(piece), False
    except BAD_JSON:
        pass
    try:
        _decode(memoryview(piece)[:-1])
    except BAD_JSON as error:
        return None, "truncated" in str(error)
    return None, False
