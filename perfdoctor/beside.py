"""Work that is done in another thread meanwhile: numpy lets others run while it computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def beside(work: Callable[[], T], *, long: bool) -> Callable[[], T]:
    """Gives what gives the result of `work`, which is begun now; it is done when it is asked for
    where it is not `long`: a thread takes longer to start."""
    if not long:
        return work
    from concurrent.futures import ThreadPoolExecutor

    thread = ThreadPoolExecutor(1)
    coming = thread.submit(work)
    thread.shutdown(wait=False)
    return coming.result
