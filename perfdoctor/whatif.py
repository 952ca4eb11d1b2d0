"""What a measured training would do with other workers, batches, cores or GPUs.

From one simulation of all configurations that are asked for, and two more for how many workers
and cores the job needs. Nothing here is advice: what is shown may be more than this machine has.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from perfdoctor.errors import PerfdoctorError
from perfdoctor.needs import NOTHING, Needs, fed, needed
from perfdoctor.pipeline_model import LoaderModel, Setting, StepPrediction, predict_all

#: What the sweep shows where nothing is asked for; workers beyond what is needed are left out.
_LADDER = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
#: Fewer would leave questions open, more cannot be read at a glance.
_ROWS = 12
#: So many configurations take about half a second.
MOST_CONFIGURATIONS = 1_000


@dataclass(frozen=True, kw_only=True)
class Job:
    """A measured training, as the questions need it.

    `batch_size`, `workers` are of each GPU. `cores`: usable ones; `free_cores`: those that other
    programs left. `step_s`: as measured, the mean.
    """

    name: str
    model: LoaderModel
    now: Setting
    step_s: float
    batch_size: int
    dataset_size: int | None
    gpus: int
    cores: float
    free_cores: float
    on_gpu: bool


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The values to answer for; empty: as measured."""

    num_workers: Sequence[int] = ()
    prefetch_factor: Sequence[int] = ()
    persistent_workers: Sequence[bool] = ()
    batch_size: Sequence[int] = ()
    dataset_size: Sequence[int] = ()
    gpus: Sequence[int] = ()
    cores: Sequence[float] = ()

    @property
    def anything(self) -> bool:
        """Whether any value was given."""
        return any(vars(self).values())


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Settings by their names. `num_workers` and `batch_size` are of each GPU, `cores` of all."""

    num_workers: int
    prefetch_factor: int | None
    persistent_workers: bool | None
    batch_size: int
    gpus: int
    cores: float
    dataset_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Option:
    """One configuration and what the model makes of it.

    `step_s` and `samples_per_s` (of all GPUs together) have intervals; `speedup` is samples_per_s
    ÷ that of the measured settings, both by the model; `wait_share` is of the step.
    """

    configuration: Configuration
    step_s: float
    step_low_s: float
    step_high_s: float
    samples_per_s: float
    samples_per_s_low: float
    samples_per_s_high: float
    speedup: float
    wait_share: float


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """The answer. `measured_step_s` beside `now`, which is the model's of the same settings."""

    name: str
    measured_step_s: float
    now: Option
    options: tuple[Option, ...]
    needs: Needs
    on_gpu: bool
    asked: bool
    usable_cores: float
    notes: tuple[str, ...] = field(default=())


def answer(job: Job, asked: Asked) -> WhatIf:
    """What the model makes of what is asked for.

    Raises:
        PerfdoctorError: values that cannot be, or too many combinations of them.
    """
    wanted = _configurations(job, asked)
    now = _configuration_now(job)
    options = _predicted(job, [now, *wanted])
    first = next((one for one in wanted if one.num_workers), wanted[0])
    now_s = options[0].configuration.batch_size * job.gpus / options[0].samples_per_s
    asked_size = (first.batch_size, first.gpus, first.cores)
    before = (job.batch_size * job.gpus, now_s)
    needs = needed(job.model, _setting(job, first), asked_size, before)
    shown = options[1:] if asked.anything else _worth_showing(options[1:])
    return WhatIf(
        name=job.name,
        measured_step_s=job.step_s,
        now=options[0],
        options=tuple(shown),
        needs=needs,
        on_gpu=job.on_gpu,
        asked=asked.anything,
        usable_cores=job.cores,
        notes=tuple(_notes(job, wanted)),
    )


def _configuration_now(job: Job) -> Configuration:
    return Configuration(
        num_workers=job.now.workers,
        prefetch_factor=job.now.prefetch_factor if job.now.workers else None,
        persistent_workers=job.now.persistent if job.now.workers else None,
        batch_size=job.batch_size,
        gpus=job.gpus,
        cores=job.cores,
        dataset_size=job.dataset_size,
    )


def _configurations(job: Job, asked: Asked) -> list[Configuration]:
    """Every combination of the values; without any, a ladder of workers."""
    values = (
        asked.num_workers or ((job.now.workers,) if asked.anything else _LADDER),
        asked.prefetch_factor or (job.now.prefetch_factor,),
        asked.persistent_workers or (job.now.persistent or not job.now.workers,),
        asked.batch_size or (job.batch_size,),
        asked.gpus or (job.gpus,),
        asked.cores or (job.cores,),
        asked.dataset_size or (job.dataset_size,),
    )
    count = math.prod(len(v) for v in values)
    if count > MOST_CONFIGURATIONS:
        raise PerfdoctorError(
            f"{count} combinations are more than the {MOST_CONFIGURATIONS} that are answered at "
            "once; give fewer values",
            slug="too-many-combinations",
        )
    found = [
        Configuration(
            num_workers=workers,
            prefetch_factor=prefetch if workers else None,
            persistent_workers=persistent if workers else None,
            batch_size=batch,
            gpus=gpus,
            cores=cores,
            dataset_size=dataset,
        )
        for workers, prefetch, persistent, batch, gpus, cores, dataset in itertools.product(*values)
    ]
    for one in found:
        _check(one)
    return list(dict.fromkeys(found))


def _check(asked: Configuration) -> None:
    size, whole = asked.dataset_size, asked.batch_size * asked.gpus
    if size is not None and whole > size:
        raise PerfdoctorError(
            f"{asked.gpus} × {asked.batch_size} samples a step are more than the data set's "
            f"{size}; give a smaller --batch-size or a larger --dataset-size",
            slug="batch-larger-than-data",
        )


def _setting(job: Job, asked: Configuration) -> Setting:
    """What the simulation is told. Cores that were left free stay as many fewer."""
    taken = max(0.0, job.cores - job.free_cores) if asked.cores == job.cores else 0.0
    batch, ranks = asked.batch_size / job.batch_size, asked.gpus / job.gpus
    data = asked.dataset_size / job.dataset_size if asked.dataset_size and job.dataset_size else 1.0
    seen = job.model.steps_per_epoch
    return Setting(
        workers=asked.num_workers,
        prefetch_factor=asked.prefetch_factor or job.now.prefetch_factor,
        persistent=asked.persistent_workers is not False,
        batch=batch,
        cores=max(0.5, asked.cores - taken),
        ranks=asked.gpus,
        steps_per_epoch=None if seen is None else max(1, round(seen * data / batch / ranks)),
    )


def _predicted(job: Job, asked: Sequence[Configuration]) -> list[Option]:
    settings = [_setting(job, one) for one in asked]
    found = predict_all(job.model, settings)
    first = asked[0].batch_size * asked[0].gpus / found[0].estimate_s
    compute_s = predict_all(job.model, [fed(s) for s in settings])
    return [
        _option(one, step, fed, first)
        for one, step, fed in zip(asked, found, compute_s, strict=True)
    ]


def _option(
    asked: Configuration, step: StepPrediction, fed: StepPrediction, first: float
) -> Option:
    samples = asked.batch_size * asked.gpus
    return Option(
        configuration=asked,
        step_s=step.estimate_s,
        step_low_s=step.optimistic_s,
        step_high_s=step.pessimistic_s,
        samples_per_s=samples / step.estimate_s,
        samples_per_s_low=samples / step.pessimistic_s,
        samples_per_s_high=samples / step.optimistic_s,
        speedup=samples / step.estimate_s / first,
        wait_share=max(0.0, 1 - fed.estimate_s / step.estimate_s),
    )


def _worth_showing(options: Sequence[Option]) -> list[Option]:
    """Up to the first that nothing more is gained with, and one more to show it."""
    best = max(option.samples_per_s for option in options)
    enough = next(i for i, o in enumerate(options) if o.samples_per_s >= best / NOTHING)
    return list(options[: min(enough + 2, _ROWS)])


def _notes(job: Job, asked: Sequence[Configuration]) -> list[str]:
    """What the model does not know and these questions touch."""
    found = []
    if any(one.gpus > job.gpus for one in asked):
        found.append("what the GPUs tell each other (gradients) takes time that is not counted")
    if any(one.batch_size != job.batch_size for one in asked) and job.model.growth[1] == 0:
        found.append(
            "how a step grows with the batch was not measured: between not at all and in "
            "proportion, which is the estimate; `perfdoctor bench` measures it"
        )
    restarted = any(one.persistent_workers is False for one in asked)
    if restarted and job.model.start_s is None:
        found.append("starting workers was not measured: taken as torch's own with small data")
    if any(one.num_workers for one in asked) and job.model.work.worker_share < _WAITS:
        found.append(
            f"making a batch is {1 - job.model.work.worker_share:.0%} waiting, which needs no "
            "core, so more workers than cores can be right; the storage must answer that many"
        )
    return found


#: Below this part of computing, making a batch is waiting; the rules draw the line there too.
_WAITS = 0.25
