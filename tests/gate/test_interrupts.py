"""Ctrl-C, once or twice: both processes end, and what follows can tidy up."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import ClassVar

import pytest

from perfdoctor import cli, interrupts
from perfdoctor.cli import run
from perfdoctor.gate import lock_step_pairs
from perfdoctor.gate.lock_step_pairs import LockStepPairs
from perfdoctor.gate.sides import RunningSide
from perfdoctor.gate.worktrees import Checkout


def press(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_only_the_first_signal_is_an_interrupt(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interrupts.heard():
        try:
            press(number)
        finally:
            press()
            press(signal.SIGTERM)
    assert signal.getsignal(number) is before


def test_what_is_ignored_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts.heard():
            press(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_ctrl_c_while_it_is_told_changes_nothing(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    told = []
    monkeypatch.setattr(cli.cli, "main", interrupted)
    monkeypatch.setattr(cli.click, "echo", lambda line, **_: (press(), told.append(line)))
    assert run([]) == 130
    assert told == ["perfdoctor: interrupted; there is no result"]


class Starting:
    """An arm whose set-up never ends."""

    made: ClassVar[list[Starting]] = []

    def __init__(self, spec) -> None:
        self.closed = False
        self.made.append(self)

    def description(self):
        return {}

    def send(self, what, **arguments):
        pass

    def answer(self):
        raise KeyboardInterrupt

    def close(self):
        self.closed = True


def test_an_interrupt_while_processes_start_ends_both(monkeypatch):
    monkeypatch.setattr(lock_step_pairs, "Arm", Starting)
    monkeypatch.setattr(Starting, "made", [])
    checkout = Checkout("before", Path(), Path(), "c" * 40)
    side = RunningSide("before", checkout, Path(), sys.executable, {}, (), frozenset())
    source = LockStepPairs((side, side), {}, {}, 1.0)
    with pytest.raises(KeyboardInterrupt), ExitStack() as stack:
        source._started(stack, 0)
    assert [arm.closed for arm in Starting.made] == [True, True]


def test_the_third_one_is_an_interrupt_again():
    """The first may have been dropped, in a destructor."""
    with interrupts.heard():
        for _ in range(2):
            with suppress(KeyboardInterrupt):
                press()
        assert interrupts.hurried()
        with pytest.raises(KeyboardInterrupt):
            press()
    assert not interrupts.hurried()


def test_within_another_one_it_is_the_same():
    with interrupts.heard():
        with pytest.raises(KeyboardInterrupt), interrupts.heard():
            press()
        press()
        assert interrupts.hurried()


def test_what_is_kept_is_not_interrupted_but_for_what_can_be_left_out():
    done = []
    with interrupts.heard(), interrupts.kept():
        press()
        done.append("written")
        with pytest.raises(KeyboardInterrupt), interrupts.hasty():
            press()
            done.append("drawn")
        with pytest.raises(KeyboardInterrupt), interrupts.hasty():
            done.append("drawn after all")
        press()
    assert done == ["written"]


def test_a_report_that_cannot_be_written_can_be_left():
    with interrupts.heard(), interrupts.kept():
        for _ in range(3):
            press()
        with pytest.raises(KeyboardInterrupt):
            press()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
def test_a_forked_process_ends_as_any_other_does():
    source, target = os.pipe()
    with interrupts.heard():
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                os.write(target, b"ready")  # Python forgets what comes while it forks
                time.sleep(30)
            os._exit(3)
        os.read(source, 5)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
