"""`--baseline FILE`: this code now, against sessions of other days on the same kind of machine.

Identical code drifts by 9.5 % within an hour. Dividing by two kernels that drift alike leaves so
little that ten processes against five sessions gave 0.1 to 1.0 % false alarms at 10 %, and found
99.8 % of the slowdowns of 10 %. So nothing smaller is promised, and nothing is said where the
machine is another one, busy, or changed its speed meanwhile. Times that do not drift as the kernels
do, as the stored sessions show, are compared as they are.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from perfdoctor import interrupts
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
from perfdoctor.errors import PerfdoctorError
from perfdoctor.gate import baseline_file
from perfdoctor.gate.asked import Asked
from perfdoctor.gate.baseline_file import Baseline, Session
from perfdoctor.gate.sessions import FEWEST, measure_session
from perfdoctor.stats import student_t

#: The least slowdown of times that is promised to be found, and judged by.
LEAST_MARGIN = 0.10
#: With fewer sessions their spread is not known: five were calibrated.
FEWEST_SESSIONS = 3
#: Vetoes: a larger part of the machine taken by others, or kernels that differ by more between
#: before and after, and a session says nothing.
MOST_FOREIGN, MOST_DRIFT = 0.25, 0.05
#: Sessions are taken to differ by so much at least: a few may agree by chance.
_LEAST_SPREAD = 0.01
_SLOWER, _EQUIVALENT = 0.995, 0.99
#: One way of comparing is the better one where sessions spread by so much less (our own choice).
CLEARLY = 2.0


def check(asked: Asked, path: Path, *, update: bool, progress: Progress) -> CheckResult:
    """Measures, compares, and stores if asked to.

    Raises:
        PerfdoctorError: there is no such baseline, it cannot be read or is of something else, or
            the code cannot run.
    """
    began = time.monotonic()
    if update:
        refuse_in_pull_requests(os.environ)
    stored = _stored(asked, path, may_be_missing=update)
    with interrupts.heard():
        session = measure_session(asked, progress)
    doubt = doubts(session)
    if update and doubt is None:
        with baseline_file.held(path):  # another check may have added one meanwhile
            stored = _stored(asked, path, may_be_missing=True)
            baseline_file.write(path, stored.with_session(session))
    result = judge(asked.criteria, stored, session, doubt)
    return replace(
        result,
        measured=asked.measured.name,
        seconds=time.monotonic() - began,
        notes=(*result.notes, *_stored_note(path, stored, update, doubt)),
        outcome=PASS if update and doubt is None else result.outcome,
    )


def _stored(asked: Asked, path: Path, *, may_be_missing: bool) -> Baseline:
    if not may_be_missing or path.exists():
        return baseline_file.read(path, asked.measured)
    name = asked.measured.name
    return Baseline(measured=name, identity=baseline_file.identity(asked.measured))


def of_pull_request(environment: Mapping[str, str]) -> bool:
    """Whether this is a CI job of a pull or merge request."""
    event = environment.get("GITHUB_EVENT_NAME", "")
    return event.startswith("pull_request") or bool(environment.get("CI_MERGE_REQUEST_IID"))


def refuse_in_pull_requests(environment: Mapping[str, str]) -> None:
    """A baseline that the code under test may move is none.

    Raises:
        PerfdoctorError: this is a CI job of a pull or merge request.
    """
    if of_pull_request(environment):
        raise PerfdoctorError(
            "--update-baseline is not for pull requests: run it on the main branch",
            slug="baseline-update-refused",
        )


def doubts(session: Session) -> str | None:
    """Why this session says nothing, if so."""
    if session.foreign_share > MOST_FOREIGN:
        return (
            f"other programs took {100 * session.foreign_share:.0f} % of the machine "
            f"(at most {100 * MOST_FOREIGN:.0f} %)"
        )
    drift = math.expm1(abs(session.after.log - session.before.log))
    if drift > MOST_DRIFT:
        return (
            f"the machine's own speed changed by {100 * drift:.1f} % meanwhile "
            f"(at most {100 * MOST_DRIFT:.0f} %)"
        )
    if len(session.processes) < FEWEST:
        return f"only {len(session.processes)} processes could be measured in time"
    return None


def _stored_note(path: Path, stored: Baseline, update: bool, doubt: str | None) -> tuple[str, ...]:
    if not update:
        return ()
    if doubt is not None:
        return (f"Nothing was stored: {doubt}.",)
    count = min(baseline_file.KEPT, len(stored.sessions) + 1)
    more = "" if count >= 5 else "; five, on different occasions, make a good baseline"
    return (f"Stored in {path}: {count} session{'s' if count > 1 else ''} now{more}.",)


def judge(
    criteria: Sequence[Criterion], stored: Baseline, session: Session, doubt: str | None
) -> CheckResult:
    """What comes of comparing a session with those that are stored."""
    alike = [s for s in stored.sessions if s.fingerprint == session.fingerprint]
    usable = [s for s in alike if doubts(s) is None and s.other_work(session) is None]
    reason = doubt or _incomparable(stored, usable, session)
    compared = [_comparisons(c.key, usable, session) for c in criteria]
    level = 1 - (1 - _SLOWER) / max(1, sum(c.fails for c in criteria))
    judged = tuple(
        _agreed([_judged(c, one, reason, level) for one in found])
        for c, found in zip(criteria, compared, strict=True)
    )
    now = [session.configuration] if usable else []
    keys = ordered(key for process in session.processes for key in process)
    shifts = [_comparisons(key, usable, session)[0].shift(key) for key in keys]
    small = any(c.margin < LEAST_MARGIN and c.metric != "memory" for c in criteria)
    return CheckResult(
        outcome=overall(judged),
        way="baseline",
        measured=stored.measured,
        before=_side("baseline", usable[-1] if usable else None),
        after=_side("now", session),
        judged=judged,
        shifts=tuple(s for s in shifts if s is not None),
        why=tuple(setting_differences([s.configuration for s in usable[-1:]], now)),
        notes=(_SMALL,) if small else (),
        pairs=len(session.processes),
        protocol={"sessions": len(usable), "pairs": "one after the other"},
        raw={key: tuple(p.get(key) for p in session.processes) for key in keys},
    )


_SMALL = (
    "A stored baseline can tell slowdowns of 10 % and more, so that smaller margins count as 10 %; "
    "--against REV tells 5 %."
)


def _side(name: str, session: Session | None) -> CheckedSide:
    if session is None:
        return CheckedSide(name=name)
    return CheckedSide(name=name, commit=session.commit, dirty=session.dirty)


def _incomparable(stored: Baseline, usable: Sequence[Session], session: Session) -> str | None:
    if len(usable) >= FEWEST_SESSIONS:
        return None
    if stored.sessions and not usable:
        last = stored.sessions[-1].fingerprint
        names = [n for n, v in session.fingerprint.items() if last.get(n) != v]
        told = "; ".join(f"{n} {last.get(n)} → {session.fingerprint[n]}" for n in names[:3])
        told = told or stored.sessions[-1].other_work(session) or ""
        return f"incomparable with the baseline: {told}" if told else "no usable session is stored"
    return (
        f"the baseline has {len(usable)} comparable session{'s' if len(usable) != 1 else ''}, and "
        f"{FEWEST_SESSIONS} are needed: --update-baseline on other occasions adds them"
    )


def _comparisons(key: str, usable: Sequence[Session], session: Session) -> list[_Compared]:
    """Divided by the kernels where that makes the stored sessions agree better; as it is where
    that makes them agree worse, as with work of a disk or a GPU; else both ways."""
    found = [_Compared.of(key, usable, session, divided=divided) for divided in (True, False)]
    spreads = [one.spread for one in found]
    for one, other in ((0, 1), (1, 0)):
        if spreads[one] * CLEARLY <= spreads[other]:
            return [found[one]]
    error = min(one.error for one in found)
    return [replace(one, error=error) for one in found]


def _agreed(found: Sequence[Judged]) -> Judged:
    """What all ways of comparing come to; inconclusive where they do not agree."""
    outcomes = {told.outcome for told in found}
    if outcomes <= {PASS, IMPROVED}:
        return next((told for told in found if told.outcome == PASS), found[0])
    if len(outcomes) == 1:
        return found[0]
    return replace(
        found[0],
        outcome=INCONCLUSIVE,
        reason=found[0].reason
        or "the machine's own speed is another one than in the baseline, "
        "and the stored sessions do not show whether that changes these times",
    )


@dataclass(frozen=True)
class _Compared:
    """One quantity: log(now ÷ baseline), after both were divided by the kernels or as it is, and
    its error. `spread` of the stored sessions."""

    before: float | None = None
    after: float | None = None
    difference: float | None = None
    error: float = math.inf
    freedom: int = 0
    spread: float = math.inf

    @classmethod
    def of(
        cls, key: str, usable: Sequence[Session], session: Session, *, divided: bool
    ) -> _Compared:
        now = level_of(key, session, divided=divided)
        levels = (level_of(key, s, divided=divided) for s in usable)
        past = np.array([level for level in levels if level is not None])
        divided = divided and not key.startswith("memory")
        scale = session.kernels_log if divided else 0.0
        after = None if now is None else math.exp(now + scale)
        if now is None or past.size == 0:
            return cls(after=after)
        before = math.exp(float(past.mean()) + scale)
        spread = max(_LEAST_SPREAD, float(past.std(ddof=1))) if past.size > 1 else math.inf
        error = spread * math.sqrt(1 + 1 / past.size)
        return cls(before, after, now - float(past.mean()), error, past.size - 1, spread)

    def reach(self, one_sided: float) -> float:
        if self.freedom < 1:
            return math.inf
        return student_t(self.freedom, one_sided) * self.error

    def shift(self, key: str) -> Shift | None:
        name, statistic = key.split(":")
        unit = "bytes" if name == "memory" else "s"
        bare = Shift(
            name=name, statistic=statistic, unit=unit, before=self.before, after=self.after
        )
        if self.difference is None or self.freedom < 1:
            return bare
        low, high = (self.difference + sign * self.reach(_SLOWER) for sign in (-1, 1))
        return replace(
            bare,
            ratio=math.exp(self.difference),
            ratio_ci=(math.exp(low), math.exp(high)),
            direction=direction(low, high, unit),
        )


def level_of(key: str, session: Session, *, divided: bool = True) -> float | None:
    """Mean logarithm over the processes; of times, less that of the kernels if `divided`."""
    values = [p[key] for p in session.processes if p.get(key, 0.0) > 0]
    if not values:
        return None
    level = float(np.log(values).mean())
    return level - session.kernels_log if divided and not key.startswith("memory") else level


def _judged(criterion: Criterion, found: _Compared, reason: str | None, level: float) -> Judged:
    least = 0.0 if criterion.metric == "memory" else LEAST_MARGIN
    criterion = replace(criterion, margin=max(criterion.margin, least))
    margin = math.log1p(criterion.margin)
    bare = Judged(criterion=criterion, outcome=INCONCLUSIVE, before=found.before, after=found.after)
    if found.difference is None or found.freedom < 1 or reason is not None:
        return replace(
            bare, reason=reason or f"{criterion.name} was not measured on both occasions"
        )
    reach = found.reach(_EQUIVALENT)
    told = replace(
        bare,
        change=math.expm1(found.difference),
        interval=(math.expm1(found.difference - reach), math.expm1(found.difference + reach)),
        confidence=2 * _EQUIVALENT - 1,
        pairs=found.freedom + 1,
        seen=math.expm1(found.reach(level) + student_t(found.freedom, 0.8) * found.error),
    )
    least = criterion.part * margin
    if found.difference > max(least, found.reach(level)):
        return replace(told, outcome=REGRESSION)
    if found.difference + reach < margin:
        better = found.difference < -max(least, found.reach(level))
        return replace(told, outcome=IMPROVED if better else PASS)
    return replace(told, reason="the sessions differ too much among themselves to tell")
