"""Changes that only a new process can make: pairs of processes, started anew for each pair."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from perfdoctor.collect.arm import NO_TIME, Arm
from perfdoctor.errors import PerfdoctorError
from perfdoctor.experiments.outcomes import concluded, cut_short
from perfdoctor.experiments.parity import Parity, parity
from perfdoctor.experiments.plan import Candidate, named
from perfdoctor.experiments.turns import PAIR_CHUNKS, ChunkPlan, Decision, pair_difference
from perfdoctor.report import Trial
from perfdoctor.sequential import LOOKS, Claim

if TYPE_CHECKING:
    from perfdoctor.experiments.trials import Laboratory

_FEWEST_PAIRS = LOOKS[0]
_WARM_STEPS = 5
_FEWEST_STEPS = 2

#: Of a pair's time, what is left for steps after both processes have started.
_LEAST_STEPS_SHARE = 0.3


def attempt(laboratory: Laboratory, candidate: Candidate, allotted_s: float) -> Trial:
    """Pairs until it is decided or the time is up; none where not even the fewest would fit."""
    pair_s = _pair_s(laboratory)
    needed_s = _FEWEST_PAIRS * pair_s
    if needed_s > allotted_s:
        budget = laboratory.budget_s + needed_s - allotted_s
        return Trial(
            outcome="inconclusive",
            reason=f"each pair takes two new processes, five pairs about {needed_s:.0f} s: "
            f"use --budget {budget:.0f}s",
        )
    decision, same = Decision(Claim(predicted_low=candidate.predicted_low)), Parity("not measured")
    deadline = time.perf_counter() + allotted_s
    peaks: tuple[int | None, int | None] = (None, None)
    while not decision.over:
        begun = time.perf_counter()
        left = deadline - begun
        if decision.differences and left < pair_s:
            break
        steps_s = max(1.0, left / max(1, _FEWEST_PAIRS - len(decision.differences)) - pair_s)
        try:
            number = len(decision.differences)
            difference, same, peaks = _pair(laboratory, candidate, steps_s, number)
        except KeyboardInterrupt:
            laboratory.interrupted = cut_short(decision, same, laboratory)
            raise
        except PerfdoctorError as error:
            if error.slug != NO_TIME:
                raise
            break  # the script ended within the pair: those before it are kept
        decision.add(difference)
        pair_s = max(pair_s, time.perf_counter() - begun - steps_s)
        laboratory.tell(named(candidate))
    trial = concluded(decision, same, laboratory)
    return replace(trial, peak_bytes_before=peaks[0], peak_bytes_after=peaks[1])


def _pair_s(laboratory: Laboratory) -> float:
    """What a pair takes at least: its processes start, and make the fewest steps that will do."""
    queue = int(laboratory.facts.extra.get("queue", 0))
    chunk = _chunk_steps(laboratory, 0.0) + 1 + queue  # those that are not counted come before
    steps_s = (_WARM_STEPS + PAIR_CHUNKS * chunk) * laboratory.step_s
    return 2 * (laboratory.setup_s + max(_LEAST_STEPS_SHARE * laboratory.setup_s, steps_s))


def _chunk_steps(laboratory: Laboratory, chunk_s: float) -> int:
    """Steps of a chunk that count: whole turns, the fewest or as many as fit."""
    extra = laboratory.facts.extra
    steps = max(_FEWEST_STEPS, round(chunk_s / laboratory.step_s) - int(extra.get("queue", 0)))
    turn = int(extra.get("turn", 1))
    return turn * math.ceil(steps / turn)


def _pair(
    laboratory: Laboratory, candidate: Candidate, steps_s: float, seed: int
) -> tuple[float, Parity, tuple[int | None, int | None]]:
    """The difference of two new processes, their losses compared, and the peaks of both."""
    specs = [laboratory.spec, laboratory.spec.changed(candidate.changes)]
    first = seed % 2  # in turns: each of them starts first in half of the pairs
    arms: dict[int, Arm] = {}
    with ExitStack() as stack:
        for side in (first, 1 - first):
            arms[side] = stack.enter_context(specs[side].start())
            arms[side].begins_until_s = laboratory.arm.begins_until_s
            arms[side].warm(_WARM_STEPS)
        chunks = ChunkPlan(_chunk_steps(laboratory, steps_s / (2 * PAIR_CHUNKS)))
        old, new = laboratory.watched(arms[0]), laboratory.watched(arms[1])
        difference = pair_difference(old, new, chunks, seed)
        facts = [arms[side].facts() for side in (0, 1)]
    same = parity(
        facts[0].losses[:_WARM_STEPS],
        facts[1].losses[:_WARM_STEPS],
        facts[1].gradient_norms[:_WARM_STEPS],
        safety=candidate.experiment.safety,
        change=candidate.changes,
    )
    return difference, same, (facts[0].peak_bytes, facts[1].peak_bytes)
