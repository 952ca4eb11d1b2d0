"""PD301, PD302: too much and too little of the device's memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.groups import COMPUTE, OVERHEAD, group_of
from perfdoctor.rules.logs import data_share, device_memory_share, known_data_share
from perfdoctor.rules.wording import loader_snippet, on_cuda, percent, size
from perfdoctor.stages import FORWARD

_PEAK = "memory.peak_share"


class MemoryNearLimit:
    """Training uses nearly all memory of the device.

    ## What it does
    Compares the peak of memory use with what the device has.

    ## Why it is slow
    Close to the limit the allocator frees its caches and asks again, which stops the device, and
    a batch a little larger than the others ends the run. On a host, the system begins to swap.

    ## Evidence and threshold
    The peak as a share of all memory; where only samples of the GPU's memory are known, their
    95th percentile.
    - `warn_share` = 0.8 (source: our own choice, halfway to the next; shown as an option, not as a
      fault)
    - `high_share` = 0.9 (source: PyTorch's TensorBoard plug-in calls it high)

    ## What to change
    Smaller micro-batches whose gradients are accumulated, or activation checkpointing, or 16-bit
    autocast.

    ## How the gain is predicted
    It is not: this buys safety. A benchmark whose memory is tight measures what either way saves
    and costs, and the advice tells both numbers. Where it did not, checkpointing costs about a
    fifth of the speed (Hugging Face's guide to training on one GPU).

    ## When not to
    When the peak is steady, batches are of one size and the run has always fitted: full memory
    alone is not slow.
    """

    code: ClassVar[str] = "PD301"
    name: ClassVar[str] = "memory-near-limit"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = "gradient-checkpointing"
    cause: ClassVar[str] = "memory-limit"
    thresholds: ClassVar[Mapping[str, float]] = {"warn_share": 0.80, "high_share": 0.90}

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires above the warning share; it is a fault above the high one."""
        share = device_memory_share(facts)
        if share is None:
            raise Missing(_PEAK)
        if share <= facts.threshold("warn_share"):
            return None
        high = share > facts.threshold("high_share")
        return Finding(
            stage=FORWARD,
            title=f"The peak is {percent(share)} of the memory{_in_bytes(facts)}",
            advice="Halve the batch and accumulate the gradients of two"
            f"{_trade(facts, 'accumulation')}, or recompute activations in the backward pass with "
            f"torch.utils.checkpoint{_trade(facts, 'gradient_checkpointing')}.{_fitting(facts)}",
            change={},
            snippet=_accumulation(facts),
            evidence=(
                Evidence(
                    metric="peak memory",
                    value=share,
                    unit="share of memory",
                    threshold=facts.threshold("high_share" if high else "warn_share"),
                ),
            ),
            cause=self.cause,
            confidence=0.7 if high else 0.5,
            effort="lines",
            safety="numerics",
            optional=not high,
            danger="here" if high else "none",
        )


class MemoryUnderused:
    """The GPU is neither busy nor full.

    ## What it does
    Looks for a GPU with low use of its processors and of its memory in a training that nothing
    else holds up.

    ## Why it is slow
    Steps so small that the GPU waits for the CPU to launch the next operation. A larger batch
    makes each operation larger at nearly the same launching cost.

    ## Evidence and threshold
    The GPU's own counter and the peak of memory, where no stage outside the computation is the
    bottleneck.
    - `peak_share` = 0.5 (source: our own choice; twice the batch then surely fits)
    - `gpu_percent` = 50 (source: PyTorch's TensorBoard plug-in and nsys call a GPU that is busy
      for less than half of the time underused)
    - `waiting_share` = 0.2 (source: xprof and TraceML call an exposed share of 20 % high)

    ## What to change
    A larger batch, as PD205 says.

    ## How the gain is predicted
    It is not: the counter says that something ran, not how much of the GPU it filled. PD205
    measures it.

    ## When not to
    Small models cannot fill a large GPU; several of them can share it. Changing the batch changes
    the training.
    """

    code: ClassVar[str] = "PD302"
    name: ClassVar[str] = "memory-underused"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = "batch-size"
    cause: ClassVar[str] = "batch-size"
    thresholds: ClassVar[Mapping[str, float]] = {
        "peak_share": 0.50,
        "gpu_percent": 50.0,
        "waiting_share": 0.20,
    }
    rests_on: ClassVar[tuple[str, ...]] = ("utilisation.gpu",)

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires on a GPU with room that waits for nothing else."""
        if not on_cuda(facts):
            return None
        memory = device_memory_share(facts)
        if memory is None:
            raise Missing(_PEAK)
        busy = facts.number("utilisation.gpu.mean")
        roomy = memory < facts.threshold("peak_share") and busy < facts.threshold("gpu_percent")
        if not roomy or _waits(facts) or _no_gain(facts):
            return None
        if facts.from_log:
            data_share(facts)  # or it may wait for data all the time
        now = max(1, int(facts.number("configuration.batch_size")))
        return Finding(
            stage=FORWARD,
            title=f"The GPU is busy {busy:.0f} % of the time and its memory {percent(memory)} full",
            advice=f"Try a larger batch than {now}, and scale the learning rate with it.",
            change={"batch_size": 2 * now},
            snippet=loader_snippet(facts, batch_size=2 * now),
            evidence=(
                Evidence(
                    metric="GPU busy",
                    value=busy,
                    unit="%",
                    threshold=facts.threshold("gpu_percent"),
                ),
                Evidence(
                    metric="peak memory",
                    value=memory,
                    unit="share of memory",
                    threshold=facts.threshold("peak_share"),
                ),
            ),
            cause=self.cause,
            confidence=0.4,
            safety="semantics",
        )


def _trade(facts: Facts, name: str) -> str:
    """What a way to save memory saves and costs, where a probe measured both."""
    path = f"probes.{name}"
    kept, after = (facts.known(f"{path}.details.{n}") for n in ("kept_bytes", "kept_bytes_after"))
    speedup = facts.known(f"{path}.speedup")
    if kept is None or after is None or not speedup:
        return ""
    return f" (saves {size(max(0.0, kept - after))}, takes {1 / speedup:.2f}× the time)"


def _fitting(facts: Facts) -> str:
    """The batch that would take as much of the memory as is no warning."""
    now, peak = (facts.known(p) for p in ("configuration.batch_size", "memory.peak_bytes"))
    kept, total = (
        facts.known(p) for p in ("probes.accumulation.details.kept_bytes", "memory.total_bytes")
    )
    if not now or not peak or not kept or not total:
        return ""
    fixed, room = peak - kept, facts.threshold("warn_share") * total
    fits = int(now * (room - fixed) / kept) if room > fixed else 0
    return (
        f" A batch of about {fits} would take {percent(facts.threshold('warn_share'))} of the "
        "memory."
        if 0 < fits < now
        else ""
    )


def _in_bytes(facts: Facts) -> str:
    paths = ("memory.peak_bytes", "memory.total_bytes")
    if not all(facts.has(path) for path in paths):
        return ""
    peak, total = (size(facts.number(path)) for path in paths)
    return f" ({peak} of {total})"


def _accumulation(facts: Facts) -> str:
    now = int(facts.known("configuration.batch_size") or 0)
    half = f"batch_size={now // 2}" if now > 1 else "half the batch"
    return (
        f"# DataLoader with {half}\n"
        "for i, (inputs, target) in enumerate(loader):\n"
        "    loss = loss_fn(model(inputs), target) / 2\n"
        "    loss.backward()\n"
        "    if i % 2:\n"
        "        optimizer.step()\n"
        "        optimizer.zero_grad(set_to_none=True)"
    )


def _waits(facts: Facts) -> bool:
    """Whether something else keeps the GPU idle: that has to go first."""
    shares = [
        facts.known(f"stages.{stage}.share") or 0.0
        for stage in (facts.get("stages") if facts.has("stages") else ())
        if group_of(stage) not in (COMPUTE, OVERHEAD)
    ]
    return max([known_data_share(facts) or 0.0, *shares]) >= facts.threshold("waiting_share")


def _no_gain(facts: Facts) -> bool:
    """Whether twice the batch was measured and brought nothing."""
    path = "probes.batch_x2.low"
    return facts.has(path) and facts.number(path) <= 1.0
