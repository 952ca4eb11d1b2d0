"""What the verdicts on a measurement and on a log have in common."""

from __future__ import annotations

from collections.abc import Sequence

from perfdoctor.report import Diagnosis, Finding
from perfdoctor.rules.groups import group_of

#: xprof and TraceML call an exposed share of 20 % high.
BOTTLENECK_SHARE = 0.20
#: TraceML begins to warn at half of that; in between, the advice that helps most decides.
SUSPECT_SHARE = 0.10
#: A gain worth a verdict: twice the 2.1 % by which the median of identical blocks varied.
WORTHWHILE = 1.05


def inconclusive(summary: str) -> Diagnosis:
    """No verdict, and why."""
    return Diagnosis(
        verdict="inconclusive", bottleneck="none", share=0.0, confidence=0.0, summary=summary
    )


def best_gain(findings: Sequence[Finding], group: str) -> float:
    """The largest gain that is predicted for a fault in `group`; 1 if there is none."""
    gains = [
        f.predicted.speedup
        for f in findings
        if f.predicted is not None and not f.optional and group_of(f.stage) == group
    ]
    return max(gains, default=1.0)


def mended_stage(findings: Sequence[Finding], group: str) -> str | None:
    """The stage in `group` where most is gained; None where no fault is known to be in it."""
    faults = [
        f
        for f in findings
        if f.predicted is not None and not f.optional and group_of(f.stage) == group
    ]
    best = max(faults, key=lambda f: f.predicted.speedup if f.predicted else 0.0, default=None)
    return None if best is None else best.stage


def smoothed(agreeing: int, parts: int) -> float:
    """Laplace's rule of succession: no finite number of agreements makes certain."""
    return (agreeing + 1) / (parts + 2)
