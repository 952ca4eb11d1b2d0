"""Probes of how batches are made: kept samples, neighbouring ones, fewer tensors handed over."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import default_collate

from perfdoctor.collect.batches import bytes_in, tensors, to_device
from perfdoctor.collect.clocks import timed
from perfdoctor.collect.loader import is_iterable
from perfdoctor.collect.probe_arms import Arms
from perfdoctor.collect.training import TrainingLoop
from perfdoctor.stages import DATA_LOADING

#: So many samples are looked at for whether they come out the same each time.
_COMPARED = 4
#: A part of a batch is fetched; a whole one may take longer than the probe may.
_FETCHED = 8
_REPEATS = 5
_CPU = torch.device("cpu")
#: A sample that takes longer would take more time than a probe may.
_SLOWEST_S, _SLOWEST_SCATTERED_S = 0.10, 0.01
#: And a whole arm should take about so long: six pairs of it fit into the usual budget.
_ARM_S = 0.1


def cached_samples(loop: TrainingLoop, precision: str) -> Arms | None:
    """Making samples anew against taking them from a list, both put together into a batch.

    `details`: whether the same index gave the same sample twice, and the bytes of a sample.
    """
    dataset = loop.workload.dataset
    count = _affordable(dataset, _SLOWEST_S)
    if not count:
        return None
    indices = _spread(len(dataset), count)
    kept = [dataset[i] for i in indices]
    collate = loop.loader_arguments.get("collate_fn") or default_collate
    again = [dataset[i] for i in indices[:_COMPARED]]
    details = {
        "same_each_time": float(all(_same(a, b) for a, b in zip(kept, again, strict=False))),
        "sample_bytes": _bytes(kept) / len(kept),
    }
    return Arms(
        lambda: collate([dataset[i] for i in indices]),
        lambda: collate(list(kept)),
        (DATA_LOADING,),
        details=details,
    )


def neighbouring_samples(loop: TrainingLoop, precision: str) -> Arms | None:
    """Samples from all over the dataset against as many that follow each other."""
    dataset = loop.workload.dataset
    count = _affordable(dataset, _SLOWEST_SCATTERED_S)
    if count < _FETCHED or len(dataset) < 64 * _FETCHED:
        return None
    chosen = random.Random(0)
    size = len(dataset)

    def scattered() -> None:
        for index in chosen.sample(range(size), _FETCHED):
            dataset[index]

    def together() -> None:
        first = chosen.randrange(size - _FETCHED)
        for index in range(first, first + _FETCHED):
            dataset[index]

    return Arms(scattered, together, (DATA_LOADING,))


def handed_over(loop: TrainingLoop, precision: str) -> Arms | None:
    """Handing a batch from one process to another, as it is and as a single tensor.

    `details`: tensors and bytes of a batch, and the time that handing it over takes.
    """
    if not loop.num_workers or not loop.captured:
        return None
    batch = to_device(loop.captured[0], _CPU, non_blocking=False)
    many = [t.detach().contiguous() for t in tensors(batch)]
    if not many:
        return None
    one = torch.empty(sum(t.numel() * t.element_size() for t in many), dtype=torch.uint8)
    now = _sender(lambda: [t.clone() for t in many])
    details = {
        "tensors": float(len(many)),
        "batch_bytes": float(bytes_in(batch)),
        "handover_s": min(timed(_CPU, now) for _ in range(_REPEATS)),
    }
    return Arms(now, _sender(one.clone), (DATA_LOADING,), details=details)


def _sender(make: Callable[[], Any]) -> Callable[[], Any]:
    """Puts what `make` gives into shared memory and takes it out, as DataLoader's queue does."""
    from multiprocessing.reduction import ForkingPickler
    from pickle import loads

    import torch.multiprocessing  # noqa: F401 - registers how tensors are reduced

    def work() -> Any:
        return loads(bytes(ForkingPickler.dumps(make())))

    return work


def _affordable(dataset: Any, slowest_s: float) -> int:
    """How many samples one arm may fetch; none of a stream, or where one takes too long."""
    if is_iterable(dataset) or len(dataset) < _FETCHED:
        return 0
    start = time.perf_counter()
    dataset[len(dataset) // 2]
    each_s = time.perf_counter() - start
    return 0 if each_s > slowest_s else max(2, min(_FETCHED, int(_ARM_S / max(1e-9, each_s))))


def _spread(size: int, count: int) -> list[int]:
    return [i * size // count for i in range(count)]


def _same(first: Any, second: Any) -> bool:
    """Whether two samples are equal in all their parts."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        keys = first.keys() == second.keys()
        return keys and all(_same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        alike = len(first) == len(second)
        return alike and all(_same(a, b) for a, b in zip(first, second, strict=True))
    try:
        return bool((first == second) if not hasattr(first, "shape") else (first == second).all())
    except Exception:  # a type that cannot be compared is not known to be the same
        return False


def _bytes(samples: list[Any]) -> int:
    """Bytes of tensors and arrays in them; numbers count as eight."""
    total = 0
    for part in _leaves(samples):
        total += int(getattr(part, "nbytes", 8)) if hasattr(part, "nbytes") else _plain_bytes(part)
    return total


def _plain_bytes(part: Any) -> int:
    return len(part) if isinstance(part, str | bytes) else 8


def _leaves(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in _leaves(value)]
    if isinstance(tree, list | tuple):
        return [leaf for value in tree for leaf in _leaves(value)]
    return [tree]
