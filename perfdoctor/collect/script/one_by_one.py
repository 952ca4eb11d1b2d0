"""Gradients that `torch.autograd.grad` is asked for one by one, although of the same outputs.

Each call goes from the outputs down to its own inputs, so what lies between is gone through as
often as there are calls; one call with all inputs goes through it once. In the first steps the
calls on the same outputs, with the same gradients coming in and inputs of their own, are put
together: their time, and how many edges of the graph they go along where one call would. Where the
ways to the inputs have nothing in common, nothing would be saved.

Rows of a Jacobian (the same inputs again), several losses, gradients of single samples and higher
derivatives (other outputs) are no such calls.
"""

from __future__ import annotations

import statistics
import sys
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from types import FrameType
from typing import Any

from perfdoctor.collect.script.graph_edges import Edge, edges_to, output_key
from perfdoctor.collect.script.marks import Marks
from perfdoctor.collect.script.recorder import Recorder

#: Steps that are looked at: all from the second on, so that they tell how often it happens.
_FIRST, _BEYOND = 1, 30
#: A median of fewer says nothing.
_FEWEST = 3
#: Edges of one graph, and of all graphs together, that are walked at most: 20 ms, 0.2 s.
_MOST_NODES, _MOST_IN_ALL = 20_000, 200_000
#: Calls of one step that are looked at; numbers coming in that are.
_MOST_CALLS, _MOST_NUMBERS = 256, 1_000_000
_NAMES = ("outputs", "inputs", "grad_outputs", "retain_graph", "create_graph")

_Span = tuple[Any, Any]


@dataclass(frozen=True)
class Asked:
    """What one call is asked for; only as long as it is looked at."""

    outputs: Sequence[Any]
    inputs: Sequence[Any]
    coming_in: Sequence[Any]
    created: bool


@dataclass(frozen=True)
class _Found:
    """Calls of one step that could be one; `part`: of the edges that they went along, those that
    one call would, where the graph was walked."""

    spans: Sequence[_Span]
    places: tuple[str, ...]
    created: bool
    part: float | None

    @property
    def kind(self) -> tuple[Any, ...]:
        """The same in each step."""
        return self.places, self.created


@dataclass(eq=False)
class _Calls:
    """The same while the step goes on. `spoilt`: something was asked for twice."""

    created: bool
    inputs: list[list[weakref.ref[Any]]] = field(default_factory=list)
    spans: list[_Span] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    spoilt: bool = False
    walked: bool = True
    edges: set[Edge] = field(default_factory=set)
    passed: int = 0

    def add(self, inputs: Sequence[Any], place: str) -> None:
        """One more call."""
        before = {id(t) for one in self.inputs for ref in one if (t := ref()) is not None}
        self.spoilt |= any(id(tensor) in before for tensor in inputs)
        self.inputs.append([weakref.ref(tensor) for tensor in inputs])
        self.places.append(place)

    def found(self) -> _Found:
        """What is kept of it."""
        part = len(self.edges) / self.passed if self.walked and self.passed else None
        return _Found(self.spans, tuple(self.places), self.created, part)


@dataclass(frozen=True)
class _Set:
    """Calls that could be one, in so many steps: seconds of a step in all of them, of one in their
    place as is likely and at least, and what goes with graphs that are made of the gradients."""

    spent_s: float
    left_s: float
    least_s: float
    created_s: float
    calls: int
    steps: int


class OneByOne:
    """Looks for such calls."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder, self._marks = recorder, Marks(recorder)
        self._steps: dict[int, list[_Found]] = {}
        self._now: dict[tuple[Any, ...], _Calls] = {}
        self._tokens: dict[int, tuple[weakref.ref[Any], object]] = {}
        self._step = -1
        self._running: _Calls | None = None
        self._began: Any = None
        self._walked = self._count = 0
        self._blind = False  # to what this step asks for, as there is no clock for it

    # -- what happens ------------------------------------------------------------------------

    def in_this_step(self) -> None:
        """Gradients are computed, in whatever way."""
        step = self._recorder.count
        if step != self._step:
            self._settle()
            self._step, self._count, self._blind = step, 0, False

    def begins(self, args: Sequence[Any], kwargs: Mapping[str, Any], frame: FrameType) -> None:
        """A call of `torch.autograd.grad` from this frame is about to begin."""
        self.in_this_step()
        self._running = None
        self._count += 1
        looks = _FIRST <= self._step < _BEYOND and self._count <= _MOST_CALLS
        asked = asked_for(args, kwargs, frame) if looks else None
        if asked is None:
            return
        self._blind |= not self._marks.can_time(asked.outputs)
        if not self._blind:
            self._running = self._look_into(asked, frame)
            self._began = self._marks.now()

    def ends(self) -> None:
        """It is done, or failed."""
        if self._running is not None:
            self._running.spans.append((self._began, self._marks.now()))
        self._running = self._began = None

    def _settle(self) -> None:
        """The step is over: what was asked for once, or twice for the same, is of no interest."""
        if _FIRST <= self._step < _BEYOND and not self._blind:
            several = [c for c in self._now.values() if len(c.spans) > 1 and not c.spoilt]
            self._steps[self._step] = [calls.found() for calls in several]
        self._now, self._tokens = {}, {}

    # -- one call ----------------------------------------------------------------------------

    def _look_into(self, asked: Asked, frame: FrameType) -> _Calls:
        coming_in = tuple(map(self._print_of, asked.coming_in)) or (1.0,)
        key = (*map(output_key, asked.outputs), coming_in, asked.created)
        calls = self._now.setdefault(key, _Calls(asked.created))
        calls.add(asked.inputs, place_of(frame))
        several = len(calls.inputs) > 1
        if len(calls.inputs) == 2:  # one by itself needs no walk
            self._walk(calls, asked.outputs, [ref() for ref in calls.inputs[0]])
        if several:
            self._walk(calls, asked.outputs, asked.inputs)
        return calls

    def _walk(self, calls: _Calls, outputs: Sequence[Any], inputs: Sequence[Any]) -> None:
        gone = calls.spoilt or any(tensor is None for tensor in inputs)
        most = min(_MOST_NODES, _MOST_IN_ALL - self._walked)
        if gone or not calls.walked or most <= 0:
            calls.walked = False
            return
        edges = edges_to(outputs, inputs, most)
        self._walked += most if edges is None else len(edges)
        calls.walked = edges is not None
        calls.edges |= edges or set()
        calls.passed += len(edges or ())

    def _print_of(self, gradient: Any) -> Any:
        """What comes in, as a number where all of it is that (ones, mostly); else who it is. On a
        device nobody asks, since that would wait for it."""
        if gradient is None:
            return 1.0
        if not gradient.is_cpu:
            return tuple(gradient.shape)
        plain = gradient.is_floating_point() and not gradient.is_sparse
        if plain and 0 < gradient.numel() <= _MOST_NUMBERS:
            low, high = gradient.detach().aminmax()
            if low == high:
                return float(low)
        known = self._tokens.get(id(gradient))
        if known is None or known[0]() is not gradient:
            known = self._tokens[id(gradient)] = weakref.ref(gradient), object()
        return known[1], gradient._version

    # -- what is found -----------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Seconds a step in such calls, what would be left of them, and where they are made;
        nothing where too few steps were seen."""
        seen = list(self._steps.values())
        if len(seen) < _FEWEST:
            return {}
        found = [one for of_step in seen for one in of_step]
        sets = [made for alike in _alike(seen) if (made := self._together(alike)) is not None]
        if not sets:  # of what could be one call, nothing may be known
            return {} if sum(map(bool, seen)) >= _FEWEST else {"one_by_one_s": 0.0}
        return _added_up(sets, len(seen), sum(map(bool, seen))) | _where(found)

    def _together(self, alike: Sequence[_Found]) -> _Set | None:
        """What is known of the same calls in several steps; None where that is too little.

        Each call's time is the median over the steps, since a single one may have been held up.
        """
        told = [one.part for one in alike if one.part is not None]
        times = [took for one in alike if (took := self._times(one)) is not None]
        if not told or len(times) < _FEWEST:
            return None
        usual_s = [statistics.median(one) for one in zip(*times, strict=True)]
        spent_s, part = sum(usual_s), statistics.median(told)
        if spent_s <= 0:
            return None
        left_s = max(*usual_s, part * spent_s)
        created_s = spent_s - left_s if alike[0].created else 0.0
        return _Set(spent_s, left_s, max(usual_s), created_s, len(usual_s), len(times))

    def _times(self, found: _Found) -> list[float] | None:
        took = [self._marks.seconds(*span) for span in found.spans]
        times = [seconds for seconds in took if seconds is not None]
        return times if len(times) == len(took) else None


def _alike(seen: Sequence[Sequence[_Found]]) -> list[list[_Found]]:
    """The same calls of several steps: of one kind, and of those the first, the second …"""
    sets: dict[Any, list[_Found]] = {}
    for of_step in seen:
        count = Counter[Any]()
        for one in of_step:
            sets.setdefault((one.kind, count[one.kind]), []).append(one)
            count[one.kind] += 1
    return list(sets.values())


def _added_up(sets: Sequence[_Set], seen: int, having: int) -> dict[str, Any]:
    """All such calls of a step, of which `seen` were seen, and `having` had any."""

    def total(name: str) -> float:
        return float(sum(getattr(one, name) * one.steps for one in sets))

    spent_s, gone_s = total("spent_s"), total("spent_s") - total("left_s")
    return {
        "one_by_one_s": spent_s / seen,
        "one_by_one_left": total("left_s") / spent_s,
        "one_by_one_least": total("least_s") / spent_s,
        "one_by_one_created": total("created_s") / gone_s if gone_s > 0 else 0.0,
        "one_by_one_calls": round(total("calls") / having),
        "one_by_one_outputs": max(1, round(sum(one.steps for one in sets) / having)),
    }


def _where(found: Sequence[_Found]) -> dict[str, Any]:
    """The line that makes most of the calls, and the function that it is in."""
    places = Counter(place for one in found for place in one.places)
    at, _, function = places.most_common(1)[0][0].partition(" ")
    return {"one_by_one_at": at, "one_by_one_in": function}


def place_of(frame: FrameType) -> str:
    """Such as "train.py:89 Architect.step"."""
    code = frame.f_code
    name = getattr(code, "co_qualname", code.co_name).rpartition("<locals>.")[2]
    return f"{PurePath(code.co_filename).name}:{frame.f_lineno} {name}"


def _is_torch(frame: FrameType) -> bool:
    """Whether it is torch that asks, as its pipelines and its functional Jacobians do."""
    return frame.f_code.co_filename.startswith(tuple(sys.modules["torch"].__path__))


def asked_for(args: Sequence[Any], kwargs: Mapping[str, Any], frame: FrameType) -> Asked | None:
    """What a call from there is asked for; None of one of torch's own, of one that cannot be put
    together with others, and where there are no plain tensors."""
    if _is_torch(frame):
        return None
    given = {**dict(zip(_NAMES, args, strict=False)), **kwargs}
    outputs, inputs = _listed(given.get("outputs")), _listed(given.get("inputs"))
    if given.get("is_grads_batched") or not outputs or not inputs:
        return None
    if not all(getattr(tensor, "grad_fn", None) is not None for tensor in outputs):
        return None
    if not all(getattr(tensor, "requires_grad", False) is True for tensor in inputs):
        return None
    coming_in = _listed(given.get("grad_outputs"))
    return Asked(outputs, inputs, coming_in, bool(given.get("create_graph")))


def _listed(tensors: Any) -> Sequence[Any]:
    if tensors is None:
        return ()
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]
