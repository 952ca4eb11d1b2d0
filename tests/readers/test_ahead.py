"""Results that are made in another thread."""

from __future__ import annotations

from collections.abc import Iterator
from threading import get_ident

import pytest

from perfdoctor.readers.ahead import ahead


@pytest.mark.parametrize("count", range(6))
def test_results_come_in_their_order_however_many_there_are(count: int) -> None:
    assert list(ahead(iter(range(count)))) == list(range(count))


def test_the_first_two_results_need_no_other_thread_and_the_others_have_one() -> None:
    makers = list(ahead(get_ident() for _ in range(5)))
    assert [maker == get_ident() for maker in makers] == [True, True, False, False, False]


def test_an_error_comes_after_the_results_before_it() -> None:
    def results() -> Iterator[int]:
        yield from range(4)
        raise OSError("the disk is gone")

    coming = ahead(results())
    assert [next(coming) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(OSError, match="the disk is gone"):
        next(coming)
