"""Attention that a model computes operation by operation, and what the fused one would take.

Told from the graph that a backward pass goes through: a softmax whose scores are a batched product
and whose weights go into another. Heads that are computed one after the other, each with linear
layers of its own, have scores that come from the same features.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from perfdoctor.collect.script.arithmetic import UntoldError, output_shape
from perfdoctor.collect.script.timed_ways import Took, two_ways

_SOFTMAX = "SoftmaxBackward0"
_PRODUCT = re.compile(r"(Bmm|Baddbmm)Backward\d")
_LINEAR = re.compile(r"(Addmm|Mm|Linear)Backward\d")
_SHAPES = (
    r"(Unsafe)?View|ReshapeAlias|Expand|Transpose|Permute|T|Clone|Unsqueeze|Squeeze|ToCopy|Alias"
)
#: What only looks at the same numbers otherwise.
_VIEW = re.compile(rf"({_SHAPES})Backward\d")
#: What scores go through before the softmax, and weights after it.
_BETWEEN = re.compile(rf"({_SHAPES}|Mul|Div|Add|Sub|MaskedFill|Where|NativeDropout)Backward\d")
_MASKS = re.compile(r"(MaskedFill|Where|Add|Sub)Backward\d")
_DROPS = re.compile(r"(NativeDropout|Mul)Backward\d")
#: So far the products are from the softmax at most, counted in operations.
_FAR = 12
#: Shorter ones cost next to nothing either way.
_LEAST_TOKENS = 16
#: Scores that are computed to see how long it takes; of more, a part of the batch.
_NUMBERS = 8_000_000


@dataclass(frozen=True)
class _Attention:
    """Attention of `queries` tokens to `keys` tokens, `batch` times (samples times heads).

    `heads` are computed one after the other from `features` numbers a token; 0 features where the
    layers before it are not part of it.
    """

    batch: int
    queries: int
    keys: int
    width: int
    masked: bool
    drops: bool
    heads: int = 1
    features: int = 0

    @property
    def scores(self) -> int:
        return self.batch * self.heads * self.queries * self.keys

    @property
    def rows(self) -> int:
        """Of `batch`, of which it is measured."""
        return max(1, min(self.batch, _NUMBERS * self.batch // self.scores))


@dataclass(frozen=True)
class _Seen:
    """One softmax: its attention, and the features that its queries come from (None: not seen)."""

    attention: _Attention
    source: Any
    features: int


class PlainAttention:
    """Those of one step."""

    def __init__(self) -> None:
        self._found: Counter[_Attention] | None = None
        self._took: tuple[Took, Took] | None = None

    def note(self, functions: Collection[Any]) -> None:
        """The operations that a backward pass goes through."""
        self._found = self._found or Counter()
        softmaxes = [f for f in functions if type(f).__name__ == _SOFTMAX]
        if not softmaxes:
            return
        above: dict[Any, list[Any]] = defaultdict(list)
        for function in functions:
            for below, _ in function.next_functions:
                above[below].append(function)
        try:
            seen = [one for f in softmaxes if (one := _seen(f, above)) is not None]
        except UntoldError:
            self._found = None
            return
        self._found += _by_layer(seen)

    def measure(self) -> None:
        """Sees how long the largest takes, and fused; for when the training is over, and on the
        host only."""
        most = self._most
        if most is not None:
            self._took = _took(most)

    def settings(self) -> dict[str, Any]:
        """As configuration; empty where no step was looked into."""
        most = self._most
        if self._found is None:
            return {}
        if most is None:
            return {"plain_attention_s": 0.0}
        told = {
            "plain_attention_layers": self._found[most],
            "plain_attention_heads": most.heads,
            "plain_attention_tokens": most.keys,
            "plain_attention_masked": most.masked,
        }
        if self._took is None:  # on a device
            return told
        plain, fused = self._took
        times = self._found[most] * most.batch / most.rows
        return told | {
            "plain_attention_s": times * plain.both_s,
            "plain_attention_left": fused.both_s / plain.both_s,
        }

    @property
    def _most(self) -> _Attention | None:
        found: Mapping[_Attention, int] = self._found or {}
        return max(found, key=lambda one: one.scores * found[one], default=None)


def _seen(softmax: Any, above: Mapping[Any, list[Any]]) -> _Seen | None:
    """The attention that this softmax is part of; None of another."""
    shape = output_shape(softmax)
    before = _path(softmax, _below)
    after = _path(softmax, lambda function: above.get(function, []))
    if len(shape) < 3 or min(shape[-2:]) < _LEAST_TOKENS or before is None or after is None:
        return None
    width = _width(before[-1])
    if width is None:
        return None
    batch = 1
    for size in shape[:-2]:
        batch *= size
    attention = _Attention(
        batch,
        shape[-2],
        shape[-1],
        width,
        masked=any(_MASKS.fullmatch(type(f).__name__) for f in before),
        drops=any(_DROPS.fullmatch(type(f).__name__) for f in after),
    )
    return _Seen(attention, *_source(before[-1]))


def _by_layer(seen: Collection[_Seen]) -> Counter[_Attention]:
    """How often there is which attention, with heads of the same features put together."""
    together: dict[tuple[_Attention, Any, int], int] = Counter(
        (one.attention, one.source, one.features) for one in seen
    )
    found: Counter[_Attention] = Counter()
    for (one, source, features), heads in together.items():
        if source is None or heads == 1:
            found[one] += heads
        else:
            found[_Attention(**{**vars(one), "heads": heads, "features": features})] += 1
    return found


def _below(function: Any) -> list[Any]:
    return [below for below, _ in function.next_functions if below is not None]


def _path(start: Any, following: Callable[[Any], list[Any]]) -> list[Any] | None:
    """The operations from the softmax to the batched product, with it; None if there is none."""
    paths = [[function] for function in following(start)]
    while paths:
        path = paths.pop()
        name = type(path[-1]).__name__
        if _PRODUCT.fullmatch(name):
            return path
        if _BETWEEN.fullmatch(name) and len(path) < _FAR:
            paths += [[*path, function] for function in following(path[-1])]
    return None


def _width(product: Any) -> int | None:
    """Numbers of a head for each token: what the products of queries and keys add up."""
    for place, at in ((-2, -1), (-1, -2)):  # queries [.., tokens, width], keys [.., width, tokens]
        operand = product.next_functions[place][0]
        shape = () if operand is None else output_shape(operand)
        if len(shape) == 3:
            return shape[at]
    return None


def _source(product: Any) -> tuple[Any, int]:
    """The features that the queries are a linear layer of, and how many they are for each token."""
    layer = _through_views(product.next_functions[-2][0])
    if layer is None or not _LINEAR.fullmatch(type(layer).__name__):
        return None, 0
    sizes = getattr(layer, "_saved_mat2_sym_sizes", None) or ()
    place = 1 if type(layer).__name__.startswith("Addmm") else 0
    if not sizes or place >= len(layer.next_functions):
        return None, 0
    return _through_views(layer.next_functions[place][0]), int(sizes[0])


def _through_views(function: Any) -> Any:
    """The first operation from here on that computes something."""
    while function is not None:
        name = type(function).__name__
        if not (_VIEW.fullmatch(name) or name.startswith("Mul")) or not function.next_functions:
            return function
        function = function.next_functions[0][0]
    return None


def _took(one: _Attention) -> tuple[Took, Took]:
    """How long it takes as it is, and fused; of a part of the batch."""
    return _from_features(one) if one.features else _by_itself(one)


def _by_itself(one: _Attention) -> tuple[Took, Took]:
    import torch

    queries = torch.zeros(one.rows, 1, one.queries, one.width, requires_grad=True)
    keys, values = (
        torch.zeros(one.rows, 1, one.keys, one.width, requires_grad=True) for _ in range(2)
    )
    given = (queries, keys, values)
    return two_ways(lambda: _plain(one, *given), lambda: _fused(one, *given), given)


def _from_features(one: _Attention) -> tuple[Took, Took]:
    import torch
    from torch.nn import functional

    x = torch.zeros(one.rows, one.queries, one.features, requires_grad=True)
    single = torch.zeros(one.width, one.features, requires_grad=True)
    whole = torch.zeros(3 * one.heads * one.width, one.features, requires_grad=True)

    def head() -> Any:
        return _plain(one, *(functional.linear(x, single) for _ in range(3)))

    def plain() -> Any:
        return torch.cat([head() for _ in range(one.heads)], dim=-1)

    def fused() -> Any:
        parts = functional.linear(x, whole).view(one.rows, one.queries, 3, one.heads, one.width)
        heads = _fused(one, *parts.permute(2, 0, 3, 1, 4))
        return heads.transpose(1, 2).reshape(one.rows, one.queries, -1)

    return two_ways(plain, fused, (x,), own=((single,), (whole,)))


def _plain(one: _Attention, queries: Any, keys: Any, values: Any) -> Any:
    from torch.nn import functional

    scores = queries @ keys.transpose(-2, -1) * one.width**-0.5
    if one.masked:
        scores = scores.masked_fill(_mask(one).logical_not(), float("-inf"))
    weights = functional.softmax(scores, dim=-1)
    if one.drops:
        weights = functional.dropout(weights, _DROPPED)
    return weights @ values


def _fused(one: _Attention, queries: Any, keys: Any, values: Any) -> Any:
    from torch.nn import functional

    # That the mask is causal is not known; told so, the fused one takes less.
    return functional.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=_mask(one) if one.masked else None,
        dropout_p=_DROPPED if one.drops else 0.0,
    )


#: Of the weights; how many are dropped does not matter for the time.
_DROPPED = 0.1


def _mask(one: _Attention) -> Any:
    import torch

    return torch.ones(one.queries, one.keys, dtype=torch.bool).tril()
