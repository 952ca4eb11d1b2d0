"""Lines at the bottom of a terminal, on a pseudo-terminal whose output a fake one shows."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios

import pytest
from fake_terminal import FakeTerminal

from perfdoctor.terminal import BottomLines, unfit


class Terminal:
    """A pseudo-terminal: what is written to `fd` appears on `shown`."""

    def __init__(self, rows: int, columns: int) -> None:
        self.other_end, self.fd = pty.openpty()
        self.shown = FakeTerminal(rows, columns)
        self._set_size(rows, columns)

    def _set_size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows: int, columns: int) -> None:
        self.look()
        self._set_size(rows, columns)
        self.shown.resize(rows, columns)

    def print(self, text: str) -> None:
        """As the script does."""
        os.write(self.fd, text.encode())
        self.look()

    def look(self) -> list[str]:
        """The screen, once everything that was written has arrived."""
        os.write(self.fd, b"\x1b[m")
        data = b""
        while not data.endswith(b"\x1b[m"):
            data += os.read(self.other_end, 65536)
        self.shown.feed(data)
        return self.shown.screen

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.other_end)


@pytest.fixture
def terminal():
    made = Terminal(14, 30)
    yield made
    made.close()


def panel(*lines):
    return lambda width, height: list(lines)


def test_what_is_printed_scrolls_above_the_lines_and_none_of_it_is_lost(terminal):
    lines = BottomLines(terminal.fd)
    for number in range(30):
        terminal.print(f"line {number}\n")
        if number % 4 == 3:
            lines.draw(panel("first", "second"))
    screen = terminal.look()
    assert screen[12:] == ["first", "second"]
    seen = [line for line in (*terminal.shown.gone, *screen[:12]) if line]
    assert seen == [f"line {number}" for number in range(30)]


def test_a_line_that_is_rewritten_stays_where_it_is(terminal):
    terminal.print("\n" * 13)
    lines = BottomLines(terminal.fd)
    for number in range(5):
        terminal.print(f"\r{number} of 5")
        lines.draw(panel("below"))
    screen = terminal.look()
    assert screen[12:] == ["4 of 5", "below"]
    assert not any(screen[:12])


def test_closing_erases_the_lines_and_gives_the_rows_back(terminal):
    terminal.print("before\n")
    lines = BottomLines(terminal.fd)
    lines.draw(panel("one", "two"))
    lines.close()
    assert [line for line in terminal.look() if line] == ["before"]
    assert terminal.shown.whole_region
    terminal.print("after")
    assert terminal.look()[:2] == ["before", "after"]


def test_after_closing_nothing_is_drawn_any_more(terminal):
    lines = BottomLines(terminal.fd)
    lines.draw(panel("one"))
    lines.close()
    lines.draw(panel("two"))
    lines.close()
    assert not any(terminal.look())


def test_more_lines_push_what_was_printed_up_and_fewer_leave_blank_ones(terminal):
    terminal.print("\n" * 9 + "last")
    lines = BottomLines(terminal.fd)
    lines.draw(panel("waiting"))
    lines.draw(panel("a", "b", "c", "d", "e"))
    assert terminal.look()[8:] == ["last", "a", "b", "c", "d", "e"]
    lines.draw(panel("A", "B"))
    assert terminal.look()[8:] == ["last", "A", "B", "", "", ""]


def test_half_of_the_rows_are_taken_at_most_and_a_column_is_left_free(terminal):
    asked = []

    def many(width, height):
        asked.append((width, height))
        return [f"{number}" for number in range(20)]

    lines = BottomLines(terminal.fd)
    terminal.print("top")
    lines.draw(many)
    assert asked == [(29, 7)]
    assert terminal.look()[6:] == ["", "0", "1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("size", [(20, 40), (12, 20), (14, 60), (30, 30)])
def test_a_resized_terminal_shows_the_lines_once_at_its_new_bottom(terminal, size):
    terminal.print("".join(f"line {n}\n" for n in range(11)))
    lines = BottomLines(terminal.fd)
    lines.draw(panel("one", "two", "three"))
    terminal.resize(*size)
    lines.draw(panel("one", "two", "three"))
    screen = terminal.look()
    assert screen[-3:] == ["one", "two", "three"]
    told = [line for line in (*terminal.shown.gone, *screen[:-3]) if line]
    assert told == [f"line {n}" for n in range(11)]
    lines.close()
    terminal.look()
    assert terminal.shown.whole_region


def test_nothing_is_drawn_while_the_terminal_is_too_small(terminal):
    terminal.print("text\n")
    lines = BottomLines(terminal.fd)
    lines.draw(panel("one"))
    terminal.resize(11, 30)
    lines.draw(panel("one"))
    assert [line for line in terminal.look() if line] == ["text"]
    assert terminal.shown.whole_region
    terminal.resize(12, 30)
    lines.draw(panel("one"))
    assert terminal.look()[-1] == "one"


def test_a_line_that_is_too_wide_does_not_wrap(terminal):
    lines = BottomLines(terminal.fd)
    lines.draw(panel("above", "x" * 40 + "y"))
    screen = terminal.look()
    assert screen[12:] == ["above", "x" * 29 + "y"]
    terminal.print("y" * 31)
    assert terminal.look()[:2] == ["y" * 30, "y"]


def test_the_script_s_colour_is_not_changed_by_a_drawing(terminal):
    BottomLines(terminal.fd).draw(panel("one"))
    os.write(terminal.fd, b"end")
    data = b""
    while not data.endswith(b"end"):
        data += os.read(terminal.other_end, 65536)
    assert data.endswith(b"\x1b8end"), "the saved cursor has the colours"
    assert data.index(b"\x1b7") < data.index(b"\x1b[0m")


def test_a_script_that_points_stderr_elsewhere_is_left_alone_and_the_terminal_restored(
    terminal, tmp_path
):
    fd = os.dup(terminal.fd)
    lines = BottomLines(fd)
    lines.draw(panel("one"))
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, fd)
    lines.draw(panel("two"))
    lines.close()
    assert (tmp_path / "log").read_bytes() == b""
    assert not any(terminal.look())
    assert terminal.shown.whole_region
    os.close(fd)
    os.close(log)


def test_a_forked_child_neither_draws_nor_erases(terminal, monkeypatch):
    lines = BottomLines(terminal.fd)
    lines.draw(panel("one"))
    monkeypatch.setattr(os, "getpid", lambda: -1)
    lines.draw(panel("two"))
    lines.close()
    assert terminal.look()[-1] == "one"


def test_in_the_background_nothing_is_drawn(terminal, monkeypatch):
    monkeypatch.setattr(os, "tcgetpgrp", lambda fd: -1)
    BottomLines(terminal.fd).draw(panel("one"))
    assert not any(terminal.look())


def test_a_terminal_that_has_gone_is_no_error():
    gone = Terminal(24, 80)
    lines = BottomLines(gone.fd)
    lines.draw(panel("one"))
    os.close(gone.other_end)
    lines.draw(panel("two"))
    os.close(gone.fd)
    lines.draw(panel("three"))
    lines.close()


def test_why_nothing_can_be_drawn(terminal, tmp_path):
    with (tmp_path / "file").open("w") as file:
        assert unfit(file.fileno(), {"TERM": "xterm"}) == "stderr is not a terminal"
    assert unfit(terminal.fd, {"TERM": "xterm"}) is None
    for poor in ({"TERM": "dumb"}, {"TERM": ""}, {}):
        assert "TERM" in (unfit(terminal.fd, poor) or "")
