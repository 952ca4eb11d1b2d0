"""Errors that a user sees: one clear line, a slug to look up, and an exit code."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType

EXIT_DONE = 0
EXIT_GATE_FAILED = 1
EXIT_USAGE = 2
EXIT_INCONCLUSIVE = 3
EXIT_INTERRUPTED = 130

_PACKAGE = str(Path(__file__).resolve().parent)


class PerfdoctorError(Exception):
    """Something the user can mend.

    Args:
        message: one line that says what is wrong, where, and the way out.
        slug: a stable kebab-case name of this kind of error.
    """

    exit_code = EXIT_USAGE

    def __init__(self, message: str, *, slug: str) -> None:
        super().__init__(message)
        self.slug = slug


class UserCodeError(PerfdoctorError):
    """The user's own code raised; `details` is its traceback without perfdoctor's frames."""

    def __init__(
        self,
        message: str,
        *,
        slug: str,
        cause: BaseException | None = None,
        details: str = "",
    ) -> None:
        super().__init__(message, slug=slug)
        self.details = user_traceback(cause) if cause is not None else details


def user_traceback(error: BaseException) -> str:
    """The traceback of `error`, without perfdoctor's own frames."""
    frames = [f for f in traceback.extract_tb(_tb(error)) if not f.filename.startswith(_PACKAGE)]
    lines = ["Traceback (most recent call last):\n"] if frames else []
    lines += traceback.format_list(frames)
    lines += traceback.format_exception_only(type(error), error)
    return "".join(lines).rstrip()


def first_line(error: BaseException) -> str:
    """The error's type and the first line of its message."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _tb(error: BaseException) -> TracebackType | None:
    return error.__traceback__


def tell(line: str) -> None:
    """One line of ours on stderr, beside whatever a script prints there; never fails."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # closed, or its reader has gone
            sys.stderr.write(f"perfdoctor: {line}\n")
            sys.stderr.flush()
