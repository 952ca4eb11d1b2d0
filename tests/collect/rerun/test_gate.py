"""A script is held between two steps, and does there what another thread asks for."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import ClassVar

import pytest

from perfdoctor.collect.rerun.gate import ScriptEndedError, StepGate


class Script:
    """Makes steps of one second each by a clock that only it moves, until the gate says stop."""

    made_here: ClassVar[list[Script]] = []

    def __init__(self, steps: int, queued: float = 0.0) -> None:
        self.now, self.made = 0.0, 0
        self.queued, self.later = 0.0, queued
        self.gate = StepGate(lambda: self.now, self.settle)
        self.thread = threading.Thread(target=self._run, args=(steps,), daemon=True)
        self.thread.start()
        self.made_here.append(self)

    def _run(self, steps: int) -> None:
        for count in range(1, steps + 1):
            self.now += 1.0
            self.made = count
            self.queued += self.later
            self.gate.passed(count)
        self.gate.end("finished")

    def settle(self) -> None:
        self.now, self.queued = self.now + self.queued, 0.0


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    for script in Script.made_here:
        while script.thread.is_alive():
            with suppress(ScriptEndedError):
                script.gate.run(1)
    Script.made_here.clear()


def test_it_stands_still_after_its_first_step():
    script = Script(5)
    script.gate.wait_until_held()
    assert script.made == 1


def test_it_makes_as_many_steps_as_asked_for_and_tells_their_seconds():
    script = Script(10)
    assert script.gate.run(3) == [1.0, 1.0, 1.0]
    assert script.made == 4
    assert script.gate.run(2) == [1.0, 1.0]


def test_the_pause_does_not_count():
    script = Script(10)
    script.gate.wait_until_held()
    script.now += 100.0
    assert script.gate.run(2) == [1.0, 1.0]


def test_what_a_device_has_still_to_do_belongs_to_the_steps_that_asked_for_it():
    script = Script(20, queued=0.5)
    assert script.gate.run(4) == [1.5] * 4
    script.later = 0.0
    assert script.gate.run(2) == [1.0, 1.0]


def test_what_was_queued_between_the_steps_is_no_part_of_them():
    script = Script(20)

    def switched():
        script.queued += 10.0

    script.gate.call(switched)
    assert script.gate.run(2) == [1.0, 1.0]
    assert script.now == 13.0


def test_what_is_asked_for_runs_in_the_scripts_thread():
    script = Script(5)
    assert script.gate.call(threading.get_ident) == script.thread.ident
    assert script.gate.run(1) == [1.0]


def test_what_fails_there_fails_here_and_the_script_goes_on():
    script = Script(5)
    with pytest.raises(ZeroDivisionError):
        script.gate.call(lambda: 1 / 0)
    assert script.gate.run(1) == [1.0]


def test_a_script_that_ends_says_so():
    script = Script(3)
    with pytest.raises(ScriptEndedError, match=r"the script ended \(finished\)"):
        script.gate.run(5)
    with pytest.raises(ScriptEndedError):
        script.gate.call(lambda: None)


def test_it_knows_whether_it_is_about_to_hold():
    gate = StepGate(lambda: 0.0)
    assert gate.will_hold
