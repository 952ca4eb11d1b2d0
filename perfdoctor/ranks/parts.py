"""What a rank hands in when it ends: its report, and its steps' times to lay beside others'."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np

from perfdoctor.ending import Ending
from perfdoctor.record import Floats, Run
from perfdoctor.report import Report

#: Stretches of steps that a rank hands in, at most. A power of two, as are the steps in each.
MOST_STRETCHES = 1024


@dataclass(frozen=True, kw_only=True)
class RankPart:
    """What one rank hands in when it ends.

    Attributes:
        report: None where the script did not use torch. ended_at: seconds since 1970.
        stretch: how many steps each element of `columns` stands for, from the first step on.
        columns: stage → mean seconds per step. between: those of them between the steps.
        settled: elements to leave out at the start.
    """

    rank: int
    ending: Ending
    ended_at: float
    report: Report | None = None
    steps: int = 0
    stretch: int = 1
    columns: dict[str, tuple[float, ...]] = field(default_factory=dict)
    between: tuple[str, ...] = ()
    settled: int = 0


def part_of_run(rank: int, run: Run, report: Report, ended_at: float) -> RankPart:
    """The part of a rank that was observed."""
    stride = _stride(run)
    columns = {s.name: np.nan_to_num(_seconds(s.mean_s, s.exposed_s)) for s in run.stages}
    rows = min((values.size for values in columns.values()), default=0)
    each = 1
    while rows > MOST_STRETCHES * each:
        each *= 2
    return RankPart(
        rank=rank,
        ending=run.ending or Ending("running"),
        ended_at=ended_at,
        report=report,
        steps=rows * stride,
        stretch=stride * each,
        columns={name: tuple(coarser(values, each).tolist()) for name, values in columns.items()},
        between=tuple(s.name for s in run.stages if s.between),
        settled=-(-(report.steps.warmup_discarded if report.steps else 0) // each),
    )


def to_bytes(part: RankPart) -> bytes:
    """For `from_bytes` of the same version of perfdoctor."""
    return msgspec.msgpack.encode(part)


def from_bytes(data: bytes) -> RankPart | None:
    """None where it is something else, or of another version."""
    try:
        return msgspec.msgpack.decode(data, type=RankPart)
    except msgspec.DecodeError:
        return None


def _stride(run: Run) -> int:
    steps = None if run.track is None else run.track.steps
    return max(1, int(steps[0])) if steps is not None and steps.size else 1


def _seconds(mean_s: Floats | None, exposed_s: Floats) -> Floats:
    return exposed_s if mean_s is None else mean_s


def coarser(values: Floats, each: int) -> Floats:
    """Means over so many elements; a last, partial group is left out."""
    whole = values.size // each
    means: Floats = values[: whole * each].reshape(whole, each).mean(axis=1)
    return means
