"""Matrix products with a constant that is nearly all zeros, and what they would take without these:
a dense adjacency matrix, one-hot vectors that choose rows of a weight, counts of words.

Told from the graph that a backward pass goes through: products of which one operand wants no
gradient, and the numbers in it.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from perfdoctor.collect.script.arithmetic import UntoldError, output_shape
from perfdoctor.collect.script.timed_ways import two_ways

#: Products → the names under which their operands are kept, and their places among the inputs.
_OPERANDS = {
    "MmBackward0": (("_saved_self", 0), ("_saved_mat2", 1)),
    "AddmmBackward0": (("_saved_mat1", 1), ("_saved_mat2", 2)),
    "BmmBackward0": (("_saved_self", 0), ("_saved_mat2", 1)),
}
#: Numbers of an operand below which it is small whatever is in it, and that are looked at.
_FEWEST, _LOOKED_AT = 20_000, 1_000_000
#: With more numbers that are not zero a sparse product takes longer than a dense one (own
#: measurement with torch 2.13: at 10 % two to three times as long, at 2 % as long or shorter).
_LEAST_ZEROS = 0.9
#: Kinds of products that are timed, and the numbers of an operand or result in it.
_MOST_TIMED, _NUMBERS = 3, 16_000_000


@dataclass(frozen=True)
class _Product:
    """`rows` × `inner` numbers, of which the part `zeros` are, times `inner` × `columns`.

    Attributes:
        chooses: whether each row holds a single one, and so chooses a row of the other operand.
    """

    rows: int
    inner: int
    columns: int
    zeros: float
    chooses: bool

    @property
    def work(self) -> int:
        return self.rows * self.inner * self.columns

    @property
    def timed(self) -> tuple[int, int]:
        """Rows and columns of which it is timed."""
        rows = max(1, min(self.rows, _NUMBERS // self.inner))
        columns = max(1, min(self.columns, _NUMBERS // max(rows, self.inner)))
        return rows, columns


@dataclass(frozen=True)
class _Took:
    """Seconds: as it is, without the zeros, and making the sparse matrix or the one-hot vectors."""

    dense_s: float
    left_s: float
    making_s: float

    @property
    def goes_s(self) -> float:
        return self.dense_s - self.left_s


class ZeroProducts:
    """Those of one step."""

    def __init__(self) -> None:
        self._found: Counter[_Product] | None = None
        self._took: dict[_Product, _Took] | None = None

    def note(self, functions: Collection[Any]) -> None:
        """The operations that a backward pass goes through."""
        try:
            found = Counter(filter(None, map(_product, functions)))
        except UntoldError:
            return
        self._found = (self._found or Counter()) + found

    def measure(self) -> None:
        """Sees how long the largest take both ways; for when the training is over, and on the host
        only."""
        found = self._found or Counter()
        largest = sorted(found, key=lambda one: one.work * found[one], reverse=True)
        self._took = {one: _took(one) for one in largest[:_MOST_TIMED]}

    def settings(self) -> dict[str, Any]:
        """As configuration; empty where no step was looked into, or it was not measured."""
        if self._found is None or self._took is None:
            return {}
        gain = {one: took for one, took in self._took.items() if took.goes_s > 0}
        if not gain:
            return {"zero_products_goes_s": 0.0}
        times = self._found
        most = max(gain, key=lambda one: times[one] * gain[one].goes_s)
        return {
            "zero_products_goes_s": sum(times[one] * gain[one].goes_s for one in gain),
            "zero_products_making_s": sum(times[one] * gain[one].making_s for one in gain),
            "zero_products_rows": most.rows,
            "zero_products_inner": most.inner,
            "zero_products_zeros": most.zeros,
            "zero_products_choose": most.chooses,
        }


def _product(function: Any) -> _Product | None:
    """A product with a constant that is nearly all zeros; None of any other operation."""
    for at, (name, place) in enumerate(_OPERANDS.get(type(function).__name__, ())):
        if function.next_functions[place][0] is not None:
            continue
        constant = getattr(function, name)
        if constant is None or not constant.is_cpu or not constant.is_floating_point():
            continue
        if constant.dim() == 3:
            # One for the whole batch is a product of all its rows; of others each is its own.
            if constant.shape[0] > 1 and constant.stride(0) != 0:
                continue
            constant = constant[0]
        # From the right it is the same, turned over.
        return _of(constant if at == 0 else constant.t(), math.prod(output_shape(function)))
    return None


def _of(constant: Any, gives: int) -> _Product | None:
    rows, inner = constant.shape
    if rows * inner < _FEWEST:
        return None
    step = max(1, rows * inner // _LOOKED_AT)
    filled = constant[::step].ne(0).sum(1)
    zeros = 1 - float(filled.sum()) / (len(filled) * inner)
    if zeros < _LEAST_ZEROS:
        return None
    ones = bool((filled == 1).all()) and bool((constant[::step].sum(1) == 1).all())
    return _Product(rows, inner, gives // rows, round(zeros, 4), chooses=ones)


def _took(one: _Product) -> _Took:
    import torch
    from torch.nn import functional

    here: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
    rows, columns = one.timed
    other = torch.zeros(one.inner, columns, requires_grad=True, **here)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        chosen = torch.randint(one.inner, (rows,))
        dense = torch.zeros(rows, one.inner, **here)
        if one.chooses:
            dense[torch.arange(rows), chosen] = 1.0
        else:
            filled = torch.randint(rows * one.inner, (round(rows * one.inner * (1 - one.zeros)),))
            dense.view(-1)[filled] = 1.0
        began = time.perf_counter()
        sparse = functional.one_hot(chosen, one.inner).float() if one.chooses else dense.to_sparse()
        making_s = time.perf_counter() - began

    def without_zeros() -> Any:
        if one.chooses:
            return functional.embedding(chosen, other)
        return torch.sparse.mm(sparse, other)

    now, then = two_ways(lambda: dense @ other, without_zeros, (other,))
    of_rows = one.rows / rows
    times = of_rows * one.columns / columns
    return _Took(now.both_s * times, then.both_s * times, making_s * of_rows)
