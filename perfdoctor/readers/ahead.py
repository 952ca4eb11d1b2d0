"""Work that is done in another thread while the result before it is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def ahead(results: Iterable[T]) -> Iterator[T]:
    """The same results, each made while the one before it is used; two need no thread."""
    left = iter(results)
    first = list(islice(left, 2))
    yield from first
    if len(first) < 2:
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(_next, left)
        while result := coming.result():
            coming = thread.submit(_next, left)
            yield result[0]


def _next(left: Iterator[T]) -> list[T]:
    """One, or none at the end."""
    return list(islice(left, 1))
