"""PD201: batches on their way from host memory to the GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.copies import pageable_in_trace
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.gains import from_probe, probe, probe_evidence
from perfdoctor.rules.logs import TRY_IT, ram_is_full
from perfdoctor.rules.measured import is_trace
from perfdoctor.rules.run_gains import up_to
from perfdoctor.rules.wording import loader_snippet, on_cuda, percent
from perfdoctor.stages import H2D_COPY

_COPY = (
    "\n...\ninputs = inputs.to(device, non_blocking=True)"
    "\ntarget = target.to(device, non_blocking=True)"
)


class PageableHostCopies:
    """Batches are copied to the GPU from pageable memory.

    ## What it does
    Looks for a DataLoader without `pin_memory=True` on a training that copies batches to a GPU.

    ## Why it is slow
    The GPU can only read memory that the operating system cannot move. A pageable batch is first
    copied into such a buffer, at a fraction of the bus's speed, and the CPU waits for it.

    ## Evidence and threshold
    The share of the step in which copying is exposed, and a probe that copies the same batch from
    pinned memory. In a log: that it says `pin_memory=False`; an option then. In a profiler's
    trace: copies that it calls pageable.
    - `share` = 0.03 (source: the gain that can be told from noise; of a trace, where the time of
      the copies themselves is known)
    - `probe_low` = 1.05 (source: above what the 2.1 % by which the median of identical blocks
      varied on a loaded two-core machine can feign; the probe's lower end must pass it)

    ## What to change
    `pin_memory=True` in the DataLoader and `non_blocking=True` in the copy.

    ## How the gain is predicted
    Amdahl's law over the exposed share of copying, with the interval of the probe, and no faster
    than the workers make batches.

    ## When not to
    Pinned memory cannot be swapped out: not where host memory is short. Pinning happens in a
    thread of the training process, which can slow a loop that is itself bound by Python.
    """

    code: ClassVar[str] = "PD201"
    name: ClassVar[str] = "pageable-host-copies"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = "pin-memory"
    cause: ClassVar[str] = "pageable-memory"
    thresholds: ClassVar[Mapping[str, float]] = {"probe_low": 1.05, "share": 0.03}

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires on a GPU if pinned copies were measured to be faster; from a log as an option."""
        if is_trace(facts):
            return _traced(facts)
        if not on_cuda(facts) or facts.flag("configuration.pin_memory"):
            return None
        if facts.from_log and not facts.get("probes"):
            return None if ram_is_full(facts) else _untried(facts)
        measured = probe(facts, "h2d_pinned")
        if measured.low <= facts.threshold("probe_low"):
            return None
        return Finding(
            stage=H2D_COPY,
            title=f"Batches are copied from pageable memory: {percent(measured.share)} of each "
            "step",
            advice="Let the DataLoader put batches into pinned memory (pin_memory=True) and copy "
            "them with non_blocking=True.",
            change={"pin_memory": True},
            snippet=loader_snippet(facts, pin_memory=True) + _COPY,
            evidence=(
                Evidence(metric="copy to device", value=measured.share, unit="share of step"),
                probe_evidence(facts, measured, "pageable ÷ pinned copy time"),
            ),
            cause=self.cause,
            predicted=from_probe(facts, measured),
            confidence=0.8,
            effort="lines",
        )


def _traced(facts: Facts) -> Finding | None:
    """What a profiler's trace calls pageable."""
    found = pageable_in_trace(facts)
    if found is None or found[1] < facts.threshold("share"):
        return None
    each, share = found
    return Finding(
        stage=H2D_COPY,
        title=f"{max(1, round(each))} copies a step are from pageable memory: {percent(share)} of "
        "the time",
        advice="Let the DataLoader put batches into pinned memory (pin_memory=True) and copy "
        "them with non_blocking=True.",
        change={"pin_memory": True},
        snippet=loader_snippet(facts, pin_memory=True) + _COPY,
        evidence=(
            Evidence(metric="pageable copies in a step", value=each, unit=""),
            Evidence(
                metric="pageable copies",
                value=share,
                unit="share of time",
                threshold=facts.threshold("share"),
            ),
        ),
        cause=PageableHostCopies.cause,
        predicted=up_to(share),
        confidence=0.5,
        effort="lines",
    )


def _untried(facts: Facts) -> Finding:
    """A printed setting and nothing else."""
    return Finding(
        stage=H2D_COPY,
        title="The log says pin_memory=False on a GPU",
        advice="Let the DataLoader put batches into pinned memory and copy them with "
        f"non_blocking=True. {TRY_IT}",
        change={"pin_memory": True},
        snippet=loader_snippet(facts, pin_memory=True) + _COPY,
        evidence=(),
        cause=PageableHostCopies.cause,
        confidence=0.3,
        effort="lines",
        optional=True,
    )
