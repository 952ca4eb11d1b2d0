"""Sentences about what came of a check."""

from __future__ import annotations

from perfdoctor.compare.checks import IMPROVED, INCONCLUSIVE, PASS, REGRESSION, CheckResult, Judged
from perfdoctor.compare.shifts import Shift
from perfdoctor.render.sides_words import interval, relative_change
from perfdoctor.render.text import clean, quantity, seconds

OUTCOMES = {
    PASS: "pass",
    REGRESSION: "REGRESSION",
    IMPROVED: "improved",
    INCONCLUSIVE: "inconclusive",
}
_WAYS = {"against": ("pair of processes", "pairs of processes"), "": ("process", "processes")}


def unit(judged: Judged) -> str:
    """Of the values."""
    return "bytes" if judged.criterion.metric == "memory" else "s"


def margin(judged: Judged) -> str:
    """ "5 %"."""
    return f"{100 * judged.criterion.margin:g} %"


def change(judged: Judged) -> str:
    """ "+5.1 % (+3.9 … +6.2 %)"."""
    if judged.change is None:
        return "–"
    told = relative_change(1 + judged.change)
    if judged.interval is None:
        return told
    low, high = judged.interval
    return f"{told} ({interval((1 + low, 1 + high))})"


def of_change(result: CheckResult, level: float) -> str:
    """What the column of changes is of: its values may seem to contradict those beside them."""
    paired = ": the typical change of a pair, not that of the typical values beside it,"
    what = "change" + (paired if result.way == "against" else ":")
    return f"{what} with its {100 * level:g} % interval"


def outcome_of(judged: Judged) -> str:
    """In one word; of what does not fail the check a warning at most."""
    if judged.outcome == REGRESSION and not judged.criterion.fails:
        return "warning"
    return OUTCOMES[judged.outcome]


def values(judged: Judged) -> str:
    """ "5.01 ms → 5.27 ms"."""
    kind = unit(judged)
    if judged.before is None or judged.after is None:
        return "–"
    return f"{quantity(judged.before, kind)} → {quantity(judged.after, kind)}"


def power(judged: Judged) -> str | None:
    """What a check of so many pairs could have seen."""
    if judged.seen is None:
        return None
    if judged.seen > 1:  # how much more says nothing
        return "could have seen >100 %"
    return f"could have seen {100 * judged.seen:.1f} %"


def verdict(judged: Judged) -> str:
    """One criterion in one sentence."""
    name = clean(judged.criterion.name)
    match judged.outcome:
        case "regression":
            return f"{name} got worse: {change(judged)}, {values(judged)}{_below_margin(judged)}"
        case "improved":
            return f"{name} improved: {change(judged)}, {values(judged)}"
        case "pass":
            return f"{name} is not worse by {margin(judged)}: {change(judged)}"
    reason = f": {clean(judged.reason)}" if judged.reason else ""
    seen = power(judged)
    changed = None if judged.change is None else change(judged)
    numbers = ", ".join(part for part in (changed, seen) if part)
    return f"{name} is inconclusive{reason}" + (f"; {numbers}" if numbers else "")


def _below_margin(judged: Judged) -> str:
    """Why that fails, where it was measured as less than what is allowed."""
    if judged.change is None or judged.change >= judged.criterion.margin:
        return ""
    return f" (more than half of {margin(judged)}, from where it fails)"


def headline(result: CheckResult) -> str:
    """The whole check in one sentence."""
    failing = [j for j in result.judged if j.criterion.fails]
    worst = [j for j in failing if j.outcome == result.outcome]
    return verdict((worst or failing)[0])


def sides(result: CheckResult) -> str:
    """ "HEAD (3f2a…) against main (91bc…)"."""
    return f"{side(result, 'after')} against {side(result, 'before')}"


def side(result: CheckResult, which: str) -> str:
    """A side: its name and commit."""
    found = result.after if which == "after" else result.before
    if found.commit is None:
        return clean(found.name)
    dirty = " with changes" if found.dirty else ""
    return f"{clean(found.name)} ({found.commit[:10]}{dirty})"


def effort(result: CheckResult) -> str:
    """How much was measured."""
    one, many = _WAYS.get(result.way, _WAYS[""])
    how = str(result.protocol.get("pairs", ""))
    pairs = f"{result.pairs} {one if result.pairs == 1 else many}"
    return ", ".join(part for part in (pairs, how, seconds(result.seconds)) if part)


def outcome(result: CheckResult) -> str:
    """In one word."""
    improved = any(j.outcome == IMPROVED and j.criterion.fails for j in result.judged)
    if result.outcome == PASS and improved:
        return "pass, improved"
    return OUTCOMES[result.outcome].lower()


def shown(result: CheckResult) -> list[Shift]:
    """What is worth a line: the usual statistic of each quantity, and whatever was judged."""
    judged = {(j.criterion.metric, j.criterion.statistic) for j in result.judged}
    usual = {"step": ("p25", "p50", "p95", "mean", "cpu"), "memory": ("peak",)}
    return [
        shift
        for shift in result.shifts
        if shift.statistic in usual.get(shift.name, ("p50",))
        or (shift.name, shift.statistic) in judged
    ]
