"""Measures pair after pair until it is clear, or the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

from perfdoctor.collect.options import Progress
from perfdoctor.compare.judging import Jury
from perfdoctor.errors import PerfdoctorError
from perfdoctor.gate.lock_step_pairs import Source
from perfdoctor.render.sides_words import relative_change
from perfdoctor.render.text import seconds

#: So many fit in any case: the first two looks.
_LEAST_PAIRS = 7.5
Clock = Callable[[], float]


def decide(
    source: Source,
    jury: Jury,
    deadline: float,
    progress: Progress,
    clock: Clock = time.monotonic,
    *,
    extend: bool = False,
) -> None:
    """Adds pairs to `jury`; ends when it is finished, or another pair would end after `deadline`.

    With `extend`, pairs that the source cannot shorten get time for a decision. Where the time is
    over, what was measured is looked at a last time.

    Raises:
        PerfdoctorError: what the source raises.
    """
    began, took_s = clock(), list[float]()
    while not jury.finished:
        start = clock()
        if extend and took_s and source.cannot_shorten:
            deadline = max(deadline, began + _LEAST_PAIRS * max(took_s))
        if not _worth_while(took_s, jury, deadline - start):
            jury.end()
            return
        progress(_told(jury, began, deadline, start), len(jury.pairs), jury.next_look or 0)
        jury.add(source.measure(len(jury.pairs)))
        check_seen(jury)
        took_s.append(clock() - start)


def _worth_while(took_s: Sequence[float], jury: Jury, left_s: float) -> bool:
    """Whether a pair more fits, as most have, and can lead to a look: were all like the fastest.

    The first one often takes longer, since nothing is cached yet: of the rest it says nothing.
    """
    if not took_s:
        return True
    lacking = jury.looks[0] - len(jury.pairs) if len(took_s) > 1 else 1
    return median(took_s) <= left_s and lacking * min(took_s) <= left_s


def check_seen(jury: Jury) -> None:
    """That every criterion is of something that a side has.

    Raises:
        PerfdoctorError: one is of nothing: a typing error must not be a pass, nor noise.
    """
    first = jury.pairs[0]
    seen = {*first.before, *first.after}
    metrics = {key.partition(":")[0] for key in seen}
    for criterion in jury.criteria:
        short_of_steps = criterion.statistic == "p95" and criterion.metric in metrics
        if criterion.key not in seen and not short_of_steps:
            known = ", ".join(sorted(metrics))
            raise PerfdoctorError(
                f"{criterion.name} was not measured on either side; there are {known}",
                slug="criterion-of-nothing",
            )


def _told(jury: Jury, began: float, deadline: float, now: float) -> str:
    """ "pair 4, decision possible after 5 (about 12 s); so far step p25 +0.4 %"."""
    done = len(jury.pairs)
    text = f"pair {done + 1}"
    if jury.next_look is not None:
        text += f", a decision is possible after {jury.next_look}"
        if done:
            left = (now - began) / done * (jury.next_look - done)
            text += f" (in about {seconds(left)})"
    text += f", {seconds(max(0.0, deadline - now))} left at most"
    first = jury.judged()[0] if done else None
    if first is not None and first.change is not None:
        text += f"; so far {first.criterion.name} {relative_change(1 + first.change)}"
    return text
