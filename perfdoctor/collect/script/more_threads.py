"""What the operations of a step take with torch's threads as they are, and with one for each core.

Small operations gain nothing from a second thread, and lose by waiting for it: how large a step's
operations are tells its graph, and how long such take either way is tried when the training is
over.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from perfdoctor.collect.script.arithmetic import (
    UntoldError,
    filter_size,
    output_shape,
    product_sizes,
)

#: Kinds of operations that are timed, those with most to compute first, and how often each.
_MOST_KINDS, _TIMES = 16, 5
#: A backward pass computes twice what the forward does.
_PASSES = 3
#: Larger operations scale as those of so many numbers, and of so many multiplications.
_MOST_NUMBERS, _MOST_PRODUCTS = 2**22, 2**29
#: Seconds for one kind, after which it is timed no more.
_ENOUGH_S = 0.05
#: Multiplications that take as long as one number of an elementwise operation, about.
_A_NUMBER = 16

_Sizes = tuple[int, ...]


class MoreThreads:
    """Of the operations of one step: products by rows, inner size and columns, others by numbers.

    Args:
        threads: how many torch computes with.
        cores: how many it could.
    """

    def __init__(
        self,
        threads: Callable[[], int] | None = None,
        cores: Callable[[], int] | None = None,
    ) -> None:
        self._threads, self._cores = threads or _threads_now, cores or _usable
        self._operations: Counter[_Sizes] = Counter()
        self._told = True
        self._found: dict[str, Any] = {}

    def note(self, functions: Collection[Any]) -> None:
        """The operations that a backward pass goes through."""
        if not self._told or self._threads() >= self._cores():
            return
        try:
            self._operations.update(filter(None, map(_sizes, functions)))
        except UntoldError:
            self._told = False

    def measure(self) -> None:
        """Tries both; for when the training is over, and on the host only."""
        import torch

        now, cores = self._threads(), self._cores()
        if not self._told or not self._operations or now >= cores:
            return
        try:
            took_s = _took_s(self._operations, [now, cores], torch)
        finally:
            torch.set_num_threads(now)
        self._found = {
            "threads_tried": cores,
            "threads_now_s": _PASSES * took_s[0],
            "threads_then_s": _PASSES * took_s[1],
        }

    def settings(self) -> dict[str, Any]:
        """As configuration: seconds of a step's operations; empty where nothing was tried."""
        return self._found


def _threads_now() -> int:
    import torch

    return torch.get_num_threads()


def _usable() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _sizes(function: Any) -> _Sizes:
    """Raises `UntoldError`; empty of what computes nothing."""
    sizes = product_sizes(function)
    if sizes:
        return sizes
    shape, weights = output_shape(function), 0
    numbers = math.prod(shape)
    if type(function).__name__.startswith("Convolution"):
        weights = filter_size(function)
    if weights and len(shape) > 1:
        return numbers // shape[1], weights, shape[1]
    return (numbers,) if shape and numbers else ()


def _work(sizes: _Sizes) -> float:
    return math.prod(sizes) / (_A_NUMBER if len(sizes) > 1 else 1)


def _took_s(operations: Counter[_Sizes], threads: list[int], torch: Any) -> list[float]:
    """Of all of them, with each number of threads; the least of several times, in turns."""
    most = sorted(operations, key=lambda sizes: -_work(sizes) * operations[sizes])[:_MOST_KINDS]
    whole = sum(_work(sizes) * count for sizes, count in operations.items())
    known = sum(_work(sizes) * operations[sizes] for sizes in most)
    took = [0.0] * len(threads)
    for sizes in most:
        run, scale = _example(sizes, torch)
        least, ends_s = [math.inf] * len(threads), time.perf_counter() + _ENOUGH_S
        for turn in range(_TIMES):
            if turn and time.perf_counter() > ends_s:
                break
            for place, count in enumerate(threads):
                torch.set_num_threads(count)
                least[place] = min(least[place], _timed(run))
        for place, seconds in enumerate(least):
            took[place] += seconds * scale * operations[sizes] * whole / known
    return took


def _timed(run: Callable[[], Any]) -> float:
    run()  # wakes the threads
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _example(sizes: _Sizes, torch: Any) -> tuple[Callable[[], Any], float]:
    """An operation like that, no larger than need be, and how many of it that is."""
    if len(sizes) == 1:
        numbers = min(sizes[0], _MOST_NUMBERS)
        values = torch.ones(numbers)
        return lambda: torch.mul(values, values), sizes[0] / numbers
    rows, inner, columns = sizes
    fewer = min(_MOST_NUMBERS // max(inner, columns), _MOST_PRODUCTS // (inner * columns))
    fewer = max(1, min(rows, fewer))
    left, right = torch.ones(fewer, inner), torch.ones(inner, columns)
    return lambda: torch.mm(left, right), rows / fewer
