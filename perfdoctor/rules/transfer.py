"""PD201: batches on their way from host memory to the GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.copies import is_pinned, pageable_in_trace
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.gains import from_probe, probe, probe_evidence
from perfdoctor.rules.logs import TRY_IT, ram_is_full
from perfdoctor.rules.measured import is_trace
from perfdoctor.rules.observed import is_run, stage_share
from perfdoctor.rules.run_gains import up_to
from perfdoctor.rules.wording import loader_snippet, on_cuda, percent
from perfdoctor.stages import H2D_COPY

_PIN_MEMORY = "configuration.pin_memory"
_PIN = "Let the DataLoader put batches into pinned memory (pin_memory=True) and copy them with "
_COPY = (
    "\n...\ninputs = inputs.to(device, non_blocking=True)"
    "\ntarget = target.to(device, non_blocking=True)"
)


class PageableHostCopies:
    """Batches are copied to the GPU from pageable memory.

    ## What it does
    Looks for a DataLoader without `pin_memory=True` on a training that copies batches to a GPU. In
    an observed script: for what is copied itself, whatever made it.

    ## Why it is slow
    The GPU can only read memory that the operating system cannot move. A pageable batch is first
    copied into such a buffer, at a fraction of the bus's speed, and the CPU waits for it.

    ## Evidence and threshold
    The share of the step in which copying is exposed, and a probe that copies the same batch from
    pinned memory. In an observed script: that most bytes come from pageable memory, and the share
    of the copies on the GPU's clock. In a log: that it says `pin_memory=False`; an option then. In
    a profiler's trace: copies that it calls pageable.
    - `share` = 0.03 (source: the gain that can be told from noise; of a script and of a trace,
      where the time of the copies themselves is known)
    - `probe_low` = 1.05 (source: above what the 2.1 % by which the median of identical blocks
      varied on a loaded two-core machine can feign; the probe's lower end must pass it)

    ## What to change
    `pin_memory=True` in the DataLoader and `non_blocking=True` in the copy. Where the loader pins
    already: copy what it gave, since what is computed from that on the CPU is pageable again.

    ## How the gain is predicted
    Amdahl's law over the exposed share of copying, with the interval of the probe, and no faster
    than the workers make batches. Of a script or a trace only a bound is known: no more than if
    nothing were copied.

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
        if is_run(facts) and not facts.has("probes.h2d_pinned"):
            return _observed(facts) if on_cuda(facts) else None
        if not on_cuda(facts) or facts.flag(_PIN_MEMORY):
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
            advice=f"{_PIN}non_blocking=True.",
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


def _observed(facts: Facts) -> Finding | None:
    """What an observed script copies, on the GPU's own clock."""
    share = stage_share(facts, H2D_COPY)
    if share < facts.threshold("share") or is_pinned(facts) or ram_is_full(facts):
        return None
    pins = facts.has(_PIN_MEMORY) and facts.flag(_PIN_MEMORY)
    advice, change, snippet = _how(facts, pins)
    return Finding(
        stage=H2D_COPY,
        title=f"Batches are copied from pageable memory{', though the loader pins' * pins}: "
        f"{percent(share)} of the training",
        advice=advice,
        change={change: True},
        snippet=snippet + _COPY,
        evidence=(
            Evidence(
                metric="copy to device",
                value=share,
                unit="share of training",
                threshold=facts.threshold("share"),
            ),
        ),
        cause=PageableHostCopies.cause,
        predicted=up_to(share),
        confidence=0.5,
        effort="lines",
    )


def _how(facts: Facts, pins: bool) -> tuple[str, str, str]:
    """Advice, what to set, and code: by what makes the batches that are copied."""
    if pins:
        return _AGAIN, "h2d_pinned", "inputs, target = next(batches)  # as the loader gave them"
    if not facts.has(_PIN_MEMORY):
        return _OWN, "h2d_pinned", _BUFFER
    return f"{_PIN}non_blocking=True.", "pin_memory", loader_snippet(facts, pin_memory=True)


_AGAIN = (
    "Copy what the loader gave to the GPU first, with non_blocking=True, and compute there: what "
    "is made from it on the CPU is pageable again. A batch of a class of your own needs a method "
    "pin_memory()."
)
_OWN = (
    "Make batches in pinned memory, as a DataLoader with pin_memory=True does, or put each into a "
    "pinned buffer that is used again, and copy them with non_blocking=True."
)
_BUFFER = (
    "buffer = torch.empty_like(inputs).pin_memory()  # once; then, before each copy:\n"
    "inputs = buffer.copy_(inputs)"
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
        advice=f"{_PIN}non_blocking=True.",
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
