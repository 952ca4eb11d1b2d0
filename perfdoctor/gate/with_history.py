"""`--history`: has the level of a series of results changed for good?

A trend and not a gate for one change: a new level is believed when it has lasted for five
results. Each is divided by the kernels that drift as the machine does, where the series shows no
harm of it.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from perfdoctor import interrupts
from perfdoctor.changes import LEAST_CHANGE, SHORTEST, Change, find_changes
from perfdoctor.collect.options import Progress
from perfdoctor.compare.checks import (
    IMPROVED,
    INCONCLUSIVE,
    PASS,
    REGRESSION,
    CheckedSide,
    CheckResult,
    Criterion,
    Judged,
    overall,
)
from perfdoctor.compare.differences import setting_differences
from perfdoctor.compare.judging import ordered
from perfdoctor.compare.shifts import Shift, direction
from perfdoctor.gate import baseline_file
from perfdoctor.gate.asked import Asked, Measured
from perfdoctor.gate.baseline_file import Session
from perfdoctor.gate.history_store import Store
from perfdoctor.gate.sessions import measure_session
from perfdoctor.gate.with_baseline import CLEARLY, doubts, level_of, of_pull_request
from perfdoctor.record import Floats
from perfdoctor.render.text import counted
from perfdoctor.stats import student_t

#: So many of the newest results are looked at.
SERIES = 100
FEWEST_RESULTS = 2 * SHORTEST
#: A change further back has been told already, and is the level that people live with.
RECENT = 2 * SHORTEST
#: Levels are taken to scatter by so much at least: a few may agree by chance.
_LEAST_SPREAD = 0.01
_EQUIVALENT = 0.99
#: The error of a median, as a multiple of that of a mean.
_OF_MEDIAN = 1.2533
_SMALL = (
    "A series of results can tell changes of 10 % and more, so that smaller margins count as 10 %; "
    "--against REV tells 5 %."
)

_PROPOSED = (
    "Not added: this is a pull request, and what is not merged must not move the level that it is "
    "compared with."
)


def check(asked: Asked, place: str, progress: Progress) -> CheckResult:
    """Measures, adds the result to the series, and looks for changes.

    Raises:
        PerfdoctorError: the series cannot be read or written, or the code cannot run.
    """
    began = time.monotonic()
    store = Store(place)  # before anything is measured
    try:
        with interrupts.heard():
            session = measure_session(asked, progress)
        series, doubt = series_of(asked.measured, session), doubts(session)
        proposed = of_pull_request(os.environ)
        if doubt is None and not proposed:
            store.add(series, asked.measured.name, session)
        past = store.sessions(series, SERIES)
    finally:
        store.close()
    if doubt is None and proposed:
        past = [*past, session][-SERIES:]
    result = judge(asked.criteria, past, session, doubt)
    return replace(
        result,
        measured=asked.measured.name,
        seconds=time.monotonic() - began,
        notes=(*([_PROPOSED] if proposed else []), *result.notes),
    )


def series_of(measured: Measured, session: Session) -> str:
    """The same workload, from the same files, with the same fingerprint is one series."""
    alike = [session.fingerprint, session.files] if session.files else session.fingerprint
    machine = msgspec.json.encode(alike, order="sorted")
    return f"{baseline_file.identity(measured)}-{hashlib.sha256(machine).hexdigest()[:16]}"


def judge(
    criteria: Sequence[Criterion], past: Sequence[Session], session: Session, doubt: str | None
) -> CheckResult:
    """What the series tells; its last element is `session`, unless there is a doubt about it."""
    found = [_of_criterion(c, past, doubt) for c in criteria]
    judged = tuple(told for told, _ in found)
    notes = [note for _, notes in found for note in notes]
    notes += [_SMALL] if any(c.margin < LEAST_CHANGE for c in criteria) else []
    keys = ordered({key for process in session.processes for key in process})
    older = _older(criteria, past)
    return CheckResult(
        outcome=overall(judged),
        way="history",
        measured="",
        before=CheckedSide(name=f"{len(past)} results"),
        after=CheckedSide(name="now", commit=session.commit, dirty=session.dirty),
        judged=judged,
        shifts=tuple(_shift(key, past, session, comparable=doubt is None) for key in keys),
        why=tuple(setting_differences(older, [session.configuration] if older else [])),
        notes=(*([f"Not added: {doubt}."] if doubt else []), *notes),
        pairs=len(session.processes),
        protocol={"results": len(past), "pairs": "one after the other"},
        raw={key: tuple(level_of(key, s) for s in past) for key in keys},
    )


def _older(criteria: Sequence[Criterion], past: Sequence[Session]) -> list[Mapping[str, Any]]:
    """The settings of the last result before the newest level; none where there is no other."""
    series = _Series.of(criteria[0].key, past)
    since = len(series.levels) - 1
    if len(series.levels) >= FEWEST_RESULTS:
        since = series.newest()[0].since
    return [session.configuration for session in series.sessions[max(0, since - 1) : since]]


def _shift(key: str, past: Sequence[Session], session: Session, *, comparable: bool) -> Shift:
    """What a quantity is now, and how it has changed, as far as the series tells."""
    name, statistic = key.split(":")
    unit = "bytes" if name == "memory" else "s"
    series = _Series.of(key, past)
    scale, now = series.scale(session), series.level(key, session)
    after = None if now is None else math.exp(now + scale)
    bare = Shift(name=name, statistic=statistic, unit=unit, before=None, after=after)
    if not comparable or len(series.levels) < FEWEST_RESULTS:
        earlier = series.levels[: len(series.levels) - comparable]
        if not earlier:
            return bare
        level = float(np.median(earlier)) + scale
        return replace(bare, before=math.exp(level), direction="unclear")
    newest, _ = series.newest()
    ends = newest.size - newest.reach, newest.size + newest.reach
    return replace(
        bare,
        before=math.exp(newest.before + scale),
        after=math.exp(newest.after + scale),
        ratio=math.exp(newest.size),
        ratio_ci=(math.exp(ends[0]), math.exp(ends[1])),
        direction=direction(*ends, unit),
    )


@dataclass(frozen=True)
class _Series:
    """Levels (logarithms) of the results that have the quantity.

    Divided by the kernels, unless that makes neighbours differ more, as of work for a disk or a
    GPU: see `with_baseline`.
    """

    sessions: tuple[Session, ...]
    levels: tuple[float, ...]
    divided: bool

    @classmethod
    def of(cls, key: str, past: Sequence[Session]) -> _Series:
        divided, bare = (cls._of(key, past, divided=yes) for yes in (True, False))
        return bare if bare._jitter * CLEARLY <= divided._jitter else divided

    @classmethod
    def _of(cls, key: str, past: Sequence[Session], *, divided: bool) -> _Series:
        known = [(s, v) for s in past if (v := level_of(key, s, divided=divided)) is not None]
        divided = divided and not key.startswith("memory")
        return cls(tuple(s for s, _ in known), tuple(v for _, v in known), divided)

    @property
    def _jitter(self) -> float:
        """How much neighbours differ, which a change of level hardly moves."""
        if len(self.levels) < FEWEST_RESULTS:
            return math.inf
        return max(_LEAST_SPREAD, float(np.median(np.abs(np.diff(self.levels)))))

    def level(self, key: str, session: Session) -> float | None:
        """Of a session, as those of the series."""
        return level_of(key, session, divided=self.divided)

    def scale(self, session: Session) -> float:
        """Gives levels the machine of a session."""
        return session.kernels_log if self.divided else 0.0

    def newest(self) -> tuple[_Newest, list[Change]]:
        """The newest level, and all changes."""
        levels = np.array(self.levels)
        changes = find_changes(levels)
        return _Newest.of(levels, changes), list(changes)


def _of_criterion(
    criterion: Criterion, past: Sequence[Session], doubt: str | None
) -> tuple[Judged, list[str]]:
    criterion = replace(criterion, margin=max(criterion.margin, LEAST_CHANGE))
    bare = Judged(criterion=criterion, outcome=INCONCLUSIVE)
    series = _Series.of(criterion.key, past)
    if doubt is not None:
        return replace(bare, reason=doubt), []
    if len(series.levels) < FEWEST_RESULTS:
        count = counted(len(series.levels), "result")
        reason = f"the series has {count}, and {FEWEST_RESULTS} are needed"
        return replace(bare, reason=reason), []
    newest, changes = series.newest()
    scale = series.scale(series.sessions[-1])
    notes = [_sentence(criterion, series, change) for change in changes]
    told = replace(newest.told(bare, scale), pairs=len(series.levels))
    margin = math.log1p(criterion.margin)
    if newest.jumped and newest.size > margin:
        return replace(told, outcome=REGRESSION), notes
    if newest.jumped and newest.size < 0:
        return replace(told, outcome=IMPROVED), notes
    if newest.size + newest.reach < margin:
        return replace(told, outcome=PASS), notes
    return replace(told, reason=newest.doubt(criterion)), notes


@dataclass(frozen=True)
class _Newest:
    """The newest level against the one before it, as logarithms.

    Medians, so that one bad result does not count. `jumped`: it is a change of level; without
    one, the newest results are compared with those since the last change. `since`: the result with
    which the newest level begins.
    """

    before: float
    after: float
    error: float
    freedom: int
    jumped: bool
    since: int

    @classmethod
    def of(cls, levels: Floats, changes: Sequence[Change]) -> _Newest:
        long_ago = levels.size - RECENT
        jumped = bool(changes) and changes[-1].index >= long_ago
        start = max((change.index for change in changes if change.index < long_ago), default=0)
        cut = changes[-1].index if jumped else levels.size - SHORTEST
        old, new = levels[start:cut], levels[cut:]
        apart = np.abs(np.concatenate([old - np.median(old), new - np.median(new)]))
        freedom = old.size + new.size - 2
        # a normal distribution's median deviation, less what taking two medians from it hides
        sigma = 1.4826 * float(np.median(apart)) * math.sqrt((freedom + 2) / freedom)
        error = _OF_MEDIAN * max(_LEAST_SPREAD, sigma) * math.sqrt(1 / old.size + 1 / new.size)
        return cls(float(np.median(old)), float(np.median(new)), error, freedom, jumped, cut)

    @property
    def size(self) -> float:
        return self.after - self.before

    @property
    def reach(self) -> float:
        """How far the true change may be from this one, to one side."""
        return student_t(self.freedom, _EQUIVALENT) * self.error

    def told(self, bare: Judged, scale: float) -> Judged:
        """The numbers, with nothing decided; `scale` gives the machine of today."""
        ends = self.size - self.reach, self.size + self.reach
        seen = self.reach + student_t(self.freedom, 0.8) * self.error
        return replace(
            bare,
            before=math.exp(self.before + scale),
            after=math.exp(self.after + scale),
            change=math.expm1(self.size),
            interval=(math.expm1(ends[0]), math.expm1(ends[1])),
            confidence=2 * _EQUIVALENT - 1,
            seen=math.expm1(seen) if seen < 1 else None,
        )

    def doubt(self, criterion: Criterion) -> str:
        """Why it is no pass."""
        if self.size > self.reach:
            return "it has risen, but not at once: there is no result with which it began"
        return f"the results differ too much to show less than {100 * criterion.margin:g} %"


def _sentence(criterion: Criterion, series: _Series, change: Change) -> str:
    first, before = series.sessions[change.index], series.sessions[change.index - 1]
    more = 100 * math.expm1(change.after - change.before)
    return (
        f"{criterion.name} changed by {more:+.0f} % between {_place(before)} and {_place(first)}."
    )


def _place(session: Session) -> str:
    return f"{(session.commit or 'an unknown commit')[:10]} ({session.created_at[:16]})"
