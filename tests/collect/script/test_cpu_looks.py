"""Looks by processor time: what they see, and that the script cannot be harmed by them."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
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
    burn(0.3)
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
    assert clocks.since_last(1.0, looks) == pytest.approx(0.76 + 0.03)


class Proc:
    """The files of a thread under /proc, as written here."""

    def __init__(self, folder: Path) -> None:
        self.number = threading.get_native_id()
        self.tasks, self.of = folder, folder / str(self.number)
        self.of.mkdir()
        self.waits(0)

    def state(self, state: str) -> None:
        (self.of / "stat").write_text(f"{self.number} (py) R) {state} 1 1 0")

    def waits(self, count: int) -> None:
        counts = f"voluntary_ctxt_switches:\t{count}\nnonvoluntary_ctxt_switches:\t{count // 2}\n"
        (self.of / "status").write_text(f"Name:\tpy\nPid:\t{self.number}\nThreads:\t3\n{counts}")


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_who_gave_a_core_up_is_told_from_who_lost_it(proc: Proc) -> None:
    waits = Waits(0, proc.tasks)
    proc.waits(10)
    waits._woken()
    proc.waits(40)
    assert waits._woken() == pytest.approx(2 / 3)
    assert waits._woken() == 0.0
    waits.close()
    assert waits._woken() == 0.0


def test_what_went_before_the_first_look_is_no_part_of_the_next_one(
    proc: Proc, looks: CpuLooks
) -> None:
    waits = Waits(threading.get_ident(), proc.tasks)
    waits._queued = Queued(0.0, 0.5, 1.0)  # type: ignore[assignment]
    proc.waits(1000)
    waits.since_last(1.0, looks)
    waits.since_last(1.0, looks)  # no switches: nothing tells where the core was waited for
    assert waits._after_waits_s == 0.0
    proc.waits(1002)
    waits.since_last(1.0, looks)
    assert waits._after_waits_s == pytest.approx(0.5 * 2 / 3)
    waits.close()


class Queued:
    """Seconds without a core, as told."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = list(seconds)

    def read(self) -> tuple[bytes, ...]:
        return (str(int(self._seconds.pop(0) * 1e9)).encode(),)

    def close(self) -> None:
        pass


def test_looks_that_nobody_answers_are_ended(looks: CpuLooks) -> None:
    assert looks.start()
    clocks = Clocks((0.0, 0.0), (50.0, 0.0), (100.0, 0.0))
    for _ in range(2):
        clocks.since_last(60.0, looks)
    assert looks.active
    clocks.since_last(60.0, looks)
    assert not looks.active


@pytest.mark.parametrize("state", ["S", "D", "R"])
def test_a_thread_stands_still_unless_it_runs(state: str, proc: Proc) -> None:
    proc.state(state)
    waits = Waits(0, proc.tasks)
    assert waits.still() is (state != "R")
    waits.close()


def opened(waits: Waits) -> list[int]:
    """The files that it holds open, once all were read."""
    waits.still()
    waits._read()
    waits._woken()
    files = [kept._file for kept in (waits._state, waits._queued, waits._switches)]
    return [file for file in files if file is not None]


def test_files_that_the_script_opens_in_place_of_ours_stay_open(tmp_path: Path) -> None:
    waits = Waits(threading.get_ident())
    ours = opened(waits)
    assert ours
    (tmp_path / "own").write_text("1 2 3")
    other = os.open(tmp_path / "own", os.O_RDWR)
    for file in ours:
        os.dup2(other, file)
    assert waits.still()
    assert waits._woken() == 0.0
    waits.close()
    for file in (*ours, other):
        os.close(file)


def test_afterwards_no_file_is_open() -> None:
    waits = Waits(threading.get_ident())
    ours = opened(waits)
    assert ours
    assert opened(waits) == ours
    waits.close()
    waits.still()
    for file in ours:
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(file)


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


class Reading(Told):
    """While it is asked, the thread goes on."""

    def __init__(self, goes_on: Callable[[], bool]) -> None:
        super().__init__(goes_on)
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Batch:
    """A local of the training."""


def test_what_the_thread_lets_go_of_while_the_clocks_are_read_is_freed_there(
    looks: CpuLooks,
) -> None:
    ready, leave, held = threading.Event(), threading.Event(), list[Any]()

    def trains() -> None:
        batch = Batch()
        held.append(weakref.ref(batch))
        computes(ready, leave)

    def goes_on() -> bool:
        leave.set()
        thread.join()
        held.append(held[0]() is None)
        return True

    thread = threading.Thread(target=trains)
    thread.start()
    assert ready.wait(10)
    sampler = StackSampler(lambda: 0, thread.ident or 0)
    sampler._cpu_looks, sampler._waits = looks, Reading(goes_on)
    assert looks.start()
    gc.disable()
    try:
        sampler.once()
    finally:
        gc.enable()
    assert held[1]
    assert waited(sampler) == {}


def test_files_that_a_look_may_be_reading_stay_open(threads: tuple[int, int]) -> None:
    reads, leave = threading.Event(), threading.Event()

    def slow() -> None:
        reads.set()
        leave.wait(10)

    options: Any = {"interval_s": 0.001, "short_turns": False, "on_tick": [(0.0, slow)]}
    sampler = StackSampler(lambda: 0, threads[0], **options)
    waits = sampler._waits = Reading(lambda: True)
    sampler.start()
    thread = sampler._thread
    assert thread is not None
    assert reads.wait(10)
    sampler.stop(timeout_s=0.0)
    assert not waits.closed
    leave.set()
    thread.join(10)


def test_afterwards_they_are_closed(threads: tuple[int, int]) -> None:
    sampler = StackSampler(lambda: 0, threads[0], interval_s=0.001, short_turns=False)
    waits = sampler._waits = Reading(lambda: True)
    sampler.start()
    sampler.stop(timeout_s=10)
    assert waits.closed
