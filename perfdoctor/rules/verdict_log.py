"""The verdict on a log, which times some parts of a training and says nothing of the others.

It never claims more than the log shows: what the log does not split is not called overhead, and a
training that was not measured is not called healthy.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from perfdoctor.report import Diagnosis, Finding
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.groups import (
    COMPUTE,
    GROUPS,
    OVERHEAD,
    Split,
    each_tenth,
    group_of,
    whole_run,
)
from perfdoctor.rules.judging import (
    BOTTLENECK_SHARE,
    SUSPECT_SHARE,
    WORTHWHILE,
    inconclusive,
    smoothed,
)
from perfdoctor.rules.logs import (
    RUN,
    TRAIN,
    UNEXPLAINED,
    Part,
    known_data_share,
    validation_part,
    wall_parts,
)
from perfdoctor.rules.trends import (
    DEGRADED,
    Fall,
    epochs_slowed,
    finite_steps,
    grown_stage,
    lasting_fall,
    loading_grew,
)
from perfdoctor.rules.wording import duration, listed, percent, seconds, stage_words
from perfdoctor.stages import DATA_LOADING, OTHER

#: A part of which the log says nothing and that is larger than all others decides nothing.
_MOSTLY = 0.5
#: What rests on the share of one part while the others are not split is never surer than this.
_UNSPLIT_CONFIDENCE = 0.5
#: Where the log accounts for the whole wall clock; less by what it leaves unexplained.
_WALL_CONFIDENCE = 0.85
#: A change that was tested for significance.
_TESTED_CONFIDENCE = 0.9
#: A GPU that is busier than this waits for nothing (a rule of thumb in projects' own guides).
_SATURATED = 95.0

_STEP_SENTENCES = {
    "input": "Training waits for data: {share} of each step is spent waiting for the next batch"
    "{times} while the model is idle.",
    "transfer": "Training waits for copies: {share} of each step{times} goes into moving the "
    "batch to the device.",
    "communication": "Training waits for other processes: {share} of each step{times} is "
    "communication.",
    OVERHEAD: "{share} of each step{times} is spent between the stages that were traced.",
}
_RUN_SENTENCES = {
    "input": "Training waits for data: {share} of the run{times} is spent waiting for the next "
    "batch.",
    "evaluation": "{Stages} takes {share} of the run{times}, and the model does not learn "
    "meanwhile.",
    "io": "{Stages} takes {share} of the run{times} while the model waits.",
}


@dataclass(frozen=True)
class _Group:
    """A group of stages: its share of a step or of the run, and of the run as far as known."""

    name: str
    stages: tuple[str, ...]
    share: float
    of: str
    part_s: float | None
    whole_s: float | None
    weight: float


def verdict_on_log(facts: Facts, findings: Sequence[Finding]) -> Diagnosis:
    """What holds the training up, as far as its log tells."""
    untimed = _untimed(facts)
    if untimed is not None:
        return inconclusive(untimed)
    fall = lasting_fall(facts, DEGRADED) or epochs_slowed(facts, DEGRADED)
    if fall is not None:
        return _degrading(facts, fall)
    leader = max(_held_up_by(facts, findings), key=lambda g: g.weight, default=None)
    left = _unexplained(facts)
    if left is not None and left.share > max(_MOSTLY, leader.weight if leader else 0.0):
        return inconclusive(
            f"{percent(left.share)} of the run ({duration(left.seconds)}) is explained by nothing "
            f"in the log, more than by anything it tells; `{RUN}` would tell what happens there."
        )
    return _rest(facts) if leader is None else _held_up(facts, leader)


def slower_since_start(facts: Facts) -> float:
    """How many of the later tenths are slower than the first."""
    try:
        parts = np.array_split(finite_steps(facts), 10)
    except Missing:
        return smoothed(0, 0)
    first, *later = (float(np.median(part)) for part in parts if part.size)
    return smoothed(sum(median > first for median in later), len(later))


def _untimed(facts: Facts) -> str | None:
    """Why nothing can be said of the speed, if so."""
    paths = (
        "steps.time.mean_s",
        "throughput.samples_per_s",
        "throughput.steps_per_s",
        "throughput.tokens_per_s",
        "throughput.median_samples_per_s",
        "throughput.median_tokens_per_s",
        "throughput.trend.first",
        "epochs.time.mean_s",
    )
    timed = any((facts.known(path) or 0.0) > 0 for path in paths)
    parts = _parts(facts)
    if timed or set(parts) - {UNEXPLAINED}:
        return None
    total_s = facts.known("wall.total_s")
    if total_s is not None and total_s > 0:
        return (
            f"The log tells only how long all of it took ({duration(total_s)}), not how long a "
            f"step or an epoch takes. `{RUN}` measures the training as it runs."
        )
    return (
        f"No timing information in this log. `{RUN}` measures the training as it runs; or let the "
        "script print the time of its steps, or log with timestamps."
    )


def _parts(facts: Facts) -> dict[str, Part]:
    """The wall clock's, as far as known, and the validation that only the epochs tell of."""
    parts: dict[str, Part] = {}
    with suppress(Missing):
        parts |= wall_parts(facts)
    with suppress(Missing):
        parts.setdefault("validation", validation_part(facts))
    return parts


def _unexplained(facts: Facts) -> Part | None:
    return _parts(facts).get(UNEXPLAINED)


def _held_up_by(facts: Facts, findings: Sequence[Finding]) -> list[_Group]:
    """Groups with a share that makes them a bottleneck."""
    split, parts = whole_run(facts), _parts(facts)
    groups = [*_step_groups(facts, split, parts), *_run_groups(facts, split, parts)]
    return [g for g in groups if g.share >= _floor(g.name, findings)]


def _step_groups(facts: Facts, split: Split, parts: dict[str, Part]) -> list[_Group]:
    """Of the stages of a step. `other` counts only in a trace, which times all that it can."""
    step_s, steps_share = facts.known("steps.time.mean_s"), 1.0
    if TRAIN in parts:
        steps_share = min(1.0, sum(parts[n].share for n in (TRAIN, DATA_LOADING) if n in parts))
    found = []
    for name, share in split.groups.items():
        if name == COMPUTE or (name == OVERHEAD and not _traced(facts)):
            continue
        part_s = None if step_s is None else share * step_s
        stages = tuple(split.members(name))
        found.append(_Group(name, stages, share, "step", part_s, step_s, share * steps_share))
    return found


def _traced(facts: Facts) -> bool:
    return facts.has("source.kind") and facts.get("source.kind") == "trace"


def _run_groups(facts: Facts, split: Split, parts: dict[str, Part]) -> list[_Group]:
    """Of the parts of the wall clock that are no part of a step."""
    grouped: dict[str, list[Part]] = {}
    for part in parts.values():
        group = GROUPS.get(part.name, COMPUTE)
        if group not in (COMPUTE, OVERHEAD) and part.name not in split.stages:
            grouped.setdefault(group, []).append(part)
    total_s = facts.known("wall.total_s") or facts.known("epochs.time.total_s")
    found = []
    for name, members in grouped.items():
        stages = tuple(p.name for p in sorted(members, key=lambda p: -p.seconds))
        share, spent_s = sum(p.share for p in members), sum(p.seconds for p in members)
        found.append(_Group(name, stages, min(1.0, share), "run", spent_s, total_s, share))
    return found


def _floor(group: str, findings: Sequence[Finding]) -> float:
    """Less than usual makes a bottleneck where mending it surely brings something."""
    sure = [
        f
        for f in findings
        if f.predicted is not None and not f.optional and group_of(f.stage) == group
        and f.predicted.low > 1.0 and f.predicted.speedup >= WORTHWHILE
    ]  # fmt: skip
    return SUSPECT_SHARE if sure else BOTTLENECK_SHARE


def _held_up(facts: Facts, group: _Group) -> Diagnosis:
    return Diagnosis(
        verdict=f"{group.name}-bound",
        bottleneck=group.stages[0],
        share=group.share,
        confidence=_how_sure(facts, group),
        summary=_sentence(group),
    )


def _sentence(group: _Group) -> str:
    on_step = group.of == "step"
    words = _STEP_SENTENCES if on_step else _RUN_SENTENCES
    whole = "each step" if on_step else "the run"
    template = words.get(group.name, "{Stages} takes {share} of " + whole + "{times}.")
    times = ""
    if group.part_s is not None and group.whole_s is not None:
        unit = seconds if on_step else duration
        times = f" ({unit(group.part_s)} of {unit(group.whole_s)})"
    names = listed([_STAGE_WORDS.get(s, stage_words(s)) for s in group.stages])
    return template.format(
        share=percent(group.share), times=times, Stages=names[:1].upper() + names[1:]
    )


_STAGE_WORDS = {"arch_step": "the architecture step", "checkpoint": "saving checkpoints"}


def _how_sure(facts: Facts, group: _Group) -> float:
    if group.of == "run":
        left = _unexplained(facts)
        return _WALL_CONFIDENCE * (1 - (left.share if left else 0.0))
    floor = min(BOTTLENECK_SHARE, group.share)
    agreeing = [part.groups.get(group.name, 0.0) >= floor for part in each_tenth(facts)]
    return smoothed(sum(agreeing), len(agreeing))


def _degrading(facts: Facts, fall: Fall) -> Diagnosis:
    stage, loading = grown_stage(facts), loading_grew(facts)
    why = ""
    if loading:
        why = "; most of the added time is spent waiting for data"
    elif loading is False:
        why = "; waiting for data hardly grew, so loading is not the cause"
    elif stage is not None and stage != OTHER:
        why = f"; most of the added time is in {stage_words(stage)}"
    named = stage if stage is not None and stage != OTHER else None
    return Diagnosis(
        verdict="degrading",
        bottleneck=named or "none",
        share=whole_run(facts).stages.get(named, 0.0) if named else 0.0,
        confidence=max(slower_since_start(facts), _TESTED_CONFIDENCE if fall.tested else 0.0),
        summary=f"{fall.sentence()}{why}.",
    )


def _rest(facts: Facts) -> Diagnosis:
    """Nothing that the log times holds the training up."""
    split, waiting, left = whole_run(facts), known_data_share(facts), _unexplained(facts)
    if split.computing_timed:
        return _computing(facts, split)
    if waiting is not None:
        takes = f"waiting for data takes {percent(waiting)} of each step"
        worth = ", which is worth mending all the same" if waiting >= SUSPECT_SHARE else ""
        return _compute_bound(
            f"Loading is not the bottleneck: {takes}{worth}. What the rest of it goes into the "
            f"log does not tell; `{RUN}` would.",
            left,
        )
    busy = facts.known("utilisation.gpu.p50")
    if busy is not None and busy > _SATURATED:
        return _compute_bound(
            f"The GPU is busy {busy:.0f} % of the time, so it waits for little else. What it "
            f"computes the log does not tell; `{RUN}` would.",
            left,
        )
    return inconclusive(_unsplit(facts))


def _computing(facts: Facts, split: Split) -> Diagnosis:
    """The log times the computation itself."""
    share = split.groups.get(COMPUTE, 0.0)
    if share < _MOSTLY:
        return inconclusive(
            f"Only {percent(share)} of a step is explained by stages that the log times, and none "
            f"of them is a bottleneck; `{RUN}` would tell what the rest goes into."
        )
    agreeing = [part.groups.get(COMPUTE, 0.0) >= _MOSTLY for part in each_tenth(facts)]
    return Diagnosis(
        verdict="compute-bound",
        bottleneck=split.members(COMPUTE)[0],
        share=share,
        confidence=smoothed(sum(agreeing), len(agreeing)),
        summary=f"{percent(share)} of each step is the model's own computation, and nothing else "
        "that the log times holds it up.",
    )


def _compute_bound(summary: str, unexplained: Part | None) -> Diagnosis:
    return Diagnosis(
        verdict="compute-bound",
        bottleneck="none",
        share=0.0,
        confidence=_UNSPLIT_CONFIDENCE * (1 - (unexplained.share if unexplained else 0.0)),
        summary=summary,
    )


def _unsplit(facts: Facts) -> str:
    """What is known where neither steps nor epochs are split."""
    train = _parts(facts).get(TRAIN)
    if facts.known("steps.time.mean_s") is None and train is None:
        known = "How fast the training goes"
    elif train is None:
        known = "How long a step takes"
    else:
        known = f"That training takes {percent(train.share)} of the run"
    return f"{known} is known, but the log does not tell what that time is spent on; `{RUN}` would."
