"""PD204, PD205: the device could compute more at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.gains import from_probe, probe, probe_evidence
from perfdoctor.rules.loader_facts import free_cores, whole_cores
from perfdoctor.rules.micro_batches import CALLS as MICRO_BATCHES
from perfdoctor.rules.micro_batches import accumulated_in_parts
from perfdoctor.rules.observed import is_run
from perfdoctor.rules.run_gpu_options import larger_batch_untried
from perfdoctor.rules.run_threads import more_threads
from perfdoctor.rules.wording import count, loader_snippet, on_cuda, percent, size

_THREADS = "configuration.threads"
_BATCH_SIZE = "configuration.batch_size"


class CpuThreadsBelowUsableCores:
    """torch computes with fewer threads than there are usable cores.

    ## What it does
    Looks for training on a CPU with `torch.get_num_threads()` below the usable cores.

    ## Why it is slow
    Matrix products, convolutions and element-wise operations are split among torch's threads;
    cores without a thread stand idle. `OMP_NUM_THREADS=1`, often left over from a cluster's
    profile, has this effect.

    ## Evidence and threshold
    Fewer threads than usable cores, rounded down, and a probe that ran forward and backward with
    as many threads as cores.
    - `probe_low` = 1.05 (source: above what the 2.1 % by which the median of identical blocks
      varied on a loaded two-core machine can feign; the probe's lower end must pass it)

    ## What to change
    `torch.set_num_threads`, and `OMP_NUM_THREADS` where it is set.

    ## How the gain is predicted
    Amdahl's law over the exposed shares that the probe affects, with its interval. Workers use
    the same cores: the work of both cannot exceed those that are free, and with workers the
    lower end is no gain at all. Of an observed script operations like those of one of its steps are
    timed with either number of threads when it has ended: half of what they gain at least, all of
    it likely, and nothing is said below 5 %. Where they were not, a range: 1.05 times as
    fast, or as if four fifths of the computation were shared out, or all of it. Compiling is left
    out. Where other programs take the cores, it is what a quiet machine would gain, and an option.

    ## When not to
    When several trainings share the machine. Small models gain nothing from more threads: then
    the probe shows it, and this rule is silent.
    """

    code: ClassVar[str] = "PD204"
    name: ClassVar[str] = "cpu-threads-below-usable-cores"
    needs: ClassVar[tuple[str, ...]] = ("environment.device", _THREADS, "environment.cores_usable")
    verify_with: ClassVar[str | None] = "threads"
    cause: ClassVar[str] = "cpu-threads"
    thresholds: ClassVar[Mapping[str, float]] = {"probe_low": 1.05}

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires on a CPU if more threads were measured to help."""
        now, cores = int(facts.number(_THREADS)), whole_cores(facts)
        if on_cuda(facts) or now >= cores:
            return None
        if is_run(facts) and not facts.has("probes.threads"):
            return more_threads(facts, self.cause)
        measured = probe(facts, "threads")
        threads = min(cores, int(facts.number("probes.threads.details.threads")))
        if measured.low <= facts.threshold("probe_low") or threads <= now:
            return None
        return Finding(
            stage=measured.stage,
            title=f"torch computes with {count(now, 'thread')} on {cores} usable cores",
            advice=f"Let torch use {threads} threads; look for OMP_NUM_THREADS in the environment.",
            change={"threads": threads},
            snippet=f"torch.set_num_threads({threads})",
            evidence=(
                Evidence(metric="threads", value=now, unit="", threshold=cores),
                probe_evidence(
                    facts, measured, f"speed-up of the computation with {threads} threads"
                ),
            ),
            cause=self.cause,
            predicted=_beside_workers(facts, from_probe(facts, measured)),
            confidence=0.8,
            safety="numerics",
        )


class SmallBatch:
    """The batch is so small that the fixed cost of a step weighs.

    ## What it does
    Looks for a training whose step takes less than twice as long with twice the batch. In an
    observed script on a GPU: for very little arithmetic a second, with room for twice the batch; on
    a CPU for several batches whose gradients are accumulated for one update, and after the training
    it times their largest layer on one after the other and on all at once.

    ## Why it is slow
    Every step pays for launching operations and for the optimizer, whatever the batch. A larger
    batch spreads that over more samples and fills the device better.

    ## Evidence and threshold
    A probe: samples per second of the computation with twice and four times the batch ÷ as it is,
    in pairs; and the memory that those took.
    - `probe_low` = 1.05 (source: above what the 2.1 % by which the median of identical blocks
      varied on a loaded two-core machine can feign; the probe's lower end must pass it)
    - `fault_speedup` = 1.25 (source: our own choice; then 40 % of the computation does not depend
      on the batch. A smaller gain is shown as an option)
    - `memory_share` = 0.8 (source: the share from which this program warns of little memory,
      PD301)

    In an observed script, as an option: what a step multiplies, counted once, by the time of
    computing; and twice the memory that it takes.
    - `flops_per_s` = 1e+12 (source: a twentieth of the 19.5 TFLOP/s that NVIDIA states for an A100
      in float32)
    - `share` = 0.3 (source: our own choice; below, computing is not what the training spends its
      time on)

    ## What to change
    `batch_size`, doubled, or four times as large where that gains `probe_low` more. The learning
    rate has to follow: as many times as large for SGD, with a few epochs of warm-up (Goyal et al.,
    arXiv:1706.02677), the root of that for Adam and its kin (Malladi et al., arXiv:2205.10287).

    ## How the gain is predicted
    Amdahl's law over the exposed shares of forward, loss, backward and optimizer, with the
    interval of the probe, and no faster than the workers make batches. Samples per second are
    counted, not how many samples the training needs. Of accumulated batches what was timed goes of
    forward, loss and backward, by the number of operations with weights and of others: 60 % of that
    at least, all but one batch at most. Without a probe it is not: how a step's time
    grows with its batch was not measured.

    ## When not to
    It changes the training: fewer updates for an epoch, another optimal learning rate, sometimes
    a worse result. Not where the batch size is part of the method.
    """

    code: ClassVar[str] = "PD205"
    name: ClassVar[str] = "small-batch"
    needs: ClassVar[tuple[str, ...]] = (_BATCH_SIZE,)
    verify_with: ClassVar[str | None] = "batch-size"
    cause: ClassVar[str] = "batch-size"
    thresholds: ClassVar[Mapping[str, float]] = {
        "probe_low": 1.05,
        "fault_speedup": 1.25,
        "memory_share": 0.80,
        "flops_per_s": 1e12,
        "share": 0.3,
    }

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if a batch twice the size gained and fits; as an option in an observed script."""
        if is_run(facts) and facts.known(MICRO_BATCHES):
            return accumulated_in_parts(facts, self.cause)
        if is_run(facts) and not facts.has("probes.batch_x2") and on_cuda(facts):
            return larger_batch_untried(facts, self.cause)
        now, times = int(facts.number(_BATCH_SIZE)), _times(facts)
        measured = probe(facts, f"batch_x{times}")
        if measured.low <= facts.threshold("probe_low") or _beyond_dataset(facts, times * now):
            return None
        memory = _memory_of(facts, times)
        if memory >= facts.threshold("memory_share"):
            return None
        predicted = from_probe(facts, measured)
        return Finding(
            stage=measured.stage,
            title=f"A batch of {now} leaves the device underused",
            advice=f"Try batch_size={times * now}, which took {percent(memory)} of the memory, "
            f"and scale the learning rate with it.{_curve(facts, now)}",
            change={"batch_size": times * now},
            snippet=_batch_snippet(facts, now, times),
            evidence=(
                probe_evidence(
                    facts,
                    measured,
                    f"samples/s of the computation with {times * now} ÷ {now} a batch",
                ),
                Evidence(
                    metric=f"memory with {'twice' if times == 2 else 'four times'} the batch",
                    value=memory,
                    unit="share of memory",
                    threshold=facts.threshold("memory_share"),
                ),
            ),
            cause=self.cause,
            predicted=predicted,
            confidence=0.7,
            safety="semantics",
            optional=predicted.speedup < facts.threshold("fault_speedup"),
        )


def _beside_workers(facts: Facts, predicted: Prediction) -> Prediction:
    """The probe ran alone; in training the threads share the cores with the workers."""
    path = "configuration.num_workers"
    if not facts.has(path) or facts.number(path) == 0:
        return predicted
    needed_s = facts.number("steps.cpu_s") + facts.number("loader.batch_cpu_s")
    ceiling = max(1.0, facts.number("steps.time.mean_s") * free_cores(facts) / needed_s)
    return Prediction(
        speedup=min(predicted.speedup, ceiling),
        low=min(predicted.low, 1.0),
        high=predicted.high,
        model=predicted.model,
    )


def _beyond_dataset(facts: Facts, batch_size: int) -> bool:
    path = "configuration.dataset_size"
    return facts.has(path) and batch_size > facts.number(path)


def _times(facts: Facts) -> int:
    """Four times the batch where that was measured to gain more than twice, and fits."""
    path = "probes.batch_x4"
    if not all(facts.has(f"{path}.{n}") for n in ("low", "details.peak_bytes")):
        return 2
    more = facts.number(f"{path}.speedup") / facts.number("probes.batch_x2.speedup")
    fits = _memory_of(facts, 4) < facts.threshold("memory_share")
    small = _beyond_dataset(facts, 4 * int(facts.number(_BATCH_SIZE)))
    return 4 if more > facts.threshold("probe_low") and fits and not small else 2


def _memory_of(facts: Facts, times: int) -> float:
    peak = facts.number(f"probes.batch_x{times}.details.peak_bytes")
    return peak / facts.number("memory.total_bytes")


def _curve(facts: Facts, now: int) -> str:
    """Throughput and memory by batch size, as far as it was measured."""
    points = []
    for times in (2, 4):
        path = f"probes.batch_x{times}"
        speedup, peak = (facts.known(f"{path}.{n}") for n in ("speedup", "details.peak_bytes"))
        if speedup is not None and peak is not None:
            points.append(f"{times * now}: {speedup:.2f}× samples/s, {size(peak)}")
    return f" Measured beside {now}: {'; '.join(points)}." if len(points) > 1 else ""


def _batch_snippet(facts: Facts, now: int, times: int) -> str:
    changes: dict[str, Any] = {"batch_size": times * now}
    return (
        loader_snippet(facts, **changes)
        + "\nfor group in optimizer.param_groups:  # before the first step; then tune it"
        + f'\n    group["lr"] *= {round(_rate_factor(facts, times), 2)}'
    )


def _rate_factor(facts: Facts, times: int) -> float:
    """Linear for SGD (arXiv:1706.02677), square root for adaptive ones (arXiv:2205.10287)."""
    path = "configuration.optimizer"
    linear = facts.has(path) and facts.text(path) == "SGD"
    return float(times) if linear else float(times**0.5)
