"""A symptom stands under its cause: a slow-down, and what was found at the line that grows.

Both tell the same seconds, once as a trend and once with what to do about them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from perfdoctor.report import Finding
from perfdoctor.rules.ranking import Found
from perfdoctor.rules.run_growth import SLOW_DOWN

#: What names the cause has to bring so much of what would be gained without the slow-down, as
#: logarithms (our own choice): a small fault in the same line does not explain it.
_EXPLAINS = 0.8


def under_their_causes(found: Sequence[Found]) -> list[Found]:
    """The findings; a slow-down whose cause another one names becomes a choice of that one."""
    return [_under_its_cause(one, found) for one in found]


def _under_its_cause(one: Found, found: Sequence[Found]) -> Found:
    if one.finding.cause != SLOW_DOWN or one.finding.optional:
        return one
    naming = [other for other in found if _explains(other.finding, one.finding)]
    if not naming:
        return one
    best = max(naming, key=lambda other: _gain(other.finding) * other.finding.confidence)
    return replace(one, finding=replace(one.finding, cause=best.finding.cause, behind=True))


def _explains(finding: Finding, slow_down: Finding) -> bool:
    own = finding.cause != SLOW_DOWN and not finding.optional
    gains = own and _gain(finding) >= _EXPLAINS * _gain(slow_down)
    return gains and bool(_places(finding) & _places(slow_down))


def _places(finding: Finding) -> set[str]:
    return {evidence.where for evidence in finding.evidence if evidence.where}


def _gain(finding: Finding) -> float:
    return math.log(finding.predicted.speedup) if finding.predicted else 0.0
