"""The verdict on a log, which times some parts of a training and says nothing of the others.

It never claims more than the log shows: what the log does not split is not called overhead, and a
training that was not measured is not called healthy.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perfdoctor.report import Diagnosis
from perfdoctor.rules.enough import too_few_records, too_few_samples
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.groups import (
    COMPUTE,
    Split,
    each_tenth,
    whole_run,
)
from perfdoctor.rules.holdups import Holdup, held_up, held_up_by, takes, told_parts, unexplained
from perfdoctor.rules.judging import (
    BOTTLENECK_SHARE,
    SUSPECT_SHARE,
    inconclusive,
    smoothed,
)
from perfdoctor.rules.logs import (
    RUN,
    TRAIN,
    UNEXPLAINED,
    Part,
)
from perfdoctor.rules.trends import (
    DEGRADED,
    Fall,
    epochs_slowed,
    finite_steps,
    grown_stage,
    is_short,
    lasting_fall,
    loading_grew,
)
from perfdoctor.rules.waits import Wait, waiting
from perfdoctor.rules.wording import duration, grouped, percent, stage_words
from perfdoctor.stages import OTHER

#: A part of which the log says nothing and that is larger than all others decides nothing.
_MOSTLY = 0.5
#: What rests on the share of one part while the others are not split, or on a short part of a run,
#: is never surer than this.
_UNSPLIT_CONFIDENCE = 0.5
#: A change that was tested for significance.
_TESTED_CONFIDENCE = 0.9
#: Between these shares it is worth saying what part of the run is training: not where it is all
#: that the log tells of, nor where the log hardly tells of it.
_TELLING = (0.05, 0.995)
#: A GPU that is busier than this waits for nothing (a rule of thumb in projects' own guides).
_SATURATED = 95.0


def verdict_on_log(facts: Facts) -> Diagnosis:
    """What holds the training up, as far as its log tells.

    Something is called the bottleneck from `BOTTLENECK_SHARE` on, if it is the largest of what the
    log times besides the computation, and larger than what nothing in the log explains.
    """
    untimed = _untimed(facts)
    if untimed is not None:
        return inconclusive(untimed)
    few = too_few_records(facts)
    if few is not None:
        return inconclusive(f"Too little to go on: {few}.")
    fall = lasting_fall(facts, DEGRADED, short=True) or epochs_slowed(facts, DEGRADED)
    if fall is not None:
        return _degrading(facts, fall)
    leader = max(held_up_by(facts), key=lambda g: g.weight, default=None)
    left = unexplained(facts)
    if left is not None and left.share > max(_MOSTLY, leader.weight if leader else 0.0):
        return inconclusive(
            f"{percent(left.share)} of the run ({duration(left.seconds)}) is explained by nothing "
            f"in the log, more than by anything it tells; `{RUN}` would tell what happens there."
        )
    return _rest(facts) if leader is None else held_up(facts, leader)


def slower_since_start(facts: Facts) -> float:
    """How many of the later tenths are slower than the first."""
    parts = np.array_split(finite_steps(facts), 10)
    first, *later = [float(np.median(part)) for part in parts if part.size] or [0.0]
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
    parts = told_parts(facts)
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
    sure = max(slower_since_start(facts), _TESTED_CONFIDENCE if fall.tested else 0.0)
    if is_short(facts):
        why += ". It is a short part of a run: batches that are sorted by length look the same"
        sure = min(sure, _UNSPLIT_CONFIDENCE)
    return Diagnosis(
        verdict="degrading",
        bottleneck=named or "none",
        share=whole_run(facts).stages.get(named, 0.0) if named else 0.0,
        confidence=sure,
        summary=f"{fall.sentence()}{why}.",
        of="step",
    )


def _rest(facts: Facts) -> Diagnosis:
    """Nothing that the log times holds the training up; but regular stalls are worth a word."""
    found, stalls = _without_stalls(facts), _stalls(facts)
    return replace(found, summary=f"{found.summary}{stalls}")


def _stalls(facts: Facts) -> str:
    share, period = facts.known("stalls.share"), facts.known("stalls.period_steps")
    if share is None or period is None or share < SUSPECT_SHARE:
        return ""
    return (
        f" {percent(min(1.0, share))} of the steps' time goes into stalls that come every "
        f"{grouped(period)} steps."
    )


def _without_stalls(facts: Facts) -> Diagnosis:
    most = max(held_up_by(facts, SUSPECT_SHARE), key=lambda g: g.weight, default=None)
    found = _computing_or_unknown(facts, most)
    if most is None:
        return found
    if found.bottleneck == "none":  # the rest is not split, so nothing is known to be larger
        return inconclusive(f"{_below_the_floor(most)} {_unsplit(facts)}")
    return replace(found, summary=f"{found.summary} {_below_the_floor(most)}")


def _below_the_floor(most: Holdup) -> str:
    words = takes(most)
    return (
        f"{words[:1].upper()}{words[1:]}, the most of what the log times besides the training "
        f"itself; from {percent(BOTTLENECK_SHARE)} on it would be called the bottleneck."
    )


def _computing_or_unknown(facts: Facts, most: Holdup | None) -> Diagnosis:
    split, left = whole_run(facts), unexplained(facts)
    if split.computing_timed:
        return _computing(facts, split, most)
    try:
        wait = waiting(facts)
    except Missing as missing:
        if missing.reason is not None:
            return inconclusive(f"{missing.reason[:1].upper()}{missing.reason[1:]}.")
    else:
        return _compute_bound(
            f"Loading is not the bottleneck: waiting for data takes {percent(wait.usual)} of each "
            f"step{_long_waits(wait)}. What the rest of it goes into the log does not tell; "
            f"`{RUN}` would.",
            left,
        )
    busy = facts.known("utilisation.gpu.p50")
    few = too_few_samples(facts, "utilisation.gpu")
    if busy is not None and busy > _SATURATED and few is None:
        return _compute_bound(
            f"The GPU is busy {busy:.0f} % of the time, so it waits for little else. What it "
            f"computes the log does not tell; `{RUN}` would.",
            left,
        )
    return inconclusive(_unsplit(facts))


def _long_waits(wait: Wait) -> str:
    if wait.stalled < SUSPECT_SHARE / 2:
        return ""
    return f", and long waits now and then take {percent(wait.stalled)} of the time of all steps"


def _computing(facts: Facts, split: Split, most: Holdup | None) -> Diagnosis:
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
        summary=f"{percent(share)} of each step is the model's own computation"
        + (", and nothing else that the log times holds it up." if most is None else "."),
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
    train = told_parts(facts).get(TRAIN)
    if train is not None and not _TELLING[0] < train.share < _TELLING[1]:
        train = None
    if train is not None:
        known = f"That training takes {percent(train.share)} of the run"
    elif facts.known("steps.time.mean_s") is not None:
        known = "How long a step takes"
    elif facts.known("epochs.time.mean_s") is not None:
        known = "How long an epoch takes"
    else:
        known = "How fast the training goes"
    return f"{known} is known, but the log does not tell what that time is spent on; `{RUN}` would."
