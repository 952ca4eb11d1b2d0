"""Deciding while measuring: pairs are added until it is clear, and looking often costs no honesty.

One number a pair: the logarithm of new ÷ old, from two processes (or blocks of one process) that
took turns. Samples within a process are not independent, pairs are. All results here are such
logarithms as well, so 0.05 is 5.1 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from perfdoctor.record import Floats
from perfdoctor.stats import student_t

#: After so many pairs the data are looked at. About geometric, so that few looks span a wide
#: range of noise: each look is one more chance to be wrong.
LOOKS = (5, 7, 10, 14, 20, 30)
#: A standard error is taken to be at least this: a handful of pairs may agree by chance, and
#: clocks, layout of memory and order of processes leave about so much between equal programs.
LEAST_ERROR = 1e-3
#: What all blocks of one process have in common, as a standard deviation: eight processes whose
#: blocks were changed by nothing, sixty each (`benchmarks/verify.py`), differed by 0.2 to 0.3 %
#: more than the blocks within them tell.
ONE_PROCESS = 2.5e-3
#: Confidence of one look that finds a slowdown. `tests/test_sequential.py` simulates the six looks
#: with normal, heavy-tailed and contaminated noise: together they are wrong in less than 1 %.
SLOWER = 0.9985
#: The same where both directions are findings, and errors of both count.
DIFFERENT = 0.999
#: The same for "not worse than the margin": to be wrong there takes a slowdown as large as that.
EQUIVALENT = 0.99
#: Share of the pairs that is cut off at each end; from so many pairs on at least one. With one pair
#: in ten disturbed five times as much as the others, 92 % of changes of 5 % are found in twelve
#: pairs in place of 70 %; with normal noise as many. A pair off by 30 % for once (a process got the
#: worse place on the host's cores for seconds) left nine pairs undecided as often as it came.
TRIM = 0.1
TRIMMED_FROM = 7
#: A gain below this is not worth a claim: medians of identical blocks varied by 2.1 % on a loaded
#: two-core machine.
USEFUL = math.log(1.02)
_POWER = 0.8


@dataclass(frozen=True)
class Estimate:
    """The mean of the pairs and the ends of its interval, as logarithms of a ratio."""

    centre: float
    low: float
    high: float


def interval(differences: Floats, level: float = 0.90, *, common: float = 0.0) -> Estimate | None:
    """Two-sided interval of the trimmed mean; None for fewer than two pairs.

    `common`: standard deviation of what is the same in all of them, see `ONE_PROCESS`.
    """
    if differences.size < 2:
        return None
    mean = _TrimmedMean.of(differences, common)
    half = mean.reach((1 + level) / 2)
    return Estimate(mean.value, mean.value - half, mean.value + half)


def smallest_seen(
    differences: Floats,
    pairs: int | None = None,
    *,
    different: float = SLOWER,
    common: float = 0.0,
) -> float:
    """The change that so many pairs of this spread would show, four times out of five.

    Infinite for fewer than two differences. The usual sum of the two quantiles of a t test, at
    the level of the look, `different`; `common` as in `interval`.
    """
    if differences.size < 2:
        return math.inf
    mean, n = _TrimmedMean.of(differences), pairs or differences.size
    freedom = n - 2 * _cut(n) - 1
    wide = student_t(freedom, different) + student_t(freedom, _POWER)
    error = max(LEAST_ERROR, mean.error * math.sqrt(differences.size / n))
    return wide * math.hypot(error, common)


@dataclass(frozen=True)
class Gate:
    """Whether new code takes longer than old code; a difference is log(new time ÷ old time).

    It fails when the difference is real and more than a `part` of `margin`, and passes when it is
    shown to be less than `margin`: nothing found is no pass.

    Attributes:
        margin: the slowdown that matters, as a share of the time.
        part: half for times: a slowdown of just the margin is measured as less every second time.
        different: confidence of "slower" at one look; raise it where several gates are asked.
    """

    margin: float = 0.05
    part: float = 0.5
    different: float = SLOWER
    equivalent: float = EQUIVALENT
    looks: tuple[int, ...] = LOOKS

    def look(self, differences: Floats, *, last: bool = False) -> str | None:
        """ "fail", "pass", or None: not clear, or not the time to look.

        `last`: the time is over, so that it is the time to look after any number of pairs that
        allows a first look.
        """
        if differences.size not in self.looks and not (last and differences.size >= self.looks[0]):
            return None
        mean, margin = _TrimmedMean.of(differences), math.log1p(self.margin)
        level = self.level(differences.size, last=last)
        if mean.value > self.fails_above and mean.value > mean.reach(level):
            return "fail"
        return "pass" if mean.value + mean.reach(self.equivalent) < margin else None

    def level(self, pairs: int, *, last: bool = False) -> float:
        """The confidence of "slower" at this look.

        The last one may err as often as all the looks that come no more: the sum stays the same,
        wherever the time ends.
        """
        left = sum(look > pairs for look in self.looks) if last else 1
        return 1 - (1 - self.different) * max(1, left)

    @property
    def fails_above(self) -> float:
        """The least difference that is called slower, however sure it is."""
        return math.log1p(self.margin) * self.part

    @property
    def most(self) -> int:
        """Pairs after which it stays inconclusive."""
        return self.looks[-1]


@dataclass(frozen=True)
class Claim:
    """Whether a change brings something; a difference is log(new throughput ÷ old throughput).

    Verified: faster, and by more than half of what is `useful`. Refuted: slower; or, where a gain
    was predicted, shown to bring less than is useful. After the last pair, where none was found, it
    is enough that it is less than half of the least that was predicted: not before, as a smaller
    gain than predicted is one all the same. Without a prediction nothing was claimed that "no
    difference" could refute.

    Attributes:
        predicted_low: logarithm of the lower end of the predicted speed-up.
        common: standard deviation of what all differences have in common, see `ONE_PROCESS`.
    """

    predicted_low: float | None = None
    useful: float = USEFUL
    different: float = DIFFERENT
    equivalent: float = EQUIVALENT
    looks: tuple[int, ...] = LOOKS
    common: float = 0.0

    def look(self, differences: Floats) -> str | None:
        """ "verified", "refuted", or None: not clear, or not the time to look."""
        if differences.size not in self.looks:
            return None
        mean = _TrimmedMean.of(differences, self.common)
        if abs(mean.value) > self.useful / 2 and abs(mean.value) > mean.reach(self.different):
            return "verified" if mean.value > 0 else "refuted"
        if self.predicted_low is None:
            return None
        least = self.useful
        if differences.size >= self.most:
            least = max(least, self.predicted_low / 2)
        return "refuted" if mean.value + mean.reach(self.equivalent) < least else None

    @property
    def most(self) -> int:
        """Pairs after which it stays inconclusive."""
        return self.looks[-1]


@dataclass(frozen=True)
class _TrimmedMean:
    """Mean of the pairs without the outermost, its standard error and degrees of freedom.

    Yuen, The two-sample trimmed t for unequal population variances (1974), for one sample: the
    error comes from the winsorised values.
    """

    value: float
    error: float
    freedom: int

    @classmethod
    def of(cls, differences: Floats, common: float = 0.0) -> _TrimmedMean:
        cut, ordered = _cut(differences.size), np.sort(differences)
        kept = ordered[cut : ordered.size - cut]
        drawn_in = np.clip(ordered, kept[0], kept[-1])
        squares = float(((drawn_in - drawn_in.mean()) ** 2).sum())
        error = math.sqrt(squares / (kept.size * (kept.size - 1)))
        error = math.hypot(max(LEAST_ERROR, error), common)
        return cls(float(kept.mean()), error, kept.size - 1)

    def reach(self, one_sided: float) -> float:
        """How far the true mean may be from this one, to one side."""
        return student_t(self.freedom, one_sided) * self.error


def _cut(pairs: int) -> int:
    """How many are cut off at each end."""
    return max(int(TRIM * pairs), int(pairs >= TRIMMED_FROM))
