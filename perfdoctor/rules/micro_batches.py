"""Gradients of several small batches are accumulated where one larger would do (PD205)."""

from __future__ import annotations

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.at_once import goes_at_once
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import COMPUTING
from perfdoctor.rules.observed import stage_share, without
from perfdoctor.rules.wording import grouped
from perfdoctor.stages import BACKWARD, FORWARD

CALLS = "configuration.micro_batch_calls"
_LEFT = "configuration.micro_batch_left"
#: The batches of an iterator, and the steps: who accumulates takes several for each.
_BATCHES, _STEPS = "configuration.batches_per_iterator", "configuration.steps_per_iterator"
#: So many batches for each that is accumulated, at least (our own choice; the last may be short).
_MOSTLY = 0.75
#: Less of the training than this is not worth a change (our own choice).
_WORTH = 0.05


def accumulated_in_parts(facts: Facts, cause: str) -> Finding | None:
    """PD205 where one update takes the gradients of several batches, each of which pays the fixed
    cost of every operation."""
    calls = facts.known(CALLS) or 0.0
    size = facts.known("configuration.batch_size")
    if not calls or not _takes_so_many(facts, calls):
        return None
    whole = sum(stage_share(facts, stage) for stage in COMPUTING)
    goes = goes_at_once(facts, "micro_batch")
    if whole * goes[1] < _WORTH:
        return None
    of_size = "" if size is None else f" of {grouped(size)}"
    larger = "larger batches" if size is None else f"batch_size={round(size * calls)}"
    change = {} if size is None else {"batch_size": round(size * calls)}
    return Finding(
        stage=max((FORWARD, BACKWARD), key=lambda stage: stage_share(facts, stage)),
        title=f"The gradients of {grouped(calls)} batches{of_size} are accumulated for each "
        "update, and each pays the fixed cost of every operation",
        advice=f"Use {larger} and accumulate fewer, or none: an update sees the same samples, so "
        "that the learning rate stays. As large as memory allows; batch normalisation then takes "
        "its statistics over more samples.",
        change=change,
        snippet=f"loader = DataLoader(dataset, {larger}, ...)  # accumulate 1\n"
        "# transformers: per_device_train_batch_size, gradient_accumulation_steps=1",
        evidence=(
            Evidence(metric="batches for each update", value=calls, unit=""),
            Evidence(metric="forward, loss and backward", value=whole, unit="share of training"),
            Evidence(
                metric="left of a layer on all at once", value=facts.number(_LEFT), unit="share"
            ),
            Evidence(
                metric="left of an activation",
                value=facts.number("configuration.micro_batch_beside_left"),
                unit="share",
            ),
        ),
        cause=cause,
        predicted=without(whole, *goes),
        confidence=0.8,
        effort="flag",
        safety="numerics",
    )


def _takes_so_many(facts: Facts, calls: float) -> bool:
    """Whether so many batches are read for each step, where that is known."""
    batches, steps = facts.known(_BATCHES), facts.known(_STEPS)
    return not batches or not steps or batches / steps >= _MOSTLY * calls
