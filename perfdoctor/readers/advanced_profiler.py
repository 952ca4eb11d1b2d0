"""Lightning's AdvancedProfiler: one cProfile listing for each action."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from perfdoctor.readers.cells import as_text, line_count, lines_of, number
from perfdoctor.readers.lightning_stages import (
    Action,
    facts,
    of_fit,
    report_title,
    stage_of,
    summed,
)
from perfdoctor.readers.records import Reading
from perfdoctor.record import Hotspot

_TITLE = "Profile stats for: "
_RANK = re.compile(r" rank: [0-9]{1,6}$")
_CALLS = re.compile(
    r"([0-9]{1,15}) function calls?(?: \([0-9]{1,15} primitive calls?\))? in ([0-9.e+-]{1,20}) "
    r"(?:CPU )?seconds"
)
_PLACE = re.compile(r"([^()]{1,200}):([0-9]{1,9})\(([^()]{1,200})\)")
#: Time in which an inner action's profile is on: that action counts it.
_INNER = "'enable' of '_lsprof.Profiler'"
#: A profile sees how it is stopped: by itself, or by the start of an inner one.
_ENDS = ("(stop)", "(start)")
_PROFILER_FILES = ("advanced.py", "profilers.py", "profiler.py")
_LIBRARIES = ("torch", "numpy", "PIL", "cv2", "pandas")
_MOST_HOTSPOTS = 15
_LEAST_SHARE = 0.005
_FAR_DOWN = 3


@dataclass
class Block:
    """The listing of one action.

    `title` is FIT, VALIDATE, … or empty. `own_s`: function → seconds in it, without what it
    calls. `inner`: it started other actions, and their time counts here as well
    (`inner_counted`) or they ended this listing.
    """

    name: str
    title: str
    total_s: float = 0.0
    calls: float | None = None
    own_s: dict[str, float] = field(default_factory=dict)
    inner: bool = False
    inner_counted: bool = False


class LightningAdvancedProfiler:
    """Facts as of the SimpleProfiler, and the functions that take most of the time."""

    name = "lightning_profiler_advanced"

    def score(self, name: str, head: str) -> float:
        """How sure it is, 0–1: less where the report begins far down in another log."""
        begin = head.find(_TITLE)
        if begin < 0 or not any(True for _ in _blocks(lines_of(head))):
            return 0.0
        return 0.97 if begin <= len(head) / _FAR_DOWN else 0.3

    def read(self, path: str, data: str | bytes) -> Reading:
        """Totals of the stages and hotspots; records it has none."""
        text = as_text(data)
        blocks = of_fit(list(_blocks(lines_of(text))))
        counted = any(block.inner_counted for block in blocks)
        actions = summed(
            Action(b.name, b.total_s, b.calls, cut=b.inner and not counted) for b in blocks
        )
        cut = any(action.cut for action in actions)
        return Reading(
            path=path, format=self.name, framework="lightning", facts=facts(actions),
            lines=line_count(text), hotspots=_hotspots(blocks), notes=_notes(cut),
        )  # fmt: skip


def _blocks(lines: Sequence[str]) -> Iterator[Block]:
    """The listings; a title without one (PyTorchProfiler uses the same) is none."""
    block: Block | None = None
    report, started = "", False
    for line in lines:
        report = report_title(line) or report
        if _TITLE in line:
            if block is not None and started:
                yield block
            name = line.partition(_TITLE)[2].strip()
            block, started = Block(_RANK.sub("", name), report), False
        elif block is not None and not started:
            match = _CALLS.search(line)
            if match is not None:
                block.total_s, started = number(match[2]), True
        elif block is not None:
            _take(block, line)
    if block is not None and started:
        yield block


def _take(block: Block, line: str) -> None:
    """A row: ncalls tottime percall cumtime percall filename:lineno(function)."""
    cells = line.split(None, 5)
    if len(cells) != 6 or not cells[0][0].isdigit():
        return
    own_s, where = number(cells[1]), cells[5].strip()
    if own_s != own_s or ("(" not in where and "{" not in where):
        return
    if _INNER in where:
        block.inner_counted = True
        return
    block.own_s[where] = block.own_s.get(where, 0.0) + own_s
    if where.endswith(_ENDS) and where.startswith(_PROFILER_FILES):
        block.calls = (block.calls or 0.0) + number(cells[0].partition("/")[0])
        block.inner = block.inner or where.endswith("(start)")


def _hotspots(blocks: Sequence[Block]) -> tuple[Hotspot, ...]:
    by_stage: dict[str, dict[str | None, float]] = {}
    for block in blocks:
        stage = stage_of(Action(block.name, block.total_s))
        for where, own_s in block.own_s.items():
            stages = by_stage.setdefault(where, {})
            stages[stage] = stages.get(stage, 0.0) + own_s
    totals = {where: sum(stages.values()) for where, stages in by_stage.items()}
    whole_s = sum(totals.values())
    longest = sorted(totals, key=lambda where: -totals[where])[:_MOST_HOTSPOTS]
    return tuple(
        _hotspot(where, totals[where] / whole_s, by_stage[where])
        for where in longest
        if whole_s > 0 and totals[where] >= _LEAST_SHARE * whole_s
    )


def _hotspot(where: str, share: float, stages: dict[str | None, float]) -> Hotspot:
    match = _PLACE.fullmatch(where)
    file, line, function = (match[1], int(match[2]), match[3]) if match else ("", 0, where[:200])
    return Hotspot(
        file=file, line=line, function=function, share=share,
        library=next((name for name in _LIBRARIES if name in where), None),
        stage=max(stages, key=lambda stage: stages[stage]),
    )  # fmt: skip


def _notes(cut: bool) -> tuple[str, ...]:
    notes = ["profiled with cProfile: calls of many small functions look slower than they are"]
    if cut:  # since Lightning 2.5
        notes.append(
            "the profile of an action ends where an inner one begins: times of whole steps, and of "
            "stages made of several actions, are not in the file"
        )
    return tuple(notes)
