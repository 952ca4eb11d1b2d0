"""Architecture steps that are made less often: calls of the user's function that makes them.

Where a call is left out, the result is that of the last one that was made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import Any

from perfdoctor.collect.rerun.functions import (
    LastResults,
    Place,
    called_by,
    callers,
    functions_at,
    not_left_out,
    place_of,
)
from perfdoctor.collect.rerun.habits import Habit
from perfdoctor.errors import PerfdoctorError

#: Steps of the training whose callers are noted.
_NOTED_STEPS = 10


class Searching:
    """The architecture's steps.

    `places` tells the functions that make them, as far as they are known, and `period` the training
    steps from one to the next.
    """

    def __init__(
        self, habit: Habit, places: Callable[[], set[Place]], period: Callable[[], int | None]
    ) -> None:
        self._habit, self._places, self._now = habit, places, period
        self.period: int | None = None  # before anything was left out
        self.around: set[Place] = set()  # functions that the training's own step is made in
        self._noted = self._passes = 0
        self._called = self._elsewhere = False
        self._results = LastResults()

    def install(self, torch: Any) -> None:
        """Counts the passes backward, which have to be a part of what is left out."""
        for name in ("backward", "grad"):
            setattr(torch.autograd, name, self._counted(getattr(torch.autograd, name)))

    def _counted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self._passes += 1
            return original(*args, **kwargs)

        return counted

    def trains(self) -> None:
        """The training's own optimizer makes a step."""
        if self._noted >= _NOTED_STEPS:
            return
        self._noted += 1
        self.around |= {place_of(frame.f_code) for frame in callers()}

    @contextmanager
    def one_in(self, every: int) -> Iterator[None]:
        """An architecture step in so many training steps; 0: none."""
        functions = self._functions()
        self.period = self.period or self._now() or 1
        self._called = self._elsewhere = False
        with ExitStack() as stack:
            times = max(1, round(every / self.period)) if every else 0
            stack.enter_context(self._habit.one_in(times))
            for function in functions:
                stack.enter_context(called_by(function, self._sometimes))
            yield

    def check(self) -> None:
        """After some steps.

        Raises:
            PerfdoctorError: what was left out is not the whole of an architecture step.
        """
        if not self._habit.rarer:
            return
        if not self._called:
            raise _not_apart("its function is made anew each time")
        if self._elsewhere:
            raise _not_apart("its gradients are computed elsewhere than its update")

    def _functions(self) -> list[FunctionType]:
        places = self._places()
        if places & self.around:
            raise _not_apart("it is made in the same function as the training step")
        found = functions_at(places)
        if not found:
            raise _not_apart("no function that makes it is known")
        return found

    def _sometimes(self, function: FunctionType, *args: Any, **kwargs: Any) -> Any:
        place, self._called = place_of(function.__code__), True

        def searches() -> Any:
            passes = self._passes
            result = function(*args, **kwargs)
            self._elsewhere |= passes == self._passes
            return result

        return self._results.of(place, searches, wanted=self._habit.may_happen())


def _not_apart(why: str) -> PerfdoctorError:
    return not_left_out("architecture step", why, "search-not-apart")
