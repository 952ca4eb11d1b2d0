"""What a script prints is noted on its way, and reaches its stream as ever."""

from __future__ import annotations

import io
import sys
import threading

import pytest

from perfdoctor.collect.script.printed import KEPT, Printed


class Watched:
    """A stream of its own, whose lines are noted while a clock and a counter stand as they are."""

    def __init__(self) -> None:
        self.raw = io.BytesIO()
        self.stream = io.TextIOWrapper(self.raw, encoding="utf-8", write_through=True)
        self.step, self.now_s = 0, 5.0
        self.printed = Printed(lambda: self.step, clock=lambda: self.now_s)
        self.printed.start(self.stream)

    def print(self, *words: object, **options: str) -> None:
        print(*words, file=self.stream, **options)  # type: ignore[call-overload]

    @property
    def out(self) -> str:
        return self.raw.getvalue().decode()

    @property
    def texts(self) -> list[str]:
        return [line.text for line in self.printed.lines()]


@pytest.fixture
def seen() -> Watched:
    return Watched()


def test_lines_are_noted_with_the_step_and_time_of_their_end(seen: Watched) -> None:
    seen.print("epoch", 1, end=" ")
    seen.step, seen.now_s = 7, 6.5
    seen.print("acc", 0.5)
    (line,) = seen.printed.lines()
    assert (line.text, line.step, line.at_s) == ("epoch 1 acc 0.5", 7, 1.5)
    assert seen.out == "epoch 1 acc 0.5\n"


def test_several_lines_at_once_are_several_and_the_unfinished_one_is_told(seen: Watched) -> None:
    seen.stream.write("one\ntwo\n\n")
    seen.stream.write("three")
    assert seen.texts == ["one", "two", "three"]


def test_of_a_progress_bar_its_last_state_is_kept(seen: Watched) -> None:
    for done in range(1000):
        seen.stream.write(f"\r{done}/1000")
    seen.print()
    seen.stream.write("a\rb\r\n")
    assert seen.texts == ["999/1000", "b"]
    assert seen.out.startswith("\r0/1000\r1/1000")


def test_what_perfdoctor_tells_is_not_the_script_s(seen: Watched) -> None:
    seen.print("perfdoctor: warning: a line of ours")
    assert seen.texts == []


def test_the_stream_stays_itself_and_its_write_what_it_was(seen: Watched) -> None:
    assert seen.stream.write.__self__ is seen.stream  # type: ignore[attr-defined]
    assert seen.stream.write("äb") == 2
    with pytest.raises(TypeError, match="must be str"):
        seen.stream.write(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="exactly one argument"):
        seen.stream.write()  # type: ignore[call-arg]
    seen.printed.stop()
    assert "write" not in vars(seen.stream)
    seen.print("later")
    assert seen.texts == ["äb"]


def test_a_write_of_the_script_s_own_making_stays(seen: Watched) -> None:
    ours, heard = seen.stream.write, list[str]()

    def write(text: str) -> int:
        heard.append(text)
        return ours(text)

    seen.stream.write = write  # type: ignore[method-assign]
    seen.printed.stop()
    seen.print("x")
    assert seen.stream.write is write
    assert heard == ["x", "\n"]
    assert seen.out == "x\n"
    assert seen.texts == []


def test_a_closed_stream_raises_as_ever(seen: Watched) -> None:
    seen.stream.close()
    with pytest.raises(ValueError, match="closed"):
        seen.print("x")
    seen.printed.stop()
    assert seen.texts == []


def test_noting_that_fails_is_not_the_script_s_concern(seen: Watched) -> None:
    def fails() -> int:
        raise RuntimeError

    seen.printed._steps = fails
    seen.print("x")
    assert seen.out == "x\n"
    assert not seen.printed.whole


def test_other_streams_are_left_alone() -> None:
    memory, printed = io.StringIO(), Printed(lambda: 0)
    printed.start(memory, None)
    memory.write("x\n")
    assert list(printed.lines()) == []


def test_much_text_is_kept_at_its_beginning_and_its_end(seen: Watched) -> None:
    for i in range(40_000):
        seen.print("line", i, "x" * 100)
    texts = seen.texts
    assert sum(map(len, texts)) <= 2 * KEPT
    assert texts[0].startswith("line 0 ")
    assert texts[-1].startswith("line 39999 ")
    assert not seen.printed.whole


@pytest.mark.parametrize(("piece", "kept"), [(".", True), ("x" * (3 * KEPT), False)])
def test_text_without_lines_is_bounded_too(seen: Watched, piece: str, kept: bool) -> None:
    for _ in range(3 * KEPT // len(piece)):
        seen.stream.write(piece)
    seen.print()
    assert sum(map(len, seen.texts)) <= 2 * KEPT
    assert bool(seen.texts) is kept
    assert len(seen.out) == 3 * KEPT + 1


def test_longer_lines_are_no_log(seen: Watched) -> None:
    seen.print("weights", "0.5 " * 2000)
    seen.stream.write("a\n" + "b" * 5000 + "\nc\n")
    seen.print("acc", 0.5)
    assert seen.texts == ["a", "c", "acc 0.5"]
    assert seen.printed.whole


def test_a_bar_that_ends_where_it_is_to_be_drawn_again_is_no_long_line(seen: Watched) -> None:
    for i in range(100):
        seen.stream.write(f"{i} {'=' * 100}\r")
    seen.stream.write("acc 0.5\n")
    assert seen.texts[-1] == "acc 0.5"
    assert all(len(text) < 110 for text in seen.texts)


def test_what_is_not_ended_is_bounded_too(seen: Watched) -> None:
    for _ in range(100):
        seen.stream.write("x" * KEPT)
    assert sum(len(piece) for pieces in seen.printed._unfinished for piece in pieces) <= KEPT


def test_of_threads_that_print_at_once_no_line_is_lost(seen: Watched) -> None:
    def prints(name: str) -> None:
        for i in range(1000):
            seen.stream.write(f"{name}{i}\n")

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=prints, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert sorted(seen.texts) == sorted(f"{name}{i}" for name in "ab" for i in range(1000))
