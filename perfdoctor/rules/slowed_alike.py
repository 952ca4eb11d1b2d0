"""What PD701 says where all that an observed script computes got slower alike.

What a script accumulates is worked on in one place: losses that are averaged anew, hooks, a list
that is searched. Larger batches do not make the update longer. A machine that lends slower cores
slows down whatever computes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perfdoctor.record import Floats
from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.groups import stage_columns
from perfdoctor.rules.observed import is_run
from perfdoctor.rules.trends import Fall, before_and_after
from perfdoctor.rules.wording import listed, stage_words
from perfdoctor.stages import BACKWARD, FORWARD, LOSS, OPTIMIZER, OTHER

_COMPUTING = (FORWARD, LOSS, BACKWARD, OPTIMIZER)
#: Each grew by this part at least of what the whole step grew by, each for its own length: what
#: uses several cores loses more than what uses one (our own choice).
_ALIKE = 0.5
#: A stage that was less than this part of a step is no witness: the median of identical blocks
#: varied by 2.1 % on a loaded two-core machine.
_VISIBLE = 0.021
_FEWEST = 2
#: Memory that grew by this part of the most that was used is a cause to look for (our own choice).
_MEMORY_GREW = 0.1
_SLOPE, _PEAK = "memory.trend_bytes_per_step", "memory.peak_bytes"


def slowed_alike(facts: Facts, fall: Fall | None, least: float) -> bool:
    """Whether a fall hit all that an observed script computes, so that the machine is more likely
    to have got slower than the script to work on something that grows.

    The update above all, which does the same in every step. What the other stages lost beside that
    must be less than would be called a fall.
    """
    if fall is None or not is_run(facts) or memory_grew(facts):
        return False
    longer = _longer(facts, fall)
    if len(longer) < _FEWEST or OPTIMIZER not in longer:
        return False
    step, together = _longer_step(facts, fall), min(longer.values())
    return together - 1 >= _ALIKE * (step - 1) and 1 - together / step < least


def machine_slowed(facts: Facts, finding: Finding, fall: Fall, limit: float) -> Finding:
    """PD701's finding then: of its evidence the `fall` is left, and by how much each stage grew."""
    longer = _longer(facts, fall)
    grew = (
        Evidence(metric=f"{stage_words(stage)}, after ÷ before", value=value, unit="×")
        for stage, value in longer.items()
    )
    return replace(
        finding,
        stage=OTHER,
        title=f"{finding.title}; {listed([stage_words(stage) for stage in longer])} got slower "
        "alike",
        advice="More likely the machine got slower than the script: what a script accumulates "
        "slows one stage down and not all that computes. Look at the clock and at other guests "
        "of the machine's host, and measure again.",
        snippet="",
        evidence=(*fall.evidence(limit), *grew),
        predicted=None,
        confidence=0.4,
        optional=True,
    )


def _longer(facts: Facts, fall: Fall) -> dict[str, float]:
    """Stage → its usual time after the fall ÷ before it, of computing stages that can be told.

    An update that is a small part of a step is told all the same.
    """
    columns = stage_columns(facts)
    ends = {stage: _ends(facts, fall, column) for stage, column in columns.items()}
    step_s = sum(before for before, _ in ends.values())
    told = [n for n in _COMPUTING if n in ends and ends[n][0] > 0]
    told = [n for n in told if n == OPTIMIZER or ends[n][0] >= _VISIBLE * step_s]
    return {stage: ends[stage][1] / ends[stage][0] for stage in told}


def _longer_step(facts: Facts, fall: Fall) -> float:
    """The same of a step; no less than the fall, of which rare long steps are a part too."""
    ends = [_ends(facts, fall, column) for column in stage_columns(facts).values()]
    before, after = (sum(end) for end in zip(*ends, strict=True))
    return float(max(after / before, 1 / (1 - fall.share)))


def _ends(facts: Facts, fall: Fall, column: Floats) -> tuple[float, float]:
    """Medians before and after the fall."""
    before, after = before_and_after(facts, fall, column)
    return float(np.median(before)), float(np.median(after))


def memory_grew(facts: Facts) -> bool:
    """Whether memory grew over the run by a notable part: a cause to look for."""
    slope, peak = facts.known(_SLOPE), facts.known(_PEAK)
    if slope is None or not peak:
        return False
    return slope * facts.number("steps.count") >= _MEMORY_GREW * peak
