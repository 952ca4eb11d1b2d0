"""Which parts of a step or of the wall clock hold a run up, as far as its log times them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from perfdoctor.report import Diagnosis
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.frequency import stalls_are_of
from perfdoctor.rules.groups import (
    COMPUTE,
    GROUPS,
    OVERHEAD,
    Split,
    each_tenth,
    whole_run,
)
from perfdoctor.rules.judging import BOTTLENECK_SHARE, smoothed
from perfdoctor.rules.logs import TRAIN, Part, unexplained_part, validation_part, wall_parts
from perfdoctor.rules.waits import waiting
from perfdoctor.rules.wording import duration, listed, percent, seconds, stage_words
from perfdoctor.stages import DATA_LOADING

#: Where the log accounts for the whole wall clock; less by what it leaves unexplained.
_WALL_CONFIDENCE = 0.85
#: A log that prints one step of many can show other waits than its running averages, which are
#: right: a loader's workers deliver in turns. From this difference on only the averages count.
_OFF = 0.5
_AVERAGE_CONFIDENCE = 0.7

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
_STAGE_WORDS = {"arch_step": "the architecture step", "checkpoint": "saving checkpoints"}


@dataclass(frozen=True)
class Holdup:
    """A group of stages: its share of a step or of the run, and of the run as far as known."""

    name: str
    stages: tuple[str, ...]
    share: float
    of: str
    part_s: float | None
    whole_s: float | None
    weight: float


def held_up_by(facts: Facts, least: float = BOTTLENECK_SHARE) -> list[Holdup]:
    """Groups with at least this share of what they are a part of."""
    split, parts = whole_run(facts), told_parts(facts)
    groups = [*_step_groups(facts, split, parts), *_run_groups(facts, split, parts)]
    return [g for g in groups if g.share >= least]


def takes(group: Holdup) -> str:
    """Such as "validation takes 13 % of the run" and "waiting for data takes 18 % of each step"."""
    whole = "each step" if group.of == "step" else "the run"
    if group.name == "input":
        return f"waiting for data takes {percent(group.share)} of {whole}"
    names = listed([_STAGE_WORDS.get(s, stage_words(s)) for s in group.stages])
    return f"{names} take{'s' if len(group.stages) == 1 else ''} {percent(group.share)} of {whole}"


def _step_groups(facts: Facts, split: Split, parts: dict[str, Part]) -> list[Holdup]:
    """Of the stages of a step. `other` counts only in a trace, which times all that it can."""
    step_s, steps_share = facts.known("steps.time.mean_s"), 1.0
    if TRAIN in parts:
        steps_share = min(1.0, sum(parts[n].share for n in (TRAIN, DATA_LOADING) if n in parts))
    found = []
    for name, whole in split.groups.items():
        share = _usual_wait(facts, whole, parts) if name == "input" else whole
        if name == COMPUTE or (name == OVERHEAD and not _traced(facts)):
            continue
        part_s = None if step_s is None else share * step_s
        stages = tuple(split.members(name))
        found.append(Holdup(name, stages, share, "step", part_s, step_s, share * steps_share))
    return found


def _usual_wait(facts: Facts, share: float, parts: dict[str, Part]) -> float:
    """Less the stalls, if these are another part of the wall clock that lies in the loop's wait."""
    others = [parts[name] for name in ("validation", "checkpoint") if name in parts]
    if not any(stalls_are_of(facts, part) for part in others):
        return share
    with suppress(Missing):
        return waiting(facts).usual
    return share


def _traced(facts: Facts) -> bool:
    return facts.has("source.kind") and facts.get("source.kind") == "trace"


def _run_groups(facts: Facts, split: Split, parts: dict[str, Part]) -> list[Holdup]:
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
        found.append(Holdup(name, stages, min(1.0, share), "run", spent_s, total_s, share))
    return found


def held_up(facts: Facts, group: Holdup) -> Diagnosis:
    """The verdict where this group is the bottleneck."""
    return Diagnosis(
        verdict=f"{group.name}-bound",
        bottleneck=group.stages[0],
        share=group.share,
        confidence=_how_sure(facts, group),
        summary=_sentence(facts, group),
        of=group.of,
    )


def _sentence(facts: Facts, group: Holdup) -> str:
    on_step = group.of == "step"
    if group.name == "input" and (long := _long_waits(facts)) is not None:
        return long
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


def _long_waits(facts: Facts) -> str | None:
    """Where the usual step does not wait."""
    with suppress(Missing):
        wait = waiting(facts)
        if wait.mostly_stalls:
            irregular = facts.known("stalls.period_steps") is None
            when = "at the start of epochs" if _at_start(facts) else (
                "now and then" if irregular else "at regular distances"
            )  # fmt: skip
            return (
                f"Training waits for data: {percent(wait.share)} of the time of all steps, most "
                f"of it in long waits {when}; the usual step hardly waits."
            )
    return None


def _at_start(facts: Facts) -> bool:
    path = "stalls.at_epoch_start"
    return facts.has(path) and facts.get(path) is True


def _how_sure(facts: Facts, group: Holdup) -> float:
    if group.of == "run":
        left = unexplained(facts)
        return _WALL_CONFIDENCE * (1 - (left.share if left else 0.0))
    shares = [part.groups.get(group.name, 0.0) for part in each_tenth(facts)]
    if shares and abs(sum(shares) / len(shares) - group.share) > _OFF * group.share:
        return _AVERAGE_CONFIDENCE
    agreeing = [share >= min(BOTTLENECK_SHARE, group.share) for share in shares]
    return smoothed(sum(agreeing), len(agreeing))


def told_parts(facts: Facts) -> dict[str, Part]:
    """The wall clock's, as far as known, and the validation that only the epochs tell of."""
    parts: dict[str, Part] = {}
    with suppress(Missing):
        parts |= wall_parts(facts)
    with suppress(Missing):
        parts.setdefault("validation", validation_part(facts))
    return parts


def unexplained(facts: Facts) -> Part | None:
    """What no record of the log accounts for; None where that is not known, as from a total."""
    try:
        return unexplained_part(facts)
    except Missing:
        return None
