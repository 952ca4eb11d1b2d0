"""Output that cannot take every character."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

#: What stands for the characters that perfdoctor draws with where only ASCII can be written.
_ASCII = {
    "–": "-",
    "—": "-",
    "×": "x",
    "±": "+/-",
    "µ": "u",
    "÷": "/",
    "·": "|",
    "→": "->",
    "…": "...",
    "★": "*",
    "█": "#",
    "░": ":",
    "─": "-",
    **dict(zip("▁▂▃▄▅▆▇", "_.-=+*%", strict=True)),
    "°": "deg ",
    **dict.fromkeys("▉▊▋▌▍▎▏", "-"),
}


@contextmanager
def encodable(console: Console) -> Iterator[None]:
    """While it lasts, characters that the output cannot encode are replaced, not raised.

    Pipes on Windows and in the C locale are not always UTF-8.
    """
    file = console.file
    if not console.options.ascii_only or not isinstance(file, io.TextIOWrapper):
        yield
        return
    before = file.errors or "strict"
    file.reconfigure(errors=replacing())
    try:
        yield
    finally:
        file.reconfigure(errors=before)


def replacing() -> str:
    """The name of the error handler that replaces what an encoding has no code for."""
    codecs.register_error("perfdoctor", _replace)
    return "perfdoctor"


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unencodable = error.object[error.start : error.end]
    return "".join(_ASCII.get(character, "?") for character in unencodable), error.end
