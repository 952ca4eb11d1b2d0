"""Whether memory does for what a trial needs beside the training itself, and what it means where it
did not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfdoctor.collect.arm import ArmFacts
from perfdoctor.collect.out_of_memory import NO_ROOM, OUT_OF_MEMORY
from perfdoctor.errors import PerfdoctorError
from perfdoctor.report import Trial

#: What is not sure to need less than this of the memory is not begun where the system, and not
#: PyTorch, would notice: activations of a larger batch grow with it, the rest does not. [own]
SAFE_SHARE = 0.8
#: The laboratory's own process, and those of a pair.
_OF_A_PAIR = 3


def would_fill(facts: ArmFacts, peak_bytes: int | None, times: float) -> bool:
    """Whether so many times this peak might be more than there is."""
    total = facts.total_bytes
    return bool(peak_bytes and total and times * peak_bytes > SAFE_SHARE * total)


def for_second(facts: ArmFacts) -> bool:
    """Whether a second training beside it may be tried.

    Within one process on a GPU it always may: an error there is no harm.
    """
    return not _is_noticed(facts) or not would_fill(facts, facts.peak_bytes, 2)


def not_for_pair(facts: ArmFacts) -> Trial | None:
    """The trial, where no pair of processes is begun; None: there is room for it."""
    if not would_fill(facts, facts.peak_bytes, _OF_A_PAIR):
        return None
    reason = "memory might not do for three processes of the training beside each other"
    return Trial(outcome="not_testable", reason=reason)


def not_for_batch(facts: ArmFacts, changes: Mapping[str, Any]) -> Trial | None:
    """The trial, where a larger batch is not tried; None: it is."""
    now, size = facts.configuration.get("batch_size"), changes.get("batch_size")
    if not now or not size or not _is_noticed(facts):
        return None
    if not would_fill(facts, facts.peak_bytes, int(size) / int(now)):
        return None
    reason = f"not tried: memory might not do for batches of {size}"
    return Trial(outcome="not_testable", reason=reason)


def _is_noticed(facts: ArmFacts) -> bool:
    """Whether memory that runs out ends a process: a script, or one whose memory is the host's."""
    return bool(facts.extra.get("losses_by_process")) or not facts.device.startswith("cuda")


def failed(error: PerfdoctorError, *, own: bool) -> Trial:
    """What a trial is that ended with this error.

    Args:
        own: it came in steps with the change, and in the process of the training alone: what did
            not fit is the change.
    """
    if error.slug == OUT_OF_MEMORY and own:
        return Trial(outcome="refuted", reason=f"it does not fit in memory: {error}")
    if error.slug == NO_ROOM:
        return Trial(outcome="not_testable", reason=str(error))
    if error.slug == OUT_OF_MEMORY:
        why = f"memory did not do, but with more in it than the training with the change: {error}"
        return Trial(outcome="not_testable", reason=why)
    if error.slug == "script-failed":
        return Trial(outcome="not_testable", reason=str(error))
    if error.slug == "arm-hangs":
        hangs = "with it the training hangs, or takes too long" if own else "the training hung"
        return Trial(outcome="not_testable", reason=f"{hangs}: {error}")
    return Trial(outcome="not_testable", reason=f"the change failed here: {error}")
