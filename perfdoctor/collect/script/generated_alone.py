"""Whether transformers' `generate` is called for one sample at a time, in validation.

The model's own calls do not tell: with beams it is given several rows for one sample, and with a
cache one position after the other. What `generate` was given does.
"""

from __future__ import annotations

from collections.abc import Collection
from types import FrameType
from typing import Any

from perfdoctor.collect.script.call_places import Path, named, path_of, where
from perfdoctor.collect.script.fed_back import loop_over_samples
from perfdoctor.collect.script.loop_finder import LoopFacts

#: Frames between `generate` and a call of the model, its decorators included.
_DEEPEST = 12
#: Where it is, and what it may be given by name.
_FILE, _FUNCTION = "transformers/generation/", "generate"
_NAMED = ("input_ids", "inputs_embeds", "input_features", "pixel_values", "attention_mask")
#: Calls of the model that are no chance.
_FEWEST = 8


class GeneratedAlone:
    """The calls of a model that such calls of `generate` make, and what lies between them."""

    def __init__(self) -> None:
        self._calls = self._spent_ns = self._began = 0
        self._until: int | None = None
        self._running = False
        self._path: Path | None = None

    def begins(self, frame: FrameType, now: int) -> None:
        """A model is called from this frame."""
        generate = _generate(frame)
        self._running = generate is not None and _samples(generate) == 1
        if generate is None or not self._running:
            self._until = None
            return
        self._began = now if self._until is None else self._until
        if self._path is None:
            self._path = path_of(generate.f_back)

    def ends(self, now: int) -> None:
        """It has returned."""
        if self._running:
            self._running, self._until = False, now
            self._calls += 1
            self._spent_ns += now - self._began

    def pause(self) -> None:
        """What comes next is of another validation, or not looked at."""
        self._running, self._until = False, None

    def settings(
        self, trainings: Collection[LoopFacts], calls: int, seen_ns: int, batch: int | None
    ) -> dict[str, Any]:
        """As those of calls on one sample (`ValidationCalls`), of so many calls and nanoseconds
        that were seen; empty where most of it is something else, or no loop over samples."""
        if self._calls < _FEWEST or 2 * self._spent_ns < seen_ns or not self._path or not batch:
            return {}
        spot = loop_over_samples(self._path, trainings)
        if spot is None:
            return {}
        return {
            "alone_generates": True,
            "alone_calls": self._calls,
            "alone_of_calls": self._calls / calls,
            "alone_batch": batch,
            "alone_of_validation": min(1.0, self._spent_ns / seen_ns),
            "alone_s": self._spent_ns / self._calls * 1e-9,
            **where("alone", [named(spot, self._path)]),
        }


def _generate(frame: FrameType | None) -> FrameType | None:
    for _ in range(_DEEPEST):
        if frame is None:
            return None
        code = frame.f_code
        if code.co_name == _FUNCTION and _FILE in code.co_filename.replace("\\", "/"):
            return frame
        frame = frame.f_back
    return None


def _samples(generate: FrameType) -> int | None:
    """How many it was given; None where that is not known."""
    given = generate.f_locals
    by_name = given.get("kwargs") or {}
    first = [given.get("inputs"), *(by_name.get(name) for name in _NAMED)]
    shapes = (tuple(getattr(one, "shape", ())) for one in first if one is not None)
    return next((int(shape[0]) for shape in shapes if shape), None)
