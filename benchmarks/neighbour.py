"""A program that never rests, beside what is measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: It ends with its parent, however that ends.
_PROGRAM = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """One of them for as long as the context lasts, if `busy`."""
    if not busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM])
    try:
        yield
    finally:
        process.kill()
        process.wait()
