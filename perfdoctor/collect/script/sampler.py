"""One quiet thread that looks where the main thread is, and does what else is due now and then.

What a look can see: the thread must hold the interpreter's lock (GIL) to look, so it sees the main
thread only where that gives the lock up. That is while it waits or computes inside a call that
releases the lock (nearly all of torch, reading files, sleeping), after a call into C that did not,
or in Python code once the switch interval has passed (5 ms, shortened by `turns`). Pure Python that
runs for less than that between two operators of torch is therefore seen at the second of them,
often under the next label. Where the system allows it, the time that the thread computes is
therefore seen by `cpu_looks`, and looks here count for the rest, its waits. So looks tell which
line the time of one label goes to, and never how much time a label takes: that is the recorder's,
which is exact. Where the thread got the lock late, the look still counts for all the time since
the last one.
"""

from __future__ import annotations

import math
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import CodeType
from typing import NamedTuple

from perfdoctor.collect.script.cpu_looks import CpuLooks
from perfdoctor.collect.script.libraries import USER, Libraries
from perfdoctor.collect.script.stacks import Frame, Sampled, Stack, StackTable
from perfdoctor.collect.script.turns import ShortTurns
from perfdoctor.collect.script.waits import Waits

__all__ = ["NAME", "Frame", "Sampled", "StackSampler"]

NAME = "perfdoctor-sampler"
#: Together at most 0.5 % of a core: looks take the first, everything else shares the second.
_LOOKS_SHARE = 0.0035
_TICKS_SHARE = 0.0015
#: However dear a look is; below that a run of some minutes has too few.
_LONGEST_S = 1.0
#: After so many looks a line's share is known within 2.5 points (95 %, a share of 20 %): then they
#: become rarer with the square root of their number, and a long run pays ever less for them.
_MANY = 1000
#: Less of the time than this is no wait, but clocks that differ.
_LEAST_WAIT = 0.02
#: Looks that may fail before there is no more of them.
_FORGIVEN = 5
#: A look counts for no more than this beyond its interval: the process may have been stopped.
_MOST_LATE_S = 1.0
#: New looks count this much in the mean cost of a look: it must fall again soon after the imports,
#: where calls that hold the lock for long make each look dear.
_NEWEST = 0.2

#: How long a fork waits for the thread; what it does besides looking may take longer.
_FORK_PATIENCE_S = 0.1

Tick = tuple[float, Callable[[], object]]


class _Seen(NamedTuple):
    """What is kept of a look; `frame` is what `id` says of it, and no frame."""

    label: int
    stack: Stack
    frame: int
    code: CodeType
    instruction: int


class StackSampler:
    """Adds up the stacks of one thread.

    Args:
        label: the label under which a look counts; called in the sampling thread.
        thread_id: `threading.get_ident()` of the thread to look at.
        interval_s: mean time between looks; longer where looking takes more than its share.
        clock: seconds of a monotonic clock. cpu_clock: processor seconds of the calling thread.
        libraries: tells the user's files, for stacks that are lumped.
        on_tick: (period in seconds, function): work that shares this thread. A period grows where
            the work takes too much; a function that raises is not called again.
        by_processor_time: see what the thread computes by `cpu_looks`, where the thread that
            starts this is the one to look at.
        short_turns: otherwise, shorten the interpreter's switch interval from `start` to `stop`,
            see `turns`.
        warn: is told once, in one line, when something fails.
    """

    def __init__(
        self,
        label: Callable[[], int],
        thread_id: int,
        *,
        interval_s: float = 0.02,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.thread_time,
        libraries: Libraries | None = None,
        on_tick: Sequence[Tick] = (),
        by_processor_time: bool = False,
        short_turns: bool = True,
        warn: Callable[[str], object] | None = None,
    ) -> None:
        owners = libraries or Libraries()
        self._label = label
        self._thread_id = thread_id
        self._shortest_s = interval_s
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._warn = warn or _to_stderr
        self._pid = os.getpid()
        self._stacks = StackTable(lambda path: owners.of(path) == USER)
        self._cpu_looks = (
            CpuLooks(label, lambda path: owners.of(path) == USER, interval_s)
            if by_processor_time
            else None
        )
        self._waits = Waits(thread_id)
        self._waited_s = 0.0
        self._ticks = [_Due(period_s, work) for period_s, work in on_tick]
        self._turns = ShortTurns() if short_turns else None
        # An own generator, with a fixed seed: the script's random numbers stay as they are.
        self._random = random.Random(0x5EED)
        # A bare lock: waiting on an Event costs twice the processor time.
        self._running = threading.Lock()
        self._thread: threading.Thread | None = None
        self._last_s: float | None = None
        self._looks = 0
        self._broken = 0
        self._forking = False
        self._look_cpu_s: float | None = None
        self._last_cost_s = 0.0
        self._cpu_mark_s = 0.0

    @property
    def interval_s(self) -> float:
        """Mean time between looks, as it is now."""
        wanted_s = self._shortest_s * math.sqrt(max(1.0, self._looks / _MANY))
        if self._look_cpu_s is None:
            return wanted_s
        affordable_s = self._look_cpu_s / _LOOKS_SHARE
        return min(max(wanted_s, affordable_s), max(_LONGEST_S, self._shortest_s))

    def add_tick(self, period_s: float, work: Callable[[], object]) -> None:
        """Further work, as `on_tick`; before `start`."""
        self._ticks.append(_Due(period_s, work))

    def start(self) -> None:
        """Begins to look, in a daemon thread."""
        if self._thread is None and os.getpid() == self._pid and self._running.acquire(False):
            self._last_s = self._clock()
            for due in self._ticks:
                due.at_s = self._last_s + due.period_s
            by_signal = self._cpu_looks is not None and self._cpu_looks.start()
            self._begin_thread()
            if self._turns is not None and not by_signal:
                self._turns.begin()

    def before_fork(self) -> None:
        """Ends the thread if it is waiting, as it nearly always is: since 3.12 Python warns a
        script that forks while there is more than one thread. `go_on` is to follow, once that has
        been looked at; in 3.13 it is after all that can be registered for a fork."""
        thread = self._thread
        if thread is None or thread is threading.current_thread() or os.getpid() != self._pid:
            return
        if self._forking:  # another one, before the thread could go on
            return
        self._running.release()
        thread.join(_FORK_PATIENCE_S)
        self._forking = True

    def go_on(self) -> None:
        """After a fork: the thread goes on, or another one in its place."""
        forking, self._forking = self._forking, False
        noticed = forking and not self._running.acquire(False)  # else it was busy, and goes on
        if noticed and self._thread is not None:
            self._begin_thread()

    def _begin_thread(self) -> None:
        self._thread = threading.Thread(target=self._run, name=NAME, daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """Ends it; in a forked child, where there is no such thread, does nothing."""
        if os.getpid() != self._pid:
            return
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._running.release()
        if self._cpu_looks is not None:
            self._cpu_looks.stop()
        if self._turns is not None:
            self._turns.end()
        if thread is not threading.current_thread():
            thread.join(timeout_s)
        if thread is threading.current_thread() or not thread.is_alive():
            self._waits.close()  # which a look that goes on may be reading

    def once(self) -> None:
        """One look."""
        if os.getpid() != self._pid:
            return
        now_s = self._clock()
        seen = self._seen()
        if seen is not None:
            self._add(seen, now_s)

    def _seen(self) -> _Seen | None:
        """Where the thread is. No frame is held after this: the clocks let go of the interpreter's
        lock, and the locals of a function that returns meanwhile would stay, to be freed here."""
        frames = sys._current_frames()
        try:
            frame = frames.get(self._thread_id)
            seen = None
            if frame is not None:
                code, at, label = frame.f_code, frame.f_lasti, self._label()
                seen = _Seen(label, self._stacks.stack_of(frame), id(frame), code, at)
            if self._turns is not None:
                self._turns.look(frames, self._thread_id, threading.get_ident())
            return seen
        finally:
            frames.clear()  # it holds this frame too, which would be a cycle

    def _try_once(self) -> None:
        """One look; that the interpreter hands out a broken frame now and then is forgiven (3.11
        gave a dict as `f_back`)."""
        try:
            self.once()
        except AttributeError:
            self._broken += 1
            if self._broken > _FORGIVEN:
                raise

    def run_due(self) -> None:
        """Does what is due of `on_tick`."""
        now_s = self._clock()
        for due in list(self._ticks):
            if now_s < due.at_s:
                continue
            began_s = self._cpu_clock()
            try:
                due.work()
            except Exception as error:
                self._ticks.remove(due)
                self._warn(f"perfdoctor: stopped observing a part of the run: {error!r}")
            cost_s = due.usual_cost_s(self._cpu_clock() - began_s)
            affordable_s = cost_s * len(self._ticks) / _TICKS_SHARE
            due.at_s = now_s + max(due.period_s, affordable_s)

    def account(self) -> None:
        """Notes the processor time since `resume` (all of one look) in its mean cost.

        The lower of the last two counts: a look into an import takes ten times what the next one
        will, and in a short run the looks would stay rare for it.
        """
        now_s = self._cpu_clock()
        taken_s = now_s - self._cpu_mark_s
        cost_s, self._last_cost_s = min(taken_s, self._last_cost_s), taken_s
        mean_s = self._look_cpu_s
        self._look_cpu_s = cost_s if mean_s is None else mean_s + _NEWEST * (cost_s - mean_s)
        self._cpu_mark_s = now_s

    def resume(self) -> None:
        """From here on the thread's processor time is that of the next look."""
        self._cpu_mark_s = self._cpu_clock()

    def snapshot(self) -> list[Sampled]:
        """What was seen so far; nothing in a forked child."""
        if os.getpid() != self._pid:
            return []
        computing = [] if self._cpu_looks is None else self._cpu_looks.snapshot()
        waiting = self._stacks.snapshot()
        seen_s = sum(one.seconds for one in waiting)
        # Waits that no look has met yet are taken to be where the others are.
        more = 1 + self._waited_s / seen_s if seen_s else 1.0
        return [*computing, *(replace(one, seconds=one.seconds * more) for one in waiting)]

    def _add(self, seen: _Seen, now_s: float) -> None:
        interval_s = self.interval_s
        since_s = interval_s if self._last_s is None else now_s - self._last_s
        self._last_s = now_s
        self._looks += 1
        since_s = min(since_s, interval_s + _MOST_LATE_S)
        if self._cpu_looks is not None and self._cpu_looks.active:
            # Where this thread had to give up the lock, what it saw is past by now.
            still = self._waits.still() and self._is_at(seen)
            waited_s = self._waits.since_last(since_s, self._cpu_looks)
            self._waited_s += waited_s if waited_s >= _LEAST_WAIT * since_s else 0.0
            # Where it computes the waits that went before were elsewhere: the next look that
            # finds it waiting counts for them.
            if not still or not self._waited_s:
                return
            since_s, self._waited_s = self._waited_s, 0.0
        self._stacks.add(seen.label, seen.stack, since_s)

    def _is_at(self, seen: _Seen) -> bool:
        now = sys._current_frames().get(self._thread_id)
        if now is None or id(now) != seen.frame:
            return False
        return now.f_code is seen.code and now.f_lasti == seen.instruction

    def _pause_s(self) -> float:
        """Jittered, lest looks fall into step with the training."""
        return self.interval_s * (0.5 + self._random.random())

    def _run(self) -> None:
        try:
            self.resume()
            while not self._running.acquire(timeout=self._pause_s()):
                self._try_once()
                self.account()
                if self._ticks:
                    self.run_due()
                    self.resume()
        except Exception as error:
            self._warn(f"perfdoctor: stopped looking at the training's lines: {error!r}")


class _Due:
    """Work, how often, and when next."""

    def __init__(self, period_s: float, work: Callable[[], object]) -> None:
        self.period_s = period_s
        self.work = work
        self.at_s = 0.0
        self._last_cost_s = 0.0

    def usual_cost_s(self, cost_s: float) -> float:
        """What a turn that took `cost_s` counts: the lower of the last two. One that had to import
        something first takes a hundred times what the next one will."""
        usual_s, self._last_cost_s = min(cost_s, self._last_cost_s), cost_s
        return usual_s


def _to_stderr(line: str) -> None:
    if sys.__stderr__ is not None:
        sys.__stderr__.write(line + "\n")
