"""Logs written into a temporary folder, and read back."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from perfdoctor.readers import formats
from perfdoctor.readers.assembly import assemble
from perfdoctor.readers.kinds import Format
from perfdoctor.readers.records import Reading
from perfdoctor.record import Run


@pytest.fixture
def reading_of(tmp_path: Path) -> Callable[..., Reading]:
    """`reading_of(text or bytes)`: the file with that content, read."""

    def read(
        content: str | bytes,
        name: str = "train.log",
        format_name: str | None = None,
        own: Sequence[Format] = (),
    ) -> Reading:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return formats.read(str(path), lambda read: None, format_name, own)

    return read


@pytest.fixture
def run_of(reading_of: Callable[..., Reading]) -> Callable[..., Run]:
    """`run_of(text or bytes)`: the Run that a file with that content tells of."""

    def read(content: str | bytes, name: str = "train.log", **given: Any) -> Run:
        return assemble(reading_of(content, name, **given), name, None)

    return read


@pytest.fixture
def within() -> Callable[[float], AbstractContextManager[None]]:
    """`with within(5):` fails where the work would take so long that it can only be a hang."""

    class Hangs(BaseException):
        pass

    def stop(signum: int, frame: object) -> None:
        raise Hangs

    @contextmanager
    def limit(seconds: float) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        except Hangs:
            pytest.fail(f"still at work after {seconds} s")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    return limit
