"""How an observed script ended."""

from __future__ import annotations

from dataclasses import dataclass

#: Ends that a script comes to by itself, having done all it was to do. An exception is none: how
#: much would have followed is not known.
BY_ITSELF = ("finished", "exit", "os._exit")
#: The setting that says that the observation ended before the script did.
IN_PART = "observed_in_part"


@dataclass(frozen=True)
class Ending:
    """How a script ended.

    Attributes:
        how: finished, exit, exception, interrupted, signal, os._exit, stopped (by `--stop-after`),
            or running, where the report was written before the end.
        detail: the exception's type and first line, the signal's name, or what `sys.exit` was
            given when that was no number; empty where there is nothing to say.
        code: the exit code as a shell shows it (128 + number for a signal).
    """

    how: str
    detail: str = ""
    code: int | None = None
