"""After running out of memory: the largest batch that does fit."""

from __future__ import annotations

import gc
from dataclasses import replace

import torch

from perfdoctor.collect.failures import OutOfMemoryError
from perfdoctor.collect.options import BenchOptions, Progress
from perfdoctor.collect.setup import loader_arguments
from perfdoctor.collect.training import TrainingLoop
from perfdoctor.errors import PerfdoctorError
from perfdoctor.workload import WorkloadFactory

#: Halvings of the interval after the first size that fits: the answer is within 12.5 %.
_REFINEMENTS = 3
_TRIAL_STEPS = 2


def largest_batch(
    factory: WorkloadFactory, options: BenchOptions, reason: str, progress: Progress
) -> PerfdoctorError:
    """The error to raise: names the batch that failed and the largest that was seen to fit."""
    _release()
    failed = _batch_size(factory, options)
    if failed is None:
        return PerfdoctorError(
            f"{reason}; the dataset or its batch_sampler decides the batch size: make it smaller",
            slug="out-of-memory",
        )
    fits = _search(factory, options, failed, progress)
    if fits is None:
        return PerfdoctorError(
            f"{reason}; not even a batch of one fits: use a smaller model or another --device",
            slug="out-of-memory",
        )
    return PerfdoctorError(
        f"batch size {failed} does not fit in memory ({reason}); the largest seen to fit is "
        f"{fits}: use --batch-size {fits}",
        slug="out-of-memory",
    )


def _search(
    factory: WorkloadFactory, options: BenchOptions, failed: int, progress: Progress
) -> int | None:
    fits, fails = failed // 2, failed
    while fits >= 1 and not _fits(factory, options, fits, progress):
        fits, fails = fits // 2, fits
    if fits < 1:
        return None
    for _ in range(_REFINEMENTS):
        middle = (fits + fails) // 2
        if middle in (fits, fails):
            break
        fits, fails = (
            (middle, fails) if _fits(factory, options, middle, progress) else (fits, middle)
        )
    return fits


def _fits(factory: WorkloadFactory, options: BenchOptions, size: int, progress: Progress) -> bool:
    progress(f"out of memory: trying batch size {size}", 0, 0)
    loop: TrainingLoop | None = None
    try:
        loop = TrainingLoop(factory, replace(options, batch_size=size))
        loop.run_steps(_TRIAL_STEPS)
        loop.finish()
    except OutOfMemoryError:
        return False
    finally:
        if loop is not None:
            loop.close()
        del loop
        _release()
    return True


def _release() -> None:
    """Gives back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _batch_size(factory: WorkloadFactory, options: BenchOptions) -> int | None:
    """Samples per batch; None where not the DataLoader makes the batches."""
    size: int | None = loader_arguments(factory(), options).get("batch_size")
    return size
