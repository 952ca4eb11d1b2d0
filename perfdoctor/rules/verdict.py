"""The verdict: which part of the training holds it up, in one word and one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from perfdoctor.report import Diagnosis, Finding
from perfdoctor.rules.compiling_time import compiling_bound
from perfdoctor.rules.elsewhere import mostly_waits, no_step_seen, waits
from perfdoctor.rules.evaluated_apart import evaluating_bound
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.groups import (
    COMPUTE,
    EVALUATION,
    INPUT,
    OVERHEAD,
    VALIDATION,
    Split,
    each_tenth,
    group_of,
    loading_moved,
    whole_run,
)
from perfdoctor.rules.judging import (
    BOTTLENECK_SHARE,
    SUSPECT_SHARE,
    WORTHWHILE,
    best_gain,
    inconclusive,
    mended_stage,
    smoothed,
)
from perfdoctor.rules.loader_facts import CROWDED, crowding
from perfdoctor.rules.logs import wall_parts
from perfdoctor.rules.observed import hot_lines, is_run
from perfdoctor.rules.run_growth import falls_most
from perfdoctor.rules.run_operations import signs_of_overhead
from perfdoctor.rules.run_search import sane_schedule
from perfdoctor.rules.settled import beside, settled
from perfdoctor.rules.start_up import starting_bound
from perfdoctor.rules.steadiness import median_half_width
from perfdoctor.rules.trends import DEGRADED, TREND_S, TREND_STEPS, grown_stage
from perfdoctor.rules.verdict_log import slower_since_start, verdict_on_log
from perfdoctor.rules.wording import listed, percent, seconds, stage_words
from perfdoctor.stages import ARCH_STEP, BACKWARD, DATA_LOADING, FORWARD, LOSS, OTHER

#: From here on PyTorch's TensorBoard plug-in calls memory use high.
FULL_MEMORY = 0.90
#: A median has no 95 % interval below six samples, and no use below five.
FEWEST_STEPS = 5
#: In so many tenths of an observed run the same group leads, or its verdict is not clear.
_NEARLY_ALL = 0.8
#: torch.utils.benchmark calls a spread of a quarter of the median unreliable.
WIDEST = 0.25

_SENTENCES = {
    "input": "Training waits for data: {share} of each step is spent waiting for the next batch "
    "({part} of {step}) while the model is idle.",
    "transfer": "Training waits for copies: {share} of each step ({part} of {step}) goes into "
    "moving the batch to the device.",
    "optimizer": "Updating the weights takes {share} of each step ({part} of {step}).",
    "search": "The architecture step takes {share} of the training ({part} of the {step} of an "
    "average step).",
    "evaluation": "{Stages} {takes} {share} of the training ({part} of the {step} of an average "
    "step), and the model does not learn meanwhile.",
    "io": "{Stages} {takes} {share} of the training ({part} of the {step} of an average step) "
    "while the model waits.",
    "communication": "Training waits for other processes: {share} of each step ({part} of "
    "{step}) is communication that nothing hides.",
    OVERHEAD: "{share} of each step ({part} of {step}) is spent between the stages, {doing}.",
}


def verdict(facts: Facts, findings: Sequence[Finding]) -> Diagnosis:
    """What holds the training up. Thresholds and their sources are beside the constants above."""
    if is_run(facts) and not facts.has("steps"):
        return no_step_seen(facts)
    if facts.from_log or not facts.has("steps"):
        return verdict_on_log(facts)
    for whole in (starting_bound, compiling_bound):
        if (found := whole(facts, findings)) is not None:
            return found
    if (evaluated := evaluating_bound(facts)) is not None:
        return evaluated
    own = (ARCH_STEP,) if sane_schedule(facts) else ()
    waiting = _waiting_validation(facts, findings)
    split = replace(loading_moved(whole_run(facts), waiting), own=own)
    steps = int(facts.number("steps.count"))
    if steps < FEWEST_STEPS:
        return inconclusive(
            f"Too little to go on: {steps} measured steps, at least {FEWEST_STEPS} are needed."
        )
    if falls_most(facts, findings) if is_run(facts) else _degrades(facts):
        return _degrading(facts, split)
    fine = settled(facts, split, findings)
    floor = _floor(replace(split, own=own + fine), findings)
    group = replace(split, own=own + fine).leader(floor)
    tenths = [loading_moved(tenth, waiting) for tenth in each_tenth(facts)]
    agreeing = [replace(tenth, own=own + fine).leader(floor) == group for tenth in tenths]
    unclear = _unclear(facts, split)
    if unclear is not None and not (is_run(facts) and _all_over(split, agreeing)):
        return inconclusive(unclear)
    confidence = smoothed(sum(agreeing), len(agreeing))
    if group == INPUT and waiting:
        return _all_wait(facts, split, confidence)
    if group != COMPUTE:
        return _held_up(facts, split, group, confidence)
    if crowding(facts) >= CROWDED and best_gain(findings, INPUT) >= WORTHWHILE:
        return _crowded(facts, split, confidence)
    return _computing(facts, split, findings, confidence, beside(split, fine, BOTTLENECK_SHARE))


def _waiting_validation(facts: Facts, findings: Sequence[Finding]) -> float:
    """The part of validation that waits for batches, where it is the loading that can be mended."""
    waited_s = facts.known("configuration.validation_waits_s")
    spent = wall_parts(facts).get(VALIDATION) if waited_s else None
    loading = best_gain(findings, INPUT)
    if not waited_s or spent is None or not spent.seconds:
        return 0.0
    if loading < max(WORTHWHILE, best_gain(findings, EVALUATION)):
        return 0.0
    return min(1.0, waited_s / spent.seconds)


def _all_over(split: Split, agreeing: Sequence[bool]) -> bool:
    """Whether one group leads nearly all over an observed run, however its step times vary."""
    told = bool(set(split.stages) - {OTHER})
    return told and len(agreeing) > 1 and sum(agreeing) >= _NEARLY_ALL * len(agreeing)


def _unclear(facts: Facts, split: Split) -> str | None:
    """Why no bottleneck can be named, if so."""
    if not set(split.stages) - {OTHER}:
        return "How long a step takes was measured, but not what it spends that time on."
    width = median_half_width(facts)
    if math.isinf(width):
        return "Too few steps to know how long one takes; measure longer."
    if width > WIDEST:
        return (
            "The step time varies too much to judge: its median is only known to "
            f"±{percent(width)}. Measure longer, or on a quieter machine."
        )
    return None


def _floor(split: Split, findings: Sequence[Finding]) -> float:
    """What share makes a bottleneck: less if mending it gains more than anything else would."""
    gain = best_gain(findings, split.leader(SUSPECT_SHARE))
    wins = gain >= WORTHWHILE and gain >= best_gain(findings, COMPUTE)
    return SUSPECT_SHARE if wins else BOTTLENECK_SHARE


def _held_up(facts: Facts, split: Split, group: str, confidence: float) -> Diagnosis:
    share, stages = split.groups[group], split.members(group)
    step_s = facts.number("steps.time.mean_s")
    summary = _SENTENCES[group].format(
        share=percent(share),
        part=seconds(share * step_s),
        step=seconds(step_s),
        Stages=listed([stage_words(s) for s in stages]).capitalize(),
        takes="take" if len(stages) > 1 or stages[0].endswith("s") else "takes",
        doing=_doing(facts),
    )
    return Diagnosis(
        verdict=f"{group}-bound",
        bottleneck=stages[0],
        share=share,
        confidence=confidence,
        summary=summary,
    )


def _all_wait(facts: Facts, split: Split, confidence: float) -> Diagnosis:
    """Validation waits for its batches as the training does."""
    share, step_s = split.groups[INPUT], facts.number("steps.time.mean_s")
    return Diagnosis(
        verdict="input-bound",
        bottleneck=DATA_LOADING,
        share=share,
        confidence=confidence,
        summary=f"Training and validation wait for data: {percent(share)} of the training "
        f"({seconds(share * step_s)} of the {seconds(step_s)} of an average step) is spent waiting "
        "for the next batch.",
    )


def _doing(facts: Facts) -> str:
    """What the training loop does between the stages, by the lines there."""
    lines = hot_lines(facts, OTHER)
    if mostly_waits(lines):
        return f"mostly waiting in {next(filter(waits, lines)).words}"
    return "in Python code of the training loop"


def _crowded(facts: Facts, split: Split, confidence: float) -> Diagnosis:
    """The queue is full, but its workers take the cores that the model computes on."""
    part, share = crowding(facts), split.stages.get(DATA_LOADING, 0.0)
    return Diagnosis(
        verdict="input-bound",
        bottleneck=DATA_LOADING,
        share=share,
        confidence=confidence,
        summary=f"Making batches slows the model down: training waits {percent(share)} of each "
        f"step for them, but workers take {percent(part)} of the processor time of a step, and no "
        "core is left.",
    )


def _computing(
    facts: Facts, split: Split, findings: Sequence[Finding], confidence: float, fine: str
) -> Diagnosis:
    """Nothing but the computation takes much, and what is `fine`: it is the bottleneck if it could
    be faster."""
    share, step_s = split.groups.get(COMPUTE, 0.0), facts.number("steps.time.mean_s")
    times = f"({seconds(share * step_s)} of {seconds(step_s)})"
    text = f"{percent(share)} of each step {times} is the model's own computation"
    if _memory_full(facts):
        used = percent(facts.number("memory.peak_share"))
        word, text = "memory-bound", f"The device's memory is nearly full ({used}), and {text}."
    elif best_gain(findings, COMPUTE) >= WORTHWHILE:
        word, text = "compute-bound", f"{text}, and it can be made faster."
    else:
        sign = signs_of_overhead(facts) if is_run(facts) else None
        rest = sign or fine or "and little else holds it up"
        word, text = "healthy", f"No bottleneck found: {text}, {rest}."
    stages = [] if word == "healthy" else split.members(COMPUTE)
    mended = mended_stage(findings, COMPUTE)
    if word == "compute-bound" and mended in stages:
        stages = [mended]
        if mended not in (FORWARD, BACKWARD):
            share, text = _mended(facts, split, mended)
    return Diagnosis(
        verdict=word,
        bottleneck=stages[0] if stages else "none",
        share=share if stages else 0.0,
        confidence=confidence,
        summary=text,
    )


def _mended(facts: Facts, split: Split, stage: str) -> tuple[float, str]:
    """The share of a stage that can be less, and a sentence; of a loss with the backward pass
    through it, where that was seen."""
    share, part = split.stages[stage], facts.known("configuration.loss_of_backward")
    through = split.stages.get(BACKWARD, 0.0) * (part or 0.0) if stage == LOSS else 0.0
    if through >= share:
        return share + through, (
            f"The loss takes {percent(share + through)} of each step, {percent(through)} of it in "
            "the backward pass, and can be less."
        )
    more = " with its part of the backward pass" if stage == LOSS else ""
    name = stage_words(stage).capitalize()
    return share, f"{name} takes {percent(share)} of each step, and{more} can be less."


def _memory_full(facts: Facts) -> bool:
    path = "memory.peak_share"
    return facts.has(path) and facts.number(path) >= FULL_MEMORY


def _degrades(facts: Facts) -> bool:
    if not facts.has("throughput.trend.shape"):
        return False
    falls = facts.number("throughput.trend.change") <= -DEGRADED
    return _long_enough(facts) and facts.text("throughput.trend.shape") == "drift" and falls


def _long_enough(facts: Facts) -> bool:
    many = facts.number("steps.count") >= TREND_STEPS
    return many or facts.number("steps.time.total_s") >= TREND_S


def _degrading(facts: Facts, split: Split) -> Diagnosis:
    first, last = (facts.number(f"throughput.trend.{end}") for end in ("first", "last"))
    fallen = percent(-facts.number("throughput.trend.change"))
    stage = grown_stage(facts)
    where = f"; most of the added time is in {stage_words(stage)}" if stage else ""
    return Diagnosis(
        verdict="degrading",
        bottleneck=stage or "none",
        share=split.groups.get(group_of(stage), 0.0) if stage else 0.0,
        confidence=slower_since_start(facts),
        summary=f"Training gets slower as it goes: from {first:,.4g} to {last:,.4g} samples/s "
        f"(−{fallen}){where}.",
    )
