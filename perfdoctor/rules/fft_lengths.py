"""PD237: Fourier transforms of padded signals whose length has a large prime factor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import (
    RUNS,
    at,
    hot_lines,
    line_evidence,
    share_in,
    stage_share,
    without,
)
from perfdoctor.rules.wording import grouped
from perfdoctor.stages import BACKWARD, FORWARD

_PART, _SLOWER = "configuration.fft_padded_part", "configuration.fft_slower"
_LENGTH, _FAST = "configuration.fft_length", "configuration.fft_fast_length"
_CALLS = r"\bi?[rh]?fft(?:2|n)?\b"
#: Of the time in such lines, what is a transform at all: they also pad and cut.
_TRANSFORMS = (0.6, 0.9, 1.0)


class SlowTransformLength:
    """Convolutions by Fourier transforms have a length that transforms slowly.

    ## What it does
    Finds, in the graph of an observed script's step, convolutions that are computed through
    `torch.fft`: products of transforms of padded tensors, of which a part is kept. On a CPU it
    measures, after the training, how much slower their length is than the next fast one.

    ## Why it is slow
    A transform is fast where its length is a product of small primes. Two times n minus one, as
    long as the whole of a convolution is, often has a large one, and takes several times as long.

    ## Evidence and threshold
    The time of a transform at this length and at the next whose prime factors are at most seven,
    and the share of the lines that transform.
    - `slower` = 1.3 (source: our own choice; a longer transform also has more to do around it)
    - `share` = 0.05 (source: our own choice; less is not worth a change)

    ## What to change
    Pad to the fast length, as `scipy.fft.next_fast_len` gives it, and keep the same part of the
    result: it is the same convolution.

    ## How the gain is predicted
    Amdahl's law over the lines that transform, and the same part of the backward pass, which
    transforms as often: 60 %, 90 % or all of that becomes so many times as fast as was measured.

    ## When not to
    Where the length has a meaning: a circular convolution, weights given for each frequency. What
    looks like that is not reported.
    """

    code: ClassVar[str] = "PD237"
    name: ClassVar[str] = "slow-fft-length"
    needs: ClassVar[tuple[str, ...]] = (_PART, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "fft-length"
    thresholds: ClassVar[Mapping[str, float]] = {"slower": 1.3, "share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if such transforms take their time and would be faster."""
        part = facts.number(_PART)
        lines = [line for line in hot_lines(facts, FORWARD) if line.calls(_CALLS)]
        seen = part * share_in(facts, lines, FORWARD)
        share = seen * (stage_share(facts, FORWARD) + stage_share(facts, BACKWARD))
        if share < facts.threshold("share") or facts.number(_SLOWER) < facts.threshold("slower"):
            return None
        slower, length, fast = (facts.number(path) for path in (_SLOWER, _LENGTH, _FAST))
        return Finding(
            stage=FORWARD,
            title=f"Fourier transforms of {grouped(length)} numbers take {slower:.1f} times as "
            f"long as of {grouped(fast)}{at(lines[0])}",
            advice=f"Give the transforms and their inverse n={fast:.0f} instead of {length:.0f}, "
            "and keep the same part of the result: the signals are padded anyway, and the "
            "convolution stays the same.",
            change={"fft_length": int(fast)},
            snippet="from scipy.fft import next_fast_len\n\n"
            f"n = next_fast_len(n)  # such as {fast:.0f} for {length:.0f}",
            evidence=(
                beside(facts, "time, beside the next fast length", slower, "×", "slower"),
                beside(facts, "transforms, backward too", share, "share of training", "share"),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=without(share, *(p * (1 - 1 / slower) for p in _TRANSFORMS)),
            confidence=0.85,
            effort="lines",
            safety="numerics",
        )
