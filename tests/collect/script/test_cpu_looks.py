"""Looks by processor time: what they see, and that the script cannot be harmed by them."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from perfdoctor.collect.script.cpu_looks import CpuLooks
from perfdoctor.collect.script.sampler import StackSampler
from perfdoctor.collect.script.waits import Waits

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="timers of Linux")

TEXT = "some words and numbers 12345 and more of them " * 8
PATTERN = re.compile(r"[\w.]+@[\w.]+")


@pytest.fixture
def looks() -> Iterator[CpuLooks]:
    made = CpuLooks(lambda: 7, lambda path: True, 0.002)
    yield made
    made.stop()


def holds_the_lock() -> None:
    PATTERN.sub("", TEXT)


def releases_the_lock() -> None:
    torch.tensor([1, 2, 3, 4, 5, 6, 7, 8, 9])


def burn(seconds: float) -> float:
    """Computes so long; the share of it that `holds_the_lock` took."""
    began = now = time.thread_time()
    held = 0.0
    while now < began + seconds:
        holds_the_lock()
        between = time.thread_time()
        releases_the_lock()
        held += between - now
        now = time.thread_time()
    return held / (now - began)


def seen(looks: CpuLooks, function: str) -> float:
    total = sum(s.seconds for s in looks.snapshot())
    inside = [s for s in looks.snapshot() if function in {frame.name for frame in s.stack}]
    return sum(s.seconds for s in inside) / total


def test_calls_that_keep_the_interpreter_s_lock_are_seen_as_often_as_they_compute(
    looks: CpuLooks,
) -> None:
    assert looks.start()
    share = burn(1.0)
    looks.stop()
    assert {s.label for s in looks.snapshot()} == {7}
    assert sum(s.count for s in looks.snapshot()) > 8  # ticks of 10 ms
    assert seen(looks, "holds_the_lock") == pytest.approx(share, abs=0.25)


def test_all_the_processor_time_is_accounted_for(looks: CpuLooks) -> None:
    began = time.thread_time()
    assert looks.start()
    burn(0.2)
    used = time.thread_time() - began
    assert used / 2 < looks.seconds <= used
    looks.stretch = 3.0
    before = sum(s.seconds for s in looks.snapshot())
    looks.look(sys._getframe())
    assert sum(s.seconds for s in looks.snapshot()) > before


def test_a_script_that_handles_the_signal_keeps_it(looks: CpuLooks) -> None:
    def own(number: int, frame: Any) -> None:
        """The script's."""

    before = signal.signal(signal.SIGURG, own)
    try:
        assert not looks.start()
        assert signal.getsignal(signal.SIGURG) is own
    finally:
        signal.signal(signal.SIGURG, before)


def test_a_script_that_takes_the_signal_later_is_not_robbed_of_it(looks: CpuLooks) -> None:
    def own(number: int, frame: Any) -> None:
        """The script's."""

    assert looks.start()
    signal.signal(signal.SIGURG, own)
    looks.stop()
    try:
        assert signal.getsignal(signal.SIGURG) is own
    finally:
        signal.signal(signal.SIGURG, signal.SIG_DFL)


def test_afterwards_all_is_as_it_was(looks: CpuLooks) -> None:
    assert looks.start()
    burn(0.05)
    looks.stop()
    count = sum(s.count for s in looks.snapshot())
    assert signal.getsignal(signal.SIGURG) == signal.SIG_DFL
    os.kill(os.getpid(), signal.SIGURG)
    burn(0.05)
    assert sum(s.count for s in looks.snapshot()) == count > 0


def test_what_fails_in_a_look_ends_the_looks_and_not_the_script() -> None:
    def broken() -> int:
        raise ValueError("no label")

    looks = CpuLooks(broken, lambda path: True, 0.002)
    assert looks.start()
    burn(0.1)
    assert not looks.active
    assert looks.snapshot() == []


def test_only_the_main_thread_can_be_looked_at_so(looks: CpuLooks) -> None:
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(looks.start()))
    thread.start()
    thread.join()
    assert answers == [False]


def test_a_forked_child_is_not_looked_at_and_can_end_them(looks: CpuLooks) -> None:
    assert looks.start()
    child = os.fork()
    if child == 0:
        burn(0.05)
        fine = not looks.active and looks.stop() is None
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert looks.active


class Clocks(Waits):
    """(processor seconds, seconds without a core) as told."""

    def __init__(self, *readings: tuple[float, float]) -> None:
        super().__init__(0)
        self._readings = list(readings)

    woken = 0.0

    def _read(self) -> tuple[float, float] | None:
        return self._readings.pop(0)

    def _woken(self) -> float:
        return self.woken


def test_a_wait_is_what_is_neither_computing_nor_without_a_core(looks: CpuLooks) -> None:
    clocks = Clocks((0.0, 0.0), (0.2, 0.1), (0.2, 0.1))
    assert clocks.since_last(1.0, looks) == 0.0
    assert clocks.since_last(1.0, looks) == pytest.approx(0.7)
    assert looks.stretch == pytest.approx(1.5)
    assert clocks.since_last(1.0, looks) == pytest.approx(1.0)


def test_waiting_for_a_core_after_a_wait_belongs_to_the_wait(looks: CpuLooks) -> None:
    clocks = Clocks((0.0, 0.0), (0.2, 0.4), (0.4, 0.44))
    clocks.woken = 0.75
    clocks.since_last(1.0, looks)
    assert clocks.since_last(1.0, looks) == pytest.approx(0.4 + 0.3)
    assert looks.stretch == pytest.approx(1 + 0.1 / 0.2)
    assert clocks.since_last(1.0, looks) == pytest.approx(0.76)  # too little to ask for it


def test_who_gave_a_core_up_is_told_from_who_lost_it(tmp_path: Any) -> None:
    waits = Waits(0)
    waits._switches = tmp_path / "status"
    assert waits._woken() == 0.0
    waits._switches.write_text("voluntary_ctxt_switches:\t10\nnonvoluntary_ctxt_switches:\t10\n")
    waits._woken()
    waits._switches.write_text("voluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t20\n")
    assert waits._woken() == pytest.approx(0.75)


def test_looks_that_nobody_answers_are_ended(looks: CpuLooks) -> None:
    assert looks.start()
    clocks = Clocks((0.0, 0.0), (50.0, 0.0), (100.0, 0.0))
    for _ in range(2):
        clocks.since_last(60.0, looks)
    assert looks.active
    clocks.since_last(60.0, looks)
    assert not looks.active


@pytest.mark.parametrize("state", ["S", "D", "R"])
def test_a_thread_stands_still_unless_it_runs(state: str, tmp_path: Any) -> None:
    waits = Waits(0)
    waits._state = tmp_path / "42" / "stat"
    waits._state.parent.mkdir()
    waits._state.write_text(f"42 (py) R) {state} 1 1 0")
    assert waits.still() is (state != "R")
    waits.close()


def test_a_file_that_the_script_opens_in_place_of_ours_stays_open(tmp_path: Any) -> None:
    waits = Waits(0)
    waits.still()
    ours = waits._state_file
    assert ours is not None
    other = os.open(tmp_path / "own", os.O_RDWR | os.O_CREAT)
    os.dup2(other, ours)
    assert waits.still()
    waits.close()
    os.fstat(ours)
    os.close(ours)
    os.close(other)


def test_afterwards_no_file_is_open() -> None:
    waits = Waits(0)
    waits.still()
    ours = waits._state_file
    assert ours is not None
    waits.close()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(ours)


class Told(Waits):
    """Each second half a second of waiting; whether it stands still as told."""

    def __init__(self, *still: Callable[[], bool]) -> None:
        super().__init__(0)
        self._told = list(still)

    def since_last(self, wall_s: float, looks: CpuLooks) -> float:
        return wall_s / 2

    def still(self) -> bool:
        return self._told.pop(0)()


def computes(ready: threading.Event, leave: threading.Event) -> None:
    ready.set()
    leave.wait()


def waits_for_a_file(ready: threading.Event, leave: threading.Event) -> None:
    ready.set()
    leave.wait()


@pytest.fixture
def threads() -> Iterator[tuple[int, int]]:
    """One that stays in `computes`, one in `waits_for_a_file`."""
    leave, started = threading.Event(), []
    for function in (computes, waits_for_a_file):
        ready = threading.Event()
        started.append(threading.Thread(target=function, args=(ready, leave)))
        started[-1].start()
        assert ready.wait(10)
    yield started[0].ident or 0, started[1].ident or 0
    leave.set()
    for thread in started:
        thread.join()


def waited(sampler: StackSampler) -> dict[str, float]:
    """Seconds by function, of the looks of the other thread."""
    names = ("computes", "waits_for_a_file")
    seen = [(name, s) for s in sampler.snapshot() for name in names]
    return {name: s.seconds for name, s in seen if name in {frame.name for frame in s.stack}}


def test_short_waits_count_where_a_look_met_one_and_not_where_the_thread_computes(
    looks: CpuLooks, threads: tuple[int, int]
) -> None:
    now = iter(range(10))
    clock = lambda: float(next(now))  # noqa: E731
    sampler = StackSampler(lambda: 0, threads[0], clock=clock, interval_s=1.0)
    sampler._cpu_looks = looks
    assert looks.start()

    def goes_on() -> bool:
        sampler._thread_id = threads[1]
        return True

    sampler._waits = Told(lambda: False, goes_on, lambda: True, lambda: False)
    sampler.once()
    sampler.once()
    assert waited(sampler) == {}
    sampler.once()
    assert waited(sampler) == {"waits_for_a_file": 1.5}
    sampler._thread_id = threads[0]
    sampler.once()  # what is left over is where the others are
    assert waited(sampler) == {"waits_for_a_file": 2.0}
