"""PD217 to PD220: how batches travel to the GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.logs import ram_is_full
from perfdoctor.rules.measured import TRACED, beside, is_trace
from perfdoctor.rules.observed import beside_steps, is_run, stage_share, without
from perfdoctor.rules.run_gains import up_to, up_to_of_steps
from perfdoctor.rules.wording import grouped, on_cuda, percent, size
from perfdoctor.stages import H2D_COPY

_PIN = "configuration.pin_memory"
#: Whether most bytes that an observed script copies are in pinned memory.
H2D_PINNED = "configuration.h2d_pinned"
_CAUSE = "pageable-memory"
#: Hiding one part of a step behind the other can halve it and no more.
_MOST = 2.0
_FIRST = "Put batches into pinned memory, with which copying is faster besides. Copy "
_STREAM = (
    "copying = torch.cuda.Stream()\n\n"
    "def ahead(loader):\n"
    "    upcoming = None\n"
    "    for batch in loader:\n"
    "        with torch.cuda.stream(copying):\n"
    "            moved = [t.to('cuda', non_blocking=True) for t in batch]\n"
    "        if upcoming is not None:\n"
    "            yield upcoming\n"
    "        torch.cuda.current_stream().wait_stream(copying)\n"
    "        upcoming = moved\n"
    "    yield upcoming"
)


class ExposedHostCopies:
    """Copying batches to the GPU takes a visible part of each step, though from pinned memory.

    ## What it does
    Looks for a share of copying that the step waits for, where memory is pinned already. In an
    observed script that copies from pageable memory it is another choice beside PD201.

    ## Why it is slow
    A copy in the same stream as the computation takes turns with it. The copying unit of the GPU
    can work beside the others, if the next batch is copied in a stream of its own.

    ## Evidence and threshold
    The exposed share of the copy.
    - `share` = 0.1 (source: TraceML warns from 10 % and calls 20 % high)

    ## What to change
    `non_blocking=True`, and copy the next batch in a second stream while this one is computed; or
    let Lightning, Accelerate or DALI do so.

    ## How the gain is predicted
    Amdahl's law over the copies that the rest of the steps is long enough to hide: half of them,
    nine tenths, or all are hidden. From pageable memory only a bound is known, since pinned copies
    are faster as well: no more than if nothing were copied.

    ## When not to
    Two batches are then on the GPU at a time.
    """

    code: ClassVar[str] = "PD217"
    name: ClassVar[str] = "exposed-host-copies"
    needs: ClassVar[tuple[str, ...]] = ("stages",)
    verify_with: ClassVar[str | None] = "non-blocking"
    cause: ClassVar[str] = "host-copies"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.10}
    sources: ClassVar[tuple[str, ...]] = TRACED

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires on a GPU whose copies are exposed although they are pinned; beside PD201 in an
        observed script."""
        share = stage_share(facts, H2D_COPY)
        if not on_cuda(facts) or share < facts.threshold("share"):
            return None
        pinned = is_pinned(facts)
        if not pinned and (not is_run(facts) or ram_is_full(facts)):
            return None  # PD201 comes first
        waits = pinned and _waits(facts)
        first = "Copy with non_blocking=True, and " if waits else "Copy " if pinned else _FIRST
        return Finding(
            stage=H2D_COPY,
            title=f"Copying batches to the GPU takes {percent(share)} of each step",
            advice=f"{first}the next batch in a stream of its own while this one is computed.",
            change={"non_blocking": True} if waits else {"copy_stream": True},
            snippet=_STREAM,
            evidence=(beside(facts, "copy to device", share, "share of step", "share"),),
            cause=self.cause if pinned else _CAUSE,
            predicted=_hidden(facts, share) if pinned else up_to(share),
            confidence=0.6 if pinned else 0.4,
            effort="lines",
        )


def _waits(facts: Facts) -> bool:
    """Whether the host waits for pinned copies, as far as known; that of a benchmark never does."""
    path = "configuration.non_blocking"
    return is_run(facts) and not (facts.has(path) and facts.flag(path))


def _hidden(facts: Facts, share: float) -> Prediction:
    """Copies hidden behind the rest of the steps, as far as that is long enough."""
    rest = max(0.0, 1 - share - beside_steps(facts))
    guess = without(min(share, rest), 0.5, 0.9, 1.0)
    return replace(guess, high=min(guess.high, _MOST))


class SlowHostCopies:
    """Batches are copied to the GPU at a fraction of the speed that this machine reaches.

    ## What it does
    Compares the rate of the copies with that of a large copy from pinned memory, measured here.

    ## Why it is slow
    Pageable memory, memory of the other processor of a two-socket machine, or many small tensors
    instead of a few large ones.

    ## Evidence and threshold
    Bytes a second of the batch's copy ÷ those of a large pinned one, and the share of copying.
    - `of_peak` = 0.5 (source: our own choice; half the speed is twice the time)
    - `share` = 0.03 (source: the gain that can be told from noise)

    ## What to change
    Pinned memory; few large tensors; a process bound to the processor that the GPU hangs on
    (`numactl --cpunodebind`).

    ## How the gain is predicted
    Amdahl's law over the exposed copies, which become at most as fast as the peak.

    ## When not to
    Batches of some kilobytes never reach the peak.
    """

    code: ClassVar[str] = "PD218"
    name: ClassVar[str] = "slow-host-copies"
    needs: ClassVar[tuple[str, ...]] = ("stages",)
    verify_with: ClassVar[str | None] = "pin-memory"
    cause: ClassVar[str] = _CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"of_peak": 0.5, "share": 0.03}
    sources: ClassVar[tuple[str, ...]] = ("bench",)

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires on a GPU whose copies are far from the measured peak and matter."""
        share = stage_share(facts, H2D_COPY)
        if not on_cuda(facts) or share < facts.threshold("share"):
            return None
        achieved, peak = (facts.number(f"limits.h2d.{n}") for n in ("achieved", "peak"))
        part = achieved / peak
        if part >= facts.threshold("of_peak"):
            return None
        return Finding(
            stage=H2D_COPY,
            title=f"Copies to the GPU reach {percent(part)} of the {size(peak)}/s that are "
            "possible here",
            advice="Pin the memory, copy few large tensors instead of many small ones, and bind "
            "the process to the processor that the GPU is connected to.",
            change={} if is_pinned(facts) else {"pin_memory": True},
            snippet="numactl --cpunodebind=0 --membind=0 python train.py",
            evidence=(
                beside(facts, "of the peak", part, "share", "of_peak"),
                beside(facts, "copy to device", share, "share of step", "share"),
            ),
            cause=self.cause,
            predicted=without(share, 0.0, 0.5 * (1 - part), 1 - part),
            confidence=0.5,
            effort="lines",
        )


class FatBatches:
    """Batches hold 32-bit numbers for what 8 bits would hold, and are copied to the GPU.

    ## What it does
    Looks whether every number of a float32 batch is a whole number from 0 to 255, or one of them
    divided by 255, as pixels are.

    ## Why it is slow
    Four times as many bytes are collated, handed from worker to training, pinned and copied.

    ## Evidence and threshold
    That part of the batch, and the exposed share of copying.
    - `fat_share` = 0.5 (source: our own choice; most of the batch)
    - `share` = 0.03 (source: the gain that can be told from noise)

    ## What to change
    Keep uint8 in the dataset, and convert and scale on the GPU.

    ## How the gain is predicted
    Amdahl's law: three quarters of the bytes of that part need no copying.

    ## When not to
    Where transforms in the dataset need floating point: move those to the GPU, too.
    """

    code: ClassVar[str] = "PD219"
    name: ClassVar[str] = "fat-batches"
    needs: ClassVar[tuple[str, ...]] = ("stages",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "fat-batches"
    thresholds: ClassVar[Mapping[str, float]] = {"fat_share": 0.5, "share": 0.03}
    sources: ClassVar[tuple[str, ...]] = ("bench",)

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires on a GPU whose copies are exposed and mostly of 8-bit numbers in 32 bits."""
        share = stage_share(facts, H2D_COPY)
        if not on_cuda(facts) or share < facts.threshold("share"):
            return None
        fat = facts.number("configuration.batch_bytes_of_8_bits")
        if fat < facts.threshold("fat_share"):
            return None
        gone = 0.75 * fat
        return Finding(
            stage=H2D_COPY,
            title=f"{percent(fat)} of a batch's bytes are pixels in float32, four times as large "
            "as they are",
            advice="Keep uint8 until the batch is on the GPU, and convert and scale it there.",
            change={"batch_dtype": "uint8"},
            snippet="inputs = inputs.to(device, non_blocking=True).float().div_(255)",
            evidence=(
                beside(facts, "8-bit numbers in 32 bits", fat, "share of batch", "fat_share"),
                beside(facts, "copy to device", share, "share of step", "share"),
            ),
            cause=self.cause,
            predicted=without(share, 0.6 * gone, gone, gone),
            confidence=0.6,
            effort="lines",
            safety="numerics",
        )


class ManySmallCopies:
    """Each step copies dozens of tensors to the GPU.

    ## What it does
    Counts the copies to the device in a profiler's trace.

    ## Why it is slow
    Each copy costs some ten microseconds before its first byte, and from pageable memory the CPU
    waits for each of them.

    ## Evidence and threshold
    Copies from host to device for each step.
    - `copies` = 32 (source: our own choice; a batch of a few fields needs fewer than ten. xprof
      advises to combine small copies)

    ## What to change
    Pack the fields of a batch into one tensor, and keep what does not change on the GPU.

    ## How the gain is predicted
    Only a bound is known: no more than if nothing were copied.

    ## When not to
    Where the copies are hidden behind computing.
    """

    code: ClassVar[str] = "PD220"
    name: ClassVar[str] = "many-small-copies"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "host-copies"
    thresholds: ClassVar[Mapping[str, float]] = {"copies": 32.0}
    sources: ClassVar[tuple[str, ...]] = ("log", "trace")

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if a trace shows many copies in a step."""
        if not is_trace(facts):
            return None
        steps = facts.number("counters.trace_steps")
        each = facts.number("counters.copies_to_device") / max(1.0, steps)
        if steps < 1 or each < facts.threshold("copies"):
            return None
        share = stage_share(facts, H2D_COPY)
        return Finding(
            stage=H2D_COPY,
            title=f"{grouped(each)} copies to the GPU in each step: {percent(share)} of it",
            advice="Pack the fields of a batch into few tensors before they are copied, and keep "
            "what does not change on the GPU.",
            change={"batch_tensors": "few"},
            snippet="packed = torch.cat([t.flatten() for t in fields]).pin_memory()\n"
            'parts = packed.to("cuda", non_blocking=True).split(sizes)',
            evidence=(
                beside(facts, "copies in a step", each, "", "copies"),
                Evidence(metric="copy to device", value=share, unit="share of step"),
            ),
            cause=self.cause,
            predicted=up_to_of_steps(facts, share),
            confidence=0.5,
            effort="lines",
        )


def pageable_in_trace(facts: Facts) -> tuple[float, float] | None:
    """PD201 from a trace: pageable copies in a step, and the part of the time that they take."""
    pageable = facts.known("counters.pageable_copies")
    active_s = facts.known("counters.active_s")
    if not pageable or not active_s:
        return None
    share = min(1.0, (facts.known("counters.pageable_copy_s") or 0.0) / active_s)
    return pageable / max(1.0, facts.known("counters.trace_steps") or 1.0), share


def is_pinned(facts: Facts) -> bool:
    """Whether what is copied is in pinned memory; of an observed script, what really is copied."""
    if is_run(facts) and not (facts.has(_PIN) and not facts.has(H2D_PINNED)):
        return facts.flag(H2D_PINNED)
    return facts.has(_PIN) and facts.get(_PIN) is True
