"""Draws by weights that go through those of all there is, and what computes them, by the source."""

from __future__ import annotations

import linecache
import textwrap
from itertools import count

import pytest
from made import line_with

from perfdoctor.collect.script.weighted_draws import WeightedDraw, weighted_draw

_NUMBERS = count()
_HEAD = """\
import random
import numpy as np
import torch
FEW = 32
rng = np.random.default_rng(3)
"""
CHOICE = WeightedDraw("numpy.random.choice", None)
PREPARES = WeightedDraw("numpy.random.choice", None, prepares=True)


def told(text: str) -> WeightedDraw | None:
    """Of the line that ends in the mark."""
    file = f"/home/me/weighted_{next(_NUMBERS)}.py"
    lines = (_HEAD + textwrap.dedent(text)).splitlines(keepends=True)
    linecache.cache[file] = (1, None, lines, file)
    return weighted_draw(file, line_with(file, "# here"))


def drawn(expression: str) -> WeightedDraw | None:
    return told(f"def batch(self, n, items, batch_size, w, k):\n    i = {expression}  # here\n")


@pytest.mark.parametrize(
    ("expression", "how"),
    [
        ("np.random.choice(n, batch_size, p=w)", "numpy.random.choice"),
        ("np.random.choice(n, (batch_size,), True, w / w.sum())", "numpy.random.choice"),
        ("np.random.choice(n, size=batch_size, replace=False, p=w)", "numpy.random.choice"),
        ("rng.choice(n, batch_size, p=w).tolist()", "rng.choice"),
        ("self.np_random.choice(n, batch_size, p=w)", "self.np_random.choice"),
        ("torch.multinomial(w, batch_size, replacement=True)", "torch.multinomial"),
        ("torch.multinomial(torch.from_numpy(self.w[:n]) ** 0.6, batch_size)", "torch.multinomial"),
        ("random.choices(items, w, k=batch_size)", "random.choices"),
        ("random.choices(items, weights=w, k=batch_size)", "random.choices"),
    ],
)
def test_a_draw_of_a_batch_by_all_weights_is_told(expression: str, how: str) -> None:
    assert drawn(expression) == WeightedDraw(how, None)


@pytest.mark.parametrize(
    "expression",
    [
        "np.random.choice(n, batch_size)",
        "np.random.choice(n, batch_size, p=None)",
        "np.random.choice(n, p=w)",  # an action
        "np.random.choice(n, 1, p=w)",
        "np.random.choice(n, k, p=w)",  # how many is not known
        "np.random.choice(n, n // 2, p=w)",
        "jax.random.choice(n, batch_size, p=w)",
        "rng.multinomial(batch_size, w)",
        "torch.multinomial(w, 1)",  # a token
        "torch.multinomial(torch.softmax(w, -1), batch_size)",  # of each row
        "torch.multinomial(self.model(items), batch_size)",
        "random.choices(items, k=batch_size)",
        "random.choices(items, cum_weights=w, k=batch_size)",  # sums that are kept
        "items[np.random.choice(n, batch_size, p=w)]",  # the rows may be what takes the time
        "self.tree.sample(batch_size)",
    ],
)
def test_other_draws_are_not(expression: str) -> None:
    assert drawn(expression) is None


def test_a_number_is_told() -> None:
    assert drawn("rng.choice(n, FEW, p=w)") == WeightedDraw("rng.choice", 32)


BUFFER = """
    class Buffer:
        def sample(self, batch_size):
            n = len(self.rows)
            prio = np.array(self.priorities[:n]){}
            p = prio ** self.alpha{}
            p /= p.sum(){}
            index = np.random.choice(n, batch_size, p=p){}
            weights = (n * p[index]) ** -0.4{}
            return index, weights{}
"""


def at(place: int, text: str = BUFFER) -> WeightedDraw | None:
    return told(text.format(*("  # here" if i == place else "" for i in range(6))))


def test_lines_that_compute_its_weights_are_told_as_such() -> None:
    assert [at(place) for place in range(6)] == [PREPARES] * 3 + [CHOICE, None, None]


def test_weights_that_are_used_otherwise_are_computed_anyway() -> None:
    text = BUFFER.replace("return index, weights", "return index, weights, p")
    assert [at(place, text) for place in range(4)] == [None] * 3 + [CHOICE]
    text = BUFFER.replace("return index, weights", "return index, weights, prio")
    assert [at(place, text) for place in range(4)] == [None, PREPARES, PREPARES, CHOICE]


def test_what_computes_more_than_each_weight_is_not_told() -> None:
    text = BUFFER.replace("np.array(self.priorities[:n])", "self.model(self.rows)")
    assert [at(place, text) for place in range(4)] == [None, PREPARES, PREPARES, CHOICE]
    text = BUFFER.replace("prio ** self.alpha", "1 / (1 + np.argsort(np.argsort(prio)))")
    assert [at(place, text) for place in range(4)] == [None] * 3 + [CHOICE]


def test_weights_that_are_computed_once_before_the_loop_are_not_told() -> None:
    text = """
        def train(prio, batch_size):
            p = prio / prio.sum(){}
            for step in range(100):
                index = np.random.choice(len(p), batch_size, p=p){}
                use(index)
    """
    assert [at(place, text) for place in range(2)] == [None, CHOICE]


def test_rows_of_a_model_that_are_drawn_from_are_not_told() -> None:
    text = """
        def rays(model, batch_size, w):
            w = {}
            return torch.multinomial(w, batch_size)  # here
    """
    assert told(text.format("model(w)")) is None
    assert told(text.format("w ** 0.5")) == WeightedDraw("torch.multinomial", None)


def test_two_draws_and_a_file_without_source_tell_nothing() -> None:
    text = """
        def batch(n, batch_size, w):
            a = np.random.choice(n, batch_size, p=w)  # here
            b = np.random.choice(n, batch_size, p=w)
            return a, b
    """
    assert told(text) is None
    assert weighted_draw("<string>", 3) is None
    assert told("print(3)  # here\n") is None
