"""Gradients of single elements of one tensor, as of the losses of a batch's samples, that
`torch.autograd.grad` is asked for in a loop.

Each call goes through the graph of the whole batch for one sample. In the first steps such calls
are timed: with one element of the same tensor each, for the same inputs.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from perfdoctor.collect.script.graph_edges import numbered
from perfdoctor.collect.script.marks import Marks
from perfdoctor.collect.script.one_by_one import asked_for, place_of
from perfdoctor.collect.script.recorder import Recorder

#: Steps that are looked at, of which fewer than so many say nothing.
_FIRST, _BEYOND, _FEWEST = 1, 30, 3
#: Fewer are losses of tasks or classes, which each need a pass of their own.
_FEWEST_CALLS = 8
#: What takes one element of a tensor.
_ELEMENT = {"SelectBackward0", "UnbindBackward0", "IndexBackward0"}

_Span = tuple[Any, Any]


class SampleGradients:
    """Looks for such calls."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder, self._marks = recorder, Marks(recorder)
        self._steps: dict[int, dict[Any, list[_Span]]] = {}
        self._places: Counter[str] = Counter()
        self._running: list[_Span] | None = None
        self._began: Any = None

    def begins(self, args: Sequence[Any], kwargs: Mapping[str, Any], frame: FrameType) -> None:
        """A call of `torch.autograd.grad` from this frame is about to begin."""
        self._running, step = None, self._recorder.count
        if not _FIRST <= step < _BEYOND:
            return
        groups = self._steps.setdefault(step, {})
        asked = asked_for(args, kwargs, frame)
        if asked is None or asked.created or not self._marks.can_time(asked.outputs):
            return
        tensor = _whole_of(asked.outputs)
        if tensor is not None:
            self._running = groups.setdefault((tensor, *map(id, asked.inputs)), [])
            self._places[place_of(frame)] += 1
            self._began = self._marks.now()

    def ends(self) -> None:
        """It is done, or failed."""
        if self._running is not None:
            self._running.append((self._began, self._marks.now()))
        self._running = self._began = None

    def settings(self) -> dict[str, Any]:
        """As configuration: seconds a step in such calls, how many they are, and where they are
        made; empty where too few steps were seen."""
        if len(self._steps) < _FEWEST:
            return {}
        spans = [_many(groups) for groups in self._steps.values()]
        times = [[self._marks.seconds(*span) for span in one] for one in spans]
        told = [[s for s in one if s is not None] for one in times if None not in one]
        if len(told) < _FEWEST:
            return {}
        usual_s = statistics.median(map(sum, told))
        if not usual_s:
            return {"sample_gradients_s": 0.0}
        at, _, function = self._places.most_common(1)[0][0].partition(" ")
        return {
            "sample_gradients_s": usual_s,
            "sample_gradients_calls": round(statistics.median(map(len, told))),
            "sample_gradients_at": at,
            "sample_gradients_in": function,
        }


def _whole_of(outputs: Sequence[Any]) -> Any:
    """What tells the tensor that the only output is an element of; None of any other."""
    if len(outputs) != 1 or outputs[0].numel() != 1:
        return None
    node = outputs[0].grad_fn
    below = node.next_functions[0][0] if type(node).__name__ in _ELEMENT else None
    return None if below is None else numbered(below)


def _many(groups: Mapping[Any, list[_Span]]) -> list[_Span]:
    return [span for spans in groups.values() if len(spans) >= _FEWEST_CALLS for span in spans]
