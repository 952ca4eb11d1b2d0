"""Validations that are made less often: calls of the user's function that makes them.

Where a call is left out, the result is that of the last one that was made. A validation that is
part of the training's own function, or that saves as well, gets the first of its batches only: a
script that divides by their number, or joins what they gave, has something to go on with.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType, FunctionType
from typing import Any

from perfdoctor.collect.rerun.functions import (
    LastResults,
    Place,
    called_by,
    callers,
    functions_at,
    is_library,
    not_left_out,
    place_of,
)
from perfdoctor.collect.rerun.habits import Habit
from perfdoctor.errors import PerfdoctorError

#: The latest validations, by which it is known who makes them: a first one may be of another kind.
_NOTED = 3
#: A function that is called more often within one validation is called for each of its batches.
_MOST_CALLS = 4
Chain = tuple[Place, ...]


class Validating:
    """The validations of a script.

    Attributes:
        around: functions that do more than to validate: the training's step is made in them, or
            something is saved.
        has_loader: whether a loader is there that only validates. running: the number of the step,
            or None while the script stands still.
    """

    def __init__(
        self,
        habit: Habit,
        around: Callable[[], set[Place]],
        has_loader: Callable[[], bool],
        running: Callable[[], int | None],
    ) -> None:
        self._habit, self._around = habit, around
        self._has_loader, self._running = has_loader, running
        self._seen: deque[list[Chain]] = deque(maxlen=_NOTED)  # of each who called its parts
        self._frames: list[list[FrameType]] = []  # the same of the present one, innermost first
        self._functions: list[FunctionType] = []
        self._results = LastResults()
        self._calls: Counter[Place] = Counter()
        self._called_at: int | None = None
        self._shortens = self._elsewhere = self._cut = False
        self._depth, self._every = 0, 1
        self._stack: ExitStack | None = None  # of what was changed, while something is

    # -- in the script's thread ----------------------------------------------------------------

    def validates(self) -> None:
        """The model is called to be validated."""
        if self._running() is None:
            return
        wanted = self._habit.may_happen()
        if not self._depth and not wanted:
            self._goes_on_all_the_same()
        if self._running():
            around = self._around()
            inside = itertools.takewhile(lambda f: place_of(f.f_code) not in around, callers())
            self._note(list(inside))

    def _goes_on_all_the_same(self) -> None:
        """Before it is known how to leave it out, it is made; else something was overlooked."""
        self._elsewhere |= bool(self._functions)
        if not self._functions and not self._shortens:
            self._habit.happens()

    def _note(self, frames: list[FrameType]) -> None:
        """What is called again and again within one function is a part of what that does."""
        lasting = {id(frame) for frame in self._frames[-1]} if self._frames else set()
        same = [frame for frame in frames if id(frame) in lasting]
        if same:
            self._frames[-1] = same
        elif len(self._frames) <= _MOST_CALLS:
            self._frames.append(frames)

    def trains(self) -> None:
        """A step of the training: no validation lasts beyond it."""
        if self._frames and not self._cut:
            self._seen.append([tuple(place_of(f.f_code) for f in one) for one in self._frames])
            if self._stack is not None and not self._functions and not self._shortens:
                self._begin(self._stack)
        self._frames, self._cut = [], False  # and what they hold

    def is_short(self, role: str) -> bool:
        """A loop over a loader begins: whether it is to see the first batch only."""
        if not self._shortens or role != "validation" or self._running() is None:
            return False
        cut = not self._habit.may_happen()
        self._cut |= cut
        return cut

    def _sometimes(self, function: FunctionType, *args: Any, **kwargs: Any) -> Any:
        wanted, key = self._habit.may_happen(), self._call_of(place_of(function.__code__))

        def validates() -> Any:
            self._habit.happens()
            self._depth += 1
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= 1

        return self._results.of(key, validates, wanted=wanted)

    def _call_of(self, place: Place) -> tuple[Place, int]:
        """Which call of the function this is within one step: for the validation set, the test set,
        ..."""
        step = self._running()
        if step != self._called_at:
            self._calls.clear()
            self._called_at = step
        self._calls[place] += 1
        return place, self._calls[place]

    def places(self) -> set[Place]:
        """The functions that were seen to make validations."""
        return {place for validation in self._seen for place in self._makers(validation)}

    # -- for trials ----------------------------------------------------------------------------

    @contextmanager
    def one_in(self, every: int) -> Iterator[None]:
        """Every so manieth validation; 0: none.

        Raises:
            PerfdoctorError: it cannot be told from the training.
        """
        with ExitStack() as stack:
            stack.enter_context(self._habit.one_in(every))
            self._stack = stack
            self._every = every
            self._begin(stack)
            try:
                self._look()
                yield
            finally:
                self._stack, self._functions, self._shortens = None, [], False
                self._every = 1

    def check(self) -> None:
        """After some steps.

        Raises:
            PerfdoctorError: what was left out is not all of it, or nothing could be.
        """
        self._look()
        if self._elsewhere:
            self._elsewhere = False
            raise _not_apart("not all of it is in the functions that were seen to make it")
        if self._every > 1 and not self._seen:  # a stretch of steps that has one
            raise _not_apart("none was seen in as many steps as it was observed to come in")

    def _look(self) -> None:
        if self._shortens and self._habit.rarer and not self._has_loader():
            raise _not_apart("it is made in the same function as the training step")

    def _begin(self, stack: ExitStack) -> None:
        """Leaves out functions, or all batches but the first, once a validation was seen."""
        if not self._seen:
            return
        found = [self._makers(validation) for validation in self._seen]
        places = {place for makers in found for place in makers}
        self._functions = functions_at(places) if all(found) else []
        self._shortens = not self._functions
        for function in self._functions:
            stack.enter_context(called_by(function, self._sometimes))

    def _makers(self, validation: Sequence[Chain]) -> set[Place]:
        """The functions that made it; none where a part of it was made by no such function."""
        found = Counter(_outermost(chain, self._around()) for chain in validation)
        if max(found.values()) > _MOST_CALLS:
            return set()
        places = {place for place in found if place is not None}
        return places if len(places) == len(found) else set()


def _outermost(chain: Chain, around: set[Place]) -> Place | None:
    """The function that makes a whole validation and nothing else."""
    found = None
    for place in chain:
        if place in around:
            break
        if not is_library(place[0]):
            found = place
    return found


def _not_apart(why: str) -> PerfdoctorError:
    return not_left_out("validation", why, "validation-not-apart")
