"""Work that is done in another thread meanwhile."""

from __future__ import annotations

from threading import get_ident

import pytest

from perfdoctor.beside import beside


def test_what_is_long_is_done_in_another_thread_and_what_is_not_in_this_one() -> None:
    assert beside(get_ident, long=True)() != get_ident()
    assert beside(get_ident, long=False)() == get_ident()


@pytest.mark.parametrize("long", [True, False])
def test_an_error_comes_where_the_result_is_asked_for(long: bool) -> None:
    def fails() -> None:
        raise ValueError("no times")

    result = beside(fails, long=long)
    with pytest.raises(ValueError, match="no times"):
        result()
