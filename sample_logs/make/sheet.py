"""The log that a loop writes and, beside it, what a person would read out of it."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clock import Clock
from loop import Loop

WORK = Path(os.environ.get("SAMPLE_WORK", "/tmp/demo"))
MAKERS: dict[str, Callable[[], None]] = {}


def sample(maker: Callable[[], None]) -> Callable[[], None]:
    """Register a function that makes one log, or several of one run, under its own name."""
    MAKERS[maker.__name__] = maker
    return maker


class Sheet:
    """A log file being written, and the numbers in it as printed.

    `say` formats a number and keeps what was printed; the medians of these are the expected
    reading. `stamp` keeps printed times of steps where only those tell how long a step took.
    """

    def __init__(self, name: str, form: str, clock: Clock | None = None, **fixed: Any) -> None:
        self.path = WORK / "logs" / name
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.name, self.clock = name, clock
        self.expected: dict[str, Any] = {"format": form, **fixed}
        self.values: dict[str, list[float]] = {}
        self.records = 0
        self.at = 0.0
        self._dates: tuple[float, float] | None = None
        self._stamps: list[tuple[Any, float, float]] = []

    def line(self, text: str = "", *, record: bool = False) -> None:
        """Write a line; `record`: it tells of training steps."""
        self.write(text + "\n")
        self.records += record

    def write(self, text: str) -> None:
        """Write as it is, at once."""
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(text)

    def say(self, name: str, value: float, spec: str, unit: float = 1.0) -> str:
        """`value` as `spec` prints it, kept under `name` times `unit`."""
        text = format(value, spec)
        self.keep(name, float(text.replace(",", "").rstrip("%")) * unit)
        return text

    def keep(self, name: str, value: float) -> None:
        """A printed number that `say` cannot format."""
        self.values.setdefault(name, []).append(value)

    def dated(self, spec: str = "%Y-%m-%d %H:%M:%S", fraction: str = "") -> str:
        """The time now; `fraction` is the mark before the milliseconds, where they are printed."""
        assert self.clock is not None
        now = self.clock.now()
        millis = now.microsecond // 1000 if fraction else 0
        self.at = now.replace(microsecond=0).timestamp() + millis / 1000
        self._dates = (self._dates[0], self.at) if self._dates else (self.at, self.at)
        return now.strftime(spec) + (f"{fraction}{millis:03d}" if fraction else "")

    def stamp(self, part: Any, step: float, seconds: float | None = None) -> None:
        """A step and its printed time (else the last date written).

        Times are compared within one `part`: an epoch, a rank.
        """
        self._stamps.append((part, step, self.at if seconds is None else seconds))

    def median(self, name: str) -> float:
        """Of what was said."""
        return statistics.median(self.values[name])

    def derive(self) -> Sheet:
        """Step times from the stamps, as far as there are any."""
        by_part: dict[Any, tuple[float, float]] = {}
        for part, step, seconds in self._stamps:
            if part in by_part and step > by_part[part][0]:
                before = by_part[part]
                self.keep("step_s", (seconds - before[1]) / (step - before[0]))
            by_part[part] = (step, seconds)
        self._stamps = []
        return self

    def finish(self, loop: Loop | None = None, **more: Any) -> None:
        """Leave the expected reading, and the truth of the run beside it."""
        self.derive()
        for name in self.values:
            self.expected.setdefault(name, _short(self.median(name)))
        if self._dates:
            self.expected.setdefault("wall_s", round(self._dates[1] - self._dates[0], 3))
        if self.records:
            self.expected.setdefault("records", self.records)
        self.expected.update(more)
        leave(self.name, self.expected, {} if loop is None else loop.truth)


def leave(name: str, expected: dict[str, Any], truth: dict[str, Any]) -> None:
    """Write the expected reading and the truth of one file where `make.py` collects them."""
    told = {"made_by": os.environ["SAMPLE_MAKER"], **expected}
    for folder, content in (("expected", told), ("truth", truth)):
        path = WORK / folder / (name.replace("/", "__") + ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _short(value: float) -> float:
    return float(f"{value:.5g}")
