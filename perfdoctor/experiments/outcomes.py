"""What the differences of a trial amount to, and why it stays unclear."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from perfdoctor.experiments.parity import Parity
from perfdoctor.experiments.turns import Decision
from perfdoctor.report import Trial
from perfdoctor.rules.wording import count
from perfdoctor.sequential import smallest_seen

if TYPE_CHECKING:
    from perfdoctor.experiments.trials import Laboratory

#: Above this share of all cores used by others, what stays inconclusive is blamed on them: a
#: stored baseline is not compared then either (benchmarks of the gate's protocol).
UNFIT_SHARE = 0.25
#: Above this share of its own time a training that waits for a core is told of, and from this share
#: of other programs on they are the cause: a quiet machine's own services take 1 to 3 %. [own]
_WAITED_SHARE, _FOREIGN_SHARE = 0.25, 0.05


def concluded(decision: Decision, same: Parity | None, laboratory: Laboratory) -> Trial:
    """What the differences and the losses amount to."""
    unfit = laboratory.unfit()
    if unfit is not None:
        return told(decision, "inconclusive", same, unfit)
    if decision.verdict == "verified" and same is not None and not same.acceptable:
        return told(decision, "refuted", same, f"faster, but the losses are {same.label}")
    if decision.verdict is not None:
        return told(decision, decision.verdict, same, _while_others_worked(laboratory))
    return told(decision, "inconclusive", same, _why_unclear(decision, laboratory))


def cut_short(decision: Decision, same: Parity | None, laboratory: Laboratory) -> Trial:
    """What is known of a trial that Ctrl-C ends."""
    trial = concluded(decision, same, laboratory)
    return trial if decision.verdict is not None else replace(trial, reason="interrupted")


def _while_others_worked(laboratory: Laboratory) -> str | None:
    """What is clear beside other programs need not hold without them."""
    busy = _others(laboratory)
    return None if busy is None else f"measured while {busy}"


def _others(laboratory: Laboratory) -> str | None:
    """What other programs have taken from the training; None: nothing worth a word."""
    foreign, waited = laboratory.others.foreign_share() or 0.0, laboratory.waiting.share or 0.0
    waits = waited > _WAITED_SHARE and foreign > _FOREIGN_SHARE
    if foreign <= UNFIT_SHARE and not waits:
        return None
    used = f"other programs used {100 * foreign:.0f} % of the cores"
    return f"{used} and the training waited {_of_its_time(waited)} for one" if waits else used


def _of_its_time(share: float) -> str:
    return f"{100 * share:.0f} % of its time"


def _why_unclear(decision: Decision, laboratory: Laboratory) -> str:
    pairs = len(decision.differences)
    busy, waited = _others(laboratory), laboratory.waiting.share or 0.0
    if busy is not None:
        return f"the machine is unfit: {busy}; {_not_enough(pairs)}"
    why = _by_the_pairs(decision, pairs)
    if waited <= _WAITED_SHARE:
        return why
    return (
        f"{why}; the training waited {_of_its_time(waited)} for a core, and not for other "
        "programs: it has more threads and workers than cores, or a quota"
    )


def _by_the_pairs(decision: Decision, pairs: int) -> str:
    seen = smallest_seen(decision.values, common=decision.claim.common)
    if not math.isfinite(seen):
        return "the budget was spent before it could be measured"
    found = decision.speedup()
    apart = found is not None and not found[1] <= 1 <= found[2]
    if pairs >= decision.claim.most and apart:
        return f"not clear after {count(pairs, 'pair')}, which would show {100 * seen:.1f} %"
    if pairs >= decision.claim.most:
        return f"a difference of {100 * seen:.1f} % would have been seen; there is none"
    return (
        f"the budget was spent after {count(pairs, 'pair')}, which would show a difference of "
        f"{100 * seen:.1f} %"
    )


def _not_enough(pairs: int) -> str:
    if pairs < 2:
        return "the budget was spent before it could be measured"
    return f"unclear after {count(pairs, 'pair')}"


def told(decision: Decision, outcome: str, same: Parity | None, reason: str | None = None) -> Trial:
    """A trial with the gain that the differences show."""
    found = decision.speedup()
    speedup, low, high = (None, None, None) if found is None else found
    return Trial(
        outcome=outcome,
        speedup=speedup,
        low=low,
        high=high,
        pairs=len(decision.differences),
        loss_parity=None if same is None else same.text,
        reason=reason,
    )
