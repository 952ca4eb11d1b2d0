"""Names with their classes, of code that does not know its class, as before Python 3.11."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
from concurrent.futures import Future
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any

import pytest

from perfdoctor.collect.script.qualified import qualified_name
from perfdoctor.collect.script.stacks import StackTable


def _plain(code: CodeType) -> Any:
    """The code as Python 3.10 has it."""
    names = ("co_filename", "co_name", "co_firstlineno", "co_flags")
    return SimpleNamespace(**{name: getattr(code, name) for name in names})


class Outer:
    class Inner:
        @staticmethod
        def go() -> None: ...

    @property
    def size(self) -> int:
        return 3

    @contextlib.contextmanager
    def opened(self) -> Any:
        yield


setattr(Outer.Inner, "again", Outer.Inner)  # noqa: B010 - a class that holds itself


def _code(function: Any) -> CodeType:
    assert isinstance(function, FunctionType)
    return function.__code__


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (_code(threading.Thread.join), "Thread.join"),
        (_code(queue.Queue.get), "Queue.get"),
        (_code(Future.result), "Future.result"),
        (_code(subprocess.run), "run"),
        (_code(Outer.Inner.go), "Outer.Inner.go"),
        (_code(vars(Outer)["size"].fget), "Outer.size"),
        (_code(vars(vars(Outer)["opened"])["__wrapped__"]), "Outer.opened"),
    ],
)
def test_a_function_is_named_with_its_class(code: CodeType, name: str) -> None:
    assert qualified_name(_plain(code)) == name
    assert qualified_name(code) == name


def test_what_is_in_no_module_has_its_plain_name() -> None:
    def inside() -> None: ...

    assert qualified_name(_plain(inside.__code__)) == "inside"
    made = compile("def f(): pass", "/nowhere/train.py", "exec").co_consts[0]
    assert qualified_name(_plain(made)) == "f"


def test_stacks_tell_the_class_too() -> None:
    code = _plain(_code(threading.Thread.join))
    frame = SimpleNamespace(f_code=code, f_lasti=0, f_lineno=7, f_back=None)
    table = StackTable(lambda path: True)
    table.add(0, table.stack_of(frame), 1.0)  # type: ignore[arg-type]
    assert [s.stack[0].function for s in table.snapshot()] == ["Thread.join"]
