"""Two sides of reports, quantity by quantity: before, after, their ratio and what it can tell.

The unit is the run (a process), not the step: steps of one process resemble each other, and the
next process of the same code is 3 % off on a quiet machine and 21 % on a busy one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from perfdoctor import schema
from perfdoctor.compare.differences import Difference, find_differences
from perfdoctor.record import Floats
from perfdoctor.report import Interval, Report, Stat
from perfdoctor.sequential import LEAST_ERROR
from perfdoctor.stages import in_order
from perfdoctor.stats import student_t

#: Identical code drifted so much within an hour on one machine (logarithmic): runs that did not
#: take turns differ by it without any cause in the code.
DRIFT = math.log(1.095)
#: The same for peaks of memory, which do not depend on the machine's mood (our own choice).
_MEMORY_DRIFT = math.log(1.02)
#: The same on a busy machine, where successive processes of one code spread by 21 %: so far apart
#: are 99 % of two such, 2.58 × √2 × 0.21.
_BUSY_DRIFT = 0.77
#: The rule that says so.
_BUSY_RULE = "PD901"
#: Two-sided, of every interval here: a table has ten or so, and one of them must not cry wolf.
CONFIDENCE = 0.99
#: A change below this is called the same, where the interval is narrow enough.
MARGIN = 0.05


@dataclass(frozen=True, kw_only=True)
class Shift:
    """One quantity on both sides.

    Attributes:
        name: step, throughput, epoch, run, memory, or a stage. statistic: p50, p95, mean, peak.
        unit: s, bytes, samples/s, tokens/s, steps/s.
        before, after: the median over the side's reports; None where not measured.
        ratio: after ÷ before. ratio_ci: its interval.
        direction: slower, faster, more, less, same, or unclear; None without both values.
    """

    name: str
    statistic: str
    unit: str
    before: float | None
    after: float | None
    ratio: float | None = None
    ratio_ci: Interval | None = None
    direction: str | None = None


@dataclass(frozen=True, kw_only=True)
class Side:
    """What one side is made of."""

    label: str
    reports: tuple[str, ...]
    steps: int
    verdict: str | None = None
    summary: str | None = None


@dataclass(frozen=True, kw_only=True)
class Sides:
    """What changed from one side to the other.

    Attributes:
        took_turns: whether the runs of both sides alternated in time; else drift is allowed for.
        between_runs: whether the spread between runs of one side is known.
        busy: whether other programs kept the machine busy; then much more drift is allowed for.
        margin: below this, a change is called the same.
    """

    schema_version: int
    kind: str
    tool: dict[str, str]
    created_at: str
    before: Side
    after: Side
    shifts: tuple[Shift, ...]
    differences: tuple[Difference, ...]
    took_turns: bool
    between_runs: bool
    busy: bool
    margin: float
    confidence: float = CONFIDENCE
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Quantity:
    """How to get a value, and its interval within the run, from a report."""

    name: str
    statistic: str
    unit: str
    get: Callable[[Report], tuple[float | None, Interval | None]]


def compare_sides(
    before: Sequence[Report],
    after: Sequence[Report],
    labels: tuple[str, str],
    margin: float = MARGIN,
) -> Sides:
    """What changed from the reports `before` to the reports `after`; at least one each."""
    turns = _took_turns(before, after)
    between = min(len(before), len(after)) > 1
    differences = find_differences(before, after)
    busy = any(_busy(report) for report in (*before, *after))
    drift = 0.0 if turns else _BUSY_DRIFT if busy else DRIFT
    shifts = [_shift(q, before, after, drift, margin) for q in _quantities((*before, *after))]
    if busy and not between:  # there is nothing to tell a change of code from the other programs
        shifts = [_in_doubt(shift) for shift in shifts]
    return Sides(
        schema_version=schema.SCHEMA_VERSION,
        kind="comparison",
        tool=schema.tool(),
        created_at=schema.now(),
        before=_side(labels[0], before),
        after=_side(labels[1], after),
        shifts=tuple(s for s in shifts if s.before is not None or s.after is not None),
        differences=differences,
        took_turns=turns,
        between_runs=between,
        busy=busy,
        margin=margin,
        notes=tuple(_notes(before, after, differences)),
    )


def _side(label: str, reports: Sequence[Report]) -> Side:
    first = reports[0].diagnosis
    verdicts = {r.diagnosis.verdict for r in reports if r.diagnosis is not None}
    return Side(
        label=label,
        reports=tuple(r.source.path or r.name for r in reports),
        steps=sum(r.steps.count for r in reports if r.steps is not None),
        verdict=" or ".join(sorted(verdicts)) or None,
        summary=first.summary if first is not None and len(reports) == 1 else None,
    )


def _busy(report: Report) -> bool:
    return any(found.rule == _BUSY_RULE for found in report.recommendations)


def _took_turns(before: Sequence[Report], after: Sequence[Report]) -> bool:
    """Whether the sides alternate in time as often as the smaller of them has runs.

    A log's report is made when it is read, so that nothing is known of when it ran.
    """
    if min(len(before), len(after)) < 2 or any(r.source.kind == "log" for r in (*before, *after)):
        return False
    times = sorted([(r.created_at, 0) for r in before] + [(r.created_at, 1) for r in after])
    switches = sum(a[1] != b[1] for a, b in pairwise(times))
    return switches >= min(len(before), len(after))


def _quantities(reports: Sequence[Report]) -> Iterator[_Quantity]:
    yield _Quantity("step", "p50", "s", lambda r: _of(_step(r), "p50"))
    yield _Quantity("step", "p95", "s", lambda r: _of(_step(r), "p95"))
    for name in in_order({name for r in reports for name in r.stages}):
        yield _Quantity(name, "p50", "s", lambda r, n=name: _of(r.stages.get(n), "p50"))  # type: ignore[misc]
    for unit in ("samples", "tokens", "steps"):
        if any(_rate(r, unit)[0] is not None for r in reports):
            yield _Quantity("throughput", "mean", f"{unit}/s", lambda r, u=unit: _rate(r, u))  # type: ignore[misc]
            break
    yield _Quantity("epoch", "p50", "s", lambda r: _of(_epoch(r), "p50"))
    yield _Quantity("run", "total", "s", lambda r: (r.wall.total_s if r.wall else None, None))
    yield _Quantity("memory", "peak", "bytes", lambda r: (r.memory.peak_bytes, None))


def _step(report: Report) -> Stat | None:
    return None if report.steps is None else report.steps.time


def _epoch(report: Report) -> Stat | None:
    return None if report.epochs is None else report.epochs.time


def _of(stat: Stat | None, which: str) -> tuple[float | None, Interval | None]:
    if stat is None:
        return None, None
    return getattr(stat, f"{which}_s"), getattr(stat, f"{which}_ci")


def _rate(report: Report, unit: str) -> tuple[float | None, Interval | None]:
    told = report.throughput
    if told is None:
        return None, None
    return getattr(told, f"{unit}_per_s"), told.samples_per_s_ci if unit == "samples" else None


def _shift(
    quantity: _Quantity,
    before: Sequence[Report],
    after: Sequence[Report],
    drift: float,
    margin: float,
) -> Shift:
    sides = [[quantity.get(r) for r in side] for side in (before, after)]
    logs = [np.log([v for v, _ in side if v is not None and v > 0]) for side in sides]
    middle = [float(math.exp(np.median(x))) if x.size else None for x in logs]
    named = Shift(
        name=quantity.name, statistic=quantity.statistic, unit=quantity.unit,
        before=middle[0], after=middle[1],
    )  # fmt: skip
    if not all(x.size for x in logs):
        return named
    centre = float(logs[1].mean() - logs[0].mean())
    drift = min(drift, _MEMORY_DRIFT) if quantity.unit == "bytes" else drift
    half = math.hypot(_half(logs, sides), drift)
    return replace(
        named,
        ratio=math.exp(centre),
        ratio_ci=(math.exp(centre - half), math.exp(centre + half)),
        direction=direction(centre - half, centre + half, quantity.unit, margin),
    )


def _in_doubt(shift: Shift) -> Shift:
    known = shift.unit == "bytes" or shift.direction is None
    return shift if known else replace(shift, direction="unclear")


def _half(
    logs: Sequence[Floats], sides: Sequence[Sequence[tuple[float | None, Interval | None]]]
) -> float:
    """Half the interval of the difference: Welch's, or what is known within single runs."""
    if min(x.size for x in logs) < 2:
        return math.hypot(*(_within(interval) for side in sides for _, interval in side))
    parts = [float(x.var(ddof=1)) / x.size for x in logs]
    error = max(LEAST_ERROR, math.sqrt(sum(parts)))
    below = sum(part**2 / (x.size - 1) for part, x in zip(parts, logs, strict=True))
    freedom = max(1, math.floor(sum(parts) ** 2 / below)) if below else logs[0].size - 1
    return student_t(freedom, (1 + CONFIDENCE) / 2) * error


def _within(interval: Interval | None) -> float:
    if interval is None or interval[0] <= 0:
        return 0.0
    return math.log(interval[1] / interval[0]) / 2


def direction(low: float, high: float, unit: str, margin: float = MARGIN) -> str:
    """What a quantity did, from the ends of the interval of log(after ÷ before)."""
    if low <= 0 <= high:
        return "same" if max(-low, high) <= math.log1p(margin) else "unclear"
    if unit == "bytes":
        return "more" if low > 0 else "less"
    return "faster" if (low > 0) == unit.endswith("/s") else "slower"


def _notes(
    before: Sequence[Report], after: Sequence[Report], differences: Sequence[Difference]
) -> Iterator[str]:
    """What stands in the way of blaming the code."""
    kinds = {d.kind: d for d in differences}
    if "machine" in kinds:
        yield (
            "The machines differ: what changed here need not come from the code, and nothing is "
            "corrected for."
        )
    batch = next((d for d in differences if d.name == "batch_size"), None)
    if batch is not None and None not in (batch.before, batch.after):
        yield (
            f"The batch size is {batch.before} on one side and {batch.after} on the other: steps "
            "do different work, so look at throughput."
        )
    sources = [{r.source.kind for r in side} for side in (before, after)]
    if sources[0] != sources[1]:
        yield (
            f"One side comes from {' and '.join(sorted(sources[0]))}, the other from "
            f"{' and '.join(sorted(sources[1]))}: stages are not measured in the same way."
        )
    names = [{r.name for r in side} for side in (before, after)]
    if sources[0] == {"bench"} == sources[1] and not names[0] & names[1]:
        yield (
            f"Different trainings were measured: {', '.join(sorted(names[0]))} and "
            f"{', '.join(sorted(names[1]))}."
        )
