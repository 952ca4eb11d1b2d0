"""PD305, and what PD701 says of an observed script: what grows as the training goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.groups import stage_columns
from perfdoctor.rules.observed import (
    RUNS,
    HotLine,
    at,
    hot_lines,
    is_run,
    line_evidence,
    without,
)
from perfdoctor.rules.trends import first_tenth, grown_stage, growth, halves_by_time
from perfdoctor.rules.wording import size, stage_words
from perfdoctor.stages import DATA_LOADING, OTHER

SLOW_DOWN = "slow-down"
#: So much of the growth is in one stage where the script is the cause (our own choice).
_IN_ONE_PLACE = 0.7
#: And the other stages grew by less than this part of what it grew by, each for its own length.
_ALIKE = 0.5
#: Others take so much of a core on a busy machine, as PD901 has it.
_BUSY_PERCENT = 25.0
#: gpuprof and loadtune call work bound by the processor from this use of it on: then whoever
#: computes waits for a core as well.
_SATURATED_PERCENT = 80.0
_FOREIGN = "utilisation.cpu_foreign.mean"
_TREND = "throughput.trend"
_SLOPE = "memory.trend_bytes_per_step"
#: Below this the growth is that of an allocator's caches: a loss and its small graph take more.
_NOTABLE_BYTES = 1024.0
_ITEM = "running_loss += loss.item()  # not `+= loss`, and no list of losses with their graphs"
#: Functions that torch calls beside a module's own, by their names.
_HOOK = r"hook"
_REMOVED = """\
handles = [m.register_forward_hook(report) for m in model.modules()]  # once
...
for handle in handles:
    handle.remove()"""


class MemoryGrows:
    """The process's memory grows with every step.

    ## What it does
    Looks at the slope of the process's memory over the steps of an observed script.

    ## Why it is slow
    It is not, until memory runs out: then the host swaps, caches of files are dropped, or the
    training ends. What is kept is often each step's loss with its whole graph, or all outputs.

    ## Evidence and threshold
    The slope times the steps that were seen.
    - `grown_bytes` = 1.07374e+09 (source: TraceML warns from a steady growth of 1 GiB)

    ## What to change
    Keep numbers, not tensors: `loss.item()`, `outputs.detach()`, and empty lists once an epoch.

    ## How the gain is predicted
    It is not: it keeps the training from failing, or from slowing down later.

    ## When not to
    Where results are collected on purpose and fit into memory to the end.
    """

    code: ClassVar[str] = "PD305"
    name: ClassVar[str] = "memory-grows"
    needs: ClassVar[tuple[str, ...]] = (_SLOPE, "steps.count")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "memory-growth"
    thresholds: ClassVar[Mapping[str, float]] = {"grown_bytes": 1.07374e9}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the memory grew steadily by so much."""
        slope, steps = facts.number(_SLOPE), facts.number("steps.count")
        grown = slope * steps
        if grown < facts.threshold("grown_bytes"):
            return None
        return Finding(
            stage=OTHER,
            title=f"Memory grows by {_bytes(slope)} a step, {size(grown)} so far",
            advice="Look what is kept from step to step: losses or outputs with their graphs "
            "(use .item() or .detach()), and lists that are never emptied.",
            change={},
            snippet=_ITEM,
            evidence=(
                Evidence(metric="growth", value=slope, unit="bytes/step"),
                Evidence(
                    metric="grown in all",
                    value=grown,
                    unit="bytes",
                    threshold=facts.threshold("grown_bytes"),
                ),
            ),
            cause=self.cause,
            confidence=0.6,
            effort="lines",
            danger="ahead",
        )


def by_machine(facts: Facts) -> bool:
    """Whether an observed script got slower by what others did on the machine, or may have.

    What grows in a script is in one place, and takes more of the processor; a busy machine slows
    every stage down, and where all cores are taken each step waits for one.
    """
    if not machine_was_busy(facts) or _beyond_others(facts):
        return False
    if not _in_one_place(facts):
        return True
    return _saturated(facts) and not _computes_more(facts)


def _saturated(facts: Facts) -> bool:
    """Whether the processor was full, and others had a part in that."""
    busy = facts.known("utilisation.cpu.mean")
    return facts.has(_FOREIGN) and busy is not None and busy >= _SATURATED_PERCENT


def _computes_more(facts: Facts) -> bool:
    """Whether a step takes more processor time in the second half of the run than in the first.

    By the part of the cores that the training had in each half: where steps take twice as long
    with half of the cores, they compute as much as before. False where that was not measured.
    """
    early, late = (facts.known(f"counters.own_cpu_{half}_percent") for half in ("early", "late"))
    halves = halves_by_time(facts)
    if not early or late is None or halves is None:
        return False
    longer = halves[1] / halves[0]
    return longer * late / early - 1 >= _ALIKE * (longer - 1)


def _beyond_others(facts: Facts) -> bool:
    """Whether steps got slower by more than others can have caused.

    With all that others took, the training would have gone (own + others) ÷ own times as fast;
    twice that is allowed for, since both are means of a run and others may have come late.
    """
    foreign, first, last = (
        facts.known(path) for path in (_FOREIGN, f"{_TREND}.first", f"{_TREND}.last")
    )
    own = sum(facts.known(f"utilisation.cpu_{part}.mean") or 0.0 for part in ("main", "workers"))
    if foreign is None or not first or not last or own <= 0:
        return False
    return first / last > 2 * (own + foreign) / own


def _in_one_place(facts: Facts) -> bool:
    """Whether one stage grew and the others did not.

    A stage that is most of the step is most of what grows, too, when a busy machine slows all of
    them: so the others must have grown far less for their own length.
    """
    grown, begun = growth(facts), first_tenth(facts)
    more = [seconds for seconds in grown.values() if seconds > 0]
    if not more or max(more) < _IN_ONE_PLACE * sum(more):
        return False
    place = max(grown, key=lambda stage: grown[stage])
    others_s = sum(seconds for stage, seconds in begun.items() if stage != place)
    others = sum(seconds for stage, seconds in grown.items() if stage != place)
    if others_s <= 0 or begun.get(place, 0.0) <= 0:
        return True
    return others / others_s < _ALIKE * grown[place] / begun[place]


def machine_was_busy(facts: Facts) -> bool:
    """Whether others used the machine while a script was observed, or nobody looked."""
    foreign = facts.known(_FOREIGN)
    return is_run(facts) and (foreign is None or foreign >= _BUSY_PERCENT)


def falls_most(facts: Facts, findings: Sequence[Finding]) -> bool:
    """Whether nothing would bring an observed script more than to stop growing slower."""
    own = [f for f in findings if f.cause == SLOW_DOWN and f.predicted is not None]
    others = [f.predicted.speedup for f in findings if f.predicted and f.cause != SLOW_DOWN]
    if not own or own[0].predicted is None or own[0].optional:
        return False
    return own[0].predicted.speedup >= max(others, default=1.0)


def shared_machine(facts: Facts, finding: Finding, fall: tuple[Evidence, ...]) -> Finding | None:
    """PD701's finding where others used the machine; None where nobody looked at them.

    Of its evidence only the `fall` is left: what was lost is not the script's.
    """
    foreign = facts.known(_FOREIGN)
    if foreign is None:
        return None
    return replace(
        finding,
        stage=OTHER,
        title=f"{finding.title}, but the machine was shared: other programs took {foreign:.0f} % "
        "of a core",
        advice="That explains the fall, or hides its cause: steps that wait for a core get slower "
        "without doing more. Measure again on a quiet machine.",
        snippet="",
        evidence=(*fall, Evidence(metric="other programs", value=foreign, unit="% of a core")),
        predicted=None,
        confidence=0.4,
        optional=True,
    )


def slower_in_run(facts: Facts, finding: Finding, lost: float | None) -> Finding:
    """PD701's finding with the stage that grew, the line that did, and what is gained without."""
    stage, slope = grown_stage(facts), facts.known(_SLOPE) or 0.0
    if stage is None or lost is None or lost <= 0:
        return finding
    lines = hot_lines(facts, stage)
    line = lines[0] if lines and _line_grew(facts, lines[0]) else None
    grows = f" Memory grows by {_bytes(slope)} a step." if slope >= _NOTABLE_BYTES else ""
    return replace(
        finding,
        stage=stage,
        title=f"{finding.title}; what grows is {stage_words(stage)}{at(line)}",
        advice=_what_grows(stage, line) + grows,
        snippet=_snippet(stage, line),
        evidence=(*finding.evidence, *line_evidence(lines[:2] if line else [])),
        predicted=without(lost, 0.5, 0.9, 1.0),
        confidence=0.85 if line is not None else finding.confidence,
    )


def _line_grew(facts: Facts, line: HotLine) -> bool:
    """Whether a line took more than its stage would have at the pace of the first tenth.

    The looks at lines tell no times, so that is what shows that it is the line that grows.
    """
    columns = stage_columns(facts)
    whole_s = sum(float(column.sum()) for column in columns.values())
    if line.stage not in columns or whole_s <= 0:
        return False
    begun_s = first_tenth(facts)[line.stage] * columns[line.stage].size
    return line.share * whole_s > begun_s


def _snippet(stage: str, line: HotLine | None) -> str:
    if line is not None and line.calls(_HOOK):
        return _REMOVED
    return "" if stage == DATA_LOADING else _ITEM


def _what_grows(stage: str, line: HotLine | None) -> str:
    where = "" if line is None else f"Look at {line.place}: "
    if line is not None and line.calls(_HOOK):
        return (
            f"{where}hooks that are registered again and again all run in every step. Register "
            "them once before the loop, or keep the handle of each and remove() it."
        )
    if stage == DATA_LOADING:
        return (
            f"{where}{'the' if where else 'The'} making of batches takes longer and longer: a "
            "list that grows and is searched or copied each time? Keep a set or an index instead, "
            "and forget what is no longer needed."
        )
    return (
        f"{where}{'it' if where else 'The loop'} works on something that grows with every step: "
        "losses kept with their graphs, a list that is averaged anew. Keep a running sum "
        "(loss.item()), or only the last few values."
    )


def _bytes(value: float) -> str:
    return size(value) if value >= 2**20 else f"{value / 1024:.0f} KiB"
