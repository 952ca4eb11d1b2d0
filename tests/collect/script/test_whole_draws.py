"""Draws that put everything into a random order to take as much as a batch, by the source."""

from __future__ import annotations

import linecache
import textwrap
from itertools import count

import pytest
from made import line_with

from perfdoctor.collect.script.whole_draws import WholeDraw, whole_draw

_NUMBERS = count()
_HEAD = """\
import random
import numpy as np
import numpy.random as npr
import torch
from random import sample as some
from torch import randperm
BS, POINTS = 64, 4096
FEW = 32
old = np.random.RandomState(3)
rng = np.random.default_rng(3)
"""


def told(text: str) -> WholeDraw | None:
    """Of the line that ends in the mark."""
    file = f"/home/me/drawn_{next(_NUMBERS)}.py"
    lines = (_HEAD + textwrap.dedent(text)).splitlines(keepends=True)
    linecache.cache[file] = (1, None, lines, file)
    return whole_draw(file, line_with(file, "# here"))


def drawn(expression: str) -> WholeDraw | None:
    return told(f"def batch(n, items, batch_size, device, cfg, k):\n    i = {expression}  # here\n")


@pytest.mark.parametrize(
    ("expression", "how"),
    [
        ("np.random.choice(n, batch_size, replace=False)", "numpy.random.choice"),
        ("np.random.choice(n, size=cfg.batch, replace=False)", "numpy.random.choice"),
        ("np.random.choice(n, BS, False)", "numpy.random.choice"),
        ("npr.choice(np.arange(n), cfg['batch_size'], replace=False)", "numpy.random.choice"),
        ("old.choice(n, batch_size, replace=False)", "old.choice"),
        ("np.random.permutation(n)[:batch_size]", "numpy.random.permutation"),
        ("rng.permutation(len(items))[0:batch_size]", "rng.permutation"),
        ("torch.randperm(n)[:batch_size].to(device)", "torch.randperm"),
        ("randperm(n, device='cpu')[:BS].tolist()", "torch.randperm"),
        ("torch.from_numpy(np.sort(old.permutation(n)[:BS]))", "old.permutation"),
        ("random.sample(list(items), batch_size)", "random.sample"),
        ("some([x for x in items], k=batch_size)", "random.sample"),
    ],
)
def test_an_order_of_all_for_a_batch_is_told(expression: str, how: str) -> None:
    assert drawn(expression) == WholeDraw(how, None)


@pytest.mark.parametrize(
    "expression",
    [
        "np.random.choice(n, batch_size)",  # with replacement
        "np.random.choice(n, batch_size, replace=True)",
        "np.random.choice(n, batch_size, replace=cfg.replace)",
        "np.random.choice(n, batch_size, replace=False, p=cfg.weights)",  # another algorithm
        "rng.choice(n, batch_size, replace=False)",  # a Generator draws few of many
        "cfg.rng.choice(n, batch_size, replace=False)",  # of which kind is not known
        "random.choice(items)",
        "np.random.permutation(n)",  # all of it is used
        "torch.randperm(n)[k : k + batch_size]",  # the next part of an order
        "torch.randperm(n)[::batch_size]",
        "torch.randperm(n)[:-batch_size]",
        "torch.randperm(n)[batch_size:]",
        "torch.randperm(n)[: int(0.8 * n)]",  # most of it is used
        "torch.randperm(n)[: n // 2]",
        "torch.randperm(n)[:k]",  # how many is not known
        "torch.randperm(n, device=device)[:batch_size]",  # perhaps on a GPU
        "torch.randperm(len(cfg.batch))[:batch_size]",  # the samples of a batch
        "items[np.random.permutation(n)[:batch_size]]",  # the rows may be what takes the time
        "[items[j] for j in np.random.choice(n, batch_size, replace=False)]",
        "random.sample(items, batch_size)",
        "random.sample(range(n), batch_size)",
        "items.sample(batch_size)",
        "torch.randint(n, (batch_size,))",
    ],
)
def test_other_draws_are_not(expression: str) -> None:
    assert drawn(expression) is None


def test_a_number_is_told() -> None:
    assert drawn("torch.randperm(n)[:128]") == WholeDraw("torch.randperm", 128)
    assert drawn("torch.randperm(n)[:FEW]") == WholeDraw("torch.randperm", 32)


def test_an_order_of_which_only_the_first_are_used_later_is_told() -> None:
    text = """
        def train(n, batch_size):
            for step in range(9):
                order = torch.randperm(n)  # here
                print(step)
                use(order{})
    """
    assert told(text.format("[:batch_size]")) == WholeDraw("torch.randperm", None)
    assert told(text.format("")) is None
    assert told(text.format("[:batch_size], order[batch_size:]")) is None
    assert told(text.format("[step:batch_size]")) is None
    epoch = """
        def train(n, batch_size):
            for epoch in range(9):
                order = torch.randperm(n)  # here
                while True:
                    use(order[:batch_size])
    """
    assert told(epoch) is None


def test_a_parameter_is_what_the_calls_give() -> None:
    text = """
        class Buffer:
            def sample(self, n):
                index = np.random.choice(self.size, n, replace=False)  # here
                return self.rows[index]
        def train(buffer, batch_size):
            {}
    """
    assert told(text.format("buffer.sample(batch_size)")) == WholeDraw("numpy.random.choice", None)
    assert told(text.format("buffer.sample(n=256)")) == WholeDraw("numpy.random.choice", 256)
    assert told(text.format("buffer.sample(64), buffer.sample(9)")) == WholeDraw(
        "numpy.random.choice", 64
    )
    assert told(text.format("buffer.sample(batch_size), buffer.sample(buffer.size)")) is None
    assert told(text.format("pass")) is None


def test_a_row_of_statements_and_a_file_without_source_tell_nothing() -> None:
    text = "def f(n, batch_size):\n    i = torch.randperm(n)[:batch_size]; heavy(i)  # here\n"
    assert told(text) is None
    assert whole_draw("<string>", 3) is None
    assert told("print(3)  # here\n") is None
