"""PD204 of an observed script: more threads, without a probe that tried them."""

from __future__ import annotations

import math

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_facts import cores_of_others, whole_cores
from perfdoctor.rules.logs import wall_parts
from perfdoctor.rules.measured import COMPUTING
from perfdoctor.rules.observed import at, faster, hot_lines, stage_share, training_part
from perfdoctor.rules.wording import count, on_cuda, percent
from perfdoctor.stages import BACKWARD, FORWARD, LOSS, OPTIMIZER

#: The part of a step that several threads share, where it is not known (our own choice). With it
#: two threads are 1.67 times as fast as one.
_PARALLEL = 0.8
#: So small a part of the training is not worth threads.
_LEAST_SHARE = 0.2
#: Of what was tried so much is gained at least: the operations are like those, and not the same.
_SAFE = 0.5
#: A smaller gain is no finding, as of a probe (see `CpuThreadsBelowUsableCores`).
_LEAST_GAIN = 1.05
#: Steps so short are operations too small to be shared out (torch splits from 32 768 numbers on).
_SHORT_S = 0.002


def more_threads(facts: Facts, cause: str) -> Finding | None:
    """A finding if cores are left that neither workers nor other ranks use."""
    now, cores = int(facts.number("configuration.threads")), _cores_for_torch(facts)
    shares = {n: stage_share(facts, n) for n in (FORWARD, LOSS, BACKWARD, OPTIMIZER)}
    share = max(0.0, min(1.0, sum(shares.values())) - _compiling(facts))
    busy_s = share * facts.number("steps.time.mean_s")
    if on_cuda(facts) or now >= cores or share < _LEAST_SHARE or busy_s < _SHORT_S:
        return None
    crowded = _crowded(facts, now, cores)
    tried = not crowded and facts.known("configuration.threads_tried") == cores
    predicted = _as_tried(facts, share, busy_s) if tried else _range(share, cores / now)
    if predicted.speedup < _LEAST_GAIN:
        return None
    lines = [line for line in hot_lines(facts) if line.calls("set_num_threads")]
    named = facts.has("configuration.omp_num_threads")
    where = "OMP_NUM_THREADS is set" if named else "look for torch.set_num_threads in the script"
    return Finding(
        stage=max(shares, key=lambda stage: shares[stage]),
        title=f"torch computes with {count(now, 'thread')} on {cores} usable cores, "
        f"{percent(share)} of the training{at(lines[0] if lines else None)}",
        advice=f"Let torch use {cores} threads{crowded}; {where}.",
        change={"threads": cores},
        snippet=f"torch.set_num_threads({cores})",
        evidence=(
            Evidence(metric="threads", value=now, unit="", threshold=cores),
            Evidence(metric="computing", value=share, unit="share of training"),
            *(_tried(facts, now, cores) if tried else ()),
        ),
        cause=cause,
        predicted=predicted,
        confidence=0.75,
        safety="numerics",
        optional=bool(crowded),
    )


def _tried(facts: Facts, now: int, cores: int) -> tuple[Evidence, ...]:
    """How long operations like a step's took, with either number of threads."""
    return tuple(
        Evidence(
            metric=f"operations like a step's with {count(threads, 'thread')}",
            value=facts.number(f"configuration.threads_{when}_s"),
            unit="s",
        )
        for when, threads in (("now", now), ("then", cores))
    )


def _range(share: float, times: float) -> Prediction:
    return faster(share, 1.05, 1 / (1 - _PARALLEL + _PARALLEL / times), times)


def _as_tried(facts: Facts, share: float, busy_s: float) -> Prediction:
    """From what operations like a step's took with as many threads as cores: what is no operation
    takes as long as before; at the upper end it becomes shorter alike."""
    now_s, then_s = (facts.number(f"configuration.threads_{when}_s") for when in ("now", "then"))
    saved = max(0.0, 1 - then_s / now_s)
    of_step = min(1.0, now_s / busy_s) * saved
    return faster(share, 1 / (1 - _SAFE * of_step), 1 / (1 - of_step), 1 / (1 - saved))


def _compiling(facts: Facts) -> float:
    """The part of the training that went into compiling: what the compiler does is not shared out
    among threads. Of what it did in all, only what made steps longer: the rest was done before the
    first step or in validation."""
    training_s = (facts.known("wall.total_s") or 0.0) * training_part(facts)
    compile_s = facts.known("counters.compile_s") or 0.0
    if training_s <= 0 or compile_s <= 0:
        return 0.0
    return min(1.0, min(compile_s, _beyond_usual_s(facts)) / training_s)


def _beyond_usual_s(facts: Facts) -> float:
    """What computing took in all steps, the first ones too, beyond the usual; without a limit where
    that is not known."""
    parts = wall_parts(facts)
    spent_s = sum(parts[name].seconds for name in COMPUTING if name in parts)
    if spent_s <= 0:
        return math.inf
    steps = sum(facts.known(f"steps.{name}") or 0.0 for name in ("count", "warmup_discarded"))
    usual_s = sum(facts.known(f"stages.{name}.p50_s") or 0.0 for name in COMPUTING)
    return max(0.0, spent_s - steps * usual_s)


def _crowded(facts: Facts, now: int, cores: int) -> str:
    """A condition where other programs take the cores that more threads would need."""
    foreign = cores_of_others(facts)
    if (facts.known("configuration.world_size") or 1) > 1:
        cores = whole_cores(facts)  # other ranks are other programs, and have their cores already
    if round(cores - foreign) > now:
        return ""
    return f" once the other programs, which took {percent(foreign)} of a core, have ended"


def _cores_for_torch(facts: Facts) -> int:
    """Usable cores of this rank, less those that its workers keep busy."""
    ranks = max(1, int(facts.known("configuration.world_size") or 1))
    cores = max(1, whole_cores(facts) // ranks)
    workers = int(facts.known("configuration.num_workers") or 0)
    return max(1, cores - min(workers, _busy_workers(facts, workers)))


def _busy_workers(facts: Facts, workers: int) -> int:
    """How many cores they fill; all of them count where that is not known."""
    cpu_s, step_s = facts.known("loader.batch_cpu_s"), facts.known("steps.time.mean_s")
    return workers if cpu_s is None or not step_s else math.ceil(cpu_s / step_s - 0.1)
