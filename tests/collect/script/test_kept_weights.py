"""Draws of a dataset by weights that stay the same, by the source."""

from __future__ import annotations

import linecache
import textwrap
from itertools import count

import pytest
from made import line_with

from perfdoctor.collect.script.kept_weights import kept_weights

_NUMBERS = count()
_CLASS = """\
import random
import numpy as np
import torch
from torch.utils.data import Dataset

class Sessions({base}):
    def __init__(self, w):
        self.p = w / w.sum()
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return 100

    def {method}(self, index):
        drawn = {draw}  # here
        return drawn

    def update(self, index, value):
        {elsewhere}
"""


def told(
    draw: str,
    *,
    base: str = "Dataset",
    method: str = "__getitem__",
    elsewhere: str = "pass",
) -> str | None:
    """Of the line that draws."""
    text = _CLASS.format(draw=draw, base=base, method=method, elsewhere=elsewhere)
    file = f"/home/me/kept_{next(_NUMBERS)}.py"
    lines = textwrap.dedent(text).splitlines(keepends=True)
    linecache.cache[file] = (1, None, lines, file)
    return kept_weights(file, line_with(file, "# here"))


@pytest.mark.parametrize(
    ("draw", "how"),
    [
        ("self.rng.choice(100, size=5, p=self.p)", "self.rng.choice"),
        ("torch.from_numpy(np.random.choice(100, 5, p=self.p))", "numpy.random.choice"),
        ("torch.multinomial(self.p, self.k)", "torch.multinomial"),
        ("random.choices(self.items, self.p, k=3)", "random.choices"),
    ],
)
def test_a_draw_by_an_attribute_that_only_init_sets_is_told(draw: str, how: str) -> None:
    assert told(draw) == how


@pytest.mark.parametrize(
    "draw",
    [
        "self.rng.choice(100, size=5)",
        "self.rng.choice(100, size=5, p=weights_of(index))",
        "random.choices(self.items, cum_weights=self.p, k=3)",
        "self.rng.integers(100, size=5)",
    ],
)
def test_other_draws_are_not(draw: str) -> None:
    assert told(draw) is None


@pytest.mark.parametrize("elsewhere", ["self.p = value", "self.p[index] = value"])
def test_weights_that_change_are_not(elsewhere: str) -> None:
    assert told("self.rng.choice(100, size=5, p=self.p)", elsewhere=elsewhere) is None


def test_what_no_sample_comes_through_is_not() -> None:
    draw = "self.rng.choice(100, size=5, p=self.p)"
    assert told(draw, base="object", method="sample") is None


_HELPER = """\
import numpy as np
from torch.utils.data import Dataset

class Popularity:
    def __init__(self, w):
        self.p = w / w.sum()

    def draw(self, rng, k):
        return rng.choice(len(self.p), size=k, p=self.p)  # here

class Clicks(Dataset):
    def __getitem__(self, index):
        return self.negatives(index)

    def negatives(self, index):
        return {asked}
"""


@pytest.mark.parametrize(
    ("asked", "how"),
    [
        ("self.popularity.draw(self.rng, 5)", "rng.choice"),
        ("self.popularity.most(5)", None),
        ("self.draw(self.rng, 5)", None),
    ],
)
def test_an_object_that_samples_ask_may_draw(asked: str, how: str | None) -> None:
    file = f"/home/me/kept_{next(_NUMBERS)}.py"
    lines = _HELPER.format(asked=asked).splitlines(keepends=True)
    linecache.cache[file] = (1, None, lines, file)
    assert kept_weights(file, line_with(file, "# here")) == how


def test_a_file_without_source_tells_nothing() -> None:
    assert kept_weights("/home/me/nowhere.py", 3) is None
