"""Where a DataLoader worker's time goes by line: written by the worker, read by its parent.

A file holds the frames once and each stack as numbers of frames, one JSON value a line. It is
replaced as a whole, so that a worker that is killed leaves the last one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from perfdoctor.collect.script.sampler import Frame, Sampled, StackSampler

#: Looks at a worker are this far apart, and what they saw is written this often.
INTERVAL_S = 0.05
WRITTEN_EVERY_S = 2.0
#: Stacks written of a worker, and kept of a loader: the heaviest. The others become one.
MOST_WRITTEN = 512
MOST_KEPT = 4_096

_Key = tuple[int, tuple[Frame, ...]]


class Looks:
    """Looks at the thread that made it, until it is closed.

    `loop` is the frame (file, function) in which the worker's own work begins: what called it
    is the same for all, and in a forked worker it is the training script.
    """

    def __init__(
        self, path: str, thread_id: int, label: Callable[[], int], loop: tuple[str, str]
    ) -> None:
        self._path = path
        self._loop = loop
        self._sampler = StackSampler(
            label,
            thread_id,
            interval_s=INTERVAL_S,
            on_tick=((WRITTEN_EVERY_S, self.write),),
            by_processor_time=True,
            short_turns=False,  # the worker's interpreter keeps its settings
            warn=lambda line: None,
        )
        self._sampler.start()

    def write(self) -> None:
        """Writes what was seen so far; raises OSError."""
        if os.path.isdir(os.path.dirname(self._path)):  # noqa: PTH112, PTH120
            write_stacks(self._path, self._sampler.snapshot(), self._loop)
        else:  # nobody reads it any more
            self._sampler.stop()

    def close(self) -> None:
        """The last look was taken."""
        self._sampler.stop()
        if self._sampler.snapshot():
            self.write()


def write_stacks(path: str, samples: Iterable[Sampled], loop: tuple[str, str]) -> None:
    """Writes the heaviest of these stacks as far out as `loop`."""
    totals = StackTotals(MOST_WRITTEN)
    totals.add(Sampled(s.label, _inside(s.stack, loop), s.seconds, s.count) for s in samples)
    numbers: dict[Frame, int] = {}
    lines = [
        [s.label, s.seconds, s.count, [numbers.setdefault(f, len(numbers)) for f in s.stack]]
        for s in totals.sampled()
    ]
    frames = [[f.file, f.line, f.function, f.first_line, f.generator] for f in numbers]
    new = Path(f"{path}.new")
    new.write_text("".join(json.dumps(value) + "\n" for value in [frames, *lines]))
    new.replace(path)


def read_stacks(path: Path) -> list[Sampled]:
    """What a worker saw; nothing where it wrote nothing that can be read."""
    try:
        values: list[Any] = [json.loads(line) for line in path.read_text().splitlines()]
        frames = [Frame(*fields) for fields in values[0]]
        return [
            Sampled(label, tuple(frames[n] for n in stack), seconds, count)
            for label, seconds, count, stack in values[1:]
        ]
    except (OSError, ValueError, IndexError, TypeError):
        return []


class StackTotals:
    """Stacks of several workers added up; of too many different ones the lightest become one."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._seen: dict[_Key, list[float]] = {}

    def add(self, samples: Iterable[Sampled]) -> None:
        """What one worker saw."""
        for sample in samples:
            self._count(self._seen, (sample.label, sample.stack), sample.seconds, sample.count)
        if len(self._seen) > self._most:
            heavy_first = sorted(self._seen.items(), key=lambda item: -item[1][0])
            kept = dict(heavy_first[: self._most // 2])
            for (label, _), (seconds, count) in heavy_first[self._most // 2 :]:
                self._count(kept, (label, ()), seconds, count)
            self._seen = kept

    def sampled(self) -> list[Sampled]:
        """All of them."""
        return [
            Sampled(label, stack, seconds, int(count))
            for (label, stack), (seconds, count) in self._seen.items()
        ]

    @staticmethod
    def _count(seen: dict[_Key, list[float]], key: _Key, seconds: float, count: float) -> None:
        total = seen.setdefault(key, [0.0, 0.0])
        total[0] += seconds
        total[1] += count


def _inside(stack: tuple[Frame, ...], loop: tuple[str, str]) -> tuple[Frame, ...]:
    """The frames that the worker's loop called, but for ours."""
    file, function = loop
    for place, frame in enumerate(stack):
        if frame.file == file and frame.name == function:
            stack = stack[:place]
            break
    return tuple(frame for frame in stack if frame.file != file)
