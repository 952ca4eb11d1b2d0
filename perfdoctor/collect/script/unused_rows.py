"""Rows that layers compute and nobody uses: scores of all positions where a few are compared with
the truth, a whole table transformed where a batch looks at few of its rows.

Told from the graph that a backward pass goes through. Where it begins, rows are chosen (an index, a
slice, targets that are to be ignored, a factor of zero for each row); from there on down belongs to
them what works on each row by itself and serves nothing else.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from perfdoctor.collect.script.arithmetic import (
    UntoldError,
    output_shape,
    parameter_of,
    product_sizes,
)
from perfdoctor.collect.script.layer_calls import PRODUCTS, given_to, weight_of
from perfdoctor.collect.script.timed_ways import two_ways

#: What shows the same rows otherwise, and costs nothing.
_VIEWS = re.compile(r"((Unsafe)?View|ReshapeAlias|Unsqueeze|Squeeze|Alias|Expand)Backward\d")
#: What works on each number by itself, or on a number and what it is scaled or shifted by.
_EACH_NUMBER = re.compile(
    r"(Relu|Gelu|Tanh|Silu|Sigmoid|Softplus|LeakyRelu|Elu|Hardtanh|Hardswish|NativeDropout|Clone"
    r"|ToCopy|Exp|Log|Sqrt|Rsqrt|Pow|Clamp|ClampMin|ClampMax|Neg|Abs|Add|Sub|Mul|Div)Backward\d"
)
#: What works along one dimension, that of a row.
_ALONG = {"SoftmaxBackward0", "LinalgVectorNormBackward0", "SumBackward1", "MeanBackward1"}
_CHOOSE = {"IndexSelectBackward0", "SelectBackward0", "SliceBackward0"}
_NORMS = {"NativeLayerNormBackward0", "FusedRmsNormBackward0"}
_SCORES = {"NllLossBackward0", "NllLoss2DBackward0"}
#: One number of each row, as the logarithm of what was right.
_LOOKED_UP = {"GatherBackward0"}
_TURNS = {"TransposeBackward0", "PermuteBackward0"}
#: Kinds of work that are timed, and numbers that one of them gives there.
_MOST_TIMED, _NUMBERS = 6, 10_000_000
_LARGEST_DIM = 2**63


@dataclass(frozen=True)
class _Work:
    """What one operation does on rows, of each of which it takes and gives so many numbers.

    Attributes:
        kind: "layer" (with a weight), "scores" (a softmax and what is compared with the truth),
            "chosen" (rows are), "number" (each number by itself).
    """

    kind: str
    rows: int
    takes: int
    gives: int

    @property
    def size(self) -> int:
        """Multiplications, or numbers."""
        return self.rows * self.gives * (self.takes if self.kind == "layer" else 1)

    @property
    def timed(self) -> int:
        """Rows of which it is timed."""
        return max(1, min(self.rows, _NUMBERS // max(self.takes, self.gives)))


@dataclass(frozen=True)
class _Chosen:
    """An operation that uses so much of the `rows` of what it is given; `ignored` if targets or
    zeros say so."""

    user: Any
    below: Any
    rows: int
    used: float
    ignored: bool = False


@dataclass(frozen=True)
class _Unused:
    """`part` of the rows of this work is not used."""

    work: tuple[_Work, ...]
    rows: int
    part: float
    ignored: bool


class UnusedRows:
    """Those of one step."""

    def __init__(self) -> None:
        self._found: list[_Unused] | None = None
        self._goes_s: list[float] = []

    def note(self, functions: Collection[Any]) -> None:
        """The operations that a backward pass goes through."""
        if not all(map(_is_on_host, functions)):
            return
        try:
            found = list(_unused(functions))
        except UntoldError:
            return
        self._found = [*(self._found or []), *found]

    def measure(self) -> None:
        """Sees by how much a step would get shorter; for when the training is over, and on the
        host only."""
        self._goes_s = [_goes_s(one) for one in self._found or ()]

    def settings(self) -> dict[str, Any]:
        """As configuration; empty where no step was looked into, or it was not measured."""
        if self._found is None or len(self._goes_s) != len(self._found):
            return {}
        if not self._found:
            return {"unused_rows_s": 0.0}
        _, most = max(zip(self._goes_s, self._found, strict=True), key=lambda pair: pair[0])
        return {
            "unused_rows_s": sum(self._goes_s),
            "unused_rows": most.rows,
            "unused_rows_part": most.part,
            "unused_rows_ignored": most.ignored,
        }


def _unused(functions: Collection[Any]) -> Iterator[_Unused]:
    users: dict[Any, list[Any]] = defaultdict(list)
    for function in functions:
        for below in _inputs(function):
            users[below].append(function)
    chosen: dict[Any, list[_Chosen]] = defaultdict(list)
    for one in filter(None, map(_chosen, functions)):
        chosen[one.below].append(one)
    told = set[Any]()
    # A loss of each row may leave some out that a factor leaves out again: the most counts.
    for below, group in sorted(chosen.items(), key=lambda item: _all_used(item[1])):
        part = 1 - _all_used(group)
        if part <= 0 or len(users[below]) > len(group):
            continue
        own = _own(group, users) - told
        told |= own
        work = list(filter(None, (_work(function, group[0].rows) for function in own)))
        if work:
            work += filter(None, map(_choosing, group))
            yield _Unused(tuple(work), group[0].rows, part, group[0].ignored)


def _is_on_host(function: Any) -> bool:
    """Whoever asks what lies on a device waits for it."""
    outputs = getattr(function, "_input_metadata", ())
    return all(output.device.type == "cpu" for output in outputs)


def _all_used(group: Collection[_Chosen]) -> float:
    return sum(one.used for one in group)


def _chosen(function: Any) -> _Chosen | None:
    """What an operation chooses of what it is given; None of one that uses all of it, or that
    chooses within rows."""
    name = type(function).__name__
    below = next(iter(_inputs(function)), None)
    if below is None or parameter_of(below) is not None:
        return None
    if name in _SCORES:
        target = function._saved_target
        used = 1 - _share(target == function._saved_ignore_index)
        return _Chosen(function, below, max(1, target.numel()), used, ignored=True)
    if name == "MulBackward0":
        return _by_factor(function)
    if name == "EmbeddingBackward0":
        rows = max(1, int(function._saved_weight_sym_argsize_0))
        return _Chosen(function, below, rows, function._saved_indices.unique().numel() / rows)
    shape = _takes(function)
    rows = math.prod(shape[:-1])
    if rows and (used := _used(function, shape)) < 1:
        return _Chosen(function, below, rows, used)
    return None


def _used(function: Any, shape: tuple[int, ...]) -> float:
    """The part of the rows of this shape that an operation chooses; 1 if it is none that does."""
    name = type(function).__name__
    if name == "IndexBackward0":
        return _indexed(function._saved_indices, shape)
    if name not in _CHOOSE or _dim(function._saved_dim, shape) == len(shape) - 1:
        return 1.0
    if name == "IndexSelectBackward0":
        different = function._saved_index.unique().numel()
        return float(different / shape[_dim(function._saved_dim, shape)])
    return math.prod(output_shape(function)) / math.prod(shape)


def _indexed(indices: Any, shape: tuple[int, ...]) -> float:
    """Such a part of an index; 1 where it leaves out dimensions, or chooses within rows."""
    if not indices or any(index is None for index in indices):
        return 1.0
    if len(indices) == 1 and "bool" in str(indices[0].dtype):
        return _share(indices[0]) if indices[0].dim() < len(shape) else 1.0
    if len(indices) >= len(shape):
        return 1.0
    place: Any = 0
    for index, size in zip(indices, shape, strict=False):
        place = place * size + index % size
    return float(place.unique().numel() / math.prod(shape[: len(indices)]))


def _by_factor(function: Any) -> _Chosen | None:
    """A factor for each row, of which some are zero, times one number for each row."""
    for place, factor in ((0, function._saved_other), (1, function._saved_self)):
        below = function.next_functions[place][0] if place < len(function.next_functions) else None
        if below is None or factor is None or not factor.is_cpu:
            continue
        alike = tuple(factor.shape) == output_shape(function) == output_shape(below)
        if alike and _is_one_each(below) and (zeros := _share(factor == 0)):
            return _Chosen(function, below, factor.numel(), 1 - zeros, ignored=True)
    return None


def _is_one_each(function: Any) -> bool:
    """Whether it made one number of many, as a loss does of each row; not a dropout's input."""
    while _VIEWS.fullmatch(type(function).__name__) and _inputs(function):
        function = _inputs(function)[0]
    return type(function).__name__ in (*_SCORES, *_LOOKED_UP, "MeanBackward1", "SumBackward1")


def _share(where: Any) -> float:
    return float(where.float().mean()) if where.numel() else 0.0


def _own(group: Collection[_Chosen], users: Mapping[Any, list[Any]]) -> set[Any]:
    """What works on these rows, each by itself, and on nothing else."""
    starts: set[Any] = {one.user for one in group}
    first = next(iter(group))
    own, waiting = set(starts), [first.below]
    while waiting:
        function = waiting.pop()
        if function in own or any(user not in own for user in users[function]):
            continue
        if _is_by_rows(function, first):
            own.add(function)
            waiting += _inputs(function)
    return own - starts


def _inputs(function: Any) -> list[Any]:
    if type(function).__name__ in PRODUCTS and weight_of(function) is not None:
        below = given_to(function)
        return [] if below is None else [below]
    return [below for below, _ in function.next_functions if below is not None]


def _is_by_rows(function: Any, chosen: _Chosen) -> bool:
    """Whether each row of what it gives comes of one row of what it is given, and of weights.

    A loss of each row says itself what its rows are, whichever way its scores are turned.
    """
    name, shape = type(function).__name__, output_shape(function)
    if name in PRODUCTS:
        return weight_of(function) is not None and math.prod(shape[:-1]) == chosen.rows
    if name in _NORMS:
        return len(function._saved_normalized_shape) == 1
    if name in _SCORES | _LOOKED_UP | _TURNS | {"LogSoftmaxBackward0"}:
        return chosen.ignored or (name == "LogSoftmaxBackward0" and _is_last(function))
    if name in _ALONG:
        return _is_last(function)
    if _VIEWS.fullmatch(name):
        return chosen.ignored or _keeps_rows(function)
    return _EACH_NUMBER.fullmatch(name) is not None and _joins_nothing(function)


def _is_last(function: Any) -> bool:
    """Whether it works along the last dimension only."""
    saved, shape = function._saved_dim, _takes(function)
    dims = list(saved) if isinstance(saved, list | tuple) else [saved]
    return len(dims) == 1 and _dim(dims[0], shape) == len(shape) - 1


def _keeps_rows(function: Any) -> bool:
    """Whether a view shows the same rows, or spreads one number for each over them."""
    gives, takes = output_shape(function), _takes(function)
    if "Expand" in type(function).__name__:
        return len(gives) == len(takes) and gives[:-1] == takes[:-1]
    return gives[-1:] == takes[-1:]


def _takes(function: Any) -> tuple[int, ...]:
    """The shape of what it is given; of what it gives where it keeps none."""
    sizes = getattr(function, "_saved_self_sym_sizes", None)
    if sizes is None:
        sizes = getattr(getattr(function, "_saved_self", None), "shape", None)
    return output_shape(function) if sizes is None else tuple(map(int, sizes))


def _joins_nothing(function: Any) -> bool:
    """Whether at most one of its inputs is as large as what it gives: two would be two ways that
    meet, as around a residual."""
    shape = output_shape(function)
    large = [
        below
        for below in _inputs(function)
        if "Expand" not in type(below).__name__
        and parameter_of(below) is None
        and output_shape(below) == shape
    ]
    return len(large) <= 1


def _work(function: Any, rows: int) -> _Work | None:
    """What is timed of an operation; None of what costs nothing, or one number for each row."""
    name = type(function).__name__
    each = max(math.prod(output_shape(function)), math.prod(_takes(function))) // rows
    if _VIEWS.fullmatch(name) or name in _SCORES | _LOOKED_UP | _TURNS or each < 2:
        return None
    if name in PRODUCTS:
        return _Work("layer", rows, product_sizes(function)[1], output_shape(function)[-1])
    kind = "scores" if "Softmax" in name else "number"
    return _Work(kind, rows, each, each)


def _choosing(one: _Chosen) -> _Work | None:
    """What choosing takes: its gradient is one of all rows."""
    each = math.prod(output_shape(one.below)) // one.rows
    return None if one.ignored or not each else _Work("chosen", one.rows, each, each)


def _goes_s(one: _Unused) -> float:
    """Seconds by which its work gets shorter without the rows that are not used."""
    counts = Counter(one.work)
    largest = sorted(counts, key=lambda work: (work.kind == "layer", work.size), reverse=True)
    return sum(counts[work] * _shorter_s(work, one.part) for work in largest[:_MOST_TIMED])


def _shorter_s(work: _Work, part: float) -> float:
    import torch

    here: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
    few = max(1, round(work.timed * (1 - part)))
    rows = torch.zeros(work.timed, work.takes, requires_grad=True, **here)
    some = torch.zeros(few, work.takes, requires_grad=True, **here)
    shape = (work.gives, work.takes) if work.kind == "layer" else (0,)
    weight = torch.zeros(shape, requires_grad=work.kind == "layer", **here)
    bias = torch.zeros(shape[0], requires_grad=work.kind == "layer", **here)

    def apply(x: Any) -> Any:
        if work.kind == "layer":
            return torch.nn.functional.linear(x, weight, bias)
        if work.kind == "scores":
            return torch.nn.functional.cross_entropy(x, x.new_zeros(len(x), dtype=torch.long))
        return x[:few] if work.kind == "chosen" else x * 0.5

    both = (weight, bias) if work.kind == "layer" else ()
    now, then = two_ways(lambda: apply(rows), lambda: apply(some), both, ((rows,), (some,)))
    return max(0.0, now.both_s - then.both_s) * work.rows / work.timed


def _dim(dim: int, shape: Collection[int]) -> int:
    """Counted from the first; autograd keeps negative ones without their sign."""
    dim = dim - 2 * _LARGEST_DIM if dim >= _LARGEST_DIM else dim
    return dim % max(1, len(shape))
