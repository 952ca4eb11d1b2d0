"""PD306, PD307: the CUDA allocator at its limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import MEASURED, beside
from perfdoctor.rules.wording import grouped, on_cuda, percent, size
from perfdoctor.stages import FORWARD

_RETRIES = "counters.allocator_retries"
_RESERVED = "counters.allocator_reserved_peak_bytes"
_ALLOCATED = "counters.allocator_allocated_peak_bytes"
_SETTINGS = "configuration.allocator_settings"
_EXPANDABLE = "export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"


class AllocatorRetries:
    """The CUDA allocator ran out of memory, emptied its cache and tried again.

    ## What it does
    Reads the allocator's own count of allocations that failed at first.

    ## Why it is slow
    Such a retry waits for the whole GPU, gives all cached memory back to the driver, and asks for
    it anew: tens of milliseconds each.

    ## Evidence and threshold
    Retries while it was measured.
    - `retries` = 1 (source: torchtitan warns of the first)

    ## What to change
    Less memory (a smaller batch with accumulated gradients, activation checkpointing, 16 bits),
    the longest batch first so that the memory for it is there, or
    `PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True`.

    ## How the gain is predicted
    It is not: the counter does not tell how long they took.

    ## When not to
    A single retry at the first step is over with it.
    """

    code: ClassVar[str] = "PD306"
    name: ClassVar[str] = "allocator-retries"
    needs: ClassVar[tuple[str, ...]] = ("source.kind",)
    verify_with: ClassVar[str | None] = "allocator"
    cause: ClassVar[str] = "memory-limit"
    thresholds: ClassVar[Mapping[str, float]] = {"retries": 1.0}
    sources: ClassVar[tuple[str, ...]] = MEASURED

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires on CUDA if the allocator had to try again."""
        if not on_cuda(facts):
            return None
        retries = facts.number(_RETRIES)
        if retries < facts.threshold("retries"):
            return None
        return Finding(
            stage=FORWARD,
            title=f"The GPU's memory ran out {grouped(retries)} "
            f"{'time' if retries == 1 else 'times'}, and was given back and asked for again",
            advice="Use less memory, let the allocator grow its blocks, or make the longest batch "
            "the first one.",
            change={} if _expandable(facts) else {"allocator": "expandable_segments"},
            snippet=_EXPANDABLE,
            evidence=(beside(facts, "retries", retries, "", "retries"),),
            cause=self.cause,
            confidence=0.7,
            danger="here",
        )


class FragmentedMemory:
    """The CUDA allocator holds far more memory than tensors use.

    ## What it does
    Compares the peaks of what the allocator reserved and what was allocated from it.

    ## Why it is slow
    It is not, until the memory ends: free pieces between tensors are too small for the next one.
    Then the allocator retries, or the run ends although memory is left. Shapes that change from
    batch to batch cause it.

    ## Evidence and threshold
    Reserved ÷ allocated, where what is reserved is a visible part of the GPU's memory.
    - `ratio` = 2 (source: TraceML warns from twice)
    - `memory_share` = 0.5 (source: our own choice; below, nothing is short of memory)

    ## What to change
    `PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True`; batches padded to a few lengths.

    ## How the gain is predicted
    It is not: this buys memory.

    ## When not to
    Where a phase before the training, such as an evaluation with large batches, reserved it.
    """

    code: ClassVar[str] = "PD307"
    name: ClassVar[str] = "fragmented-memory"
    needs: ClassVar[tuple[str, ...]] = ("source.kind",)
    verify_with: ClassVar[str | None] = "allocator"
    cause: ClassVar[str] = "memory-fragmentation"
    thresholds: ClassVar[Mapping[str, float]] = {"ratio": 2.0, "memory_share": 0.5}
    sources: ClassVar[tuple[str, ...]] = MEASURED

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires on CUDA if much is reserved and half of it is used."""
        if not on_cuda(facts) or _expandable(facts):
            return None
        reserved, allocated = facts.number(_RESERVED), facts.number(_ALLOCATED)
        ratio = reserved / allocated if allocated > 0 else 1.0
        share = reserved / facts.number("memory.total_bytes")
        if ratio < facts.threshold("ratio") or share < facts.threshold("memory_share"):
            return None
        return Finding(
            stage=FORWARD,
            title=f"{size(reserved)} of the GPU's memory ({percent(share)}) are reserved for "
            f"{size(allocated)} of tensors",
            advice="Let the allocator grow its blocks instead of keeping pieces of many sizes, or "
            "pad batches to a few lengths.",
            change={"allocator": "expandable_segments"},
            snippet=_EXPANDABLE,
            evidence=(
                beside(facts, "reserved ÷ allocated", ratio, "×", "ratio"),
                Evidence(metric="reserved", value=reserved, unit="bytes"),
            ),
            cause=self.cause,
            confidence=0.5,
            danger="ahead",
        )


def _expandable(facts: Facts) -> bool:
    return facts.has(_SETTINGS) and "expandable_segments:True" in str(facts.get(_SETTINGS))
