"""Small functions compiled from text that has a place in linecache, and stacks made by hand."""

from __future__ import annotations

import linecache
import sys
import textwrap
from types import CodeType
from typing import Any

import pytest

from perfdoctor.collect.script.arithmetic import UntoldError, output_shape
from perfdoctor.collect.script.frame_paths import path_to
from perfdoctor.collect.script.loop_finder import LoopFinder
from perfdoctor.collect.script.stacks import Frame, Sampled

SITE = "/venv/lib/python3.11/site-packages/"
NAMES = ["other", "after_forward", "forward"]


def script(text: str, file: str = "/home/me/train.py", *, source: bool = True) -> dict[str, Any]:
    """Runs the text as a module; `sys` and `note` (see `noting`) are there."""
    text = textwrap.dedent(text)
    lines = text.splitlines(keepends=True)
    if source:
        linecache.cache[file] = (len(text), None, lines, file)
    names: dict[str, Any] = {"__name__": "made"}
    exec(compile(text, file, "exec"), names)
    return names


def found_loops(text: str, file: str, call: str = "main()", *, source: bool = True):
    """What LoopFinder says of a script that calls model(), backward() and optimizer()."""
    finder = LoopFinder()
    names = script(text, file, source=source)
    names["model"] = lambda *args: finder.note(path_to(sys._getframe(1)), "forward")
    names["backward"] = lambda *args: finder.note(path_to(sys._getframe(1)), "backward")
    names["optimizer"] = lambda *args: finder.note(path_to(sys._getframe(1)), "optimizer")
    exec(compile(call, "/elsewhere/start.py", "exec"), names)
    return finder.loops()


def line_with(file: str, text: str) -> int:
    lines = linecache.getlines(file)
    return next(i for i, line in enumerate(lines, 1) if text in line)


def at(code: CodeType, text: str) -> Frame:
    """A frame of `code` at the line that holds `text`."""
    line = line_with(code.co_filename, text)
    generator = bool(code.co_flags & 0x20)
    return Frame(code.co_filename, line, code.co_name, code.co_firstlineno, generator)


def library(path: str, function: str, line: int = 7) -> Frame:
    return Frame(SITE + path, line, function, 1)


def user(function: str, line: int = 7, file: str = "/home/me/nowhere.py") -> Frame:
    return Frame(file, line, function, 1)


def seen(*stack: Frame, seconds: float = 1.0, count: int = 10, label: int = 0) -> Sampled:
    return Sampled(label, stack, seconds, count)


def graph_of(loss: Any) -> list[Any]:
    """The operations that a backward pass from there goes through; skips where torch tells no
    shapes."""
    waiting, seen = [loss.grad_fn], []
    while waiting:
        function = waiting.pop()
        if function is not None and function not in seen:
            seen.append(function)
            waiting += [below for below, _ in function.next_functions]
    found = [f for f in seen if type(f).__name__ != "AccumulateGrad"]
    try:
        output_shape(found[0])
    except UntoldError:
        pytest.skip("this torch does not tell shapes")
    return found
