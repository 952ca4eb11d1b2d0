"""Kinds of formats: how sure a file is to be one, and how it is read. The table is formats.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from perfdoctor.readers.files import Head, Source
from perfdoctor.readers.lines import chunks
from perfdoctor.readers.mlperf import is_mlperf, read_events
from perfdoctor.readers.records import Reading

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Score:
    """How sure, 0–1, and why."""

    value: float
    reason: str = ""


class Format(Protocol):
    """A format of files. One that can say so has its highest possible score as `most`."""

    @property
    def name(self) -> str:
        """As in `--format`."""

    @property
    def title(self) -> str:
        """What writes it."""

    @property
    def example(self) -> str:
        """A line of it."""

    def score(self, head: Head) -> Score:
        """How sure the file is of this format."""

    def read(self, source: Source, head: Head, progress: Progress) -> Reading:
        """The whole file."""


class MlPerf:
    """MLPerf's marks in a log that tells no times itself."""

    name = "mlperf_mllog"
    title = "MLPerf's own log lines"
    example = ':::MLLOG {"namespace": "", "time_ms": 1593864252065, "key": "epoch_start", …}'

    def score(self, head: Head) -> Score:
        """By its marks; forms that tell the times of steps are surer."""
        found = sum(is_mlperf(line) for line in head.sample)
        return Score(0.48 * (found + 1) / (found + 1.2) if found > 3 else 0.0, f"{found} marks")

    def read(self, source: Source, head: Head, progress: Progress) -> Reading:
        """The events between the marks."""
        lines: list[tuple[int, str]] = []
        last = 0
        for chunk in chunks(source.blocks()):
            last = int(chunk.number[-1]) if chunk.number.size else last
            for number, line in zip(chunk.number.tolist(), chunk.lines, strict=True):
                if b":::ML" in line:
                    lines.append((number, line.decode("utf-8", "replace")))
            progress(chunk.size)
        return Reading(
            path=source.path, format=self.name, records=read_events(lines), lines=last
        )  # fmt: skip


@dataclass(frozen=True)
class Document:
    """A format with a module of its own, imported when a file is looked at.

    `place` is "module:Class" with `score(name, head_text)` and `read(path, data)`. One of `marks`
    stands in the head of every such file; else the module is not imported to look at it.
    """

    name: str
    title: str
    example: str
    place: str
    marks: tuple[str, ...] = ("",)

    def score(self, head: Head) -> Score:
        """As the module sees it."""
        if not any(mark in head.text for mark in self.marks):
            return Score(0.0)
        value = float(self._reader().score(head.name, head.text))
        return Score(value, "its content has that form")

    def read(self, source: Source, head: Head, progress: Progress) -> Reading:
        """As the module does."""
        data = source.whole()
        progress(len(data))
        reading: Reading = self._reader().read(source.path, data)
        return reading

    def _reader(self) -> Any:
        module, _, name = self.place.partition(":")
        return getattr(import_module(module), name)()


@dataclass(frozen=True)
class Binary:
    """A format told by its first bytes; `module` has `matches` and `read` by these names.

    Every such file has one of `marks` in its name or its head; else the module is not imported to
    look at it.
    """

    name: str
    title: str
    example: str
    module: str
    matches: str
    marks: tuple[bytes, ...]

    def score(self, head: Head) -> Score:
        """Sure or not."""
        if not any(mark in head.raw or mark in os.fsencode(head.name) for mark in self.marks):
            return Score(0.0)
        known = getattr(import_module(self.module), self.matches)(head.name, head.raw)
        return Score(1.0 if known else 0.0, "its first bytes say so")

    def read(self, source: Source, head: Head, progress: Progress) -> Reading:
        """As the module does."""
        data = source.whole()
        progress(len(data))
        reading: Reading = import_module(self.module).read(source.path, data)
        return reading
