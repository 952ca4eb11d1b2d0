"""The verdict: which part of the training holds it up, in one word and one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from perfdoctor.report import Diagnosis, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.groups import (
    COMPUTE,
    OVERHEAD,
    Split,
    each_tenth,
    group_of,
    stage_columns,
    tenths,
    whole_run,
)
from perfdoctor.rules.steadiness import median_half_width
from perfdoctor.rules.wording import listed, percent, seconds, stage_words
from perfdoctor.stages import OTHER

#: xprof and TraceML call an exposed share of 20 % high.
BOTTLENECK_SHARE = 0.20
#: TraceML begins to warn at half of that; in between, the advice that helps most decides.
SUSPECT_SHARE = 0.10
#: A gain worth a verdict: twice the 2.1 % by which the median of identical blocks varied.
WORTHWHILE = 1.05
#: From here on PyTorch's TensorBoard plug-in calls memory use high.
FULL_MEMORY = 0.90
#: A throughput that fell by less can be other load on the machine: 16 % was the coefficient of
#: variation of the mean step over identical blocks on a loaded two-core machine.
DEGRADED = -0.15
#: A trend is seen in twenty parts of a run: five steps each, or a minute in all, or it may be a
#: mood of the machine.
TREND_STEPS = 100
TREND_S = 60.0
#: A median has no 95 % interval below six samples, and no use below five.
FEWEST_STEPS = 5
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
    "evaluation": "{Stages} takes {share} of the training ({part} of the {step} of an average "
    "step), and the model does not learn meanwhile.",
    "io": "{Stages} takes {share} of the training ({part} of the {step} of an average step) "
    "while the model waits.",
    "communication": "Training waits for other processes: {share} of each step ({part} of "
    "{step}) is communication that nothing hides.",
    OVERHEAD: "{share} of each step ({part} of {step}) is spent between the stages, in Python "
    "code of the training loop.",
}


def verdict(facts: Facts, findings: Sequence[Finding]) -> Diagnosis:
    """What holds the training up. Thresholds and their sources are beside the constants above."""
    split = whole_run(facts)
    steps = int(facts.number("steps.count"))
    if steps < FEWEST_STEPS:
        return _inconclusive(
            f"Too little to go on: {steps} measured steps, at least {FEWEST_STEPS} are needed."
        )
    if _degrades(facts):
        return _degrading(facts, split)
    unclear = _unclear(facts, split)
    if unclear is not None:
        return _inconclusive(unclear)
    floor = _floor(split, findings)
    group = split.leader(floor)
    agreeing = [part.leader(floor) == group for part in each_tenth(facts)]
    confidence = _smoothed(sum(agreeing), len(agreeing))
    if group != COMPUTE:
        return _held_up(facts, split, group, confidence)
    return _computing(facts, split, findings, confidence)


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


def _inconclusive(summary: str) -> Diagnosis:
    return Diagnosis(
        verdict="inconclusive", bottleneck="none", share=0.0, confidence=0.0, summary=summary
    )


def _floor(split: Split, findings: Sequence[Finding]) -> float:
    """What share makes a bottleneck: less if mending it gains more than anything else would."""
    gain = _best_gain(findings, split.leader(SUSPECT_SHARE))
    wins = gain >= WORTHWHILE and gain >= _best_gain(findings, COMPUTE)
    return SUSPECT_SHARE if wins else BOTTLENECK_SHARE


def _best_gain(findings: Sequence[Finding], group: str) -> float:
    gains = [
        f.predicted.speedup
        for f in findings
        if f.predicted is not None and not f.optional and group_of(f.stage) == group
    ]
    return max(gains, default=1.0)


def _held_up(facts: Facts, split: Split, group: str, confidence: float) -> Diagnosis:
    share, stages = split.groups[group], split.members(group)
    step_s = facts.number("steps.time.mean_s")
    summary = _SENTENCES[group].format(
        share=percent(share),
        part=seconds(share * step_s),
        step=seconds(step_s),
        Stages=listed([stage_words(s) for s in stages]).capitalize(),
    )
    return Diagnosis(
        verdict=f"{group}-bound",
        bottleneck=stages[0],
        share=share,
        confidence=confidence,
        summary=summary,
    )


def _computing(
    facts: Facts, split: Split, findings: Sequence[Finding], confidence: float
) -> Diagnosis:
    """Nothing but the computation takes much: it is the bottleneck if it could be faster."""
    share, step_s = split.groups.get(COMPUTE, 0.0), facts.number("steps.time.mean_s")
    times = f"({seconds(share * step_s)} of {seconds(step_s)})"
    text = f"{percent(share)} of each step {times} is the model's own computation"
    if _memory_full(facts):
        used = percent(facts.number("memory.peak_share"))
        word, text = "memory-bound", f"The device's memory is nearly full ({used}), and {text}."
    elif _best_gain(findings, COMPUTE) >= WORTHWHILE:
        word, text = "compute-bound", f"{text}, and it can be made faster."
    else:
        word, text = "healthy", f"No bottleneck found: {text}, and little else holds it up."
    stages = [] if word == "healthy" else split.members(COMPUTE)
    return Diagnosis(
        verdict=word,
        bottleneck=stages[0] if stages else "none",
        share=share if stages else 0.0,
        confidence=confidence,
        summary=text,
    )


def _memory_full(facts: Facts) -> bool:
    path = "memory.peak_share"
    return facts.has(path) and facts.number(path) >= FULL_MEMORY


def _degrades(facts: Facts) -> bool:
    if not facts.has("throughput.trend.shape"):
        return False
    falls = facts.number("throughput.trend.change") <= DEGRADED
    return _long_enough(facts) and facts.text("throughput.trend.shape") == "drift" and falls


def _long_enough(facts: Facts) -> bool:
    many = facts.number("steps.count") >= TREND_STEPS
    return many or facts.number("steps.time.total_s") >= TREND_S


def _degrading(facts: Facts, split: Split) -> Diagnosis:
    first, last = (facts.number(f"throughput.trend.{end}") for end in ("first", "last"))
    fallen = percent(-facts.number("throughput.trend.change"))
    stage = _grown_stage(facts)
    where = f"; most of the added time is in {stage_words(stage)}" if stage else ""
    return Diagnosis(
        verdict="degrading",
        bottleneck=stage or "none",
        share=split.groups.get(group_of(stage), 0.0) if stage else 0.0,
        confidence=_slower_since_start(facts),
        summary=f"Training gets slower as it goes: from {first:,.4g} to {last:,.4g} samples/s "
        f"(−{fallen}){where}.",
    )


def _grown_stage(facts: Facts) -> str | None:
    """The stage that added most seconds between the first and the last tenth."""
    grown = {}
    for stage, column in stage_columns(facts).items():
        parts = tenths(column)
        grown[stage] = float(parts[-1].mean() - parts[0].mean())
    most = max(grown, key=lambda stage: grown[stage], default=None)
    return most if most is not None and grown[most] > 0 else None


def _slower_since_start(facts: Facts) -> float:
    """How many of the later tenths are slower than the first."""
    if not facts.has("series.step_s"):
        return _smoothed(0, 0)
    first, *later = (float(np.median(part)) for part in tenths(facts.series("step_s")))
    return _smoothed(sum(median > first for median in later), len(later))


def _smoothed(agreeing: int, parts: int) -> float:
    """Laplace's rule of succession: no finite number of agreements makes certain."""
    return (agreeing + 1) / (parts + 2)
