"""Objects that are made for each sample, by stack and source."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from made import at, script

from perfdoctor.collect.script.made_anew import made_anew
from perfdoctor.collect.script.stacks import Frame

_NUMBERS = itertools.count()
_HEAD = """
class Filters:
    def __init__(self, *args, **kwargs):
        self.table = [1]

    @classmethod
    def from_pretrained(cls, name):
        return cls

SIZE = 3

class Clips:
    def __getitem__(self, index):
        path = self.paths[index]
        %s

    def features(self, sample):
        %s
"""


def _made(
    line: str, *, maker: str = "__init__", inside: str = "pass", module: bool = False
) -> str | None:
    file = f"/home/me/{next(_NUMBERS)}/makes.py"  # trees are kept by file
    names = script(_HEAD % (line, inside), file)
    code = getattr(names["Filters"], maker).__code__
    making = Frame(file, code.co_firstlineno + 1, f"Filters.{maker}", code.co_firstlineno)
    asked = at(names["Clips"].__getitem__.__code__, line)
    helper = at(names["Clips"].features.__code__, inside)
    fetch = Frame("/venv/lib/python3.11/site-packages/torch/fetch.py", 9, "fetch", 1)
    called = (making,) if inside == "pass" else (making, helper)
    modules = {(file, code.co_firstlineno)} if module else set()
    return made_anew([*called, asked, fetch], _is_user, modules)


def _is_user(frame: Any) -> bool:
    return "site-packages" not in frame.file


@pytest.mark.parametrize(
    "line",
    [
        "return Filters()(path)",
        "return Filters(SIZE, hop=128)(path)",
        "filters = Filters(self.rate)",
    ],
)
def test_what_is_the_same_each_time_is_told_with_its_place(line: str) -> None:
    made = _made(line)
    assert made is not None
    assert made.startswith("Filters at makes.py:")


def test_so_is_a_class_method_and_a_helper_that_getitem_calls() -> None:
    assert _made('return Filters.from_pretrained("small")', maker="from_pretrained")
    assert _made("return self.features(path)", inside="out = Filters(SIZE)")


@pytest.mark.parametrize(
    "line",
    [
        "return Filters(path)",
        "return Filters(index)",
        "return Filters(size=path)",
        "return Filters(self.rates[index])",
        "return Filters(random())",
        "return [Filters(k) for k in range(3)]",
        "return (Filters(), Filters())",
        "return make()",
    ],
)
def test_what_may_be_another_one_each_time_is_not(line: str) -> None:
    assert _made(line) is None


@pytest.mark.parametrize(
    ("line", "each"),
    [
        ("return Filters(path, SIZE)(index)", " for each path"),
        ("return Filters(path, new=index)(index)", " for each path and index"),
        ("return Filters(SIZE)(path)", ""),
    ],
)
def test_a_module_is_the_same_one_for_each_value(line: str, each: str) -> None:
    made = _made(line, module=True)
    assert made is not None
    assert made.rstrip("0123456789").partition(":")[0] == "Filters at makes.py"
    assert made.partition(" for ")[2] == each.removeprefix(" for ")
    assert (_made(line) is None) == bool(each)


@pytest.mark.parametrize("line", ["return Filters(random())", "return Filters(self.rates[index])"])
def test_a_module_of_who_knows_what_may_be_another_one(line: str) -> None:
    assert _made(line, module=True) is None


def test_outside_of_a_dataset_nothing_is_said() -> None:
    file = f"/home/me/{next(_NUMBERS)}/makes.py"
    names = script(_HEAD % ("return Filters()", "out = Filters()"), file)
    making = Frame(file, 4, "Filters.__init__", 3)
    outside = at(names["Clips"].features.__code__, "out = Filters()")
    assert made_anew([making, outside], _is_user) is None
    assert made_anew([], _is_user) is None
    assert made_anew([making, Frame("<string>", 3, "Clips.__getitem__", 1)], _is_user) is None
