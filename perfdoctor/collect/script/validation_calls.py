"""What models are called with in validation: one sample at a time, or all that was made so far.

Who generates token by token and calls the model on the whole prefix each time computes all of it
again: an argument is one position longer from call to call, and begins with what the last one was.
Who calls it on one sample after another pays a call's fixed costs for each. Only some calls of the
first validations are looked at, and of those only shapes and the clock around the call; no call
with gradients is.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from types import FrameType
from typing import Any, TypeGuard

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.call_places import Path, named, path_of, script_spot, where
from perfdoctor.collect.script.fed_back import loop_over_samples
from perfdoctor.collect.script.generated_alone import GeneratedAlone
from perfdoctor.collect.script.given_shapes import (
    Given,
    described,
    goes_on_from,
    grown,
    is_single,
    is_small,
    numbers_in,
    tensors_of,
)
from perfdoctor.collect.script.loop_finder import LoopFacts, Spot
from perfdoctor.collect.script.model_parts import ModelParts, goes_on, times_in_all
from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.validation_batches import CallSizes

#: Validations that are looked at, and calls of each: 10 µs a call, 16 ms in all.
_MOST_VALIDATIONS, _MOST_CALLS = 8, 200
#: Modules that are told apart.
_MOST_MODULES = 16
#: Layers that are asked whether batches come first.
_MOST_LAYERS = 2000
#: Calls in a row that are no chance: bucketed batches may get longer by one a few times.
_FEWEST_GROWING, _FEWEST_ALONE = 6, 8
#: Calls at the start of a row that tell what a call of one position takes.
_FIRST_CALLS = 3


@dataclass
class _Row:
    """Calls of one module in a row.

    `first` is the length of what grows by one, `grows` says which argument and dimension.
    `sizes`: numbers of each sample; `varied`: dimensions in which samples differ.
    """

    path: Path
    module: int
    took_ns: list[int] = field(default_factory=list)
    grows: tuple[int, int] = (0, 0)
    first: int = 0
    sizes: list[int] = field(default_factory=list)
    varied: set[int] = field(default_factory=set)


@dataclass
class _Module:
    """The calls of one module in one validation; `kept` are the tensors of the last one as far as
    they are small, to be compared with what comes."""

    key: int
    batch_first: bool
    given: tuple[Given, ...] = ()
    kept: Sequence[Any] = ()
    took_ns: int = 0
    path: Path = ()
    growing: _Row | None = None
    alone: _Row | None = None


class ValidationCalls:
    """Looks at the calls; `looks` tells whether there is any more to be looked at.

    Whatever fails here ends this and nothing else.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.looks = True
        self._recorder = recorder
        self._step, self._validations = -1, 0
        self._modules: dict[int, _Module] = {}
        self._batch_first: dict[int, bool] = {}
        self._trained: dict[int, tuple[int, int]] = {}  # module → samples, numbers of one
        self._noted: set[int] = set()
        self._parts = ModelParts()
        self._last: tuple[_Row, Path] | None = None
        self._growing: list[_Row] = []
        self._alone: list[_Row] = []
        self._sizes = CallSizes()
        self._generated = GeneratedAlone()
        self._calls = self._all_calls = self._all_ns = 0
        self._since = self._until = self._began = 0
        self._running: _Module | None = None
        self._on_device = False

    def trains(self, module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """A call of a module that is trained, with gradients: what a batch is to it."""
        if id(module) in self._noted or len(self._noted) >= _MOST_MODULES:
            return
        self._noted.add(id(module))
        try:
            self._parts.add(module)
            shape = next((tuple(tensor.shape) for tensor in tensors_of(args, kwargs)), ())
            if shape and shape[0]:
                self._trained[id(module)] = shape[0], numbers_in(shape[1:])
        except Exception:  # as below
            self._gives_up()

    def begins(self, module: Any, args: Any, kwargs: Any, frame: FrameType) -> None:
        """An outermost module is called from this frame, without gradients."""
        self._running = None
        try:
            self._looks_into(module, args, kwargs, frame)
        except Exception:  # tensors and modules of anyone's making
            self._gives_up()
        self._began = self._recorder.clock()

    def ends(self) -> None:
        """It has returned."""
        if self._running is not None:
            self._until = self._recorder.clock()
            took_ns = self._until - self._began
            for row in (self._running.growing, self._running.alone):
                if row is not None:
                    row.took_ns.append(took_ns)
            self._running.took_ns, self._running = took_ns, None
            self._generated.ends(self._until)

    # -- one call ----------------------------------------------------------------------------

    def _looks_into(self, module: Any, args: Any, kwargs: Any, frame: FrameType) -> None:
        if self._recorder.current != r.VALIDATION:
            return
        if self._step != self._recorder.count:
            self._next_validation()
        if self._calls >= _MOST_CALLS or not self.looks:
            return
        tensors = tensors_of(args, kwargs)
        one = self._module(module) if tensors else None
        if one is None:
            return
        if not self._calls:
            self._since = self._recorder.clock()
        self._calls += 1
        self._on_device |= not all(tensor.is_cpu for tensor in tensors)
        path = path_of(frame)
        self._goes_on(one, tensors, path)
        self._between(one, path)
        self._generated.begins(frame, self._recorder.clock())
        self._running = one

    def _between(self, one: _Module, path: Path) -> None:
        """What a model does between two of its layers is a part of its call."""
        last, row = self._last, one.alone
        self._last = (row, path) if row is not None and one.key in self._parts else None
        if last is not None and self._last is not None and goes_on(last[1], path):
            last[0].took_ns[-1] += self._recorder.clock() - self._until

    def _next_validation(self) -> None:
        self._close()
        self._step = self._recorder.count
        self._validations += 1
        self.looks = self._validations <= _MOST_VALIDATIONS

    def _module(self, module: Any) -> _Module | None:
        key = id(module)
        if key not in self._modules and len(self._modules) < _MOST_MODULES:
            if key not in self._batch_first:
                layers = islice(module.modules(), _MOST_LAYERS)
                second = (getattr(layer, "batch_first", None) is False for layer in layers)
                self._batch_first[key] = not any(second)
            self._modules[key] = _Module(key, self._batch_first[key])
        return self._modules.get(key)

    def _goes_on(self, one: _Module, tensors: Sequence[Any], path: Path) -> None:
        given = tuple(map(described, tensors))
        self._may_grow(one, given, tensors)
        self._may_be_alone(one, given, path)
        if one.key in self._trained:
            samples, of_one = self._trained[one.key]
            self._sizes.add(one.key, given[0], samples * of_one)
        one.given, one.path = given, path
        one.kept = [tensor if is_small(tensor) else None for tensor in tensors]

    def _may_grow(self, one: _Module, given: tuple[Given, ...], tensors: Sequence[Any]) -> None:
        grows = grown(one.given, given)
        row = one.growing
        if row is not None and row.grows != grows:
            self._keep(one)
            row = one.growing = None
        if grows is None:
            return
        which, dim = grows
        length = given[which].shape[dim]
        if row is None and goes_on_from(one.kept[which], tensors[which], dim):
            one.growing = _Row(one.path, one.key, [one.took_ns], grows, length - 1)

    def _may_be_alone(self, one: _Module, given: tuple[Given, ...], path: Path) -> None:
        row, shape = one.alone, given[0].shape
        single = is_single(given, batch_first=one.batch_first)
        if row is not None:
            before = one.given[0].shape
            if len(before) == len(shape):
                pairs = enumerate(zip(before, shape, strict=True))
                row.varied |= {i for i, (a, b) in pairs if a != b}
            # of one length or another they can be padded; pictures of any size cannot
            if len(before) != len(shape) or len(row.varied) > 1 or not single:
                self._keep(one, growing=False)
                row = one.alone = None
        if single:
            row = one.alone = row or _Row(path, one.key)
            row.sizes.append(numbers_in(shape[1:]))

    # -- what is kept ------------------------------------------------------------------------

    def _keep(self, one: _Module, *, growing: bool = True) -> None:
        row, fewest = (one.growing, _FEWEST_GROWING) if growing else (one.alone, _FEWEST_ALONE)
        if _is_long(row, fewest):
            (self._growing if growing else self._alone).append(row)

    def _close(self) -> None:
        """A validation is over."""
        for one in self._modules.values():
            self._keep(one)
            self._keep(one, growing=False)
        self._all_calls += self._calls
        self._all_ns += self._now_ns
        self._since = self._until = self._calls = 0
        self._modules, self._running, self._last = {}, None, None
        self._generated.pause()

    @property
    def _now_ns(self) -> int:
        """From the first call of this validation that was seen to the end of the last."""
        return max(0, self._until - self._since)

    def _gives_up(self) -> None:
        self.looks = False
        self._modules, self._growing, self._alone = {}, [], []
        self._calls = self._all_calls = 0

    # -- what is found -----------------------------------------------------------------------

    def settings(self, trainings: Collection[LoopFacts]) -> dict[str, Any]:
        """As configuration: rows of calls of either kind, 0 of none; nothing where no calls were
        seen. Times only where the host's clock tells them. Another thread may ask."""
        calls, spent_ns = self._all_calls + self._calls, self._all_ns + self._now_ns
        if not calls or spent_ns <= 0:
            return {}
        going = [_copies(one) for one in list(self._modules.values())]
        growing = [*self._growing, *(row for row, _ in going if _is_long(row, _FEWEST_GROWING))]
        single = [*self._alone, *(row for _, row in going if _is_long(row, _FEWEST_ALONE))]
        spots = [(row, loop_over_samples(row.path, trainings)) for row in single]
        alone = [(row, spot) for row, spot in spots if spot is not None]
        validations = max(1, min(self._validations, _MOST_VALIDATIONS))
        found = {"validation_seen_s": spent_ns * 1e-9 / validations}
        found |= _of_prefixes(growing, calls)
        found |= self._of_samples(alone, calls)
        found |= {} if growing else self._sizes.settings()
        if not self._on_device:
            found |= _times_of_prefixes(growing, spent_ns)
            found |= self._times_of_samples([row for row, _ in alone], spent_ns)
            batch = min((samples for samples, _ in self._trained.values()), default=None)
            found |= self._generated.settings(trainings, calls, spent_ns, batch)
        return found

    def _of_samples(self, alone: Sequence[tuple[_Row, Spot]], calls: int) -> dict[str, Any]:
        if not alone:
            return {"alone_calls": 0}
        rows = [row for row, _ in alone]
        trained = [self._trained[row.module] for row in rows if row.module in self._trained]
        found: dict[str, Any] = {
            "alone_calls": round(statistics.median(len(row.took_ns) for row in rows)),
            "alone_of_calls": sum(len(row.took_ns) for row in rows) / calls,
            **where("alone", (named(spot, row.path) for row, spot in alone)),
        }
        if trained:
            found["alone_batch"] = min(samples for samples, _ in trained)
        if self._are_parts(rows):  # of a model whose samples are as large as in training
            found["alone_size"] = 1.0
        elif len(trained) == len(rows):  # of each it is known
            sizes = [
                (sum(row.sizes), len(row.sizes) * self._trained[row.module][1]) for row in rows
            ]
            found["alone_size"] = sum(a for a, _ in sizes) / max(1, sum(b for _, b in sizes))
        return found

    def _times_of_samples(self, rows: Sequence[_Row], seen_ns: int) -> dict[str, float]:
        took_ns = [took for row in rows for took in row.took_ns]
        spent_ns = sum(took_ns)
        if not spent_ns:
            return {}
        each_ns = statistics.median(took_ns)
        if self._are_parts(rows):
            calls: Counter[int] = Counter()
            for row in rows:
                calls[row.module] += len(row.took_ns)
            each_ns = spent_ns / times_in_all(list(calls.values()))
        return {"alone_of_validation": min(1.0, spent_ns / seen_ns), "alone_s": each_ns * 1e-9}

    def _are_parts(self, rows: Sequence[_Row]) -> bool:
        return len({row.module for row in rows}) > 1 and all(
            row.module in self._parts and row.module not in self._trained for row in rows
        )


def _of_prefixes(rows: Sequence[_Row], calls: int) -> dict[str, Any]:
    if not rows:
        return {"prefix_calls": 0}
    return {
        "prefix_calls": round(statistics.median(len(row.took_ns) for row in rows)),
        "prefix_first": min(row.first for row in rows),
        "prefix_last": max(row.first + len(row.took_ns) - 1 for row in rows),
        "prefix_of_calls": sum(len(row.took_ns) for row in rows) / calls,
        **where("prefix", (script_spot(row.path) for row in rows)),
    }


def _times_of_prefixes(rows: Sequence[_Row], seen_ns: int) -> dict[str, float]:
    spent_ns = sum(sum(row.took_ns) for row in rows)
    if not spent_ns:
        return {}
    return {
        "prefix_of_validation": min(1.0, spent_ns / seen_ns),
        "prefix_left": min(1.0, sum(map(_first_calls_ns, rows)) / spent_ns),
        "prefix_least": min(1.0, sum(map(_shortest_calls_ns, rows)) / spent_ns),
    }


def _copies(one: _Module) -> tuple[_Row | None, _Row | None]:
    """Its rows, which another thread may go on with."""
    growing, alone = one.growing, one.alone
    return (
        None if growing is None else replace(growing, took_ns=list(growing.took_ns)),
        None if alone is None else replace(alone, took_ns=list(alone.took_ns)),
    )


def _is_long(row: _Row | None, fewest: int) -> TypeGuard[_Row]:
    return row is not None and len(row.took_ns) >= fewest


def _first_calls_ns(row: _Row) -> float:
    """What as many calls of one position take."""
    return len(row.took_ns) * statistics.median(row.took_ns[:_FIRST_CALLS])


def _shortest_calls_ns(row: _Row) -> float:
    """The same at least: as the shortest, or as a line through all of them has it for a length of
    1, where the first call was a long one."""
    lengths = range(row.first, row.first + len(row.took_ns))
    slope, start = statistics.linear_regression(lengths, row.took_ns)
    shortest = min(row.took_ns)
    if row.first > 1:
        shortest = min(shortest, max(0, round(start + slope)))
    return float(len(row.took_ns) * shortest)
