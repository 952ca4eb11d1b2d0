"""What the verdicts on a measurement and on a log have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from perfdoctor.report import Diagnosis, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.groups import OVERHEAD, group_of
from perfdoctor.rules.wording import percent, seconds

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
    best = _best_of(findings, group)
    return 1.0 if best is None or best.predicted is None else best.predicted.speedup


def mended_stage(findings: Sequence[Finding], group: str) -> str | None:
    """The stage in `group` where most is gained; None where no fault is known to be in it."""
    best = _best_of(findings, group)
    return None if best is None else best.stage


def best_fault(findings: Iterable[Finding]) -> Finding | None:
    """The fault with the largest gain that is predicted; None where none is."""
    faults = [f for f in findings if f.predicted is not None and not f.optional]
    return max(faults, key=lambda f: f.predicted.speedup if f.predicted else 0.0, default=None)


def overhead_of_run(
    facts: Facts, fault: Finding, share: float, what: str, more: str = ""
) -> Diagnosis:
    """The verdict on a whole run of which so much goes into `what`."""
    whole_s = facts.number("wall.total_s")
    return Diagnosis(
        verdict=f"{OVERHEAD}-bound",
        bottleneck=fault.stage,
        share=share,
        confidence=fault.confidence,
        summary=f"{what} takes {percent(share)} of the run ({seconds(share * whole_s)} of "
        f"{seconds(whole_s)}){more}.",
        of="run",
    )


def _best_of(findings: Iterable[Finding], group: str) -> Finding | None:
    return best_fault(f for f in findings if group_of(f.stage) == group)


def smoothed(agreeing: int, parts: int) -> float:
    """Laplace's rule of succession: no finite number of agreements makes certain."""
    return (agreeing + 1) / (parts + 2)
