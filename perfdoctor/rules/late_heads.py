"""PD245: a convolution of one pixel comes after an upsampling instead of before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import (
    RUNS,
    HotLine,
    at,
    hot_lines,
    line_evidence,
    stage_share,
    without,
)
from perfdoctor.rules.wording import grouped, percent
from perfdoctor.stages import BACKWARD, FORWARD

_NOW_S, _LEFT = "configuration.late_head_s", "configuration.late_head_left"
_BACKWARD = "configuration.late_head_backward"
_TIMES = "configuration.late_head_times"
_TAKES, _GIVES = "configuration.late_head_takes", "configuration.late_head_gives"
_STEP_S = "steps.time.mean_s"
#: Lines that upsample, by what they call.
_UPSAMPLES = r"\binterpolate\b|\bUpsample\b"
_CONVOLVES = r"\bConv[123]d\."
#: Of what was measured by itself, what goes at least, and at most where no line is known that would
#: be a bound (our own choice): beside the rest of a step it lies in other caches.
_LEAST, _MORE = 0.6, 2.0
#: No step goes away whole.
_MOST = 0.95


class HeadAfterUpsampling:
    """A convolution of one pixel works on the pixels of an upsampling that could come after it.

    ## What it does
    Looks, in the graph of a step of an observed script, for convolutions of one pixel right after
    an interpolation that nothing else uses; on a CPU it measures, after the training, how long both
    take in this order and in the other.

    ## Why it is slow
    An interpolation and a convolution of one pixel are linear and give the same in either order.
    After upsampling by four there are 16 times as many pixels to multiply, and all channels are
    interpolated where those that the convolution gives would do.

    ## Evidence and threshold
    The time by which a step gets shorter in the other order, as a part of it.
    - `share` = 0.05 (source: our own choice; less is not worth a change)

    ## What to change
    `self.head(x)` first, `F.interpolate` of what it gives then.

    ## How the gain is predicted
    Both are timed in either order with tensors of these sizes, forward and backward; the
    difference goes, 60 % of it at least. At most goes what is seen in the lines that interpolate,
    and convolve in the same function, with what that takes backward; where no such line is seen, as
    in a model of layers one after the other, twice the difference.

    ## When not to
    Where something is between the two that is not linear, or padding; that is not reported.
    """

    code: ClassVar[str] = "PD245"
    name: ClassVar[str] = "head-after-upsampling"
    needs: ClassVar[tuple[str, ...]] = (_NOW_S, _STEP_S)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "head-after-upsampling"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the other order makes steps visibly shorter."""
        now_s, step_s = facts.number(_NOW_S), facts.number(_STEP_S)
        if now_s <= 0 or step_s <= 0:
            return None
        times, takes, gives = (facts.number(path) for path in (_TIMES, _TAKES, _GIVES))
        lines = _lines(facts)
        goes = 1 - facts.number(_LEFT)
        most = _seen(facts, lines) or _MORE * now_s / step_s
        most = min(_MOST, goes * most)
        share = min(most, goes * now_s / step_s)
        if share < facts.threshold("share"):
            return None
        return Finding(
            stage=FORWARD,
            title=f"A convolution of one pixel comes after an upsampling to {grouped(times)} times "
            f"the pixels: {percent(share)} of each step could go{at(lines[0]) if lines else ''}",
            advice=f"Apply the convolution first, and upsample the {grouped(gives)} channels that "
            f"it gives instead of the {grouped(takes)} that it takes: the result is the same but "
            "for rounding.",
            change={"head_before_upsampling": True},
            snippet="logits = self.head(features)  # 1×1, on few pixels\n"
            'return F.interpolate(logits, scale_factor=4, mode="bilinear")',
            evidence=(
                beside(facts, "time that goes", share, "share of step", "share"),
                Evidence(metric="of both, in the other order", value=1 - goes, unit="share"),
                *line_evidence(lines[:2]),
            ),
            cause=self.cause,
            predicted=without(share, _LEAST, 1.0, most / share),
            confidence=0.9,
            effort="lines",
            safety="numerics",
        )


def _lines(facts: Facts) -> list[HotLine]:
    """The lines that upsample, and those of the same functions that convolve; none where one of
    both was not seen."""
    lines = hot_lines(facts, FORWARD)
    upsample = [line for line in lines if line.calls(_UPSAMPLES)]
    around = {(line.file, line.function) for line in upsample}
    convolve = [n for n in lines if n.calls(_CONVOLVES) and (n.file, n.function) in around]
    return [*upsample, *convolve] if convolve else []


def _seen(facts: Facts, lines: list[HotLine]) -> float:
    """The part of the training that these lines take, their backward included."""
    forward = sum(line.share for line in lines)
    backward = min(stage_share(facts, BACKWARD), forward * facts.number(_BACKWARD))
    return forward + backward
