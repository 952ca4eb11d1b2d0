from __future__ import annotations

import sys
import traceback
import types
from pathlib import Path

import pytest

from perfdoctor.collect.script import frames

WRAPPER = str(Path(frames.__file__).parent / "wrapper.py")


def wrapped(function):
    """Calls through a frame that looks like one of perfdoctor's wrappers."""
    namespace = {"function": function}
    exec(compile("def call():\n    return function()", WRAPPER, "exec"), namespace)
    return namespace["call"]


def fail():
    raise ValueError("inner")


def names(error):
    return [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]


@pytest.fixture
def hiding(monkeypatch):
    name = "_extract_from_extended_frame_gen" if sys.version_info >= (3, 11) else "extract"
    monkeypatch.setattr(traceback.StackSummary, name, vars(traceback.StackSummary)[name])
    frames.hide_from_traceback_module()


def caught(function):
    try:
        frames.call_at_base(function)
    except BaseException as error:
        return error


@pytest.fixture(autouse=True)
def same_recursion_limit():
    limit = sys.getrecursionlimit()
    yield
    sys.setrecursionlimit(limit)


def test_frames_below_the_script_and_wrappers_within_it_are_taken_out():
    def script():
        wrapped(wrapped(fail))()

    error = caught(script)
    assert "call" in names(error)
    frames.strip(error)
    assert names(error) == ["script", "fail"]


def test_chained_exceptions_lose_them_too():
    def script():
        try:
            wrapped(fail)()
        except ValueError as first:
            try:
                wrapped(fail)()
            except ValueError:
                raise KeyError("outer") from first

    error = caught(script)
    frames.strip(error)
    assert names(error) == ["script"]
    assert names(error.__cause__) == names(error.__context__) == ["script", "fail"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups are new in 3.11")
def test_grouped_exceptions_lose_them_too():
    error = ExceptionGroup("several", [caught(wrapped(fail))])  # noqa: F821
    frames.strip(error)
    assert names(error.exceptions[0]) == ["fail"]


def test_a_circle_of_exceptions_comes_to_an_end():
    first, second = ValueError(), KeyError()
    first.__context__, second.__context__ = second, first
    frames.strip(first)
    assert first.__traceback__ is None


def test_an_exception_that_only_our_frames_saw_has_no_traceback_left():
    error = caught(wrapped(types.FunctionType))
    assert names(error)[-1] == "call"
    frames.strip(error)
    assert error.__traceback__ is None


def test_print_exc_in_the_script_shows_no_wrapper(hiding):
    def script():
        try:
            wrapped(fail)()
        except ValueError:
            return traceback.format_exc()

    text = script()
    assert "wrapper.py" not in text
    assert "in fail" in text


def test_a_printed_stack_begins_with_the_script(hiding):
    def script():
        return traceback.extract_stack()

    assert [frame.name for frame in frames.call_at_base(script)] == ["script"]


def test_a_stack_walked_from_here_begins_here(hiding):
    def script():
        return traceback.StackSummary.extract(traceback.walk_stack(None), limit=3)

    assert [frame.name for frame in frames.call_at_base(script)] == ["script"]


@pytest.mark.parametrize("limit", [1, 2, -1, -2, None])
def test_a_limit_counts_only_what_is_shown(hiding, limit):
    def script():
        return wrapped(lambda: traceback.extract_stack(limit=limit))()

    shown = [frame.name for frame in frames.call_at_base(script)]
    expected = {1: ["<lambda>"], -1: ["script"]}.get(limit, ["script", "<lambda>"])
    assert shown == expected


def test_hiding_twice_is_hiding_once(hiding):
    before = dict(vars(traceback.StackSummary))
    frames.hide_from_traceback_module()
    assert dict(vars(traceback.StackSummary)) == before


def test_the_depth_below_does_not_count_against_the_scripts_recursion():
    def depth(n=0):
        try:
            return depth(n + 1)
        except RecursionError:
            return n

    def deeper(levels):
        return deeper(levels - 1) if levels else frames.call_at_base(depth)

    limit = sys.getrecursionlimit()
    shallow = deeper(0)
    sys.setrecursionlimit(limit)
    assert deeper(200) == shallow


def test_a_frame_at_the_base_belongs_to_no_file_of_ours():
    def script():
        frame = sys._getframe(1)
        return frame.f_code.co_filename, frame.f_globals["__name__"]

    name, module = frames.call_at_base(script)
    assert name in ("sys", "<sys>")
    assert module == "sys"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="functions have no qualified name there")
def test_a_wrapper_in_disguise_bears_the_name_of_what_it_wraps():
    code = frames.disguised(wrapped(fail).__code__, names.__code__, lines=1)
    assert (code.co_filename, code.co_qualname) == (__file__, "names")
