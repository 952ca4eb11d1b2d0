"""What PD701 says of an observed script that got a little slower at once, seconds before its end.

Nothing that accumulates does that: its share of a step grows with the steps. A change of the work
does (layers that are unfrozen, longer batches), and so does a machine shared with other guests.
"""

from __future__ import annotations

from dataclasses import replace

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.observed import is_run
from perfdoctor.rules.slowed_alike import memory_grew
from perfdoctor.rules.trends import Fall, finite_steps, grown_stage, last_drops, shape
from perfdoctor.stages import OTHER

#: Falls at once that lasted to the end, with nothing in the script to cause them: seven of 12 % to
#: 28 % and of 3 s to 11 s in 110 observed scripts, on a virtual machine of two cores that was
#: quiet but for them. Falls by what the script did were gradual, all nine.
_DEEPEST, _LONGEST_S = 0.30, 15.0


def may_pass(facts: Facts, fall: Fall) -> bool:
    """Whether a fall is a single one at once, no deeper and no longer than such moods are."""
    drops = last_drops(facts)
    if not is_run(facts) or shape(facts) != "step" or len(drops) != 1 or memory_grew(facts):
        return False
    lasted_s = float(finite_steps(facts)[drops[0].index :].sum())
    in_a_stage = grown_stage(facts) not in (OTHER, None)
    return in_a_stage and fall.share < _DEEPEST and lasted_s < _LONGEST_S


def passing_mood(facts: Facts, finding: Finding, fall: Fall, limit: float) -> Finding:
    """PD701's finding then: of its evidence the `fall` is left, and how long it was seen."""
    lasted_s = float(finite_steps(facts)[last_drops(facts)[0].index :].sum())
    lasted = Evidence(metric="seen until the end", value=lasted_s, unit="s")
    return replace(
        finding,
        stage=OTHER,
        title=f"{finding.title}, at once and shortly before the end",
        advice="What a script accumulates slows it down little by little, so look at what it "
        "changes at that step: layers that are unfrozen, longer batches. If nothing, it is a mood "
        "of the machine, which passes: measure again, for longer.",
        snippet="",
        evidence=(*fall.evidence(limit), lasted),
        predicted=None,
        confidence=0.4,
        optional=True,
    )
