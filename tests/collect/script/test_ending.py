from __future__ import annotations

import os
import threading

import pytest

from perfdoctor.collect.script.ending import (
    Closing,
    Ending,
    StopScript,
    close_before_os_exit,
    ending_of,
)

END = Ending("finished", "", 0)


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (None, Ending("finished", "", 0)),
        (SystemExit(), Ending("exit", "", 0)),
        (SystemExit(3), Ending("exit", "", 3)),
        (SystemExit("one\ntwo"), Ending("exit", "one", 1)),
        (SystemExit(UnprintableError()), Ending("exit", "", 1)),
        (StopScript(0), Ending("stopped", "", 0)),
        (KeyboardInterrupt("x"), Ending("interrupted", "KeyboardInterrupt", 130)),
        (ValueError("one\ntwo"), Ending("exception", "ValueError: one", 1)),
        (UnprintableError(), Ending("exception", "UnprintableError", 1)),
    ],
)
def test_an_exception_says_how_the_script_ended(error, ending):
    assert ending_of(error) == ending


def test_finish_is_called_once():
    told: list[Ending] = []
    closing = Closing(told.append)
    closing.close(END)
    closing.close(Ending("os._exit", "", 3))
    assert told == [END]


def test_finish_is_not_called_again_from_within_itself():
    told: list[Ending] = []

    def finish(ending: Ending) -> None:
        told.append(ending)
        assert closing.busy
        closing.close(ending)

    closing = Closing(finish)
    closing.close(END)
    assert told == [END]
    assert not closing.busy


def test_another_thread_waits_for_the_report_that_is_being_written():
    begun, go_on, order = threading.Event(), threading.Event(), []

    def finish(ending: Ending) -> None:
        begun.set()
        go_on.wait()
        order.append("report")

    def second() -> None:
        begun.wait()
        go_on.set()
        closing.close(END)
        order.append("second")

    closing = Closing(finish)
    thread = threading.Thread(target=second)
    thread.start()
    closing.close(END)
    thread.join()
    assert order == ["report", "second"]


@pytest.mark.parametrize("error", [ValueError("full"), SystemExit(3), KeyboardInterrupt()])
def test_what_finish_raises_becomes_one_line(capsys, error):
    def finish(ending: Ending) -> None:
        raise error

    Closing(finish).close(END)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert type(error).__name__ in captured.err


def test_a_cancelled_closing_tells_nobody():
    told: list[Ending] = []
    closing = Closing(told.append)
    closing.cancel()
    closing.close(END)
    assert told == []


def test_another_process_tells_nobody(monkeypatch):
    told: list[Ending] = []
    closing = Closing(told.append)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    closing.close(END)
    assert told == []
    assert not closing.here


def test_os_exit_is_put_back_unless_the_script_replaced_it(monkeypatch):
    before = os._exit
    undo = close_before_os_exit(Closing(lambda ending: None))
    assert os._exit is not before
    assert os._exit.__name__ == "_exit"
    undo()
    assert os._exit is before

    undo = close_before_os_exit(Closing(lambda ending: None))
    own = lambda status: None  # noqa: E731
    monkeypatch.setattr(os, "_exit", own)
    undo()
    assert os._exit is own
    os._exit = before
