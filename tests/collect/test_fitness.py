"""What other programs use, and what is the trials' own."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from perfdoctor.collect import belongings, fitness

#: Computes for so many seconds in a child, which is left behind.
LEAVES_ONE = """
import os, sys, time
if os.fork() == 0:
    while time.process_time() < 0.4:
        pass
    time.sleep(60)
time.sleep(0.8)
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def takes_in():
    belongings.take_in_orphans()
    yield
    belongings.take_in_orphans(wanted=False)


def cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has them taken in")
def test_what_a_killed_process_leaves_behind_stays_its_own(takes_in):
    before = fitness._own_s()
    process = subprocess.Popen([sys.executable, "-c", LEAVES_ONE], start_new_session=True)
    process.wait()
    children = psutil.Process().children()
    (orphan,) = (p for p in children if os.getpgid(p.pid) == process.pid)
    while cpu_s(orphan.pid) < 0.3:
        time.sleep(0.05)
    used = cpu_s(orphan.pid)
    os.killpg(process.pid, 9)
    belongings._until_gone(process.pid, "")
    belongings.take_note_of(process.pid)
    assert not psutil.pid_exists(orphan.pid)
    assert fitness._own_s() - before >= used


def test_time_counts_from_where_it_was_begun(monkeypatch):
    clock, busy, own = [0.0], [100.0], [50.0]
    monkeypatch.setattr(fitness.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(fitness, "_busy_s", lambda: busy[0])
    monkeypatch.setattr(fitness, "_own_s", lambda: own[0])
    monkeypatch.setattr(fitness.psutil, "cpu_count", lambda: 2)
    whole, trial = fitness.Fitness(), fitness.Fitness()
    whole.begin()
    clock[0], busy[0], own[0] = 10.0, 110.0, 60.0
    trial.begin()
    assert trial.foreign_share() is None
    clock[0], busy[0], own[0] = 20.0, 130.0, 70.0
    assert whole.foreign_share() == pytest.approx(10 / 40)
    assert trial.foreign_share() == pytest.approx(10 / 20)
