"""`--history`: has the level of a series of results changed for good?

A trend and not a gate for one change: a new level is believed when it has lasted for five
results. Each is divided by the kernels that drift as the machine does.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

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
from perfdoctor.gate import baseline_file, ending
from perfdoctor.gate.asked import Asked, Measured
from perfdoctor.gate.baseline_file import Session
from perfdoctor.gate.history_store import Store
from perfdoctor.gate.sessions import measure_session
from perfdoctor.gate.with_baseline import doubts, level_of

#: So many of the newest results are looked at.
SERIES = 100
FEWEST_RESULTS = 2 * SHORTEST
#: A change further back has been told already, and is the level that people live with.
RECENT = 2 * SHORTEST


def check(asked: Asked, place: str, progress: Progress) -> CheckResult:
    """Measures, adds the result to the series, and looks for changes.

    Raises:
        PerfdoctorError: the series cannot be read or written, or the code cannot run.
    """
    began = time.monotonic()
    store = Store(place)  # before anything is measured
    try:
        with ending.heard():
            session = measure_session(asked, progress)
        series, doubt = series_of(asked.measured, session), doubts(session)
        if doubt is None:
            store.add(series, asked.measured.name, session)
        past = store.sessions(series, SERIES)
    finally:
        store.close()
    result = judge(asked.criteria, past, session, doubt)
    return replace(result, measured=asked.measured.name, seconds=time.monotonic() - began)


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
    keys = sorted({key for process in session.processes for key in process})
    return CheckResult(
        outcome=overall(judged),
        way="history",
        measured="",
        before=CheckedSide(name=f"{len(past)} results"),
        after=CheckedSide(name="now", commit=session.commit, dirty=session.dirty),
        judged=judged,
        notes=(*([f"Not added: {doubt}."] if doubt else []), *notes),
        pairs=len(session.processes),
        protocol={"results": len(past), "pairs": "one after the other"},
        raw={key: tuple(level_of(key, s) for s in past) for key in keys},
    )


@dataclass(frozen=True)
class _Series:
    """Levels (logarithms, kernels divided out) of the results that have the quantity."""

    sessions: tuple[Session, ...]
    levels: tuple[float, ...]

    @classmethod
    def of(cls, key: str, past: Sequence[Session]) -> _Series:
        known = [(s, v) for s in past if (v := level_of(key, s)) is not None]
        return cls(tuple(s for s, _ in known), tuple(v for _, v in known))


def _of_criterion(
    criterion: Criterion, past: Sequence[Session], doubt: str | None
) -> tuple[Judged, list[str]]:
    criterion = replace(criterion, margin=max(criterion.margin, LEAST_CHANGE))
    bare = Judged(criterion=criterion, outcome=INCONCLUSIVE)
    series = _Series.of(criterion.key, past)
    if doubt is not None:
        return replace(bare, reason=doubt), []
    if len(series.levels) < FEWEST_RESULTS:
        reason = f"the series has {len(series.levels)} results, and {FEWEST_RESULTS} are needed"
        return replace(bare, reason=reason), []
    changes = find_changes(np.array(series.levels))
    scale = 0.0 if criterion.metric == "memory" else series.sessions[-1].kernels_log
    notes = [_sentence(criterion, series, change) for change in changes]
    last = changes[-1] if changes else None
    if last is None:
        level = math.exp(float(np.median(series.levels)) + scale)
        return replace(bare, outcome=PASS, before=level, after=level, change=0.0,
                       pairs=len(series.levels)), notes  # fmt: skip
    size = last.after - last.before
    told = replace(
        bare,
        before=math.exp(last.before + scale),
        after=math.exp(last.after + scale),
        change=math.expm1(size),
        pairs=len(series.levels),
    )
    recent = last.index >= len(series.levels) - RECENT
    worse = recent and size > math.log1p(criterion.margin)
    outcome = REGRESSION if worse else IMPROVED if recent and size < 0 else PASS
    return replace(told, outcome=outcome), notes


def _sentence(criterion: Criterion, series: _Series, change: Change) -> str:
    first, before = series.sessions[change.index], series.sessions[change.index - 1]
    more = 100 * math.expm1(change.after - change.before)
    return (
        f"{criterion.name} changed by {more:+.0f} % between {_place(before)} and {_place(first)}."
    )


def _place(session: Session) -> str:
    return f"{(session.commit or 'an unknown commit')[:10]} ({session.created_at[:16]})"
