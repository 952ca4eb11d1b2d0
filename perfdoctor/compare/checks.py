"""What a check asks and answers: criteria, what each came to, and the whole result."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from perfdoctor import schema
from perfdoctor.compare.differences import Difference
from perfdoctor.compare.shifts import Shift
from perfdoctor.errors import (
    EXIT_DONE,
    EXIT_GATE_FAILED,
    EXIT_INCONCLUSIVE,
    PerfdoctorError,
)
from perfdoctor.report import Interval

CHECK_VERSION = 1
#: `cpu` is processor time of the training process per step: blind to waits, and hardly moved by
#: other programs. In twelve pairs of identical code, while 10 to 19 programs wanted to run on two
#: cores, its spread was 2.5 %, that of p25 5.7 %.
STATISTICS = ("p25", "p50", "p95", "mean", "min", "cpu", "peak")
#: The lower quartile misses rare stalls and little else: of all statistics that were tried, it
#: tells 5 % from nothing in the fewest pairs.
DEFAULT = "step:p25:5%"
_FORM = re.compile(r"([\w.-]+)(?::(\w+))?:([\d.]+)\s*%?")

PASS, REGRESSION, INCONCLUSIVE, IMPROVED = "pass", "regression", "inconclusive", "improved"


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """What must not get worse by `margin` (a share) or more. `fails`: else it only warns.

    `metric` is step, memory or a stage; `statistic` one of `STATISTICS`.
    """

    metric: str
    statistic: str
    margin: float
    fails: bool = True

    @property
    def key(self) -> str:
        """ "step:p25": what is measured for it."""
        return f"{self.metric}:{self.statistic}"

    @property
    def part(self) -> float:
        """Of the margin: a change that is measured as less fails nothing.

        Times scatter about what is true, so that a slowdown of just the margin is measured as less
        every second time. Peak memory hardly scatters.
        """
        return 1.0 if self.metric == "memory" else 0.5

    @property
    def name(self) -> str:
        """ "step p25"."""
        return f"{self.metric} {self.statistic}"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What came of a criterion.

    Attributes:
        outcome: pass (shown to be less than the margin), regression, improved, inconclusive.
        before, after: typical values, in seconds or bytes. change: relative, as a share; of the
            pairs, not of those two. interval: of the change.
        pairs: how many decided it. seen: a change that so many pairs of this spread would have
            shown, four times out of five; None where nothing is known.
        reason: why it is inconclusive.
    """

    criterion: Criterion
    outcome: str
    before: float | None = None
    after: float | None = None
    change: float | None = None
    interval: Interval | None = None
    confidence: float | None = None
    pairs: int = 0
    seen: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class CheckedSide:
    """One of the two sides: which code, from where it ran, on what."""

    name: str
    commit: str | None = None
    dirty: bool = False
    place: str | None = None
    verdict: str | None = None
    summary: str | None = None


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """All that a check says.

    Attributes:
        outcome: pass, regression or inconclusive. way: against, baseline or history.
        measured: what was run. shifts: every quantity that was measured, judged or not.
        why: what else differs between the two sides.
        raw: per pair and key the logarithm of new ÷ old, for statistics of your own.
        protocol: how it was measured.
    """

    schema_version: int = CHECK_VERSION
    kind: str = "check"
    tool: dict[str, str] = field(default_factory=schema.tool)
    created_at: str = field(default_factory=schema.now)
    outcome: str
    way: str
    measured: str
    before: CheckedSide
    after: CheckedSide
    judged: tuple[Judged, ...]
    shifts: tuple[Shift, ...] = ()
    why: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    pairs: int = 0
    seconds: float = 0.0
    protocol: dict[str, Any] = field(default_factory=dict)
    raw: dict[str, tuple[float | None, ...]] = field(default_factory=dict)

    def exit_code(self, inconclusive: str | None = None) -> int:
        """0 pass, 1 regression, 3 inconclusive; the last as `inconclusive` (pass, fail) says."""
        if self.outcome == REGRESSION:
            return EXIT_GATE_FAILED
        if self.outcome == PASS or inconclusive == "pass":
            return EXIT_DONE
        return EXIT_GATE_FAILED if inconclusive == "fail" else EXIT_INCONCLUSIVE


def parse(text: str, *, fails: bool) -> Criterion:
    """A criterion from "step:p50:5%", "data_loading:20%", "memory:peak:10%".

    Raises:
        PerfdoctorError: it reads otherwise.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise _bad(text, "write METRIC:STATISTIC:PERCENT, such as step:p50:5%")
    metric, statistic, percent = found[1], found[2], _percent(found[3])
    usual = "peak" if metric == "memory" else "p25" if metric == "step" else "p50"
    statistic = statistic or usual
    if statistic not in STATISTICS:
        raise _bad(text, f"there is no {statistic!r}; choose among {', '.join(STATISTICS)}")
    if (metric == "memory") != (statistic == "peak"):
        raise _bad(text, "memory has a peak and nothing else, and nothing else has one")
    if statistic == "cpu" and metric != "step":
        raise _bad(text, "processor time is known of whole steps only: step:cpu")
    if percent is None or not 0.5 <= percent <= 100:
        raise _bad(text, "the margin must lie between 0.5 % and 100 %")
    return Criterion(metric=metric, statistic=statistic, margin=percent / 100, fails=fails)


def parse_all(fail_on: Sequence[str], warn_on: Sequence[str]) -> tuple[Criterion, ...]:
    """All of them; without any `fail_on` the default one.

    Raises:
        PerfdoctorError: one reads otherwise, or two are of the same quantity.
    """
    found = [parse(text, fails=True) for text in fail_on or (DEFAULT,)]
    found += [parse(text, fails=False) for text in warn_on]
    for level in (True, False):
        keys = [c.key for c in found if c.fails is level]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise PerfdoctorError(f"{twice} is asked for twice", slug="criterion-twice")
    return tuple(found)


def _percent(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _bad(text: str, way_out: str) -> PerfdoctorError:
    return PerfdoctorError(f"cannot read the criterion {text!r}: {way_out}", slug="bad-criterion")


def overall(judged: Sequence[Judged]) -> str:
    """One regression fails the check; it passes when all that may fail it are shown to be well."""
    outcomes = [found.outcome for found in judged if found.criterion.fails]
    if REGRESSION in outcomes:
        return REGRESSION
    return INCONCLUSIVE if INCONCLUSIVE in outcomes else PASS
