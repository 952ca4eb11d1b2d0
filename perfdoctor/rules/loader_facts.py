"""The pipeline model of a report: what was measured of its loader and of its steps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from perfdoctor.errors import PerfdoctorError
from perfdoctor.pipeline_model import (
    DEFAULT_PREFETCH,
    UNKNOWN_GROWTH,
    LoaderModel,
    Setting,
    handover_s,
)
from perfdoctor.record import Floats
from perfdoctor.report import Report
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.observed import is_run
from perfdoctor.rules.whole_run import is_whole
from perfdoctor.rules.wording import on_cuda
from perfdoctor.schema import to_dict
from perfdoctor.whatif import Job

_MEMO = "loader model"
_WORKERS = "configuration.num_workers"
#: The probe that trains on twice the batch size: samples per second ÷ those of the usual one.
_TWICE = "batch_x2"
#: Workers that make batches in this part of the time in which they are used keep up: then what is
#: waited for most batches is the handing over (our own choice).
_SLACK = 0.8
#: Batches that differ by more differ in something else than the chance of their samples.
_MOST_SPREAD = 0.5
#: Less than half a core is never assumed, however busy others are: the scheduler is fair.
_FEWEST_CORES = 0.5
#: With less than a tenth of the processor idle no worker more finds a core (our own choice).
_TAKEN_PERCENT = 90.0
#: Below this share of processor time making a batch is waiting; then cores are not what it lacks.
_WAITING = 0.25
#: From this part of their time on the cores are what is waited for (gpuprof and loadtune call
#: workers bound by the processor from 80 %).
_BUSY = 0.8
#: Workers that take this part of a step's processor time, where there is no more of it, hold the
#: training up (xprof and TraceML call a stage high from 20 % on).
CROWDED = 0.2
#: Ways of starting a worker as a new interpreter, and the seconds that takes where no import of
#: torch was timed: with torch and its friends (PyTorch issue 153594).
FRESH_STARTS, _FRESH_S = ("spawn", "forkserver"), 3.3


def loader_model(facts: Facts) -> LoaderModel:
    """The pipeline model of this run. Raises `Missing` where the loader was not measured.

    Of an observed script without workers, or without a DataLoader, the waits are the batches.
    """
    if _MEMO not in facts.memo:
        facts.memo[_MEMO] = _loader_model(facts)
    found: LoaderModel = facts.memo[_MEMO]
    return found


def _loader_model(facts: Facts) -> LoaderModel:
    in_loop = is_run(facts) and not facts.known(_WORKERS)
    workers = 0 if in_loop else int(facts.number(_WORKERS))
    wait_s = np.nan_to_num(facts.series("data_loading_s"))
    batch_s = wait_s if in_loop else _batch_s(facts)
    consume_s = np.maximum(0.0, facts.series("step_s") - wait_s)
    compute_cpu_s, cores = _compute_cpu_s(facts, float(consume_s.mean())), free_cores(facts)
    if is_run(facts) and consume_s.mean() > 0:  # what it was seen to use, it has
        seen = min(compute_cpu_s / float(consume_s.mean()), _usable(facts))
        cores = max(cores, seen)
    keeps_up = bool(workers > 0 and batch_s.mean() / workers < _SLACK * consume_s.mean())
    return LoaderModel(
        batch_s=batch_s,
        consume_s=consume_s,
        batch_cpu_s=_batch_cpu_s(facts, batch_s, in_loop),
        compute_cpu_s=compute_cpu_s,
        cores=cores,
        workers=workers,
        handover_s=_handover_s(facts, wait_s, workers, keeps_up=keeps_up),
        handover_known=keeps_up,
        steps_per_epoch=_steps_per_epoch(facts),
        start_s=_worker_start_s(facts, float(np.median(batch_s))) if workers else None,
        create_s=_create_s(facts, workers),
        end_s=facts.known("loader.end.p50_s") if workers else None,
        fresh_s=_fresh_s(facts),
        steps_in_all=_steps_in_all(facts),
        prefetch_factor=prefetch_factor(facts),
        ranks=max(1, int(facts.known("ranks") or 1)) if is_run(facts) else 1,
        sample_spread=_sample_spread(facts, batch_s),
        growth=_growth(facts),
    )


def measured_job(report: Report, where: str) -> Job:
    """The training of a report, for questions of what would be if.

    Raises:
        PerfdoctorError: its loader or its steps were not measured, or are not told step by step.
    """
    facts = Facts(to_dict(report))
    try:
        if facts.from_log:
            raise Missing("loader")
        model = replace(loader_model(facts), steps_in_all=None)  # what is asked is how it goes on
        return Job(
            name=report.name,
            model=model,
            now=Setting(model.workers, model.prefetch_factor, persistent(facts)),
            step_s=facts.number("steps.time.mean_s"),
            batch_size=_batch_size(facts),
            dataset_size=int(facts.known("configuration.dataset_size") or 0) or None,
            gpus=model.ranks,
            cores=_usable(facts),
            free_cores=min(_usable(facts), model.cores),
            on_gpu=str(report.environment.device or "").startswith("cuda"),
        )
    except (Missing, TypeError) as missing:
        raise PerfdoctorError(
            f"{where} holds no measurements of a data loader ({missing}); make a report that does "
            "with `perfdoctor run train.py` or `perfdoctor bench --workload FILE`",
            slug="no-loader-measured",
        ) from None


def _batch_size(facts: Facts) -> int:
    """As configured; else what the steps held."""
    known = facts.known("configuration.batch_size")
    if known:
        return max(1, round(known))
    samples = facts.series("samples")
    return max(1, round(float(np.nanmedian(samples))))


def prefetch_factor(facts: Facts) -> int:
    """Batches that each worker makes ahead."""
    path = "configuration.prefetch_factor"
    return int(facts.number(path)) if facts.has(path) else DEFAULT_PREFETCH


def persistent(facts: Facts) -> bool:
    """Whether the workers outlive an epoch; torch's default is that they do not."""
    path = "configuration.persistent_workers"
    return facts.has(path) and facts.flag(path)


def whole_cores(facts: Facts) -> int:
    """Cores this training may use, whole ones, at least one."""
    return max(1, math.floor(facts.number("environment.cores_usable")))


def free_cores(facts: Facts) -> float:
    """Usable cores less what other processes took of them while this was measured."""
    return max(_FEWEST_CORES, facts.number("environment.cores_usable") - cores_of_others(facts))


def cores_of_others(facts: Facts) -> float:
    """How many of the usable cores other processes took, at least: what they took of the whole
    machine, less the cores that this training may not use."""
    foreign = (facts.known("utilisation.cpu_foreign.mean") or 0.0) / 100
    usable, whole = (facts.known(f"environment.cores_{n}") for n in ("usable", "logical"))
    beside = max(0.0, whole - usable) if usable is not None and whole is not None else 0.0
    return max(0.0, foreign - beside)


def cores_taken(facts: Facts) -> bool:
    """Whether all cores were busy while this was measured: who waits then, waits for a core."""
    busy = facts.known("utilisation.cpu.mean")
    return busy is not None and busy >= _TAKEN_PERCENT


def waits_for_storage(facts: Facts, computing: float) -> bool:
    """Whether a batch waits for a disk or a network if this part of its time is `computing`.

    Waiting for a core is no waiting for a disk: by as much as others left of the cores, and never
    where training and workers fill these.
    """
    if _cores_filled(facts):
        return False
    cores = facts.known("environment.cores_usable")
    left = min(1.0, free_cores(facts) / cores) if cores else 1.0
    return computing <= _WAITING * left


def crowding(facts: Facts) -> float:
    """The workers' part (0–1) of the processor time of an observed step, where they and a training
    that computes on the host fill the cores: then each waits for the other, however well the
    queue is filled. 0 elsewhere."""
    if not is_run(facts) or not _cores_filled(facts) or on_cuda(facts):
        return 0.0
    wait = facts.known("stages.data_loading.share") or 0.0
    computing_s = _compute_cpu_s(facts, facts.number("steps.time.mean_s") * (1 - wait))
    making_s = facts.number("loader.batch_cpu_s")
    return making_s / (making_s + computing_s)


def _cores_filled(facts: Facts) -> bool:
    """Whether training and workers kept their cores busy; False where that is not known."""
    used = ("steps.cpu_s", "steps.time.mean_s", "loader.batch_cpu_s", "environment.cores_usable")
    if not facts.known(_WORKERS) or not all(map(facts.has, used)):
        return False
    step_s, wait = facts.number("steps.time.mean_s"), facts.known("stages.data_loading.share")
    computing_s = _compute_cpu_s(facts, step_s * (1 - (wait or 0.0)))
    busy_s = computing_s + facts.number("loader.batch_cpu_s")
    return busy_s >= _BUSY * step_s * free_cores(facts)


def _usable(facts: Facts) -> float:
    return facts.number("environment.cores_usable")


def _batch_s(facts: Facts) -> Floats:
    if not facts.has("series.loader_batch_s"):
        return np.array([facts.number("loader.batch.p50_s")])
    batch_s = facts.series("loader_batch_s")
    return batch_s[np.isfinite(batch_s)]


def _batch_cpu_s(facts: Facts, batch_s: Floats, in_loop: bool) -> float:
    """Processor time of the mean batch; its own batches count as computed where that is unknown.

    The part of the usual batch that is computing is taken for all of them where there is no more.
    """
    mean_s, cpu_s = float(batch_s.mean()), facts.known("loader.batch_cpu_s")
    if not in_loop and facts.has("series.loader_batch_cpu_s"):
        known = facts.series("loader_batch_cpu_s")
        return float(known[np.isfinite(known)].mean())
    if not in_loop:
        return facts.number("loader.batch_cpu_s")
    usual_s = facts.known("loader.batch.p50_s")
    computing = 1.0 if cpu_s is None or not usual_s else min(1.0, cpu_s / usual_s)
    if cores_taken(facts) and not waits_for_storage(facts, computing):
        return mean_s  # it waited for a core, as a worker will
    return mean_s * computing


def _compute_cpu_s(facts: Facts, consume_s: float) -> float:
    """Without what idle threads spin away while the loop waits for data.

    Where an observed script's processor time is not known, all its threads count as busy.
    """
    if is_run(facts) and not facts.has("steps.cpu_s"):
        return facts.number("configuration.threads") * consume_s
    cpu_s = facts.number("steps.cpu_s")
    if not facts.has("configuration.threads"):
        return cpu_s
    return min(cpu_s, facts.number("configuration.threads") * consume_s)


def _handover_s(facts: Facts, wait_s: Floats, workers: int, *, keeps_up: bool) -> float:
    """The shorter waits are for batches that were ready, unless every step has to wait."""
    if keeps_up:
        return float(np.percentile(wait_s, 25))
    usual_s = handover_s(facts.known("loader.batch_bytes"))
    return min(usual_s, float(np.percentile(wait_s, 5))) if workers else usual_s


def _steps_per_epoch(facts: Facts) -> int | None:
    path = "epochs.steps_per_epoch"
    return max(1, int(facts.number(path))) if facts.has(path) else None


def _worker_start_s(facts: Facts, batch_s: float) -> float | None:
    """None where their start was not seen: then it is not known.

    Where workers persist, few epochs begin with it.
    """
    if persistent(facts):
        return facts.known("loader.start.p50_s")
    seen_s = facts.known("epochs.start.p50_s")
    return None if seen_s is None else max(0.0, seen_s - batch_s)


def _create_s(facts: Facts, workers: int) -> float | None:
    """For each worker."""
    seen_s = facts.known("loader.create.p50_s")
    return None if seen_s is None or not workers else seen_s / workers


def _fresh_s(facts: Facts) -> float | None:
    """A worker that is a new interpreter imports torch at least; None of forked ones."""
    path = "configuration.start_method"
    if not facts.has(path) or facts.get(path) not in FRESH_STARTS:
        return None
    import_s = facts.known("counters.import_torch_s")
    return _FRESH_S if import_s is None else import_s


def _steps_in_all(facts: Facts) -> int | None:
    """Of a script that was observed from its start to its end."""
    count = facts.known("steps.count") if is_whole(facts) else None
    return int(count + (facts.known("steps.warmup_discarded") or 0)) if count else None


def _sample_spread(facts: Facts, batch_s: Floats) -> float:
    """Standard deviation of the samples' mean over one batch ÷ the mean.

    From the samples' own times; else the batches' spread is taken for theirs.
    """
    mean_s, std_s = (facts.known(f"loader.sample.{name}") for name in ("mean_s", "std_s"))
    size = facts.known("configuration.batch_size")
    if mean_s and std_s and size:
        return min(_MOST_SPREAD, std_s / mean_s / math.sqrt(size))
    mean = float(batch_s.mean())
    return min(_MOST_SPREAD, float(batch_s.std()) / mean) if mean > 0 else 0.0


def _growth(facts: Facts) -> tuple[float, float, float]:
    """How the step grows with the batch, see `LoaderModel.growth`; from twice the batch size."""
    ends = [facts.known(f"probes.{_TWICE}.{name}") for name in ("speedup", "low", "high")]
    powers = [math.log2(2 / end) for end in ends if end is not None and end > 0]
    if len(powers) < len(ends):
        return UNKNOWN_GROWTH
    return powers[0], min(powers), max(powers)
