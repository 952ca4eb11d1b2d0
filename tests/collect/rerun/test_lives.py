"""How often a script is begun again, and after what; its processes are made up."""

from __future__ import annotations

import time

import pytest

from perfdoctor.collect.arm import NO_TIME, Arm
from perfdoctor.collect.rerun.arm import ScriptArm, ScriptSpec
from perfdoctor.errors import PerfdoctorError

BY_ITSELF, RAISES = "the script ended (by itself)", "the script ended (with an exception)"


class Processes:
    """All that were begun; `ends` tells how the script ends in a mode (None: it goes on)."""

    def __init__(self, monkeypatch):
        self.begun, self.ends, self.asked = [], {}, []
        self._over = None
        monkeypatch.setattr(Arm, "__init__", lambda arm, spec: self._begin(arm, spec))
        monkeypatch.setattr(Arm, "ask", lambda arm, what, **given: self._ask(arm, what, given))
        monkeypatch.setattr(Arm, "close", lambda arm: None)

    def _begin(self, arm, spec):
        arm.spec, self._over = spec, None
        self.begun.append(spec.workload["prolonged"])

    def _ask(self, arm, what, given):
        self.asked.append(what)
        mode = given.get("mode")
        arm.trying = mode if what in ("warm", "chunk") else None
        if what == "warm" and mode is not None and mode not in arm.spec.modes:
            raise PerfdoctorError(f"KeyError: {mode}", slug="user-code")
        if what == "chunk":
            self._over = self._over or self.ends.get(mode)
        if self._over is not None and what in ("chunk", "warm", "facts", "forget"):
            raise PerfdoctorError(self._over, slug="script-ended")
        return {}


@pytest.fixture
def processes(monkeypatch):
    return Processes(monkeypatch)


@pytest.fixture
def arm(processes):
    made = ScriptArm(ScriptSpec(workload={"prolonged": False}))
    made.add_mode("trial", {"threads": 1})
    return made


def failed(arm, mode="trial"):
    with pytest.raises(PerfdoctorError) as caught:
        arm.ask("chunk", steps=4, mode=mode)
    return caught.value.slug


def test_a_mode_that_the_script_cannot_bear_takes_nothing_with_it(arm, processes):
    processes.ends["trial"] = RAISES
    assert failed(arm) == "script-failed"
    lives = len(processes.begun)
    arm.forget("trial")
    assert len(processes.begun) == lives and processes.asked[-1] == "chunk"
    arm.ask("chunk", steps=4, mode=None)
    assert len(processes.begun) == lives + 1


def test_a_mode_that_does_not_fit_in_memory_says_so_at_once(arm, processes):
    processes.ends["trial"] = f"{RAISES}: OutOfMemoryError: CUDA out of memory."
    assert failed(arm) == "out-of-memory"
    assert len(processes.begun) == 1 and arm.trying == "trial"
    processes.ends = {None: processes.ends["trial"]}
    assert failed(arm, None) == "script-too-short"


def test_what_a_mode_does_to_the_script_says_nothing_of_prolonged_epochs(arm, processes):
    processes.ends[None] = BY_ITSELF
    assert failed(arm, None) == "script-too-short"
    assert processes.begun == [False, True, True]
    processes.ends = {"trial": RAISES}
    assert failed(arm) == "script-failed"
    arm.ask("chunk", steps=4, mode=None)
    assert processes.begun[-1] is True


def test_a_script_that_cannot_bear_prolonged_epochs_gets_no_more_of_them(arm, processes):
    processes.ends[None] = BY_ITSELF
    assert failed(arm, None) == "script-too-short"
    processes.ends[None] = RAISES
    assert failed(arm, None) == "script-too-short"
    assert processes.begun[-1] is False


def test_what_has_ended_is_not_begun_again_too_late_and_forgets_all_the_same(arm, processes):
    processes.ends["trial"] = BY_ITSELF
    arm.begins_until_s = time.perf_counter() - 1
    assert failed(arm) == NO_TIME
    arm.forget("trial")
    assert processes.begun == [False]
    assert failed(arm, None) == NO_TIME


def test_a_script_is_begun_again_in_a_mode_only_where_it_is_there(arm, processes):
    processes.ends["unknown"] = RAISES
    assert failed(arm, "unknown") == "script-failed"
