"""Holds the script between two steps, until more of them are asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from perfdoctor.errors import PerfdoctorError


class ScriptEndedError(PerfdoctorError):
    """The script has ended: there are no more steps."""

    def __init__(self, how: str) -> None:
        super().__init__(f"the script ended ({how})", slug="script-ended")


class StepGate:
    """Two threads meet here: the script's, and the one that asks for steps.

    What the asking thread gets done by `call` runs in the script's thread, since much of torch's
    state (threads, autocast) belongs to a thread.

    `settle` waits until a device has done what was asked of it: what the steps have only queued
    until they are over is still theirs, and nothing of it is left for those that follow.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock, self._settle = clock, settle
        self._turn = threading.Condition()
        self._granted = 1
        self._held = False
        self._ended: str | None = None
        self._job: Callable[[], Any] | None = None
        self._results: list[tuple[Any, BaseException | None]] = []
        self._began_s: float | None = None
        self._step_s: list[float] = []

    # -- the script's thread -----------------------------------------------------------------

    @property
    def held(self) -> bool:
        """Whether the script stands still."""
        return self._held

    @property
    def will_hold(self) -> bool:
        """Whether the step that ends now is the last one granted."""
        return self._granted <= 1

    def passed(self, count: int) -> int:
        """A step has ended; returns the next one to be told of. Waits where no more are granted."""
        now = self._clock()
        if self._began_s is not None:
            self._step_s.append(now - self._began_s)
        self._granted -= 1
        if self._granted <= 0:
            self._share_out(now)
            self._wait()
            self._settle()  # a change of modes may have queued something
        self._began_s = self._clock()
        return count + 1

    def _share_out(self, ended_s: float) -> None:
        """Each of the steps gets its part of what the device has still to do."""
        self._settle()
        more_s = (self._clock() - ended_s) / max(1, len(self._step_s))
        self._step_s = [step_s + more_s for step_s in self._step_s]

    def _wait(self) -> None:
        with self._turn:
            self._held = True
            self._turn.notify_all()
            while self._granted <= 0:
                if self._job is not None and not self._results:
                    self._results.append(_outcome(self._job))
                    self._turn.notify_all()
                self._turn.wait()
            self._held = False

    def end(self, how: str) -> None:
        """There will be no more steps."""
        with self._turn:
            self._ended = how
            self._turn.notify_all()

    # -- the asking thread -------------------------------------------------------------------

    def wait_until_held(self) -> None:
        """Until the script stands between two steps.

        Raises:
            ScriptEndedError: it has ended instead.
        """
        with self._turn:
            self._turn.wait_for(lambda: self._held or self._ended is not None)
            if not self._held:
                raise ScriptEndedError(str(self._ended))

    def run(self, steps: int) -> list[float]:
        """Lets it make these steps and gives their seconds, from one step's end to the next's.

        Raises:
            ScriptEndedError: it ended within them.
        """
        self.wait_until_held()
        with self._turn:
            self._step_s = []
            self._granted = steps
            self._held = False
            self._turn.notify_all()
        self.wait_until_held()
        return self._step_s

    def call(self, job: Callable[[], Any]) -> Any:
        """Gets something done in the script's thread, between two steps.

        Raises:
            ScriptEndedError: it has ended. Whatever `job` raises.
        """
        self.wait_until_held()
        with self._turn:
            self._job, self._results = job, []
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._results)
            (value, error), self._job = self._results.pop(), None
        if error is not None:
            raise error
        return value


def _outcome(job: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return job(), None
    except Exception as error:  # torch's, or of the user's model: the asking thread raises it
        return None, error
