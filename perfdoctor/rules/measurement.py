"""PD901: whether the measurement can be trusted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.steadiness import median_half_width, relative_spread
from perfdoctor.stages import OTHER

_FOREIGN = "utilisation.cpu_foreign.mean"
_BUSY = "utilisation.cpu.mean"
_THROTTLED = "utilisation.cpu_throttled.mean"


class NoisyMeasurement:
    """Something else used the machine while this was measured.

    ## What it does
    Looks for steps that vary together with a reason from outside, and for a median step that is
    not well known. Everything else in the report is then trusted less.

    ## Why it is slow
    Other programs on the same cores, or a container's quota that stops the process for parts of
    every period, make steps longer at random. The shares and gains of such a run are not those of
    a quiet machine.

    ## Evidence and threshold
    Either the interval of the median step is wide, or a cause from outside was seen while the
    steps vary or no core was left idle. Turns of workers, which make short and long steps
    alternate, are averaged first. The steps of a log are judged only beside samples of what else
    the machine did.
    - `half_width` = 0.05 (source: twice the 2.1 % by which the median of identical blocks varied
      on a loaded two-core machine, rounded up)
    - `spread` = 0.25 (source: torch.utils.benchmark calls a measurement unreliable from an
      interquartile range of a quarter of the median)
    - `foreign_percent` = 25 (source: our own choice, a quarter of a core taken by others)
    - `busy_percent` = 95 (source: our own choice, no core left idle: then whatever others use is
      taken from this training, however evenly)
    - `throttled_percent` = 5 (source: our own choice, one period in twenty cut short by the quota)

    ## What to change
    Measure again on a quiet machine, or for longer.

    ## How the gain is predicted
    There is none: the training itself is not at fault.

    ## When not to
    When the machine is always shared like this, the measurement is what the training gets.
    """

    code: ClassVar[str] = "PD901"
    name: ClassVar[str] = "noisy-measurement"
    needs: ClassVar[tuple[str, ...]] = ("steps.time.p50_s",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "noisy-measurement"
    thresholds: ClassVar[Mapping[str, float]] = {
        "half_width": 0.05,
        "spread": 0.25,
        "foreign_percent": 25.0,
        "busy_percent": 95.0,
        "throttled_percent": 5.0,
    }

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the median is not well known, or others were seen to take from the steps."""
        if facts.from_log:
            _sampled(facts)
        width = median_half_width(facts)
        if math.isinf(width):
            raise Missing("steps.time.p50_ci")
        imprecise = width > facts.threshold("half_width") and not facts.from_log
        disturbed = tuple(_disturbances(facts))
        varied = relative_spread(facts) >= facts.threshold("spread")
        if not imprecise and not (disturbed and (varied or _crowded(facts))):
            return None
        return Finding(
            stage=OTHER,
            title=_title(facts, imprecise, disturbed),
            advice="Measure again on a quiet machine, or for longer; until then the numbers of "
            "this report are rough.",
            change={},
            snippet="",
            evidence=(
                Evidence(
                    metric="half the interval of the median step",
                    value=width,
                    unit="share of step",
                    threshold=facts.threshold("half_width"),
                ),
                *disturbed,
            ),
            cause=self.cause,
            confidence=0.9 if disturbed else 0.6,
        )


def _sampled(facts: Facts) -> None:
    """A log's steps may vary for any reason: only what else the machine did could tell.

    Raises `Missing` where that was not sampled.
    """
    if not (facts.has(_FOREIGN) or facts.has(_THROTTLED)):
        raise Missing(_FOREIGN)


def _crowded(facts: Facts) -> bool:
    """Whether other programs ran while every core was busy."""
    if not facts.has(_FOREIGN) or facts.number(_FOREIGN) < facts.threshold("foreign_percent"):
        return False
    return facts.has(_BUSY) and facts.number(_BUSY) >= facts.threshold("busy_percent")


def _disturbances(facts: Facts) -> Iterator[Evidence]:
    for path, metric, unit, name in (
        (_FOREIGN, "other programs", "% of a core", "foreign_percent"),
        (_THROTTLED, "periods cut short by the quota", "%", "throttled_percent"),
    ):
        limit = facts.threshold(name)
        if facts.has(path) and facts.number(path) >= limit:
            yield Evidence(metric=metric, value=facts.number(path), unit=unit, threshold=limit)


def _title(facts: Facts, imprecise: bool, disturbed: tuple[Evidence, ...]) -> str:
    if disturbed:
        seen = disturbed[0]
        return f"The machine was not quiet: {seen.metric} {seen.value:.0f} {seen.unit}"
    half = 100 * median_half_width(facts)
    return f"The median step is only known to ±{half:.0f} %"
