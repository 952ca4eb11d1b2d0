"""Hot lines inside functions that give the same result in each step."""

from __future__ import annotations

from made import library, seen

from perfdoctor.collect.script.same_lines import marked
from perfdoctor.collect.script.stacks import Frame, Sampled
from perfdoctor.record import Hotspot

FILE = "/home/me/train.py"
NAMES = ["other", "forward", "validation", "backward"]
SAME = {(FILE, 10): "normalised"}
MODEL = Frame(FILE, 30, "Net.forward", 29)
INSIDE = Frame(FILE, 12, "normalised", 10)
HELPER = Frame(FILE, 4, "degree", 3)
SUM = library("torch/functional.py", "sum")


def _spot(line: int, stage: str = "forward") -> Hotspot:
    return Hotspot(file=FILE, line=line, function="f", share=0.3, stage=stage)


def _name(spot: Hotspot, *samples: Sampled) -> str | None:
    (found,) = marked([spot], samples, NAMES, SAME)
    return found.same_in


def test_lines_of_the_function_and_of_what_it_calls_lie_in_it() -> None:
    assert _name(_spot(12), seen(SUM, INSIDE, MODEL, label=1)) == "normalised"
    assert _name(_spot(4), seen(HELPER, INSIDE, MODEL, label=1)) == "normalised"
    assert _name(_spot(4, "validation"), seen(HELPER, INSIDE, label=2)) == "normalised"


def test_the_line_that_calls_it_does_not() -> None:
    assert _name(_spot(30), seen(SUM, MODEL, label=1), seen(INSIDE, MODEL, label=1)) is None


def test_a_helper_that_others_call_too_does_not() -> None:
    inside, outside = seen(HELPER, INSIDE, MODEL, label=1), seen(HELPER, MODEL, label=1)
    assert _name(_spot(4), inside, outside) is None


def test_other_stages_are_not_looked_at() -> None:
    assert _name(_spot(12, "backward"), seen(INSIDE, label=3)) is None
    assert _name(_spot(12, "forward"), seen(INSIDE, label=2)) is None


def test_without_such_functions_nothing_changes() -> None:
    spots = [_spot(12)]
    assert marked(spots, [seen(INSIDE, label=1)], NAMES, {}) is spots
