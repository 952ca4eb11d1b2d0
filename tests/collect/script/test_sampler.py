import gc
import os
import random
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from perfdoctor.collect.script import stacks
from perfdoctor.collect.script.sampler import NAME, StackSampler
from perfdoctor.collect.script.stacks import StackTable
from perfdoctor.collect.script.turns import SHORT_S, ShortTurns


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


class Held:
    """A thread that stands still in a function with a local of its own."""

    class Local:
        pass

    def __init__(self):
        self.ready, self.leave = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.outer)
        self.thread.start()
        assert self.ready.wait(10)

    def outer(self):
        local = self.Local()
        self.local = weakref.ref(local)
        self.inner()

    def inner(self):
        self.ready.set()
        self.leave.wait()

    def end(self):
        self.leave.set()
        self.thread.join()


@pytest.fixture
def held():
    thread = Held()
    yield thread
    thread.end()


def quiet(thread_id, **options):
    return StackSampler(lambda: 0, thread_id, short_turns=False, **options)


def test_a_look_sees_the_functions_of_the_other_thread_innermost_first(held):
    sampler = quiet(held.thread.ident)
    sampler.once()
    (sampled,) = sampler.snapshot()
    names = [frame.name for frame in sampled.stack]
    assert names.index("inner") < names.index("outer") < names.index("run")
    outer = next(frame for frame in sampled.stack if frame.name == "outer")
    assert outer.file == __file__
    assert outer.first_line == Held.outer.__code__.co_firstlineno
    assert outer.line == outer.first_line + 3


def test_looks_are_weighed_by_the_time_since_the_last_one_but_no_stop_of_the_process(held):
    clock = Clock()
    label = [3]
    sampler = StackSampler(
        lambda: label[0], held.thread.ident, clock=clock, interval_s=0.02, short_turns=False
    )
    sampler.once()
    clock.now_s += 0.25
    sampler.once()
    label[0] = 4
    clock.now_s += 3600
    sampler.once()
    first, second = sampler.snapshot()
    assert (first.label, first.count, first.seconds) == (3, 2, pytest.approx(0.27))
    assert (second.label, second.count, second.seconds) == (4, 1, pytest.approx(1.02))


def test_no_frame_is_kept_alive():
    held = Held()
    sampler = quiet(held.thread.ident)
    gc.disable()
    try:
        sampler.once()
        held.end()
        assert held.local() is None
    finally:
        gc.enable()


def test_a_thread_that_is_gone_is_not_looked_at():
    sampler = quiet(-1)
    sampler.once()
    assert sampler.snapshot() == []


def test_looking_gets_rarer_where_it_costs_too_much():
    cpu = Clock()
    sampler = quiet(-1, cpu_clock=cpu, interval_s=0.02)
    sampler.resume()
    for _ in range(40):
        cpu.now_s += 0.0007
        sampler.account()
    assert sampler.interval_s == pytest.approx(0.2, rel=1e-3)
    for _ in range(300):
        cpu.now_s += 0.00001
        sampler.account()
    assert sampler.interval_s == 0.02


def test_one_dear_look_between_cheap_ones_does_not_make_them_rarer():
    cpu = Clock()
    sampler = quiet(-1, cpu_clock=cpu, interval_s=0.1)
    sampler.resume()
    for cost_s in (0.0002, 0.011, 0.0002, 0.0002, 0.008, 0.0002):
        cpu.now_s += cost_s
        sampler.account()
        assert sampler.interval_s == 0.1


def test_random_numbers_of_the_script_stay_as_they_are(held):
    random.seed(1)
    before = random.getstate()
    sampler = quiet(held.thread.ident)
    pauses = {sampler._pause_s() for _ in range(50)}
    assert random.getstate() == before
    assert len(pauses) == 50
    assert 0.01 <= min(pauses) < max(pauses) <= 0.03


def test_other_work_is_done_when_due_and_dropped_when_it_fails():
    clock, cpu, done, said = Clock(), Clock(), [], []

    def dear():
        done.append("dear")
        cpu.now_s += 0.015

    def broken():
        done.append("broken")
        raise OSError("disk full")

    sampler = quiet(
        -1, clock=clock, cpu_clock=cpu, warn=said.append, on_tick=[(1.0, dear), (1.0, broken)]
    )
    sampler.run_due()
    assert done == ["dear", "broken"]
    clock.now_s += 1
    sampler.run_due()
    assert done == ["dear", "broken", "dear"], "what is dear once may be an import"
    clock.now_s += 5
    sampler.run_due()
    assert done == ["dear", "broken", "dear"], "15 ms every 5 s is more than 0.15 %"
    clock.now_s += 5.1
    sampler.run_due()
    assert done == ["dear", "broken", "dear", "dear"]
    assert len(said) == 1
    assert "disk full" in said[0]
    assert "\n" not in said[0]


def test_a_label_that_cannot_be_told_ends_the_looking_with_one_line(held):
    said = []
    told = threading.Event()

    def warn(line):
        said.append(line)
        told.set()

    sampler = StackSampler(
        lambda: 1 // 0, held.thread.ident, interval_s=0.001, warn=warn, short_turns=False
    )
    sampler.start()
    assert told.wait(10)
    sampler.stop()
    assert len(said) == 1


def test_the_thread_begins_and_ends_and_leaves_the_switch_interval_as_it_was(held):
    before = sys.getswitchinterval()
    sampler = StackSampler(lambda: 0, held.thread.ident, interval_s=0.001)
    sampler.start()
    assert NAME in {thread.name for thread in threading.enumerate()}
    sampler.stop(timeout_s=10)
    assert NAME not in {thread.name for thread in threading.enumerate()}
    assert sys.getswitchinterval() == before
    sampler.stop()


def test_nothing_happens_in_a_forked_child(held, monkeypatch):
    sampler = quiet(held.thread.ident)
    sampler.once()
    monkeypatch.setattr(os, "getpid", lambda: -5)
    sampler.once()
    sampler.start()
    sampler.stop()
    assert sampler.snapshot() == []
    monkeypatch.undo()
    assert sampler.snapshot()[0].count == 1


def call_at_depth(depth, function):
    return function() if depth == 0 else call_at_depth(depth - 1, function)


def test_only_the_innermost_frames_of_a_deep_stack_are_kept():
    table = StackTable(lambda path: True)
    stack = call_at_depth(100, lambda: table.stack_of(sys._getframe()))
    table.add(0, stack, 1.0)
    (sampled,) = table.snapshot()
    assert len(sampled.stack) == stacks.DEEPEST
    assert sampled.stack[0].function.endswith("<lambda>")


def test_too_many_stacks_are_lumped_by_the_users_line_and_no_second_is_lost():
    table = StackTable(lambda path: path == "/me/train.py", most=8)
    names = {"take": lambda: table.stack_of(sys._getframe())}
    exec(compile("def step():\n    return take()\n", "/me/train.py", "exec"), names)
    for i in range(40):
        other = dict(names)
        exec(compile(f"def f{i}(g):\n    return g()\n", f"/lib/{i}.py", "exec"), other)
        table.add(1, other[f"f{i}"](names["step"]), 1.0)
        table.add(1, names["step"](), 1.0)
    found = table.snapshot()
    assert sum(s.seconds for s in found) == pytest.approx(80)
    assert sum(s.count for s in found) == 80
    assert len(found) <= 16
    hot = max(found, key=lambda s: s.seconds)
    assert hot.count == 40, "the hot stack stays whole"
    lumps = [s for s in found if len(s.stack) == 1]
    assert [(s.stack[0].file, s.stack[0].line) for s in lumps] == [("/me/train.py", 2)]


def test_code_made_without_end_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(stacks, "_MOST_PLACES", 10)
    table = StackTable(lambda path: False)
    for i in range(30):
        names = {"take": lambda: table.stack_of(sys._getframe())}
        exec(compile(f"def f{i}():\n    return take()\n", f"/made/{i}.py", "exec"), names)
        table.add(0, names[f"f{i}"](), 1.0)
    assert len(table._places) <= 11
    assert sum(s.seconds for s in table.snapshot()) == pytest.approx(30)


def test_a_busy_thread_is_seen_in_its_hot_function():
    stop = threading.Event()

    def hot():
        while not stop.is_set():
            sum(range(200))

    with ThreadPoolExecutor(1) as pool:
        ident = pool.submit(threading.get_ident).result()
        running = pool.submit(hot)
        sampler = quiet(ident)
        for _ in range(20):
            stop.wait(0.001)
            sampler.once()
        stop.set()
        running.result()
    counts = [s.count for s in sampler.snapshot() if any(f.name == "hot" for f in s.stack)]
    assert sum(counts) >= 15


def test_the_switch_interval_is_given_back_once_other_threads_work(held):
    before = sys.getswitchinterval()
    turns = ShortTurns()
    turns.begin()
    try:
        assert sys.getswitchinterval() == pytest.approx(SHORT_S)
        frames = sys._current_frames()
        waiting = {1: frames[held.thread.ident], 2: frames[held.thread.ident]}
        waits = {**waiting, 3: frames[held.thread.ident]}
        works = {**waiting, 3: sys._getframe()}
        for _ in range(100):
            turns.look(waits, 1, 2)
        assert turns.active
        for _ in range(6):
            turns.look(works, 1, 2)
        assert not turns.active
        assert sys.getswitchinterval() == before
    finally:
        turns.end()
        del frames, waiting, waits, works


def test_a_switch_interval_that_the_script_sets_stays():
    before = sys.getswitchinterval()
    turns = ShortTurns()
    turns.begin()
    try:
        sys.setswitchinterval(0.003)
        turns.end()
        assert sys.getswitchinterval() == pytest.approx(0.003)
    finally:
        sys.setswitchinterval(before)


def test_around_a_fork_there_is_no_thread_and_afterwards_it_looks_again(monkeypatch) -> None:
    monkeypatch.setattr("perfdoctor.collect.script.sampler._FORK_PATIENCE_S", 60.0)
    sampler = StackSampler(lambda: 0, threading.get_ident(), interval_s=0.001, short_turns=False)
    sampler.start()
    try:
        for _ in range(3):
            sampler.before_fork()
            sampler.before_fork()
            assert NAME not in [thread.name for thread in threading.enumerate()]
            sampler.go_on()
            sampler.go_on()
            assert [thread.name for thread in threading.enumerate()].count(NAME) == 1
    finally:
        sampler.stop()
    assert NAME not in [thread.name for thread in threading.enumerate()]


def test_a_thread_that_is_busy_when_the_process_forks_goes_on(monkeypatch) -> None:
    monkeypatch.setattr("perfdoctor.collect.script.sampler._FORK_PATIENCE_S", 0.0)
    working, done = threading.Event(), threading.Event()

    def work() -> None:
        working.set()
        done.wait(10)

    sampler = StackSampler(
        lambda: 0,
        threading.get_ident(),
        interval_s=0.001,
        on_tick=[(0.0, work)],
        short_turns=False,
    )
    sampler.start()
    assert working.wait(10)
    before = [thread for thread in threading.enumerate() if thread.name == NAME]
    sampler.before_fork()
    sampler.go_on()
    after = [thread for thread in threading.enumerate() if thread.name == NAME]
    done.set()
    sampler.stop()
    assert before == after
    assert not after[0].is_alive()


def test_a_broken_frame_now_and_then_does_not_end_the_looks(monkeypatch):
    told: list[str] = []
    sampler = StackSampler(lambda: 0, threading.get_ident(), warn=told.append)
    monkeypatch.setattr(sys, "_current_frames", lambda: {threading.get_ident(): {}})
    for _ in range(5):
        sampler._try_once()
    with pytest.raises(AttributeError):
        sampler._try_once()


class Code:
    """As much of a code object as a stack needs; its third instruction is of no line."""

    co_filename, co_name, co_qualname = "/home/me/train.py", "<module>", "<module>"
    co_firstlineno, co_flags = 1, 0

    def co_lines(self):
        return iter([(0, 4, 1), (4, 8, 2), (8, 12, None), (12, 20, 3)])


@pytest.mark.parametrize(("instruction", "line"), [(10, 2), (2, 1), (-1, 1)])
def test_an_instruction_of_no_line_counts_for_the_one_before(instruction, line):
    frame = SimpleNamespace(f_code=Code(), f_lasti=instruction, f_lineno=None, f_back=None)
    table = StackTable(lambda path: True)
    table.add(0, table.stack_of(frame), 1.0)
    assert [s.stack[0].line for s in table.snapshot()] == [line]
