"""How much of what a model is given is padding: real lengths of the rows of a batch of tokens.

Told by a mask, by lengths, or by token numbers whose rows end (or begin) in one value that stands
nowhere else. Only tensors of the host are read, by numpy: that runs none of torch's operations.
Whoever reads a table of numbers as tokens would accuse healthy code, so what is in doubt is left
out: causal masks, masks at random or of prompts, columns of a table.
"""

from __future__ import annotations

import re
from collections import UserDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Rows of fewer positions are features, or too short to matter.
_FEWEST_POSITIONS = 8
#: What is read takes milliseconds, of a step that takes seconds where there is as much.
_MOST_NUMBERS = 1_000_000
_MOST_PARTS, _DEEPEST = 32, 3
#: Without a mask: so many rows, and so many different lengths among them.
_FEWEST_ROWS, _FEWEST_LENGTHS = 4, 3
#: A number for padding stands in most rows at the end, and in few places before.
_MOST_ROWS, _MOST_INSIDE = 0.5, 0.01
_LENGTHS = re.compile(r"(?:^|_)(?:len|lens|lengths?)$")
_OTHER_MASK = re.compile(r"loss|label|target|prompt|completion|causal|special|random")
_NO_TOKENS = re.compile(r"type|segment|position|label|target|mask")


@dataclass(frozen=True)
class TokenRows:
    """A batch of `rows` × `width` positions, of which `tokens` hold something."""

    rows: int
    width: int
    tokens: int
    longest: int


def token_rows(
    module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[TokenRows] | None:
    """Those of each shape among what a module is called with; empty where it is given none, None
    where they are on a device."""
    given = list(_given(_positional(module, args) | dict(kwargs)))
    if any(not tensor.is_cpu for _, tensor in given):
        return None
    found: dict[tuple[int, int], Array] = {}
    for kind in (_masked, _counted, _numbered):
        for shape, lengths in kind(given):
            found.setdefault(shape, lengths)
    return [
        TokenRows(rows, width, int(lengths.sum()), int(lengths.max()))
        for (rows, width), lengths in found.items()
    ]


def of_mask(mask: Array, name: str, numbers: Array | None) -> Array | None:
    """Real lengths of the rows; None where the mask is not one of padding, or cannot be told."""
    marked = mask != 0
    changes = (marked[:, 1:] != marked[:, :-1]).sum(axis=1)
    if changes.max() > 1 or (mask != marked).any():
        return None
    changed = marked[changes == 1]
    if not len(changed):
        alike = (marked == marked[0, 0]).all()
        return np.full(len(mask), mask.shape[1]) if alike else None
    last = bool(changed[0, -1])
    if (changed[:, -1] != last).any():
        return None
    padding = _padding_of(marked, last, name, numbers)
    return None if padding is None else _unless_causal((marked != padding).sum(axis=1), mask)


def of_numbers(numbers: Array) -> Array | None:
    """Real lengths of the rows where one number fills them up, at the end or at the beginning."""
    if len(numbers) < _FEWEST_ROWS:
        return None
    sides = [_filled_up(numbers), _filled_up(numbers[:, ::-1])]
    told = [lengths for lengths in sides if lengths is not None]
    return min(told, key=lambda lengths: int(lengths.sum()), default=None)


# -- what is given -----------------------------------------------------------------------------


def _positional(module: Any, args: Sequence[Any]) -> dict[str, Any]:
    """By the names that the module's forward has for them."""
    code = getattr(getattr(module.forward, "__func__", None), "__code__", None)
    names = () if code is None else code.co_varnames[1 : code.co_argcount]
    return {(names[i] if i < len(names) else f"{i}"): value for i, value in enumerate(args)}


def _given(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Names and plain tensors, those in lists and mappings among them."""
    if type(value).__name__ == "Tensor" and type(value).__module__ == "torch":
        if not value.is_nested:
            yield name, value
        return
    parts: list[tuple[Any, Any]] = []
    if isinstance(value, dict | UserDict):
        parts = list(value.items())
    elif isinstance(value, list | tuple) and not hasattr(value, "batch_sizes"):  # not packed rows
        parts = [(name, part) for part in value[:_MOST_PARTS]]
    for key, part in parts[:_MOST_PARTS] if depth <= _DEEPEST else ():
        yield from _given(part, str(key).lower(), depth + 1)


def _array(tensor: Any) -> Array | None:
    """Its numbers; None where it is not on the host, large, or stands for something else."""
    if not tensor.is_cpu or tensor.requires_grad or tensor.numel() > _MOST_NUMBERS:
        return None
    try:
        return np.asarray(tensor.numpy())
    except (RuntimeError, TypeError):  # traced, fake, or of a type that numpy has not
        return None


def _is_table(tensor: Any) -> bool:
    shape = tensor.shape
    return len(shape) == 2 and shape[0] > 0 and shape[1] >= _FEWEST_POSITIONS


def _is_whole(tensor: Any) -> bool:
    return str(tensor.dtype).removeprefix("torch.") in {"int64", "int32", "int16", "uint8"}


def _is_bool(tensor: Any) -> bool:
    return str(tensor.dtype) == "torch.bool"


# -- the kinds of evidence -----------------------------------------------------------------------

Given = Sequence[tuple[str, Any]]
Found = Iterator[tuple[tuple[int, int], Array]]


def _masked(given: Given) -> Found:
    for name, tensor in given:
        if not _is_table(tensor) or _OTHER_MASK.search(name):
            continue
        if not (name.endswith("mask") or _is_bool(tensor)) or not _beside(tensor, given):
            continue
        shape, mask = (int(tensor.shape[0]), int(tensor.shape[1])), _array(tensor)
        numbers = next((n for s, n in _tokens(given) if s == shape), None)
        lengths = None if mask is None else of_mask(mask, name, numbers)
        if lengths is not None:
            yield shape, lengths


def _beside(mask: Any, given: Given) -> bool:
    """Whether something else has a place for each of the mask's."""
    shape = tuple(mask.shape)
    return any(
        other is not mask and tuple(other.shape[:2]) in (shape, shape[::-1])
        for _, other in given
        if not _is_bool(other)
    )


def _counted(given: Given) -> Found:
    for name, tensor in given:
        if len(tensor.shape) != 1 or not _is_whole(tensor) or not _LENGTHS.search(name):
            continue
        lengths = _array(tensor)
        for _, other in given if lengths is not None and len(lengths) > 1 else ():
            width = _width_beside(other, len(lengths)) if lengths is not None else None
            if lengths is not None and width and lengths.min() >= 0 and lengths.max() <= width:
                yield (len(lengths), width), lengths


def _width_beside(tensor: Any, rows: int) -> int | None:
    """Positions of each row; None where these are not of so many rows."""
    shape = tensor.shape[:2]
    if len(shape) < 2 or rows not in shape:
        return None
    width = int(shape[1] if shape[0] == rows else shape[0])
    return width if width >= _FEWEST_POSITIONS else None


def _numbered(given: Given) -> Found:
    for shape, numbers in _tokens(given):
        lengths = of_numbers(numbers)
        yield shape, np.full(shape[0], shape[1]) if lengths is None else lengths


def _tokens(given: Given) -> Found:
    """Tables of whole numbers that may be tokens; labels last, which a decoder is fed with."""
    tables = [(n, t) for n, t in given if _is_table(t) and _is_whole(t)]
    for labels in (False, True):
        for name, tensor in tables:
            asked = "label" in name if labels else not _NO_TOKENS.search(name)
            numbers = _array(tensor) if asked else None
            if numbers is not None:
                yield (int(numbers.shape[0]), int(numbers.shape[1])), numbers


# -- which part is padding -----------------------------------------------------------------------


def _padding_of(marked: Array, last: bool, name: str, numbers: Array | None) -> bool | None:
    """What the mask holds where there is padding; None where it may be either.

    Padding is of one number, tokens are not; else by what masks of such a name mean, and at the
    end of the rows where no name tells.
    """
    if numbers is not None:
        constant = [value for value in (last, not last) if _constant(numbers[marked == value])]
        if len(constant) != 1:
            return None
        return constant[0]
    if "attention_mask" in name:
        return False
    means = True if "pad" in name else False if name.endswith("mask") else last
    return means if means == last else None


def _constant(values: Array) -> bool:
    return bool(len(values)) and bool((values == values[0]).all())


def _unless_causal(lengths: Array, mask: Array) -> Array | None:
    """A mask of who sees whom has every length once."""
    rows, width = mask.shape
    steps = np.arange(width)
    ordered = np.sort(lengths)
    causal = rows == width and any((ordered == steps + first).all() for first in (0, 1))
    return None if causal else lengths


def _filled_up(numbers: Array) -> Array | None:
    values, counts = np.unique(numbers[:, -1], return_counts=True)
    filler = values[counts.argmax()]
    if counts.max() < _MOST_ROWS * len(numbers):
        return None
    other = numbers != filler
    lengths = np.where(other.any(axis=1), numbers.shape[1] - other[:, ::-1].argmax(axis=1), 0)
    inside = int(lengths.sum()) - int(other.sum())
    if inside > _MOST_INSIDE * lengths.sum() or len(np.unique(lengths)) < _FEWEST_LENGTHS:
        return None
    return lengths
