"""Changes of a loader are compared over whole epochs, their start included.

New workers may take as long to start as hundreds of steps, once in each epoch: what keeps them
saves that, and what adds them pays for it. A whole epoch is often too long to be made ten times, so
both sides get shorter ones (`collect/short_epochs.py`): what such an epoch takes, from the end of
the one before it on, and as many steps more as the training's own has, at the pace of its middle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from perfdoctor.collect.arm import Chunk
from perfdoctor.collect.short_epochs import START_EVERY
from perfdoctor.experiments.turns import CHUNK_S, ChunkPlan, Decision
from perfdoctor.record import Bools, Floats
from perfdoctor.report import Report
from perfdoctor.rules.wording import duration
from perfdoctor.sequential import LOOKS, USEFUL

if TYPE_CHECKING:
    from perfdoctor.experiments.trials import Laboratory

#: The training as it is, in short epochs.
USUAL = "short epochs"
#: Settings that decide what the start of an epoch takes.
_SETTINGS = {"num_workers", "persistent_workers"}
#: Changes after which an epoch is still one of as many steps.
LOADING = _SETTINGS | {
    "prefetch_factor",
    "pin_memory",
    "reads_at_once",
    "cache_samples",
    "free_loading",
}
#: Starts of epochs that take no more than this of them are left out: a gain as small is none.
_WORTH = USEFUL / 2
#: Of a short epoch, what has neither to do with its start nor with its end: so many steps and, as a
#: median over so much time varies by 5–7 % on a busy machine (see `turns.CHUNK_S`), so long. [own]
_MIDDLE, _MIDDLE_S = 16, 0.5
_WARM_STEPS = 3
UNKNOWN = "it changes the start of epochs, and after how many steps there is one is not known"


@dataclass(frozen=True)
class EpochPlan(ChunkPlan):
    """A chunk is one short epoch, or a few where the training's own are very short.

    Attributes:
        epoch: steps of the training's. short: of one that is made. queue: batches that are prepared
            ahead. pair_s: what one chunk of both sides takes.
    """

    turns: int = 1
    epoch: int = 1
    short: int = 1
    queue: int = 0
    pair_s: float = 0.0

    def changes(self, made: Mapping[str, Any]) -> dict[str, Any]:
        """Those of a mode, in short epochs."""
        return {**made, START_EVERY: self.short}

    def seconds_per_sample(self, chunk: Chunk) -> float:
        """Of a whole epoch of the training."""
        samples = self.epoch * max(1.0, float(chunk.samples.mean()))
        return epoch_s(chunk, self) / samples


def start_s_of(report: Report) -> float:
    """What the training waits for the first batch of an epoch; 0 where that was not seen."""
    seen = None if report.epochs is None else report.epochs.start
    return 0.0 if seen is None else seen.p50_s


def plan_for(
    laboratory: Laboratory, changes: Mapping[str, Any], start_s: float = 0.0
) -> EpochPlan | None:
    """Where the start of an epoch matters to a change of its loader; None: single steps tell all.

    Args:
        start_s: what it was seen to take with the change; the report tells it without.
    """
    facts = laboratory.facts
    epoch = facts.extra.get("steps_per_epoch")
    if not epoch or "batch_size" in changes or not LOADING & set(changes):
        return None
    start_s = max(start_s, laboratory.start_s - laboratory.step_s)  # less its first batch
    if start_s <= _WORTH * epoch * laboratory.step_s:
        return None
    both = facts.configuration, {**facts.configuration, **changes}
    queue = max(_workers(one) * int(one.get("prefetch_factor") or 2) for one in both)
    turn = math.lcm(int(facts.extra.get("turn", 1)), *(max(1, _workers(one)) for one in both))
    step_s = max(1e-7, laboratory.step_s)
    wanted = 2 * queue + max(_MIDDLE, turn, math.ceil(_MIDDLE_S / step_s))
    short = min(epoch, turn * math.ceil(wanted / turn))
    steps = short * math.ceil(CHUNK_S / (short * step_s))
    plan = EpochPlan(steps, epoch=epoch, short=short, queue=queue)
    starts = sum(_starts_anew(one) for one in both)
    return _taking(plan, laboratory, starts * start_s)


def first_s(warm: Floats) -> float:
    """What the first of some steps, with which an epoch begins, takes more than the others."""
    return max(0.0, float(warm[0] - np.median(warm)))


def _workers(configuration: Mapping[str, Any]) -> int:
    return int(configuration.get("num_workers") or 0)


def _starts_anew(configuration: Mapping[str, Any]) -> bool:
    """Whether each epoch starts workers."""
    kept = configuration.get("persistent_workers") or configuration.get("free_loading")
    return _workers(configuration) > 0 and not kept


def _taking(plan: EpochPlan, laboratory: Laboratory, starts_s: float) -> EpochPlan:
    steps_s = 2 * (plan.steps + 1) * laboratory.step_s
    return replace(plan, pair_s=steps_s + plan.steps / plan.short * starts_s)


def ready(plan: EpochPlan, laboratory: Laboratory, mode: str, warm: Floats) -> EpochPlan:
    """The same with the training as it is in short epochs, and what starts really take.

    Args:
        warm: seconds of the first steps in the mode of the change, whose epoch began with them.
    """
    arm = laboratory.arm
    arm.add_mode(USUAL, plan.changes({}))
    sides = (warm, mode), (arm.warm(_WARM_STEPS, USUAL), USUAL)
    starts_s = sum(
        first_s(steps) for steps, name in sides if _starts_anew(arm.facts(name).configuration)
    )
    return _taking(plan, laboratory, starts_s)


def needs_s(plan: EpochPlan) -> float:
    """What the fewest pairs take, after the steps that warm both sides."""
    return (LOOKS[0] + 1) * plan.pair_s


def too_few(plan: EpochPlan, laboratory: Laboratory, decision: Decision) -> str | None:
    """Which budget it takes, where there were not enough pairs for a look."""
    lacking = LOOKS[0] - len(decision.differences)
    if decision.over or lacking <= 0:
        return None
    needed_s = LOOKS[0] * plan.pair_s
    budget_s = laboratory.budget_s + max(needed_s - laboratory.left_s, lacking * plan.pair_s)
    return (
        f"the start of an epoch counts, and five pairs with one take {duration(needed_s)}: "
        f"--budget {math.ceil(budget_s)}s"
    )


def unknown(laboratory: Laboratory, changes: Mapping[str, Any]) -> bool:
    """Whether it changes the start of an epoch, and how many steps that has is not known."""
    return bool(_SETTINGS & set(changes)) and not laboratory.facts.extra.get("steps_per_epoch")


def epoch_s(chunk: Chunk, plan: EpochPlan) -> float:
    """Seconds of an epoch of the training, by those of the short ones in a chunk.

    What a script does when it begins an epoch itself (it may validate before) is not of its loader,
    and comes as often on both sides.
    """
    aside = dict(chunk.own_starts)
    step_s = float(chunk.step_s[_middle(chunk, plan, aside)].mean())
    spent = chunk.step_s.copy()
    for i, loading_s in aside.items():
        spent[i] = max(step_s, loading_s)
    short_s = float(spent.sum() * plan.short / spent.size)
    return short_s + (plan.epoch - plan.short) * step_s


def _middle(chunk: Chunk, plan: EpochPlan, aside: Mapping[int, float]) -> Bools:
    """Steps far from a start: the queue is filled, and not yet drained by the end."""
    kept = np.array([i not in aside for i in range(chunk.step_s.size)])
    begun = [i for i in np.flatnonzero(chunk.starts) if aside.get(int(i), 1.0) > 0]
    if begun:
        since = (np.arange(kept.size) - begun[0]) % plan.short
        inner = kept & (since >= max(1, plan.queue)) & (since < plan.short - plan.queue)
        kept = inner if inner.any() else kept & ~chunk.starts
    return kept if kept.any() else np.ones_like(kept)
