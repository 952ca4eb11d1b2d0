"""Results of checks to show."""

from __future__ import annotations

from typing import Any

from perfdoctor.compare.checks import CheckedSide, CheckResult, Criterion, Judged
from perfdoctor.compare.differences import Difference
from perfdoctor.compare.shifts import Shift

STEP = Criterion(metric="step", statistic="p25", margin=0.05)
MEMORY = Criterion(metric="memory", statistic="peak", margin=0.1)
FORWARD = Criterion(metric="forward", statistic="p50", margin=0.2, fails=False)


def judged(outcome: str, criterion: Criterion = STEP, **overrides: Any) -> Judged:
    """Of five pairs."""
    change = {"regression": 0.08, "improved": -0.08}.get(outcome, 0.004)
    fields: dict[str, Any] = {
        "before": 0.005,
        "after": 0.005 * (1 + change),
        "change": change,
        "interval": (change - 0.01, change + 0.01),
        "confidence": 0.98,
        "pairs": 5,
        "seen": 0.04,
    }
    return Judged(criterion=criterion, outcome=outcome, **(fields | overrides))


def result(outcome: str = "pass", **overrides: Any) -> CheckResult:
    """A check with this outcome of its only criterion."""
    fields: dict[str, Any] = {
        "tool": {"name": "perfdoctor", "version": "0.1.0"},
        "created_at": "2026-01-02T03:04:05+00:00",
        "outcome": outcome,
        "way": "against",
        "measured": "bench.py",
        "before": CheckedSide(name="main", commit="a" * 40, verdict="compute-bound"),
        "after": CheckedSide(name="HEAD", commit="b" * 40, verdict="input-bound"),
        "judged": (judged(outcome),),
        "shifts": (
            Shift(
                name="step", statistic="p25", unit="s", before=0.005, after=0.0054, ratio=1.08,
                ratio_ci=(1.07, 1.09), direction="slower",
            ),
            Shift(name="memory", statistic="peak", unit="bytes", before=2.0**30, after=2.0**30),
        ),
        "why": (
            Difference(kind="configuration", name="num_workers", before=4, after=0),
            Difference(kind="hot_line", name="train.py:36 f", before=None, after=0.32),
        ),
        "pairs": 5,
        "seconds": 31.0,
        "protocol": {"pairs": "in lock step"},
    }  # fmt: skip
    return CheckResult(**(fields | overrides))
