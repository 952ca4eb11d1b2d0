"""A run that evaluates for longer than it trains, outside of its training steps."""

from __future__ import annotations

from perfdoctor.report import Diagnosis
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.judging import BOTTLENECK_SHARE
from perfdoctor.rules.logs import wall_parts
from perfdoctor.rules.observed import at, hot_lines
from perfdoctor.rules.whole_run import is_whole
from perfdoctor.rules.wording import percent, seconds

_VALIDATION = "validation"
#: Of the whole run: what takes more than everything else together is what the run does (our own
#: choice; a test at the end of a training takes less).
_MOST_OF_IT = 0.5
#: What a whole run took is known, and its parts are exact; what it is for is not.
_CONFIDENCE = 0.8


def evaluating_bound(facts: Facts) -> Diagnosis | None:
    """The verdict on a whole run of which more than half is evaluation, nearly all of it before the
    first or after the last training step: a search among what was trained, say."""
    if not is_whole(facts):
        return None
    part = wall_parts(facts).get(_VALIDATION)
    if part is None or part.share < _MOST_OF_IT:
        return None
    if (facts.known(f"stages.{_VALIDATION}.share") or 0.0) >= BOTTLENECK_SHARE:
        return None  # that among the steps is for those who know how often it happens
    line = next(iter(hot_lines(facts, _VALIDATION)), None)
    return Diagnosis(
        verdict="evaluation-bound",
        bottleneck=_VALIDATION,
        share=part.share,
        confidence=_CONFIDENCE,
        summary=f"Evaluating takes {percent(part.share)} of the run ({seconds(part.seconds)}), "
        f"nearly all of it outside of the training's steps{at(line)}. Look whether the same is "
        "evaluated again, and whether larger batches make it shorter.",
        of="run",
    )
